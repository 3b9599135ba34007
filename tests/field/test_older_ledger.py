"""A ledger that is older than the world, or lost: what lives is found before anything is rented, or the job is held."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import (
    AmbiguousCreate,
    GateHeld,
    HarnessError,
    InstanceDead,
    ProviderUnavailable,
    Refused,
    Unaccounted,
)
from harness.core.ids import InstanceId, JobName, VolumeId, may_be_label_of
from harness.core.lifecycle import Stage
from harness.core.ports import Listing, Volume
from harness.ledger.events import Adopted, Closed, Opened
from harness.runner.replacement import Agreement
from tests.field.case import field_case
from tests.support.context import Killed, MemoryStore, World, make_world, other_job
from tests.support.scripted_world import offer

LABEL = "gsh-night-0a1b2c3d"
EMPTY = "skypilot-org/skypilot#10517"
"""An empty listing, read as zero instances."""
ORPHANS = "dstackai/dstack#3453"
Put = Callable[[World], object]
_YES = Agreement(lambda _plan: "the test agrees", lambda _: True)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path, monkeypatch, fast=True)


def _log(world: World) -> MemoryStore:
    assert isinstance(world.store, MemoryStore)
    return world.store


def _restore(world: World, last: str) -> None:
    """Put the ledger back to what it was after the first event of that kind; "" loses it wholly."""
    log = _log(world).logs.get(world.job.name, [])
    del log[next((n + 1 for n, one in enumerate(log) if one.kind == last), 0) :]


def _lost_reply(world: World, *, commit: bool = True, cut: int | None = None, **shown: object) -> None:
    """The create takes effect, its reply is lost with the process, and the list shows the instance otherwise."""
    world.provider.break_("create", Killed(), commit=commit)
    with pytest.raises(Killed):
        world.run()
    for number, one in list(world.market.rented.items()):
        world.market.change(number, **{"label": (one.label or "")[:cut], **shown})


def _trained(last: str) -> Put:
    def put(world: World) -> None:
        world.run(until=Stage.POSTTRAIN)
        _restore(world, last)

    return put


def _late(looks: int) -> Put:
    def put(world: World) -> None:
        _lost_reply(world)
        world.provider.break_("instances", Listing(()), times=looks)

    return put


def _replaced(world: World) -> None:
    """Restored from before a dead instance was replaced: the one it knows is gone, the one in its place trains."""
    world.run(until=Stage.LAUNCH)
    world.market.rented.clear()
    world.market.add(4799, LABEL)


TAKEN_UP = [
    field_case(
        "the ledger restored from before the training ended", "own: a nightly copy of state.db", _trained("launched")
    ),
    field_case("restored from before its launch", "own: a nightly copy of state.db", _trained("pinned")),
    field_case("restored from just after the rent", "own: a nightly copy of state.db", _trained("rented")),
    field_case("restored from between intent and rent", "own: a copy taken while it rented", _trained("rent_intended")),
    field_case("the reply of the create lost", ORPHANS, _lost_reply),
    field_case("the list empty for a minute after it", EMPTY, _late(5)),
    field_case("the list empty for two and a half minutes", EMPTY, _late(14)),
]


@pytest.mark.parametrize("put", TAKEN_UP)
def test_what_is_provably_this_jobs_is_taken_up_and_never_doubled(world: World, put: Put) -> None:
    put(world)
    world.run(until=Stage.POSTTRAIN)
    assert world.market.created == 1
    assert world.history.rental is not None
    assert world.history.rental.instance_id in world.market.rented
    assert world.box.attempts == 1, "nothing is trained twice"


HELD = [
    field_case(
        "the ledger lost wholly", "own: a new laptop", lambda w: w.market.add(900, LABEL), Unaccounted, "instance 900"
    ),
    field_case(
        "restored from before the rent", "own: a copy of the day before", _trained("gate"), Unaccounted, "instance 4711"
    ),
    field_case(
        "lost wholly, the list empty all the time, its bill told",
        EMPTY,
        lambda w: (w.market.add(900, LABEL), w.provider.break_("instances", Listing(()), times=0)),
        Unaccounted,
        "instance 900",
    ),
    field_case(
        "the name used again for another job",
        "own: 'run-1' on two machines",
        lambda w: w.market.add(77, "gsh-night-ffffffff"),
        Unaccounted,
        "instance 77",
    ),
    field_case(
        "two instances with the label",
        ORPHANS,
        lambda w: (w.market.add(7, LABEL), w.market.add(8, LABEL)),
        Unaccounted,
        "instance 7 .*instance 8",
    ),
    field_case(
        "a volume with the label",
        ORPHANS,
        lambda w: w.market.stored.append(Volume(VolumeId(5), LABEL, 12, 20.0, 0.004)),
        Unaccounted,
        "volume 5",
    ),
    field_case("restored from before a replacement", "own: a copy of the day before", _replaced, InstanceDead, "4711"),
    field_case(
        "the label cut within the nonce",
        "own: a service that keeps 14 characters",
        lambda w: _lost_reply(w, cut=14),
        AmbiguousCreate,
        "cut short",
    ),
    field_case(
        "the label cut within the name",
        "own: a service that keeps 8 characters",
        lambda w: _lost_reply(w, cut=8),
        AmbiguousCreate,
        "cut short",
    ),
    field_case(
        "the label in capitals and with other signs",
        "skypilot-org/skypilot#3130",
        lambda w: _lost_reply(w, label="GSH_NIGHT_0A1B2C3D"),
        AmbiguousCreate,
        "spelt otherwise",
    ),
    field_case(
        "a label with other signs that the ledger forgot",
        "skypilot-org/skypilot#3130",
        lambda w: w.market.add(900, "gsh_night_0a1b2c3d"),
        AmbiguousCreate,
        "spelt otherwise",
    ),
    field_case(
        "a cut label that the ledger forgot",
        "own: both at once",
        lambda w: w.market.add(900, "gsh-night-0a"),
        AmbiguousCreate,
        "cut short",
    ),
    field_case(
        "a volume with a cut label",
        "own: a service that keeps 8 characters",
        lambda w: w.market.stored.append(Volume(VolumeId(5), "gsh-nigh", 12, 20.0, 0.004)),
        AmbiguousCreate,
        "volume 5",
    ),
    field_case(
        "no label at all after a lost reply",
        "own: a label that is set by a second call",
        lambda w: _lost_reply(w, label=None),
        AmbiguousCreate,
        "no label",
    ),
    field_case(
        "no label, and no start yet",
        "own: a label that is set by a second call",
        lambda w: _lost_reply(w, label="", started_at=None),
        AmbiguousCreate,
        "no label",
    ),
    field_case(
        "an empty list, another job's instance shows",
        EMPTY,
        lambda w: (other_job(w, 600), w.provider.break_("instances", Listing(()), times=0)),
        AmbiguousCreate,
        "600 shows and is not listed",
    ),
    field_case(
        "a list that cannot be had",
        EMPTY,
        lambda w: w.provider.break_("instances", ProviderUnavailable("429"), times=0),
        AmbiguousCreate,
        "429",
    ),
    field_case(
        "a stale list, and what it shows shows no more",
        "own: a cached answer",
        lambda w: (w.market.add(5, "x"), w.provider.break_("instance", None, times=0)),
        AmbiguousCreate,
        "listed but not shown",
    ),
]


@pytest.mark.parametrize(("put", "error", "told"), HELD)
def test_what_only_may_be_this_jobs_holds_it(world: World, put: Put, error: type[HarnessError], told: str) -> None:
    put(world)
    creates = world.provider.count("create")
    with pytest.raises(error, match=told):
        world.run(until=Stage.POSTTRAIN)
    assert world.provider.count("create") == creates
    assert world.provider.count("destroy") == 0
    with pytest.raises(error):
        world.run(until=Stage.POSTTRAIN)
    assert world.provider.count("create") == creates, "nor the second time"


OTHERS = [
    field_case("a longer name", "own: night and night-2", lambda w: w.market.add(7, "gsh-night-2-0a1b2c3d")),
    field_case("a shorter name", "own: night and nig", lambda w: w.market.add(7, "gsh-nig-0a1b2c3d")),
    field_case("a stranger's label", "own: a shared account", lambda w: w.market.add(7, "night")),
    field_case("no label, and nothing was begun", "own: rented by hand", lambda w: w.market.add(7, None)),
    field_case(
        "another job's, its label cut",
        "own: a service that keeps 8 characters",
        lambda w: (other_job(w, 7), w.market.change(InstanceId(7), label="gsh-nigh")),
    ),
    field_case("another job's, with its own label", "own: two jobs", lambda w: other_job(w, 7)),
    field_case(
        "a volume that is meant to stay, its label cut",
        "own: a service that keeps 8 characters",
        lambda w: (
            w.change(provider={"kept_volumes": [5]}),
            w.market.stored.append(Volume(VolumeId(5), "gsh-nigh", 12, 20.0, 0.004)),
        ),
    ),
    field_case(
        "another job's that is gone from list and show",
        "own: a host that vanished",
        lambda w: (other_job(w, 7), w.market.rented.clear()),
    ),
]


@pytest.mark.parametrize("put", OTHERS)
def test_what_is_another_jobs_holds_nobody(world: World, put: Put) -> None:
    put(world)
    world.run(until=Stage.PROVISION)
    assert world.market.created == 1


@pytest.mark.parametrize(
    "changes",
    [
        field_case("older than the rent", "own: rented by hand the day before", {"started_at": 1_000_000.0}),
        field_case("on another machine", "own: rented by hand beside it", {"machine_id": 99}),
        field_case("with a label of its own", "own: the held job's remedy", {"label": "mine"}),
    ],
)
def test_what_cannot_have_come_of_a_lost_rent_does_not_hold_the_next(world: World, changes: dict[str, object]) -> None:
    _lost_reply(world, commit=False)
    world.market.add(7, None)
    world.market.change(InstanceId(7), **changes)
    world.run(until=Stage.PROVISION)
    assert world.market.created == 1


def test_a_dead_instances_place_is_not_taken_beside_the_one_that_took_it_before(world: World) -> None:
    _replaced(world)
    for _ in range(2):
        with pytest.raises((GateHeld, ProviderUnavailable)):
            world.run(agreement=_YES)
    assert world.market.created == 1


def test_a_job_whose_instance_another_took_over_and_closed_is_not_trained_again(world: World) -> None:
    taken = world.job.model_copy(update={"name": JobName("night-900"), "adopted": True})
    told = dataclasses.asdict(offer())
    begun = (Opened(taken.model_dump(mode="json"), "n.toml"), Adopted(InstanceId(900), LABEL, 7, 15.9, told, "running"))
    for event in (*begun, Closed()):
        world.store.append(taken.name, event)
    with pytest.raises(Refused, match="job night-900 took this job's instance over and is closed"):
        world.run()
    assert world.market.created == 0


@pytest.mark.parametrize(
    ("label", "may"),
    [
        ("gsh-", True),
        ("gsh-n", True),
        ("gsh-night", True),
        ("gsh-night-", True),
        ("gsh-night-0", True),
        ("gsh-night-0a1b2c3d", True),
        ("gsh-night-0a1b2c3d4", False),
        ("gsh-night-x", False),
        ("gsh-nights", False),
        ("gsh", False),
        ("", False),
        (None, False),
    ],
)
def test_a_label_that_may_have_been_cut(label: str | None, may: bool) -> None:
    assert may_be_label_of(label, "night") is may


@pytest.mark.parametrize(
    ("label", "job", "may"),
    [
        field_case("capitals", "skypilot-org/skypilot#2743", "GSH-Night-0A1B2C3D", "night", True),
        field_case("no underscores", "skypilot-org/skypilot#3130", "gsh-night-2-0a1b2c3d", "night_2", True),
        field_case("no dots", "skypilot-org/skypilot#3130", "gsh-v1-5-night-0a1b2c3d", "v1.5_night", True),
        field_case("no dashes", "own: a service that takes words of letters and '_'", "gsh_night_0a1b", "night", True),
        field_case("and cut", "own: both at once", "GSH-V1-5-NI", "v1.5_night", True),
        field_case("blanks around", "own: a console's text field", " gsh-night-0a1b2c3d\n", "night", True),
        field_case("another job", "own: it stays another's", "GSH-NIGHTLY-0A1B2C3D", "night", False),
        field_case("a longer name", "own: it stays another's", "gsh_night_2_0a1b2c3d", "night", False),
        field_case("another tool", "own: it stays a stranger's", "night_0a1b2c3d", "night", False),
    ],
)
def test_a_label_that_a_service_may_have_spelt_otherwise(label: str, job: str, may: bool) -> None:
    assert may_be_label_of(label, job) is may
