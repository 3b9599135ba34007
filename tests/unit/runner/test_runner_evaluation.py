"""The evaluation before the release: it comes home when there is one, and whatever goes wrong with it holds nothing."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import digest
from harness.artifacts.evaluation import MAX_BYTES
from harness.core.errors import HostUnreachable, Refused
from harness.core.ids import Sha256
from harness.core.lifecycle import Stage
from harness.core.observed import CouldNotLook
from harness.core.ports import RemoteFile
from harness.core.questions import Command
from harness.ledger import billing
from harness.ledger.events import (
    ArtifactRecorded,
    Evaluated,
    EvaluationBegun,
    InstanceStarted,
    InstanceStopped,
    Released,
    Verified,
)
from harness.ledger.kinds import JobEvent
from harness.runner import evaluation
from harness.runner import run as runner
from harness.runner.spending import BudgetWatch
from tests.support.context import Killed, Telling, World, make_world
from tests.support.job_histories import DIGEST, Log, events_of

COMMAND = ("python3", "train_deepseek_forex.py", "--stage", "evaluate")
LIMIT_S = 600.0
SHARE = {"accuracy": 0.512, "low": 0.489, "high": 0.535}
FOUND = {
    "direction": {
        "rows": 1234,
        "choices": ["UP", "DOWN"],
        "beats_majority": False,
        "doubts": [],
        "trained": SHARE,
        "base": SHARE,
        "majority": SHARE,
    }
}
ENDED = {"status": 0, "out": "", "err": ""}
AT_WORK = [{"pid": 7, "ppid": 1, "state": "R", "argv": list(COMMAND), "cwd": "", "env": {}}]

Says = Callable[[World, Command], dict[str, Any]]


def _world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: Says, **limits: Any) -> World:
    world = make_world(
        tmp_path,
        monkeypatch,
        fast=True,
        package={"evaluate": list(COMMAND)},
        limits={"evaluate_s": LIMIT_S, **limits},
    )
    world.box.on_command = lambda asked: says(world, asked)
    return world


def _write(world: World, text: str = json.dumps(FOUND)) -> None:
    (world.box.root / "evaluation.json").write_text(text)


def _told(world: World) -> list[Evaluated]:
    return [one for one in events_of(world.store.records(world.job.name)) if isinstance(one, Evaluated)]


def _here(world: World) -> Path:
    return world.context().directory / "companions" / "evaluation.json"


def well(world: World, asked: Command) -> dict[str, Any]:
    """It takes a minute, if it is let, and writes its words."""
    if asked.timeout < 60:
        return never_ends(world, asked)
    world.clock.sleep(60)
    _write(world)
    return ENDED


def fails(_world: World, _: Command) -> dict[str, Any]:
    return {"status": 1, "out": "reading", "err": "DataDefect: the rows' last lines are no choice"}


def says_nothing(_world: World, _: Command) -> dict[str, Any]:
    return ENDED


def never_ends(world: World, asked: Command) -> dict[str, Any]:
    """The box ends it, as it does for every command whose time is over."""
    world.clock.sleep(asked.timeout)
    raise ValueError(f"python3 did not end within {asked.timeout:.0f} s")


def writes_a_folder(world: World, _: Command) -> dict[str, Any]:
    (world.box.root / "evaluation.json").mkdir()
    return ENDED


def writes_too_much(world: World, _: Command) -> dict[str, Any]:
    _write(world, " " * (2 << 20))
    return ENDED


def cannot_be_kept(world: World, _: Command) -> dict[str, Any]:
    def full(remote: RemoteFile) -> None:
        if remote.path.endswith("evaluation.json"):
            raise OSError(errno.ENOSPC, "No space left on device")

    _write(world)
    world.box.on_fetch = full
    return ENDED


def writes_an_old_one(world: World, _: Command) -> dict[str, Any]:
    _write(world)
    os.utime(world.box.root / "evaluation.json", (1.0, 1.0))
    return ENDED


def test_it_comes_home_after_the_file_is_verified_and_before_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _world(tmp_path, monkeypatch, well)
    world.run()
    assert world.history.closed
    order = [Verified, EvaluationBegun, Evaluated, Released]
    assert [kind for kind in world.kinds() if kind in order] == order
    assert json.loads(_here(world).read_text()) == FOUND
    assert _told(world) == [Evaluated(None, digest.of_file(_here(world)).sha256)]


@pytest.mark.parametrize(
    ("says", "problem"),
    [
        (fails, "it ended with status 1: DataDefect"),
        (says_nothing, "the command wrote no evaluation.json"),
        (never_ends, "did not end within 540 s"),
        (writes_a_folder, "is no file of a sane size"),
        (writes_too_much, "is no file of a sane size"),
        (writes_an_old_one, "the command wrote no evaluation.json"),
        (cannot_be_kept, "No space left on device"),
    ],
)
def test_what_goes_wrong_is_told_and_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: Says, problem: str
) -> None:
    world = _world(tmp_path, monkeypatch, says)
    telling = world.run()
    assert world.history.closed
    (told,) = _told(world)
    assert told.sha256 is None
    assert problem in str(told.problem)
    assert [note for note in telling.notes if note.startswith("the model was not evaluated")]
    assert not _here(world).exists()


def test_a_cut_connection_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on is waited for, and not begun a second time beside itself."""
    asked: list[Command] = []

    def cut(world: World, one: Command) -> dict[str, Any]:
        asked.append(one)
        world.box.processes = list(AT_WORK)
        ends_at = world.clock.now() + 100

        def reachable() -> bool:
            if world.box.processes and world.clock.now() >= ends_at:
                world.box.processes = []
                _write(world)
            return True

        world.box.reachable = reachable
        raise HostUnreachable("cut")

    world = _world(tmp_path, monkeypatch, cut)
    world.run()
    assert world.history.closed
    assert len(asked) == 1
    assert json.loads(_here(world).read_text()) == FOUND


