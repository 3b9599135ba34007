"""Time that earlier jobs took: what went through counts, what was broken off does not; only jobs alike are asked."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.core.ids import JobName
from harness.core.lifecycle import Stage
from harness.job import estimate
from harness.job.forecast import PROFILE
from harness.job.model import Job
from harness.ledger import timings
from harness.ledger.events import (
    ArtifactRecorded,
    Closed,
    Confirmed,
    DestroyRequested,
    Evaluated,
    EvaluationBegun,
    Fetched,
    Held,
    InstanceStopped,
    Launched,
    Relaunched,
    Released,
    Rented,
    RentIntended,
    Resumes,
    StageEntered,
    Trained,
    TrainingStopped,
)
from harness.ledger.jobs import Ledger
from harness.ledger.kinds import JobEvent
from harness.ledger.noted import AtWork
from harness.ledger.sql import open_store
from harness.log.grammar import Trainer
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import DIGEST, INSTANCE, LABEL, LOCAL, REMOTE, SIZE, Log, events_of, gate, job, judged

GPU = "H100 SXM"
RATE = 50e6


def log(
    of: Job | None = None,
    *,
    setup: float = 400,
    training: float = 2000,
    verifying: float = 60,
    board: str = "H100 SXM",
    breaks: dict[str, JobEvent] | None = None,
    parts: Mapping[str, float] | None = None,
    closes: tuple[float, float, float] | None = None,
    ended: float | None = None,
    rate: float | None = RATE,
) -> Log:
    """A job that took so long; ``breaks``: an event in the midst of a part.

    ``parts``: when the training was seen at each, in seconds from its launch; ``closes``: seconds to the release
    statement, for the answer of a person, to the destruction.
    """
    breaks = breaks or {}
    made = Log(of)
    offer = {"gpu_name": board, "num_gpus": 8, "usd_per_hour": 16.0}
    made.add(RentIntended(LABEL, offer, owner=7)).add(Rented(INSTANCE, LABEL, offer, usd_per_hour=16.0, owner=7))

    def through(part: str, event: JobEvent, seconds: float) -> None:
        if part in breaks:
            made.add(breaks[part], after=seconds / 2)
        made.add(event, after=seconds / 2 if part in breaks else seconds)

    through("setup", Launched(("train",), "first"), setup)
    launched = made.at
    for part, seconds in (parts or {}).items():
        made.add(AtWork(part), after=launched + seconds - made.at)
    through("training", Trained(at=launched + (training if ended is None else ended)), launched + training - made.at)
    made.add(ArtifactRecorded(path=REMOTE, size=SIZE, sha256=DIGEST))
    made.add(Fetched(LOCAL, SIZE, DIGEST, bytes_per_s=rate), after=200)
    through("verifying", judged(gate(Stage.POSTDOWNLOAD, made.job), made.job), verifying)
    made.add(EvaluationBegun(("judge",)))
    through("evaluate", Evaluated(None, DIGEST), 120)
    if closes is not None:
        made.add(Released("r.json", DIGEST), after=closes[0])
        made.add(Confirmed("typed", INSTANCE), after=closes[1])
        made.add(DestroyRequested(INSTANCE, "accepted"), after=closes[2])
    return made.add(Closed())


def known(*logs: Log, of: Job | None = None, on: str = GPU, own: Log | None = None) -> dict[str, tuple[float, str]]:
    """What is known of each part; without what is only reckoned from the profile."""
    asked = of or job()
    found = timings.known(asked, asked, None if own is None else own.history, [one.history for one in logs], on)
    told = {part: (round(taken.seconds, 3), taken.source) for part, taken in found.items()}
    return {part: one for part, one in told.items() if one[1] != PROFILE}


def trained(found: dict[str, tuple[float, str]]) -> float:
    """Seconds of the whole training."""
    return sum(found[part][0] for part in ("load", "steps", "export"))


BYTES_S = SIZE / RATE
COMES_HOME = round(estimate.artifact_bytes(job()) / RATE, 3)
BESIDES = 10 + 200 + 60 - BYTES_S
"""From the training's end to the gate, but for the bytes: hashing, companions, the gate itself."""


