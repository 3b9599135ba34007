"""Long steps on the box say what they are at, how far they are, and how long they may take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.lifecycle import Stage
from harness.core.rate import SECONDS, Meter
from harness.log.grammar import SFT, Step
from harness.log.summary import LogSummary, RestsOn, TrainerLog
from harness.runner import package, training
from harness.runner import run as runner
from tests.support.context import Telling, make_world


class Hearing(Telling):
    """A reporter that remembers whole meters."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, str, int, int, str]] = []

    def meter(self, meter: Meter, done: int, total: int, detail: str = "") -> None:
        self.heard.append((meter.name, meter.unit, done, total, detail))


def test_an_installation_counts_the_packages_that_pip_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install = ["python3", "-m", "pip", "install", "-r", "requirements.txt"]
    world = make_world(tmp_path, monkeypatch, package={"install": install, "fetch_option": ""})
    world.run(until=Stage.UPLOAD)
    world.box.says = (
        b"Collecting torch==2.7\n  Downloading torch-2.7.whl (800 MB)\nColl",
        b"ecting numpy>=1\nRequirement already satisfied: rich\n",
        b"Collecting torch==2.7 (from x)\nCollecting \xff\xfe\nno line end",
    )
    hearing = Hearing()
    package.install(world.context(), hearing, 900.4)
    assert {(name, unit, total) for name, unit, _, total, _ in hearing.heard} == {
        ("installing on the box: python3 -m pip install -r requirements.txt", SECONDS, 901)
    }
    assert [detail for *_, detail in hearing.heard] == [
        "",
        "1 packages so far: torch",
        "2 packages so far: numpy",
        "2 packages so far: torch",
    ]


def test_a_launch_says_what_it_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, limits={"launch_deadline_s": 90})
    world.run(until=Stage.INSTALL)
    world.box.takes = 5
    hearing = Hearing()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_has_spoken", lambda _: world.box.looks > 4)
        runner.run(world.context(), hearing, lambda _id, _file: "agreed", until=Stage.LAUNCH)
    waits = [one for one in hearing.heard if one[0].startswith("waiting for")]
    assert waits
    assert all(unit == SECONDS and total == 90 for _, unit, _, total, _ in waits)
    assert [done for _, _, done, _, _ in waits] == sorted(done for _, _, done, _, _ in waits)


STEPS = {SFT: TrainerLog(steps=(Step(SFT, 1, 10, 1.0, 1e-4, 0.5),))}


@pytest.mark.parametrize(
    ("log", "spoken"),
    [
        (None, False),
        (LogSummary(), False),
        (LogSummary(plan=object()), False),  # type: ignore[arg-type]
        (LogSummary(trainers=STEPS), False),
        (LogSummary(plan=object(), trainers=STEPS), True),  # type: ignore[arg-type]
        (LogSummary(rests_on=RestsOn.TRAINER, trainers=STEPS), True),
        (LogSummary(rests_on=RestsOn.TRAINER), False),
    ],
)
def test_a_training_has_spoken_once_it_has_told_a_step_of_what_it_announced(
    log: LogSummary | None, spoken: bool
) -> None:
    assert training._has_spoken(log) is spoken


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (None, "proof line"),
        (LogSummary(), "proof line"),
        (LogSummary(data=object()), "waiting for the plan"),  # type: ignore[arg-type]
        (LogSummary(data=object(), plan=object()), "first steps"),  # type: ignore[arg-type]
    ],
)
def test_the_next_word_of_a_log_is_known(log: Any, said: str) -> None:
    assert said in training._awaited(log)
