"""What provision's look makes of an account's listing."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import facts
from harness.core.ids import InstanceId
from harness.core.lifecycle import Stage
from harness.core.observed import CouldNotLook
from harness.core.ports import Listing, RunResult
from harness.facts import provision
from harness.ledger.events import RentIntended
from tests.support.context import ScriptedContext, World, make_world
from tests.support.facts import PASSING
from tests.support.scripted_world import offer


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = make_world(tmp_path, monkeypatch, fast=True)
    made.run(until=Stage.PROVISION)
    return made


def test_a_listing_that_lacks_what_was_rented_says_nothing(world: World) -> None:
    world.provider.break_("instances", Listing(()))
    with pytest.raises(CouldNotLook, match="it is not whole"):
        provision.look(world.context()).labelled.get()
    assert world.history.rental is not None
    assert provision.look(world.context()).labelled.get() == (world.history.rental.instance_id,)


def test_a_rented_machine_is_told_by_the_log_the_provider_and_itself(world: World) -> None:
    told, rental, pin = provision.look(world.context()), world.history.rental, world.history.pin
    assert rental is not None
    assert pin is not None
    assert told.gpu_names.get() == world.provider.gpu_names(world.job.machine.gpu)
    assert told.offer.get() == offer(501)
    assert told.instance.get() == world.market.rented[rental.instance_id]
    assert (told.pin.get().keys, told.pin.get().how) == (pin.keys, pin.how)
    assert told.fresh_login.get() == "id -un"
    assert told.disk.get().free > 0
    assert not told.gpus.get().installed
    assert told.now == world.clock.now()


def test_of_a_job_that_has_rented_nothing_nothing_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.open()
    told = provision.look(world.context())
    assert told.offer.problem == told.instance.problem == "no instance was rented"
    assert told.pin.problem == "no host key was pinned"
    assert told.labelled.get() == (), "nothing that is listed is this job's"


def test_an_instance_that_shows_no_more_is_no_instance(world: World) -> None:
    world.market.rented.clear()
    told = provision.look(world.context())
    assert told.instance.problem == "the provider knows no instance 4711"
    assert "it is not whole" in (told.labelled.problem or "")


@pytest.mark.parametrize(
    ("label", "found"),
    [
        ("gsh-night-0badcafe", True),  # of this name, by a ledger that is lost
        ("gsh-day-0badcafe", False),
        ("gsh-night-2-0badcafe", False),
        ("night", False),
        (None, False),
    ],
)
def test_whatever_bears_a_label_of_this_job_is_found(label: str | None, found: bool, world: World) -> None:
    world.market.add(99, label)
    assert (InstanceId(99) in provision.look(world.context()).labelled.get()) is found


def test_what_bears_a_label_that_the_log_has_is_found_whatever_its_form(world: World) -> None:
    assert world.history.rental is not None
    world.store.append(world.job.name, RentIntended("another-form", dict(world.history.rental.offer), 7))
    world.market.add(99, "another-form")
    assert set(provision.look(world.context()).labelled.get()) == {InstanceId(99), InstanceId(4711)}


class Line:
    """A connection whose commands take their time and give what they give."""

    def __init__(self, world: World, status: int, given: int) -> None:
        self.world, self.status, self.given, self.open, self.closed = world, status, given, False, False

    def run(self, argv: list[str], *, timeout: float, limit: int = 1 << 20) -> RunResult:
        del timeout
        self.world.clock.turn(0.0 if self.open else 60.0)  # the handshake
        self.open = True
        if argv[0] == "head":
            self.world.clock.turn(4.0)
            return RunResult(0, bytes(min(self.given, limit)), b"")
        return RunResult(self.status, b"root\n", b"")

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("status", "given", "login", "rate"),
    [
        (0, 16 << 20, "root", 4.0 * (1 << 20)),
        (0, (16 << 20) - 1, "root", "asked for 16777216 bytes, got 16777215"),
        (255, 0, "a new login answered with status 255", "asked for 16777216 bytes, got 0"),
    ],
)
def test_a_new_connection_is_tried_and_timed_without_its_handshake(  # noqa: PLR0917 - the case, and its world
    status: int, given: int, login: str, rate: float | str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(world, status, given)
    monkeypatch.setattr(ScriptedContext, "fresh_host", lambda _: line)
    told = provision.look(world.context())
    assert (told.fresh_login.value or told.fresh_login.problem) == login
    assert (told.download_bytes_per_s.value or told.download_bytes_per_s.problem) == rate
    assert line.closed


def test_facts_of_the_first_version_read_with_their_bare_names() -> None:
    said = facts.adapter(Stage.PROVISION).dump_python(PASSING[Stage.PROVISION](), mode="json")
    older = facts.adapter(Stage.PROVISION).validate_python({**said, "gpu_names": ["H100"]})
    assert isinstance(older, provision.ProvisionFacts)
    assert older.gpu_names.get() == ("H100",)
