"""The course of a training comes from the records that the event log names, or from the log that came home."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from harness.artifacts import digest
from harness.core.answers import Gpu, Gpus
from harness.core.lifecycle import Stage
from harness.core.observed import Observed, seen, unseen
from harness.ledger.events import GateJudged, Polled
from harness.ledger.kinds import JobEvent
from harness.log.grammar import SFT
from harness.log.summary import LogSummary, TrainerLog
from harness.report import build, html, recorded
from harness.report.model import TrainingReport
from tests.support.job_histories import Log, gate, judged, polled
from tests.support.reports import steps

LOG_LINES = (
    "V2 FOREX INTEGRATION: 15300 SFT + 2550 DPO samples from YOUR data\n"
    "[sft] step 1/2 (50%) loss=2.5 lr=0.0001 s/step=4.4\n"
    "[sft] step 2/2 (100%) loss=1.5 lr=0 s/step=4.5\n"
)
_OBSERVED: TypeAdapter[Observed[Any]] = TypeAdapter(Observed[Any])


def _plain(value: object) -> Any:
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def _log(count: int) -> LogSummary:
    return LogSummary(trainers={SFT: TrainerLog(steps(SFT, count, 2.4, 0.6))})


def _gpus(use: float) -> Gpus:
    return Gpus(True, tuple(Gpu(index, "H100", "570", 81559.0, 60000.0, use) for index in range(8)))


class Kept:
    """A job's directory, and the log that names what lies in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = Log().rented()
        (directory / "evidence").mkdir()

    def look(self, facts: dict[str, Any], *, last: bool = False, after: float = 120.0) -> Path:
        """A look at the training, its facts written down and named by the event log."""
        path = self.directory / "evidence" / f"training-{len(self.log.records)}.json"
        path.write_bytes(data := json.dumps({"facts": facts}, indent=1, sort_keys=True).encode())
        result = gate(Stage.TRAINING, self.log.job)
        told: Polled | GateJudged = judged(result, self.log.job) if last else polled(result)
        event: JobEvent = dataclasses.replace(
            told, facts_path=f"/elsewhere/evidence/{path.name}", facts_sha256=digest.of_bytes(data)
        )
        self.log.add(event, after=after)
        return path

    @property
    def read(self) -> TrainingReport:
        """What is read of it."""
        return recorded.training(self.log.history, self.directory)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def _facts(count: int, use: float = 97.0) -> dict[str, Any]:
    return {"log": _plain(seen(_log(count))), "gpus": _plain(seen(_gpus(use)))}


def _titles(told: TrainingReport) -> dict[str, str]:
    return {curve.title: curve.missing for curve in told.curves}


def test_the_newest_look_tells_the_steps_and_every_look_the_gpus(kept: Kept) -> None:
    for count, use in ((10, 90.0), (20, 95.0), (30, 40.0)):
        path = kept.look(_facts(count, use))
    told = kept.read
    loss, *_, gpu, _ = told.curves
    assert loss.lines[0].points[-1][0] == 30
    assert [y for _, y in gpu.lines[0].points] == [90.0, 95.0, 40.0]
    assert told.source == f"evidence/{path.name}, SHA-256 {digest.of_bytes(path.read_bytes())}"


def test_a_record_that_was_changed_is_not_shown(kept: Kept) -> None:
    kept.look(_facts(10))
    changed = kept.look(_facts(20))
    changed.write_bytes(changed.read_bytes().replace(b"H100", b"A100"))
    told = kept.read
    assert told.curves[0].lines[0].points[-1][0] == 10
    assert len(told.curves[-1].lines[0].points) == 1


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"log": 7, "gpus": []},
        {"log": {"value": {"trainers": {"sft": {"steps": "many"}}}}, "gpus": {"value": {"gpus": 5}}},
        {"log": _plain(unseen("no answer")), "gpus": _plain(unseen("no answer"))},
    ],
)
def test_a_record_that_tells_nothing_is_passed_over(kept: Kept, facts: dict[str, Any]) -> None:
    kept.look(_facts(10))
    kept.look(facts)
    assert kept.read.curves[0].lines[0].points[-1][0] == 10


def test_without_a_look_the_log_that_came_home_is_read(kept: Kept) -> None:
    assert set(_titles(kept.read).values()) == {
        "the training has not been looked at yet",
        "no look at the running training is recorded here",
    }
    folder = kept.directory / "companions"
    folder.mkdir()
    (folder / "training.log").write_text(LOG_LINES, encoding="utf-8")
    told = kept.read
    assert told.source == "companions/training.log"
    assert told.curves[0].lines[0].points == ((1.0, 2.5), (2.0, 1.5))
    assert _titles(told)["DPO loss"] == "no step of DPO is in the log"


def test_records_that_are_gone_are_said_to_be(kept: Kept) -> None:
    kept.look(_facts(10)).unlink()
    assert _titles(kept.read)["SFT loss"] == "no look at the training is recorded here"


@pytest.mark.parametrize(
    ("run", "settings", "versions", "commit"),
    [
        (
            {"settings": {"lora": {"r": 64, "names": ["q", "v"]}, "seed": 17}, "versions": {"torch": "2.7"}},
            {"lora.r": "64", "lora.names": "q, v", "seed": "17"},
            {"torch": "2.7"},
            "",
        ),
        (
            {"lr": 1e-4, "versions": None, "git_commit": "4f2a9c1d"},
            {"lr": "0.0001", "git_commit": "4f2a9c1d"},
            {},
            "4f2a9c1d",
        ),
        ({"commit": 7}, {"commit": "7"}, {}, ""),
        ([1], {}, {}, ""),
    ],
)
def test_the_packages_own_account_tells_its_settings(
    kept: Kept, run: object, settings: dict[str, str], versions: dict[str, str], commit: str
) -> None:
    (kept.directory / "companions").mkdir()
    (kept.directory / "companions" / "run.json").write_text(json.dumps(run), encoding="utf-8")
    told = kept.read
    assert (told.settings, told.versions, told.commit) == (settings, versions, commit)


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"\xff", b"{" + b" " * (2 << 20) + b"}"])
def test_an_account_that_does_not_read_tells_nothing(kept: Kept, data: bytes) -> None:
    (kept.directory / "companions").mkdir()
    (kept.directory / "companions" / "run.json").write_bytes(data)
    assert kept.read.settings == {}


def test_twenty_thousand_steps_are_told_in_a_small_page(kept: Kept) -> None:
    """Every two minutes of a day a look was written, each with the whole log of its time: few are read."""
    facts = _facts(20_000)
    for _ in range(3):
        path = kept.look(facts)
    data = path.read_bytes()
    for _ in range(660):  # the same record under one name is as many bytes to read as another
        kept.log.add(
            dataclasses.replace(
                polled(gate(Stage.TRAINING, kept.log.job)), facts_path=str(path), facts_sha256=digest.of_bytes(data)
            ),
            after=120,
        )
    told = kept.read
    page = html.render(build(kept.log.history, now=kept.log.at, charges=None, training=told))
    assert len(page.encode()) < 1_000_000
    assert max(len(line.points) for curve in told.curves for line in curve.lines) <= 1000
    assert 2 <= len(told.curves[-1].lines[0].points) <= 48