def test_each_part_of_a_job_that_went_through_is_known() -> None:
    one = "own history (1 job)"
    found = known(log())
    assert set(found) == {"setup", "load", "steps", "export", "download", "evaluate"}
    assert {source for _, source in found.values()} == {one}
    assert found["setup"][0] == 400
    assert trained(found) == pytest.approx(2000)
    assert found["download"][0] == pytest.approx(COMES_HOME + BESIDES, abs=0.01)
    assert found["evaluate"][0] == 120


def test_the_parts_of_a_training_are_those_that_were_seen() -> None:
    """Where a short one was missed between two looks, they are in the proportion of the plan."""
    seen = log(parts={"sft": 100, "dpo": 1500, "export": 1800})
    assert {part: one[0] for part, one in known(seen).items() if part in {"load", "steps", "export"}} == {
        "load": 100,
        "steps": 1700,
        "export": 200,
    }
    missed = known(log(parts={"sft": 100, "dpo": 1500}))
    planned = estimate.timeline(job())
    assert missed["load"][0] == pytest.approx(2000 * planned.load / planned.training, abs=0.01)
    both = known(seen, log(parts={"sft": 100}, training=4000), log(training=4000))
    assert trained(both) == pytest.approx(4000), "the whole is the middle of all three"
    assert both["load"][0] == pytest.approx(200), "and its parts as of the one that tells them"


def test_only_the_steps_grow_with_the_steps() -> None:
    twice = job(training={"sft_steps": 660, "dpo_steps": 160})
    found = known(log(parts={"sft": 100, "export": 1800}), of=twice)
    assert {part: found[part][0] for part in ("load", "steps", "export")} == {"load": 100, "steps": 3400, "export": 200}


def test_the_end_of_a_job_is_known_but_for_the_wait_for_a_person() -> None:
    made = log(closes=(3.0, 900.0, 8.0))
    assert known(made)["closing"][0] == 11


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
    lacks = {"load", "steps", "export"} if part == "training" else {part}
    found = known(log(breaks={part: event}))
    assert {"setup", "load", "steps", "export", "download", "evaluate"} - set(found) == lacks


def test_a_verification_that_was_broken_off_leaves_the_rate_of_the_download() -> None:
    assert known(log(breaks={"verifying": BREAKS["held"]}))["download"][0] == COMES_HOME


def test_a_look_in_mid_part_breaks_nothing() -> None:
    assert "setup" in known(log(breaks={"setup": StageEntered(Stage.INSTALL)}))


def test_a_training_that_went_on_from_a_mirror_is_no_measure() -> None:
    assert "steps" not in known(log(breaks={"setup": Resumes({"sft": 100}, {})}))


def test_a_file_that_was_home_already_tells_no_rate() -> None:
    assert "download" not in known(log(rate=None))


@pytest.mark.parametrize(("ended", "seconds"), [(1800.0, 1800.0), (-500.0, 2000.0), (90_000.0, 2000.0)])
def test_the_box_tells_when_its_training_ended_unless_that_cannot_be(ended: float, seconds: float) -> None:
    assert trained(known(log(ended=ended))) == pytest.approx(seconds)


def test_a_training_of_other_steps_is_scaled() -> None:
    half = job(training={"sft_steps": 165, "dpo_steps": 40})
    whole, part = estimate.timeline(job()).training, estimate.timeline(half).training
    assert trained(known(log(half, training=1000))) == pytest.approx(1000 * whole / part, abs=0.01)
    assert trained(known(log(training=1000), of=half)) == pytest.approx(1000 * part / whole, abs=0.01)


