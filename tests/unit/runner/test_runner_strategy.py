"""A stated strategy is used only when the box has just proven it; every other end falls back and says why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.core.ids import InstanceId, Sha256
from harness.core.lifecycle import Stage
from harness.core.observed import CouldNotLook
from harness.facts import strategy as settled
from harness.job import strategy
from harness.ledger.events import Launched, Staged
from harness.ledger.kinds import JobEvent
from harness.ledger.settled import StrategySettled
from harness.remote.session import TrainingSession
from harness.runner import strategy as runner
from tests.support.context import Killed, Telling, World, make_world
from tests.support.job_histories import events_of
from tests.support.scripted_world import proving

RULES = ("python3", "train_deepseek_forex.py", "--stage", "all")


def asked(folder: Path, patch: pytest.MonkeyPatch, stated: str = "ddp") -> World:
    return make_world(folder, patch, fast=True, training={"strategy": stated})


def event(world: World) -> StrategySettled:
    (found,) = (one for one in events_of(world.store.records(world.job.name)) if isinstance(one, StrategySettled))
    return found


@pytest.mark.parametrize(
    ("stated", "argv", "variables"),
    [
        (
            "ddp",
            ("python3", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "8", *RULES[1:]),
            {"TRAINING_STRATEGY": "ddp"},
        ),
        ("single", RULES, {"TRAINING_STRATEGY": "single", "CUDA_VISIBLE_DEVICES": "0"}),
    ],
)
def test_what_is_proven_is_launched(
    stated: str, argv: tuple[str, ...], variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = asked(tmp_path, monkeypatch, stated)
    world.box.on_prove = proving(world.box)
    told = world.run()
    assert (tuple(world.box.launched[-1]["argv"]), world.box.launched[-1]["env"]) == (argv, variables)
    assert event(world).used == stated
    assert [one.command for one in events_of(world.store.records(world.job.name)) if isinstance(one, Launched)] == [
        argv
    ]
    assert any("6.40 times one process" in note for note in told.notes)
    assert world.box.begun["prove"] == 1
    assert world.history.closed


FALLS_BACK: list[tuple[str, int | None, Mapping[str, Any], str]] = [
    (
        "sabotaged",
        1,
        {"proven": False, "problems": {"losses_differ": "rank 1, step 2"}},
        "losses_differ: rank 1, step 2",
    ),
    ("problems beside a yes", 0, {"problems": {"too_slow": "1.2 times"}}, "too_slow: 1.2 times"),
    ("no reason", 1, {"proven": False}, "not_proven"),
    ("proven is only truthy", 0, {"proven": "yes"}, "not_proven"),
    ("another package", 0, {"of": "ab" * 32}, "proof_of_something_else: it differs in of"),
    ("another strategy", 0, {"strategy": "single"}, "proof_of_something_else: it differs in strategy"),
    ("fewer ranks", 0, {"ranks": 2}, "proof_of_something_else: it differs in ranks"),
    ("on a processor", 0, {"gpus": []}, "not_on_the_gpus"),
    ("on one GPU twice", 0, {"gpus": ["H100 0"] * 8}, "not_on_the_gpus"),
    ("of no versions", 0, {"versions": {}}, "versions_untold"),
    ("slower than planned, and proven all the same", 0, {"speedup": 1.1}, "too_slow: 1.1 times one process"),
    ("of no speed", 0, {"speedup": None}, "too_slow: None"),
    ("of a speed in words", 0, {"speedup": "fast"}, "too_slow"),
    ("of a speed that is one of two", 0, {"speedup": [6.4]}, "too_slow"),
    ("good words, bad end", 1, {}, "could_not_run: it ended with status 1"),
    ("killed", None, {}, "cut"),
]


@pytest.mark.parametrize(
    ("status", "changes", "why"), [one[1:] for one in FALLS_BACK], ids=[one[0] for one in FALLS_BACK]
)
def test_what_is_not_proven_falls_back_and_says_so(
    status: int | None, changes: Mapping[str, Any], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = asked(tmp_path, monkeypatch)
    world.box.on_prove = proving(world.box, status, **changes)
    told = world.run()
    assert (tuple(world.box.launched[-1]["argv"]), world.box.launched[-1]["env"]) == (RULES, {})
    found = event(world)
    assert (found.asked, found.used) == ("ddp", "seeds")
    assert found.why.startswith(why), found.why
    assert any("fell back" in note and why in note for note in told.notes)
    assert world.history.closed


@pytest.mark.parametrize(
    ("words", "why"),
    [(None, "could_not_run: it ended with status 0"), ("[]", "could_not_run"), ("{", "could_not_run")],
)
def test_a_proof_that_cannot_be_read_is_none(
    words: str | None, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = asked(tmp_path, monkeypatch)

    def prove(options: Mapping[str, str]) -> int:
        if words is not None:
            path = world.box.root / options["--out"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(words, encoding="utf-8")
        return 0

    world.box.on_prove = prove
    world.run(until=Stage.LAUNCH)
    assert event(world).used == "seeds"
    assert event(world).why.startswith(why)


def test_the_rules_way_is_not_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.run()
    assert world.box.begun["prove"] == 0
    assert StrategySettled not in world.kinds()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", [StrategySettled, Launched])
def test_killed_at_the_commit_point_it_goes_on_with_what_was_proven(
    kind: type[JobEvent], after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = asked(tmp_path, monkeypatch)
    world.box.on_prove = proving(world.box)

    def kill(one: JobEvent, done: bool) -> None:
        if isinstance(one, kind) and done is after:
            raise Killed

    with pytest.raises(Killed):
        world.run(on_record=kill)
    world.run()
    assert world.box.begun["prove"] == world.box.attempts == 1
    assert event(world).used == "ddp"
    assert world.box.launched[0]["env"] == {"TRAINING_STRATEGY": "ddp"}
    assert world.history.closed


def test_a_death_is_launched_again_by_the_same_strategy_and_without_another_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = asked(tmp_path, monkeypatch)
    world.box.on_prove, world.box.deaths = proving(world.box), 1
    world.run()
    assert [one["env"] for one in world.box.launched] == [{"TRAINING_STRATEGY": "ddp"}] * 2
    assert world.box.begun["prove"] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"strategy": "single"}},
        {"training": {"strategy": "seeds"}},
        {"model": {"base": "another/base"}},
        {"package": {"prove": ("python3", "other.py")}},
        {"training": {"command": ("python3", "other.py")}},
        {"training": {"batch_size": 16}},
        {"machine": {"gpus": 4}},
        {"machine": {"gpu": "H200"}},
    ],
)
def test_a_proof_is_of_one_job_file(change: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = asked(tmp_path, monkeypatch)
    world.box.on_prove = proving(world.box)
    world.run(until=Stage.LAUNCH)
    assert settled.used(world.history) == "ddp"
    world.change(**change)
    assert settled.settled(world.history) is None
    assert settled.used(world.history) == strategy.SEEDS
    assert settled.look(world.history).problem is not None


def test_a_proof_is_of_one_package_on_one_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = asked(tmp_path, monkeypatch)
    world.box.on_prove = proving(world.box)
    world.run(until=Stage.LAUNCH)
    proven = world.history
    assert proven.rental is not None
    assert settled.used(proven) == "ddp"
    elsewhere = dataclasses.replace(proven.rental, instance_id=InstanceId(4712))
    for other in (
        dataclasses.replace(proven, staged=Staged("/x", {"train.py": Sha256("ab" * 32)})),
        dataclasses.replace(proven, rental=elsewhere),
    ):
        assert settled.used(other) == strategy.SEEDS


@pytest.mark.parametrize(("within_s", "had"), [(100.0, 100.0), (1e9, None)])
def test_a_proof_has_its_own_time_and_no_more_than_is_paid_for(
    within_s: float, had: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = asked(tmp_path, monkeypatch)
    world.run(until=Stage.INSTALL)
    world.box.on_prove = proving(world.box, None)
    had = had or world.job.package.prove_timeout_s
    began, telling = world.clock.monotonic(), Telling()
    runner.settle(world.context(), telling, within_s)
    assert telling.notes[0] == f"proving strategy 'ddp' on the box, {had:.0f} s at most"
    assert event(world).why == f"cut: it did not end by itself within {had:.0f} s"
    assert had <= world.clock.monotonic() - began < had + 10


def test_a_proof_that_cannot_even_begin_falls_back_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = asked(tmp_path, monkeypatch)
    world.run(until=Stage.INSTALL)

    def breaks(*_: object, **__: object) -> bool:
        raise CouldNotLook("no room for a session")

    monkeypatch.setattr(TrainingSession, "start", breaks)
    runner.settle(world.context(), Telling(), 100.0)
    assert (event(world).used, event(world).why) == ("seeds", "could_not_run: no room for a session")


@pytest.mark.parametrize(
    ("proof", "told"),
    [
        ({"speedup": 6.4}, "6.40 times one process"),
        ({"speedup": 6}, "on this box"),
        ({"speedup": None}, "on this box"),
        ({}, "on this box"),
        (None, "on this box"),
        ([6.4], "on this box"),
    ],
)
def test_a_speed_is_told_where_the_proof_has_one(proof: object, told: str) -> None:
    assert runner._speed(proof) == told


def test_the_last_words_of_a_proof_that_failed_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = asked(tmp_path, monkeypatch)
    world.run(until=Stage.INSTALL)

    def prove(options: Mapping[str, str]) -> int:
        folder = world.box.root / ".harness" / "ahead" / f"prove-{options['--of'][:12]}"
        folder.mkdir(parents=True)
        (folder / "training.log").write_text("Traceback\nRuntimeError: NCCL\n")
        return 1

    world.box.on_prove = prove
    runner.settle(world.context(), Telling(), 100.0)
    assert event(world).why == "could_not_run: it ended with status 1: RuntimeError: NCCL"


def test_what_is_settled_or_not_asked_for_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = asked(tmp_path, monkeypatch)
    world.run(until=Stage.INSTALL)
    world.box.on_prove = proving(world.box)
    for _ in range(2):
        runner.settle(world.context(), Telling(), 100.0)
    assert (world.box.begun["prove"], event(world).used) == (1, "ddp")
    world.change(training={"strategy": "seeds"})
    runner.settle(world.context(), Telling(), 100.0)
    assert world.kinds().count(StrategySettled) == 1
