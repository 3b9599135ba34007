"""What an arrival leaves beside its place: told, and swept once the artifact is finished, nothing else with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.artifacts import arrival

LEFT_BY_A_FILE = ("model.part", "model.part.journal", ".model.0123abcd.part")
BESIDE_IT = ("model", "model.log", "other.part")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("gathered", [False, True])
def test_what_an_arrival_left_is_told_and_swept(tmp_path: Path, gathered: bool) -> None:
    for name in (*LEFT_BY_A_FILE, *BESIDE_IT):
        (tmp_path / name).touch()
    place = tmp_path / "model"
    if gathered:
        (arrival.incoming(place) / "deep").mkdir(parents=True)
        (arrival.incoming(place) / "deep" / "weights.part").touch()
    told = {path.name for path in arrival.unfinished(place)}
    assert told == {*LEFT_BY_A_FILE, *([arrival.incoming(place).name] if gathered else [])}
    arrival.sweep(place)
    assert names(tmp_path) == set(BESIDE_IT)