def test_a_box_that_is_out_of_sight_for_a_moment_is_looked_at_again_a_look_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(world: World, _: Command) -> dict[str, Any]:
        back_at = world.clock.now() + 5
        world.box.reachable = lambda: world.clock.now() >= back_at
        _write(world)
        raise HostUnreachable("cut")

    world = _world(tmp_path, monkeypatch, cut)
    told = world.run()
    assert "the evaluation is out of sight: cut" in told.notes
    assert _told(world)[0].problem is None
    assert json.loads(_here(world).read_text()) == FOUND


def test_one_that_runs_on_past_the_budget_is_over_at_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def runs_on(world: World, _: Command) -> dict[str, Any]:
        world.box.processes = list(AT_WORK)
        raise HostUnreachable("cut")

    world = _world(tmp_path, monkeypatch, runs_on, evaluate_s=36000.0)
    world.run(until=Stage.POSTDOWNLOAD)
    world.change(limits={"budget_usd": 3.0})
    began = world.clock.monotonic()
    world.run()
    assert "the budget is $3.00" in str(_told(world)[0].problem)
    assert world.clock.monotonic() - began < 1000
    assert InstanceStopped in world.kinds()


@pytest.mark.parametrize("alone", [True, False])
def test_killed_while_it_runs_the_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, alone: bool
) -> None:
    """The process here dies; the one on the box has died with it (``alone``), or is still at work."""
    asked: list[Command] = []

    def kill(world: World, one: Command) -> dict[str, Any]:
        asked.append(one)
        world.clock.sleep(200)
        if len(asked) == 1:
            world.box.processes = [] if alone else list(AT_WORK)
            raise Killed
        return well(world, one)

    world = _world(tmp_path, monkeypatch, kill)
    with pytest.raises(Killed):
        world.run()
    ends_at = world.clock.now() + 50

    def reachable() -> bool:
        if world.box.processes and world.clock.now() >= ends_at:
            world.box.processes = []
            _write(world)
        return True

    world.box.reachable = reachable
    world.run()
    assert world.history.closed
    assert world.kinds().count(EvaluationBegun) == 1
    assert len(asked) == (2 if alone else 1)
    assert all(one.timeout <= LIMIT_S for one in asked)
    assert sum(one.timeout for one in asked[1:]) <= LIMIT_S - 200
    assert json.loads(_here(world).read_text()) == FOUND


@pytest.mark.parametrize("kind", [EvaluationBegun, Evaluated])
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_its_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[JobEvent], *, after: bool
) -> None:
    world = _world(tmp_path, monkeypatch, well)

    def kill(event: JobEvent, done: bool) -> None:
        if isinstance(event, kind) and done is after:
            raise Killed

    with pytest.raises(Killed):
        world.run(on_record=kill)
    world.run()
    assert world.history.closed
    assert world.kinds().count(EvaluationBegun) == world.kinds().count(Evaluated) == 1
    assert json.loads(_here(world).read_text()) == FOUND


def test_killed_for_longer_than_its_limit_it_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(_world: World, _: Command) -> dict[str, Any]:
        raise Killed

    world = _world(tmp_path, monkeypatch, kill)
    with pytest.raises(Killed):
        world.run()
    world.clock.sleep(LIMIT_S + 1)
    world.run()
    assert world.history.closed
    assert "was used up" in str(_told(world)[0].problem)


@pytest.mark.parametrize("says", [never_ends, fails, well])
@pytest.mark.parametrize("cents", [1, 100, 10_000])
def test_it_costs_at_most_its_limit_and_never_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: Says, cents: int
) -> None:
    """What is unspent when it begins pays for no more than that."""
    world = _world(tmp_path, monkeypatch, says)
    world.run(until=Stage.POSTDOWNLOAD)
    before = billing.spent(world.history, world.clock.now())
    assert before is not None
    limits = world.job.limits.model_copy(update={"budget_usd": max(before, world.market.usd) + cents / 100})
    world.job = world.job.model_copy(update={"limits": limits})
    runner.open_job(world.store, world.job, world.home / "job.toml", accept_changes=True)
    world.run()
    assert world.history.closed
    begun, ended = (
        next(record.at for record in world.store.records(world.job.name) if record.kind == kind.kind)
        for kind in (EvaluationBegun, Evaluated)
    )
    assert ended - begun <= LIMIT_S + 1
    assert (ended - begun) * 15.9 / 3600 <= cents / 100 + 0.01


