"""The model is home and what is demanded of it changes, while its box stops, dies or goes: there is a way forward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import GateHeld, GateUnknown, HarnessError, NotProven
from harness.core.ids import InstanceId
from harness.core.lifecycle import Stage
from harness.core.ports import InstanceStatus
from harness.core.verdict import Verdict
from harness.ledger.events import Lost, Reopened
from harness.ledger.kinds import JobEvent
from harness.runner.replacement import Agreement
from tests.support.context import World, make_world
from tests.support.job_histories import check

INSTANCE = InstanceId(4711)
TO_ALL = Agreement(lambda _: "agreed in advance", lambda _: True)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A job whose file was judged: only its teardown is left."""
    made = make_world(tmp_path, monkeypatch, fast=True)
    made.run(until=Stage.POSTDOWNLOAD)
    made.judged.clear()
    return made


def _goes_at_the_reopening(world: World) -> None:
    """The instance goes while its artifact is to be judged anew there."""

    def gone(event: JobEvent, done: bool) -> None:
        if done and isinstance(event, Reopened) and event.stage is Stage.POSTTRAIN:
            world.market.rented.clear()

    with pytest.raises(HarnessError):
        world.run(on_record=gone, agreement=TO_ALL)


def test_an_instance_that_goes_while_it_is_judged_anew_is_closed_on_what_is_home(world: World) -> None:
    world.change(limits={"poll_s": 7.0})
    _goes_at_the_reopening(world)
    assert Lost not in world.kinds(), "nothing is trained a second time while its model is home"
    world.run()
    assert world.judged == [Stage.POSTDOWNLOAD, Stage.TEARDOWN]
    assert world.history.closed
    assert world.provider.count("create") == 1


def test_what_was_asked_to_go_and_goes_while_it_is_judged_anew_is_closed(world: World) -> None:
    world.market.lag = 500
    with pytest.raises(NotProven):
        world.run()
    world.change(limits={"poll_s": 7.0})
    _goes_at_the_reopening(world)
    world.run()
    assert world.history.closed


def test_what_failed_on_the_box_is_not_closed_when_it_goes(world: World) -> None:
    world.change(model={"hidden_size": 8192})
    world.gates[Stage.POSTTRAIN] = [(check(Stage.POSTTRAIN, "remote_gguf_over_floor", Verdict.FAIL),)]
    with pytest.raises(GateHeld):
        world.run()
    world.market.rented.clear()
    with pytest.raises(HarnessError):
        world.run()
    assert not world.history.closed
    assert world.provider.count("destroy") == 0


def test_a_box_that_could_not_be_looked_at_before_it_went_fails_nothing(world: World) -> None:
    world.change(limits={"poll_s": 7.0})
    world.gates[Stage.POSTTRAIN] = [(check(Stage.POSTTRAIN, "remote_gguf_over_floor", Verdict.UNKNOWN),)] * 3
    with pytest.raises(GateUnknown):
        world.run()
    world.market.rented.clear()
    world.run()
    assert world.history.closed


def test_what_fails_at_home_is_not_closed(world: World) -> None:
    world.change(limits={"poll_s": 7.0})
    _goes_at_the_reopening(world)
    world.gates[Stage.POSTDOWNLOAD] = [(check(Stage.POSTDOWNLOAD, "gguf_generates", Verdict.FAIL),)]
    with pytest.raises(GateHeld, match="gguf_generates"):
        world.run()
    assert not world.history.closed


def test_a_model_that_is_home_is_not_trained_again_when_its_box_dies(world: World) -> None:
    world.change(limits={"poll_s": 7.0})
    world.market.change(INSTANCE, status=InstanceStatus.OFFLINE)
    with pytest.raises(HarnessError):
        world.run(agreement=TO_ALL)
    assert Lost not in world.kinds()
    assert world.provider.count("create") == 1
    world.market.change(INSTANCE, status=InstanceStatus.RUNNING, intended_status="running")
    world.run()
    assert world.history.closed


def _no_change(world: World) -> None:
    del world


def _stopped(world: World) -> None:
    world.market.change(INSTANCE, status=InstanceStatus.STOPPED, intended_status="stopped")


def _gone(world: World) -> None:
    world.market.rented.clear()


@pytest.mark.parametrize("box", [_no_change, _stopped, _gone])
def test_another_destination_takes_the_file_from_the_first(world: World, box: Callable[[World], None]) -> None:
    fetches: list[object] = []
    world.box.on_fetch = fetches.append
    box(world)
    world.change(artifact={"destination": world.home / "elsewhere"})
    world.run()
    assert world.history.closed
    assert [one for one in fetches if str(one).count("gguf")] == []
    assert world.history.verified is not None
    assert Path(world.history.verified.path).parent == world.home / "elsewhere"
