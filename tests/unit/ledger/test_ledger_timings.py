"""Time that earlier jobs took: what went through counts, what was broken off does not; only jobs alike are asked."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core.ids import JobName
from harness.core.lifecycle import Stage
from harness.job import estimate
from harness.job.model import Job
from harness.ledger import timings
from harness.ledger.events import (
    ArtifactRecorded,
    Closed,
    Evaluated,
    EvaluationBegun,
    Fetched,
    Held,
    InstanceStopped,
    Launched,
    Relaunched,
    Rented,
    RentIntended,
    Resumes,
    StageEntered,
    Trained,
    TrainingStopped,
)
from harness.ledger.jobs import Ledger
from harness.ledger.kinds import JobEvent
from harness.ledger.sql import open_store
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import DIGEST, INSTANCE, LABEL, LOCAL, REMOTE, SIZE, Log, events_of, gate, job, judged

BOARD = ("H100 SXM", 8)
RATE = 50e6


def log(
    of: Job | None = None,
    *,
    setup: float = 400,
    training: float = 2000,
    verifying: float = 60,
    board: str = "H100 SXM",
    breaks: dict[str, JobEvent] | None = None,
    ended: float | None = None,
    rate: float | None = RATE,
) -> Log:
    """A job that took so long; ``breaks``: an event in the midst of a part."""
    breaks = breaks or {}
    made = Log(of)
    offer = {"gpu_name": board, "num_gpus": 8, "usd_per_hour": 16.0}
    made.add(RentIntended(LABEL, offer, owner=7)).add(Rented(INSTANCE, LABEL, offer, usd_per_hour=16.0, owner=7))

    def through(part: str, event: JobEvent, seconds: float) -> None:
        if part in breaks:
            made.add(breaks[part], after=seconds / 2)
        made.add(event, after=seconds / 2 if part in breaks else seconds)

    through("setup", Launched(("train",), "first"), setup)
    through("training", Trained(at=made.at + (training if ended is None else ended)), training)
    made.add(ArtifactRecorded(path=REMOTE, size=SIZE, sha256=DIGEST))
    made.add(Fetched(LOCAL, SIZE, DIGEST, bytes_per_s=rate), after=200)
    through("verifying", judged(gate(Stage.POSTDOWNLOAD, made.job), made.job), verifying)
    made.add(EvaluationBegun(("judge",)))
    through("evaluate", Evaluated(None, DIGEST), 120)
    return made.add(Closed())


def known(*logs: Log, of: Job | None = None) -> dict[str, tuple[float, str]]:
    found = timings.known(of or job(), None, [one.history for one in logs], BOARD)
    return {part: (round(taken.seconds, 3), taken.source) for part, taken in found.items()}


COMES_HOME = round(estimate.artifact_bytes(job()) / RATE, 3)


def test_each_part_of_a_job_that_went_through_is_known() -> None:
    one = "own history (1 job)"
    assert known(log()) == {
        "setup": (400.0, one),
        "training": (2000.0, one),
        "download": (COMES_HOME + 60, one),
        "evaluate": (120.0, one),
    }


def test_without_jobs_nothing_is_known() -> None:
    assert known() == {}
    assert known(Log()) == {}


def test_of_several_jobs_the_median_counts_and_their_number_is_told() -> None:
    found = known(log(setup=100), log(setup=900), log(setup=300))
    assert found["setup"] == (300.0, "own history (3 jobs)")


def test_of_many_jobs_the_newest_five_count() -> None:
    logs = [log(setup=100)] * 5 + [log(setup=9000)] * 20
    assert known(*logs)["setup"] == (100.0, "own history (5 jobs)")


BREAKS: dict[str, JobEvent] = {
    "held": Held(Stage.TRAINING, "GateHeld", "why"),
    "stopped": InstanceStopped(INSTANCE, "the budget"),
    "ended": TrainingStopped("why", None),
    "begun again": Relaunched(("train",), "it died"),
}


@pytest.mark.parametrize("event", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("part", ["setup", "training", "evaluate"])
def test_a_part_that_was_broken_off_is_no_measure(part: str, event: JobEvent) -> None:
    found = known(log(breaks={part: event}))
    assert part not in found
    assert {"setup", "training", "download", "evaluate"} - set(found) == {part}


def test_a_verification_that_was_broken_off_leaves_the_rate_of_the_download() -> None:
    assert known(log(breaks={"verifying": BREAKS["held"]}))["download"][0] == COMES_HOME


def test_a_look_in_mid_part_breaks_nothing() -> None:
    assert "setup" in known(log(breaks={"setup": StageEntered(Stage.INSTALL)}))


def test_a_training_that_went_on_from_a_mirror_is_no_measure() -> None:
    assert "training" not in known(log(breaks={"setup": Resumes({"sft": 100}, {})}))


def test_a_file_that_was_home_already_tells_no_rate() -> None:
    assert "download" not in known(log(rate=None))


@pytest.mark.parametrize(("ended", "seconds"), [(1800.0, 1800.0), (-500.0, 2000.0), (90_000.0, 2000.0)])
def test_the_box_tells_when_its_training_ended_unless_that_cannot_be(ended: float, seconds: float) -> None:
    assert known(log(ended=ended))["training"][0] == seconds


def test_a_training_of_other_steps_is_scaled() -> None:
    half = job(training={"sft_steps": 165, "dpo_steps": 40})
    whole, part = estimate.timeline(job()).training, estimate.timeline(half).training
    assert known(log(half, training=1000))["training"][0] == pytest.approx(1000 * whole / part, abs=0.01)
    assert known(log(training=1000), of=half)["training"][0] == pytest.approx(1000 * part / whole, abs=0.01)


def test_a_file_of_another_size_is_scaled() -> None:
    small = job(artifact={"quantization": "Q4_K_M"})
    assert known(log(small))["download"][0] == COMES_HOME + 60


OTHERS: dict[str, dict[str, Any]] = {
    "another provider": {"provider": {"kind": "emulated"}},
    "other GPUs": {"machine": {"gpu": "A100"}},
    "fewer GPUs": {"machine": {"gpus": 4}},
    "another model": {"model": {"hidden_size": 2048}},
    "another adapter": {"model": {"lora_r": 8}},
    "another batch size": {"training": {"batch_size": 8}},
}


@pytest.mark.parametrize("tables", OTHERS.values(), ids=OTHERS)
def test_another_kind_of_job_is_not_asked(tables: dict[str, Any]) -> None:
    assert known(log(job(**tables))) == {}
    assert known(log(), of=job(**tables)) == {}


def test_an_adopted_job_is_not_asked() -> None:
    assert known(log(job().model_copy(update={"adopted": True}))) == {}


def test_a_job_that_ran_on_another_board_is_not_asked() -> None:
    assert known(log(board="H100 NVL")) == {}


def test_what_this_very_job_took_goes_before_what_others_took() -> None:
    found = timings.known(job(), log(setup=50).history, [log().history], BOARD)
    assert (found["setup"].seconds, found["setup"].source) == (50.0, "measured in this job")


def _closed(log: Log) -> Log:
    return log


def _open(log: Log) -> Log:
    del log.records[-1]
    return log


@pytest.mark.parametrize(("made", "counts"), [(_closed, True), (_open, False)])
def test_the_ledger_finds_the_closed_jobs_alike(made: Callable[[Log], Log], counts: bool, tmp_path: Path) -> None:
    store = open_store(tmp_path / "state.db", FakeClock(1.8e9))
    logs = {
        "one": made(log(job().model_copy(update={"name": JobName("one")}))),
        "other": log(job(machine={"gpu": "A100"}).model_copy(update={"name": JobName("other")})),
    }
    for name, one in logs.items():
        for event in events_of(one.records):
            store.append(JobName(name), event)
    assert [history.job.name for history in Ledger(store).earlier(job())] == ["one"] * counts


def test_the_ledger_tells_the_newest_first_and_reads_over_a_damaged_one(tmp_path: Path) -> None:
    clock = FakeClock(1.8e9)
    store = open_store(tmp_path / "state.db", clock)
    for name in ("first", "second", "third"):
        for event in events_of(log(job().model_copy(update={"name": JobName(name)})).records):
            store.append(JobName(name), event)
        clock.turn(1000)

    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as opened, opened:
        opened.execute("update events set data = '{}' where job = 'second' and kind = 'rented'")
    assert [history.job.name for history in Ledger(store).earlier(job())] == ["third", "first"]
