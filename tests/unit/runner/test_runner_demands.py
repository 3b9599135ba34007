"""A gate is judged by what is demanded now: a changed job file, a new check, another harness look at the file again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness import __version__
from harness.core.errors import GateHeld, Refused
from harness.core.ids import InstanceId
from harness.core.lifecycle import Stage
from harness.core.ports import InstanceStatus
from harness.core.verdict import Verdict
from harness.gates import judge, plan
from harness.ledger.events import GateJudged, Reopened
from harness.ledger.kinds import JobEvent
from harness.runner import run as runner
from harness.runner import teardown
from tests.support.context import Telling, World, make_world
from tests.support.job_histories import check, events_of

INSTANCE = InstanceId(4711)
AGAIN = [Stage.POSTTRAIN, Stage.POSTDOWNLOAD]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A job whose file was judged: only its teardown is left."""
    made = make_world(tmp_path, monkeypatch, fast=True, gates={"checks": (str(tmp_path / "own"),)})
    (tmp_path / "own" / "postdownload").mkdir(parents=True)
    made.run(until=Stage.POSTDOWNLOAD)
    made.judged.clear()
    return made


def _add_check(world: World) -> None:
    (world.job.gates.checks[0] / "postdownload" / "check_new.py").write_text("def check_new(): ...\n")


def _change_what_checks_read(name: str) -> Callable[[World], None]:
    """A file beside the checks, from which one of them may have its limits or its helpers."""

    def change(world: World) -> None:
        path = world.job.gates.checks[0] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("3")

    return change


def _upgrade(world: World) -> None:
    del world
    pytest.MonkeyPatch().setattr(judge, "__version__", "99.0")


def _demand_more(world: World) -> None:
    del world
    plans = {**plan._DECLARED, "postdownload": (*plan._DECLARED["postdownload"], "signature_is_good")}
    pytest.MonkeyPatch().setattr(plan, "_DECLARED", plans)


@pytest.fixture
def undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the changes above patch is as it was when a test is over."""
    monkeypatch.setattr(judge, "__version__", __version__)
    monkeypatch.setattr(plan, "_DECLARED", plan._DECLARED)


CHANGES: dict[str, Callable[[World], None]] = {
    "the model's shape": lambda w: w.change(model={"hidden_size": 8192}),
    "the floors": lambda w: w.change(artifact={"floors": {**w.job.artifact.floors, "Q8_0": 7_000_000_000}}),
    "a second copy": lambda w: w.change(artifact={"second_copy": w.home / "copies"}),
    "no generation": lambda w: w.change(gates={"generate": False}),
    "the prompt": lambda w: w.change(gates={"prompt": "Another"}),
    "a check of one's own": _add_check,
    "limits of a check of one's own": _change_what_checks_read("postdownload/limits.json"),
    "helpers of checks of one's own": _change_what_checks_read("lib/helpers.py"),
    "another harness": _upgrade,
    "a check that the harness has by now": _demand_more,
}


@pytest.mark.usefixtures("undone")
@pytest.mark.parametrize("name", CHANGES)
def test_what_changed_is_judged_again_and_goes(world: World, name: str) -> None:
    CHANGES[name](world)
    world.run()
    assert world.judged == [*AGAIN, Stage.TEARDOWN]
    assert world.history.closed
    assert world.provider.count("destroy") == 1


@pytest.mark.usefixtures("undone")
@pytest.mark.parametrize("name", CHANGES)
def test_what_fails_by_now_is_held_and_nothing_goes(world: World, name: str) -> None:
    CHANGES[name](world)
    world.gates[Stage.POSTDOWNLOAD] = [(check(Stage.POSTDOWNLOAD, "local_gguf_well_formed", Verdict.FAIL),)]
    with pytest.raises(GateHeld, match="local_gguf_well_formed"):
        world.run()
    assert world.provider.count("destroy") == 0
    assert world.market.rented


@pytest.mark.usefixtures("undone")
@pytest.mark.parametrize("name", CHANGES)
def test_the_guard_itself_refuses_an_older_judgement_and_names_a_way_that_works(world: World, name: str) -> None:
    with pytest.raises(Refused, match="nobody confirmed"):
        world.run(lambda _id, _file: None)
    CHANGES[name](world)
    with pytest.raises(Refused, match="was judged") as refused:
        teardown.teardown(world.context(), Telling(), lambda _id, _file: "yes")
    assert "harness run" in refused.value.remedy
    assert world.provider.count("destroy") == 0
    world.run()
    assert world.history.closed


@pytest.mark.parametrize("name", ["preflight/check_rows.py", "postdownload/__pycache__/check_x.pyc", ".git/index"])
def test_what_no_check_of_the_artifact_reads_judges_nothing_again(world: World, name: str) -> None:
    _change_what_checks_read(name)(world)
    world.run()
    assert world.judged == [Stage.TEARDOWN]


def test_nothing_is_judged_again_when_nothing_changed(world: World) -> None:
    world.run()
    assert world.judged == [Stage.TEARDOWN]
    assert Reopened not in world.kinds()


def test_a_change_that_is_undone_needs_no_second_look(world: World) -> None:
    before = world.job
    world.change(model={"hidden_size": 8192})
    world.job = before
    runner.open_job(world.store, world.job, world.home / "job.toml", accept_changes=True)
    world.run()
    assert world.judged == [Stage.TEARDOWN]


def test_a_change_between_the_two_gates_judges_the_first_again(world: World) -> None:
    world.gates[Stage.POSTDOWNLOAD] = [(check(Stage.POSTDOWNLOAD, "gguf_generates", Verdict.FAIL),)]
    world.change(gates={"prompt": "Another"})
    with pytest.raises(GateHeld):
        world.run()
    world.judged.clear()
    world.change(gates={"prompt": "A third"})
    world.run()
    assert world.judged == [*AGAIN, Stage.TEARDOWN]


def test_a_stopped_box_is_started_to_be_judged(world: World) -> None:
    world.market.change(INSTANCE, status=InstanceStatus.STOPPED, intended_status="stopped")
    world.change(model={"hidden_size": 8192})
    world.run()
    assert world.judged == [*AGAIN, Stage.TEARDOWN]
    assert world.history.closed


def test_what_was_asked_to_go_and_went_is_not_judged_again(world: World) -> None:
    world.market.lag = 500
    with pytest.raises(Exception, match="not proven to be gone"):
        world.run()
    world.market.rented.clear()
    world.change(model={"hidden_size": 8192})
    world.judged.clear()
    world.run()
    assert world.judged == [Stage.TEARDOWN]
    assert world.history.closed


def test_every_judgement_says_by_what_it_was_made(world: World) -> None:
    world.run()
    gates = [event for event in events_of(world.store.records(world.job.name)) if isinstance(event, GateJudged)]
    assert all(gate.demand == judge.demand(gate.stage, world.job) for gate in gates)
    assert len({gate.demand for gate in gates}) == len(Stage)


def test_killed_at_the_reopening_the_next_run_judges_all_of_it(world: World) -> None:
    class Death(BaseException):
        pass

    def kill(event: JobEvent, done: bool) -> None:
        if isinstance(event, Reopened) and event.stage is Stage.POSTDOWNLOAD and done:
            raise Death

    world.change(model={"hidden_size": 8192})
    with pytest.raises(Death):
        world.run(on_record=kill)
    world.run()
    assert world.judged == [*AGAIN, Stage.TEARDOWN]
