"""A release is written for what is true now, and a judgement on a box that is gone stands only for the very file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import Refused
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.ledger.events import DestroyIntended, GateJudged, Released, Reopened
from harness.release import release as releases
from harness.runner import teardown
from tests.support.context import Telling, World, make_world
from tests.support.job_histories import check, events_of, gate, judged

STANDS = "the instance is gone and its model is here: what was judged on the box last stands"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A job whose file is home and verified."""
    made = make_world(tmp_path, monkeypatch, fast=True)
    made.run(until=Stage.POSTDOWNLOAD)
    return made


def _gone(world: World) -> None:
    world.market.rented.clear()


def _judged(*verdicts: Verdict) -> Callable[[World], None]:
    """The box's artifact was judged so again, in turn."""

    def change(world: World) -> None:
        for verdict in verdicts:
            bent = check(Stage.POSTTRAIN, "remote_sha256_recorded", verdict)
            world.context().record(judged(gate(Stage.POSTTRAIN, world.job, bent), world.job))
        _gone(world)

    return change


def _lost_here(world: World) -> None:
    fetched = world.history.fetched
    assert fetched is not None
    Path(fetched.path).unlink()
    _gone(world)


@pytest.mark.parametrize(
    ("change", "stands"),
    [
        (_gone, True),
        (_judged(Verdict.UNKNOWN), True),
        (_judged(Verdict.FAIL), False),
        (_judged(Verdict.FAIL, Verdict.UNKNOWN), False),
        (_lost_here, False),
        (lambda _: None, False),
    ],
    ids=["gone", "not seen since", "failed since", "failed, then not seen", "not here any more", "it is there"],
)
def test_the_last_look_at_a_box_that_is_gone_stands_for_what_is_here(
    world: World, change: Callable[[World], None], stands: bool
) -> None:
    world.context().record(Reopened(Stage.POSTTRAIN, "it is judged anew"))
    change(world)
    looks, telling = world.history.all(GateJudged), Telling()
    teardown.reopen_if_outdated(world.context(), telling)
    more = world.history.all(GateJudged)[len(looks) :]
    assert [(one.stage, one.verdict) for one in more] == [(Stage.POSTTRAIN, Verdict.PASS)] * stands
    assert (STANDS in telling.notes) is stands
    assert world.history.passed(Stage.POSTTRAIN) is stands


def test_a_judgement_that_stands_is_not_written_again(world: World) -> None:
    _gone(world)
    teardown.reopen_if_outdated(world.context(), telling := Telling())
    assert telling.notes == []
    assert world.kinds().count(GateJudged) == len(set(Stage)) - 1


def test_what_was_never_judged_on_its_box_does_not_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.run(until=Stage.TRAINING)
    _gone(world)
    teardown.reopen_if_outdated(world.context(), telling := Telling())
    assert telling.notes == []
    assert not world.history.passed(Stage.POSTTRAIN)


def _nobody(world: World) -> None:
    """The guard is asked, and nobody confirms."""
    with pytest.raises(Refused, match="nobody confirmed"):
        world.run(lambda _id, _file: None)


def _spoil(world: World) -> None:
    assert world.history.release_path is not None
    Path(world.history.release_path).write_text("{")


def _remove(world: World) -> None:
    assert world.history.release_path is not None
    Path(world.history.release_path).unlink()


@pytest.mark.parametrize(
    ("change", "written"),
    [
        (lambda _: None, 1),
        (_spoil, 2),
        (_remove, 2),
        (lambda world: world.clock.turn(365 * 86400), 2),
        (lambda world: world.change(gates={"prompt": "Another"}), 2),
    ],
    ids=["nothing", "it does not read", "it is gone", "it expired", "it is judged by other demands"],
)
def test_a_release_is_written_anew_only_where_the_first_does_not_hold(
    world: World, change: Callable[[World], object], written: int
) -> None:
    _nobody(world)
    assert world.kinds().count(Released) == 1
    change(world)
    _nobody(world)
    assert world.kinds().count(Released) == written
    path = Path(world.history.release_path or "")
    assert releases.problems(releases.read(path), world.history, world.clock.now()) == ()
    assert path.name == f"release-{_before_the_last_release(world)}.json"
    world.run()
    assert world.history.closed


def _before_the_last_release(world: World) -> int:
    """Number of events in the log when the newest release was written."""
    events = events_of(world.store.records(world.job.name))
    return max(number for number, event in enumerate(events) if isinstance(event, Released))


def test_what_the_download_left_beside_the_file_goes_with_the_instance(world: World) -> None:
    assert world.history.verified is not None
    home = Path(world.history.verified.path)
    left = home.with_name(f"{home.name}.part")
    left.write_bytes(b"half")
    world.run()
    assert world.history.closed
    assert not left.exists()


def test_one_that_was_destroyed_is_judged_by_no_new_demands(world: World) -> None:
    world.run()
    before = world.kinds()
    world.clock.turn(1)
    teardown.reopen_if_outdated(world.context(), Telling())
    assert world.kinds() == before
    assert before.count(DestroyIntended) == 1
