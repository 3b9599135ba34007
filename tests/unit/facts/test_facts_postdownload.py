"""The look at what came home when the file is not where it was put: one cause, told once, and never damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.lifecycle import Stage
from harness.facts import recordable
from harness.facts.postdownload import look
from harness.gates import judge
from harness.gates.evidence import CheckResult
from harness.gates.facts_file import FactsFile
from tests.support.context import World, make_world

EXISTS, SPEAKS = "local_file_exists", "gguf_generates"
OF_THE_FILE = {
    "local_file_over_floor",
    "local_size_equals_remote",
    "local_sha256_equals_remote",
    "local_gguf_well_formed",
    "gguf_tokenizer_and_template_match",
    SPEAKS,
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.delenv("HARNESS_NOTIFY", raising=False)
    return make_world(tmp_path, monkeypatch, fast=True, gates={"generate": True})


def _judged(world: World, tmp_path: Path) -> dict[str, CheckResult]:
    """What the real gate says of a real look."""
    context = world.context()
    seen = recordable(Stage.POSTDOWNLOAD, look(context))
    file = tmp_path / "facts.json"
    file.write_bytes(FactsFile("postdownload", context.job, context.clock.now(), 0.1, seen).dump())
    return {result.id: result for result in _JUDGE(file).results}


_JUDGE = judge.judge


def test_a_file_that_is_not_here_is_told_by_one_check(world: World, tmp_path: Path) -> None:
    world.run(until=Stage.POSTDOWNLOAD)
    verified = world.history.verified
    assert verified is not None
    Path(verified.path).unlink()
    judged = _judged(world, tmp_path)
    assert (judged[EXISTS].verdict, judged[EXISTS].message) == ("fail", f"there is no {verified.path}")
    assert "the instance still has it" in judged[EXISTS].remedy
    for name in OF_THE_FILE:
        assert judged[name].verdict == "unknown", name
        assert judged[name].message == f"could not look: see {EXISTS}", name
        assert judged[name].remedy == "", name
        assert str(verified.path) not in str(judged[name].saw), name


def test_after_the_instance_went_no_remedy_sends_anybody_to_it(world: World, tmp_path: Path) -> None:
    world.run()
    assert world.history.destroyed is not None
    verified = world.history.verified
    assert verified is not None
    Path(verified.path).unlink()
    told = _judged(world, tmp_path)[EXISTS].remedy
    assert (
        told == "the instance is gone: harness download night says how a copy of the file is put back, and looks again"
    )
    Path(verified.path).write_bytes(b"other bytes")
    judged = _judged(world, tmp_path)
    shut = [one for one in judged.values() if one.verdict != "pass" and one.remedy]
    assert {"local_sha256_equals_remote", "local_size_equals_remote"} <= {one.id for one in shut}
    for one in shut:
        assert "harness run" not in one.remedy, one.id
        assert "still has it" not in one.remedy, one.id