def test_somebody_elses_process_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard will refuse for it: nothing is paid for waiting."""
    world = _world(tmp_path, monkeypatch, well)
    world.run(until=Stage.POSTDOWNLOAD)
    world.box.processes = list(AT_WORK)
    began = world.clock.now()
    with pytest.raises(Refused, match="something still runs on the box"):
        world.run()
    assert world.clock.now() - began < 60
    assert "something else runs on the box: 7 python3" in str(_told(world)[0].problem)


def test_a_silent_box_is_the_guards_affair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = _world(tmp_path, monkeypatch, well)
    world.run(until=Stage.POSTDOWNLOAD)
    world.box.reachable = lambda: False
    with pytest.raises(Refused, match="the box could not be looked at"):
        world.run()
    assert "does not answer" in str(_told(world)[0].problem)
    world.box.reachable = lambda: True
    world.run()
    assert world.history.closed


@pytest.mark.parametrize("asked_for", [True, False])
def test_one_that_was_made_by_hand_comes_home_with_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, asked_for: bool
) -> None:
    world = _world(tmp_path, monkeypatch, fails)
    if not asked_for:
        world.job = world.job.model_copy(update={"package": world.job.package.model_copy(update={"evaluate": ()})})
    world.run(until=Stage.TRAINING)
    _write(world)
    world.run()
    assert world.history.closed
    assert EvaluationBegun not in world.kinds()
    assert json.loads(_here(world).read_text()) == FOUND


def test_another_evaluation_takes_the_place_of_the_one_that_is_here_and_the_same_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _world(tmp_path, monkeypatch, fails)
    world.run(until=Stage.POSTDOWNLOAD)
    fetched: list[str] = []
    world.box.on_fetch = lambda remote: fetched.append(remote.path)
    context = world.context()
    assert not evaluation.bring(context)
    for text, times in (("{}", 1), ("{}", 1), ("[1]", 2)):
        _write(world, text)
        assert evaluation.bring(context)
        assert _here(world).read_text() == text
        assert len(fetched) == times
    assert len(_told(world)) == 2


@pytest.mark.parametrize("missing", ["MANIFEST.json", "evaluation.json"])
def test_without_both_files_there_is_none_of_this_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    world = _world(tmp_path, monkeypatch, fails)
    world.run(until=Stage.POSTDOWNLOAD)
    _write(world)
    (world.box.root / missing).unlink()
    assert not evaluation.bring(world.context())


@pytest.mark.parametrize(("age_s", "counts"), [(-1.0, False), (0.0, True), (1.0, True)])
def test_one_that_is_older_than_the_training_is_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_s: float, counts: bool
) -> None:
    world = _world(tmp_path, monkeypatch, fails)
    world.run(until=Stage.POSTDOWNLOAD)
    _write(world)
    for name, at in (("MANIFEST.json", 1000.0), ("evaluation.json", 1000.0 + age_s)):
        os.utime(world.box.root / name, (at, at))
    assert evaluation.bring(world.context()) is counts


@pytest.mark.parametrize(("more", "comes"), [(0, True), (1, False)])
def test_its_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int, comes: bool) -> None:
    world = _world(tmp_path, monkeypatch, fails)
    world.run(until=Stage.POSTDOWNLOAD)
    _write(world, " " * (MAX_BYTES + more))
    with contextlib.nullcontext() if comes else pytest.raises(CouldNotLook, match="is no file of a sane size"):
        evaluation.bring(world.context())


def test_one_is_made_once_and_of_a_box_that_stands_still_or_goes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Command] = []

    def says(world: World, one: Command) -> dict[str, Any]:
        asked.append(one)
        return well(world, one)

    world = _world(tmp_path, monkeypatch, says)
    world.run(until=Stage.POSTDOWNLOAD)
    (only,) = world.market.rented
    context, telling = world.context(), Telling()
    context.record(InstanceStopped(only, "for the night"))
    evaluation.evaluate(context, telling, BudgetWatch(context, telling))
    assert asked == []
    assert EvaluationBegun not in world.kinds()
    context.record(InstanceStarted(only))
    for _ in range(2):
        evaluation.evaluate(context, telling, BudgetWatch(context, telling))
    assert len(asked) == 1
    assert telling.notes == ["the verified file is here; evaluating on the box for 10 min 00 s at most"]


def test_nobody_is_asked_for_what_the_job_does_not_want(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.box.on_command = lambda _: pytest.fail("an evaluation was run")
    world.run()
    assert world.history.closed
    assert not {EvaluationBegun, Evaluated} & set(world.kinds())


def test_the_evaluation_of_one_artifact_is_none_of_another() -> None:
    log = Log().fetched().add(EvaluationBegun(COMMAND)).add(Evaluated(None, DIGEST))
    assert (log.history.evaluated, log.history.evaluation_at) == (Evaluated(None, DIGEST), log.at - 10)
    log.add(ArtifactRecorded("/m.gguf", 9, Sha256("cd" * 32)))
    assert (log.history.evaluated, log.history.evaluation_at) == (None, None)
