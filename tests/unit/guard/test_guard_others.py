"""An instance that somebody else destroyed: closed with its proofs, and without a word that this job did it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import InstanceDead, NotProven, Refused
from harness.core.ids import InstanceId
from harness.core.lifecycle import Stage
from harness.core.ports import Listing
from harness.facts import teardown as facts
from harness.guard import destroy
from harness.ledger.events import Abandoned, Confirmed, Destroyed, DestroyIntended, DestroyRequested, Guarded
from harness.ledger.jobs import Ledger
from harness.report.moments import timeline
from tests.support.context import World, make_world
from tests.support.scripted_world import MODEL

INSTANCE = InstanceId(4711)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A job whose verified file is here, and whose instance went at the provider's console."""
    made = make_world(tmp_path, monkeypatch, fast=True)
    made.run(until=Stage.POSTDOWNLOAD)
    made.market.rented.clear()
    return made


def _home(world: World) -> Path:
    assert world.history.fetched is not None
    return Path(world.history.fetched.path)


def _unclosed(world: World) -> None:
    assert Destroyed not in world.kinds()
    assert world.history.alive is not None
    assert world.provider.count("destroy") == 0


def test_it_is_closed_with_both_proofs_and_says_who_did_not_do_it(world: World) -> None:
    told = world.run(lambda _id, _file: pytest.fail("nothing is asked for, so nobody is asked"))
    assert world.history.closed
    assert world.provider.count("destroy") == 0
    for never in (DestroyIntended, DestroyRequested, Confirmed):
        assert never not in world.kinds()
    (gone,) = world.history.all(Destroyed)
    assert gone.by is not None
    assert "somebody else" in gone.by
    assert len(gone.absence["looks"]) >= 3
    assert gone.billing is not None
    assert len(gone.billing["looks"]) >= 2
    assert any("never asked for its destruction" in note for note in told.notes)
    assert any("destroyed by somebody else" in moment.text for moment in timeline(world.history.records))
    row = Ledger(world.store).row(world.history.job.name, world.clock.now())
    assert (row["stage"], row["alive"]) == ("closed", False)


def test_the_gate_sees_that_nobody_was_asked(world: World) -> None:
    world.run()
    seen = facts.look(world.context())
    assert seen.confirmed.get() == "not asked: it was destroyed by " + str(world.history.all(Destroyed)[0].by)
    assert seen.running.get() == ()
    assert seen.release_problems.get() == ()
    assert seen.file_problems.get() == ()
    (guarded,) = world.history.all(Guarded)
    assert guarded.remote.startswith("not asked: the instance is gone")


def test_a_file_that_is_gone_too_closes_nothing(world: World) -> None:
    with pytest.raises(NotProven):
        _haunted(world)
    _home(world).unlink()
    began = world.clock.now()
    with pytest.raises(Refused, match="does not exist") as refused:
        destroy.destroy(world.context(), lambda _id, _file: "yes", lambda _: None)
    assert "harness abandon night" in refused.value.remedy
    assert world.clock.now() == began, "it is said before anything is waited for"
    _unclosed(world)


def _haunted(world: World) -> None:
    """A run that makes its release and can prove nothing."""
    world.provider.break_("instances", Listing(()), times=1)
    world.market.user = 8
    try:
        world.run()
    finally:
        world.market.user = 7
        world.provider.faults.clear()


@pytest.mark.parametrize("how", ["gone", "changed"])
def test_without_the_file_the_way_out_is_to_abandon_it_with_the_loss_said(world: World, how: str) -> None:
    _home(world).chmod(0o644)
    _home(world).unlink() if how == "gone" else _home(world).write_bytes(b"?" + MODEL[1:])
    with pytest.raises(InstanceDead) as dead:
        world.run()
    assert "harness abandon" in dead.value.remedy
    _unclosed(world)
    destroy.abandon(world.context(), lambda sentence: "I accept the loss" in sentence, lambda _: None)
    assert Abandoned in world.kinds()
    assert world.history.alive is None


def test_another_accounts_key_proves_nothing(world: World) -> None:
    world.market.user = 8
    with pytest.raises(NotProven, match="belongs to user 8"):
        world.run()
    _unclosed(world)
    world.market.user = 7
    world.run()
    assert world.history.closed


def test_a_bill_that_is_not_seen_to_end_closes_nothing(world: World) -> None:
    world.provider.break_("charges", (), times=0)
    with pytest.raises(NotProven, match="no charge for it is listed"):
        world.run()
    _unclosed(world)


def test_one_that_shows_again_is_not_called_gone(world: World) -> None:
    rented = world.market
    label = world.history.rental.label if world.history.rental else ""

    def back(_seconds: float) -> None:
        if INSTANCE not in rented.rented:
            rented.add(INSTANCE, label)

    sleep = world.clock.sleep

    def passing(_self: object, seconds: float) -> None:
        sleep(seconds)
        back(seconds)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(world.clock), "sleep", passing)
        with pytest.raises(NotProven, match="still shown"):
            world.run()
    _unclosed(world)
    world.run()
    assert world.history.closed
    assert world.provider.count("destroy") == 1


def test_a_file_that_changes_while_absence_is_proven_closes_nothing(world: World) -> None:
    sleep = world.clock.sleep

    def spoil(_self: object, seconds: float) -> None:
        sleep(seconds)
        _home(world).chmod(0o644)
        _home(world).write_bytes(b"?" + MODEL[1:])

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(world.clock), "sleep", spoil)
        with pytest.raises(Refused, match="no longer matches its release"):
            world.run()
    _unclosed(world)


def test_what_is_demanded_by_now_is_asked_of_the_file_alone(world: World) -> None:
    """The box is gone: what can be judged here is judged here."""
    told = {**world.job.model_dump(), "gates": {**world.job.gates.model_dump(), "prompt": "Another"}}
    world.job = type(world.job).model_validate(told)
    from harness.runner import run as runner

    runner.open_job(world.store, world.job, world.home / "job.toml", accept_changes=True)
    world.judged.clear()
    world.run()
    assert world.judged == [Stage.POSTDOWNLOAD, Stage.TEARDOWN]
    assert world.history.closed