def test_a_file_of_another_size_is_scaled() -> None:
    small = job(artifact={"quantization": "Q4_K_M"})
    assert known(log(), of=small)["download"][0] == pytest.approx(
        estimate.artifact_bytes(small) / RATE + BESIDES, abs=0.01
    )


OTHERS: dict[str, dict[str, Any]] = {
    "another provider": {"provider": {"kind": "emulated"}},
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


ELSEWHERE = " on other GPUs"


@pytest.mark.parametrize(("gpu", "slower"), [("H200", 1.0), ("H100 PCIE", 756 / 989), ("A100 SXM4", 312 / 989)])
def test_on_other_gpus_the_steps_are_reckoned_and_the_rest_is_taken_over(gpu: str, slower: float) -> None:
    other = log(board=gpu, parts={"sft": 100, "export": 1800})
    found = known(other)
    assert found["steps"][0] == pytest.approx(1700 * slower, abs=0.01)
    assert f"own history (1 job) x {slower:.2g}, from seeds on 8x {gpu}" == found["steps"][1]
    assert found["load"] == (100, f"own history (1 job{ELSEWHERE})")
    same = log(parts={"sft": 10, "export": 1010})
    assert known(other, other, same)["steps"] == (1000, "own history (1 job)"), "one on the same GPUs goes before"


STEPS = {"sft": 100, "export": 1800}
"""1,700 seconds of steps."""


@pytest.mark.parametrize(
    ("strategy", "machine", "gpu", "seconds", "source"),
    [
        ("single", {"gpu": "H100", "gpus": 1}, GPU, 1700 * 2.5, "own history (1 job) x 2.5, from seeds on 8x H100 SXM"),
        ("single", {"gpu": "A100", "gpus": 1}, "A100 SXM4", 1700 * 2.5 * 989 / 312, "own history (1 job) x 7.9, from"),
        ("ddp", {}, GPU, 1700 * 2.5 / 3, "own history (1 job) x 0.83, from seeds on 8x H100 SXM"),
    ],
)
def test_another_strategy_is_reckoned_from_the_jobs_of_this_one(
    strategy: str, machine: dict[str, Any], gpu: str, seconds: float, source: str
) -> None:
    other = job(machine=machine)
    other = other.model_copy(update={"training": other.training.model_copy(update={"strategy": strategy})})
    found = timings.known(job(), other, None, [log(parts=STEPS).history], gpu)["steps"]
    assert found.seconds == pytest.approx(seconds)
    assert found.source.startswith(source)


def test_a_figure_of_the_job_file_goes_before_what_another_strategy_took() -> None:
    """Between strategies there is but a ratio: the seeds' word for theirs, a bar for the copies."""
    one = log(job(machine={"gpus": 1, "gpu": "H100"}), parts=STEPS)
    assert "steps" not in known(one), "the profile's own"


def test_gpus_that_are_not_known_beside_these_tell_nothing_of_the_steps() -> None:
    found = known(log(board="RTX 4090"))
    assert "steps" not in found
    assert found["setup"] == (400, f"own history (1 job{ELSEWHERE})")


def test_what_this_very_job_took_goes_before_what_others_took() -> None:
    found = known(log(), own=log(setup=50))
    assert found["setup"] == (50.0, "measured in this job")


@pytest.mark.parametrize("tables", OTHERS.values(), ids=OTHERS)
def test_what_this_job_took_before_its_file_was_changed_is_no_measure(tables: dict[str, Any]) -> None:
    assert known(own=log(job(**tables))) == {}


def test_a_trainer_of_another_name_is_no_measure() -> None:
    """Its seconds a step are not known in this job's file."""
    training = job().training.model_copy(update={"steps": {Trainer("kto"): 330, Trainer("dpo"): 80}})
    other = job().model_copy(update={"training": training})
    assert timings.alike(job(), job())
    assert not timings.alike(other, job())
    assert not timings.alike(job(), other)


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
        "other": log(job(model={"hidden_size": 2048}).model_copy(update={"name": JobName("other")})),
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
