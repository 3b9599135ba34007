"""Giving an instance back without a verified file: nothing of value is on it, or a person accepts the loss in words."""

from __future__ import annotations

import dataclasses
import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import NotProven, ProviderUnavailable, Refused
from harness.core.ids import InstanceId, JobName
from harness.core.lifecycle import Stage
from harness.core.ports import Charge, DestroyReply, InstanceStatus
from harness.guard import destroy, preconditions
from harness.ledger.events import Abandoned, DestroyIntended, LossAccepted, Lost, Opened
from harness.runner import adoption
from tests.support import scripted_world
from tests.support.context import World, make_world

INSTANCE = InstanceId(4711)
SENTENCE = "I accept the loss of everything on instance 4711"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A job whose package is on the box; nothing was trained."""
    made = make_world(tmp_path, monkeypatch, fast=True)
    made.run(until=Stage.UPLOAD)
    return made


def _no(_sentence: str) -> bool:
    return False


def _abandon(world: World, accepts: Callable[[str], bool] = _no) -> None:
    destroy.abandon(world.context(), accepts, lambda _: None)


def _put(world: World, path: str) -> None:
    file = world.box.root / "models" / "output" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"something")


def _nothing_happened(world: World) -> None:
    assert world.provider.count("destroy") == 0
    assert DestroyIntended not in world.kinds()
    assert world.market.rented


def test_a_box_that_holds_nothing_goes_and_the_job_begins_anew(world: World) -> None:
    _abandon(world)
    assert not world.market.rented
    assert world.history.stage is Stage.PREFLIGHT
    assert world.history.alive is None
    world.run()
    assert world.history.closed
    assert world.provider.count("create") == 2


@pytest.mark.parametrize(
    "path", ["sft/checkpoint-100/adapter_model.safetensors", "dpo/checkpoint-1/x", "adapter/x", "final/m.gguf.partial"]
)
def test_anything_of_value_wants_the_sentence(world: World, path: str) -> None:
    _put(world, path)
    with pytest.raises(Refused, match="may hold something of value") as refused:
        _abandon(world)
    assert f"with --accept-loss '{SENTENCE}'" in refused.value.remedy
    _nothing_happened(world)
    _abandon(world, lambda sentence: sentence == SENTENCE)
    assert not world.market.rented
    assert LossAccepted in world.kinds()


@pytest.mark.parametrize("clean", [True, False])
def test_what_lies_on_a_machine_of_ones_own_stays_unless_the_job_cleans_it(
    clean: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the package's folder is deleted at the end, what the training left there goes with it."""
    world = make_world(tmp_path, monkeypatch, fast=True, provider={"kind": "ssh", "host": "box", "clean": clean})
    world.run(until=Stage.UPLOAD)
    _put(world, "final/model.gguf")
    told: list[str] = []
    if clean:
        with pytest.raises(Refused, match="may hold something of value"):
            _abandon(world)
        _nothing_happened(world)
        return
    destroy.abandon(world.context(), _no, told.append)
    assert told == ["what lies on your machine stays there: only its claim is given up"]
    assert LossAccepted not in world.kinds()
    assert Abandoned in world.kinds()


def test_all_that_would_be_lost_is_shown_and_kept_in_the_log(world: World) -> None:
    for step in range(25):
        _put(world, f"sft/checkpoint-{step}/\x1bx")
    told: list[str] = []
    destroy.abandon(world.context(), lambda _: True, told.append)
    shown = [one for one in told if one.startswith("would be lost: ")]
    assert len(shown) == 20
    assert all(one.isprintable() for one in shown)
    (accepted,) = world.history.all(LossAccepted)
    assert len(accepted.value) == 25


CHANGES_MEANWHILE: dict[str, tuple[Callable[[World], object], str]] = {
    "it trains on": (lambda w: _put(w, "sft/checkpoint-200/adapter_model.safetensors"), "has changed while its loss"),
    "it stops": (lambda w: w.market.change(INSTANCE, status=InstanceStatus.STOPPED), "it is stopped now"),
    "it becomes another's": (lambda w: w.market.change(INSTANCE, label="mine"), "carries the label"),
    "it goes": (lambda w: w.market.rented.clear(), "no longer shows"),
}


@pytest.mark.parametrize("name", CHANGES_MEANWHILE)
def test_a_sentence_that_was_waited_for_covers_what_was_shown_and_no_more(world: World, name: str) -> None:
    change, words = CHANGES_MEANWHILE[name]
    _put(world, "sft/checkpoint-100/adapter_model.safetensors")

    def types(_: str) -> bool:
        world.clock.turn(60)
        change(world)
        return True

    with pytest.raises(Refused, match=words):
        _abandon(world, types)
    assert world.provider.count("destroy") == 0
    assert DestroyIntended not in world.kinds()


def test_what_holds_less_by_the_time_that_the_sentence_is_typed_goes(world: World) -> None:
    _put(world, "sft/checkpoint-100/adapter_model.safetensors")

    def types(_: str) -> bool:
        world.clock.turn(60)
        shutil.rmtree(world.box.root / "models")
        return True

    _abandon(world, types)
    assert not world.market.rented


def test_what_was_asked_to_go_is_let_go_of_whatever_it_shows_by_then(world: World) -> None:
    """A request whose proof was missed is gone on with: a row that lags may say that the instance runs."""

    def replace() -> None:
        context = world.context()
        destroy.replace(context, lambda _: True, lambda _: None, how="the test", machine_id=12, package=None)

    with pytest.raises(Refused, match="is running: nothing may take its place"):
        replace()
    world.market.change(INSTANCE, status=InstanceStatus.OFFLINE)
    world.market.lag = 500
    with pytest.raises(NotProven):
        replace()
    world.market.change(INSTANCE, status=InstanceStatus.RUNNING)
    world.market.lag = 3
    replace()
    assert Lost in world.kinds()


def test_what_lies_where_the_package_lay_before_is_of_value(world: World) -> None:
    """A log in which the package's place changed, however it came to that, empties no box."""
    _put(world, "final/model.gguf")
    moved = world.job.package.model_copy(update={"remote_dir": "/elsewhere"})
    world.job = world.job.model_copy(update={"package": moved})
    world.store.append(JobName(world.job.name), Opened(job=world.job.model_dump(mode="json"), file="/x"))
    with pytest.raises(Refused, match="may hold something of value"):
        _abandon(world)
    _nothing_happened(world)


def test_what_an_upload_has_put_aside_is_of_value(world: World) -> None:
    """A launch that failed its gate may have trained; the mended package's upload moved what it left."""
    aside = world.box.root / ".harness/aside/1/models/output/final/model.gguf"
    aside.parent.mkdir(parents=True)
    aside.write_bytes(b"GGUF")
    with pytest.raises(Refused, match="may hold something of value"):
        _abandon(world)
    _nothing_happened(world)


def test_an_adopted_instance_always_wants_the_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its owner keeps what is of value, only its owner knows."""
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.market.add(INSTANCE, None)
    name = adoption.adopt(world.store, world.provider, world.job, Path("/x"), INSTANCE)
    world.job = world.job.model_copy(update={"name": name, "adopted": True})
    with pytest.raises(Refused, match="not rented"):
        _abandon(world)
    _nothing_happened(world)
    _abandon(world, lambda sentence: sentence == SENTENCE)
    assert not world.market.rented


def test_a_row_without_a_start_time_is_no_empty_box(world: World) -> None:
    """The provider leaves the field out at times."""
    _put(world, "final/model.gguf")
    for status in InstanceStatus:
        world.market.change(INSTANCE, started_at=None, status=status)
        with pytest.raises(Refused, match="something of value"):
            _abandon(world)
    _nothing_happened(world)


def test_a_folder_of_the_box_that_cannot_be_read_may_hold_anything(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The box answers, and its disk does not."""

    def failing(**_: object) -> object:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setitem(scripted_world._OPERATIONS, "glob", failing)
    with pytest.raises(Refused, match=r"could not be looked at: .*Input/output error"):
        _abandon(world)
    _nothing_happened(world)


@pytest.mark.parametrize("status", [InstanceStatus.RUNNING, InstanceStatus.STOPPED, InstanceStatus.OFFLINE])
def test_a_box_that_cannot_be_looked_at_may_hold_anything(world: World, status: InstanceStatus) -> None:
    world.market.change(INSTANCE, status=status)
    world.box.reachable = lambda: False
    with pytest.raises(Refused, match="could not be looked at"):
        _abandon(world)
    _nothing_happened(world)


def _never_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.run(until=Stage.PREFLIGHT)
    world.provider.break_("instance", ProviderUnavailable("away"))
    with pytest.raises(ProviderUnavailable):
        world.run()
    world.market.change(INSTANCE, status=InstanceStatus.LOADING, started_at=None)
    world.box.reachable = lambda: False
    return world


def test_an_instance_that_never_ran_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = _never_ran(tmp_path, monkeypatch)
    _abandon(world)
    assert not world.market.rented


@pytest.mark.parametrize("label", [None, "gsh-night-ffffffff", "mine"])
def test_what_is_not_ours_stays(world: World, label: str | None) -> None:
    world.market.change(INSTANCE, label=label)
    with pytest.raises(Refused, match="carries the label"):
        _abandon(world, lambda _: True)
    _nothing_happened(world)


def test_another_accounts_key_abandons_nothing(world: World) -> None:
    world.market.user = 8
    with pytest.raises(Refused, match="rented by user 7"):
        _abandon(world, lambda _: True)
    _nothing_happened(world)


def test_an_instance_that_somebody_else_destroyed_wants_the_sentence_and_the_proof(world: World) -> None:
    world.market.rented.clear()
    with pytest.raises(Refused, match="destroyed by somebody else: this job never asked"):
        _abandon(world)
    assert Abandoned not in world.kinds()
    _abandon(world, lambda sentence: sentence == SENTENCE)
    (done,) = world.history.all(Abandoned)
    assert done.by is not None
    assert "never asked" in done.by
    assert len(done.absence["looks"]) >= 3
    assert done.billing is not None
    assert world.provider.count("destroy") == 0
    assert world.history.alive is None


def test_what_does_not_show_to_another_accounts_key_is_not_called_gone(world: World) -> None:
    world.market.rented.clear()
    world.market.user = 8
    with pytest.raises(NotProven, match="belongs to user 8"):
        _abandon(world, lambda _: True)
    assert Abandoned not in world.kinds()


def test_what_never_ran_and_was_destroyed_by_somebody_else_needs_no_bill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _never_ran(tmp_path, monkeypatch)
    world.market.rented.clear()
    world.provider.break_("charges", (), times=0)
    _abandon(world, lambda _: True)
    assert Abandoned in world.kinds()


RAN: dict[str, tuple[dict[str, object], bool]] = {
    "nothing says so": ({"status": InstanceStatus.LOADING, "started_at": None}, False),
    "its start time alone": ({"status": InstanceStatus.LOADING, "started_at": 5.0}, True),
    "its state alone": ({"status": InstanceStatus.RUNNING, "started_at": None}, True),
}


@pytest.mark.parametrize("name", RAN)
def test_any_one_sign_says_that_it_ran(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In doubt it did: what has run may hold something of value."""
    fields, ran = RAN[name]
    world = _never_ran(tmp_path, monkeypatch)
    world.market.change(INSTANCE, **fields)
    assert preconditions.has_run(world.context(), world.market.rented[INSTANCE]) is ran
    if ran:
        with pytest.raises(Refused, match="may hold something of value"):
            _abandon(world)
        _nothing_happened(world)


def test_a_login_alone_says_that_it_ran(world: World) -> None:
    world.market.change(INSTANCE, status=InstanceStatus.LOADING, started_at=None)
    assert world.history.pin is not None
    assert preconditions.has_run(world.context(), world.market.rented[INSTANCE])


def test_a_request_that_is_not_carried_out_is_not_called_done(world: World) -> None:
    world.provider.break_("destroy", DestroyReply.ACCEPTED)
    with pytest.raises(NotProven):
        _abandon(world)
    assert Abandoned not in world.kinds()
    assert world.history.alive is not None
    _abandon(world)
    assert Abandoned in world.kinds()
    assert not world.market.rented


def test_a_bill_that_goes_on_is_not_the_end(world: World) -> None:
    """Gone is not unbilled: the job stays with the instance until its charges are seen to stand still."""
    charge = Charge(INSTANCE, "gpu", 1.0, 0.0, 1.0)
    for look in range(1000):
        world.provider.break_("charges", (dataclasses.replace(charge, usd=1.0 + look),), after=look)
    with pytest.raises(NotProven, match=r"is gone, but .* may still bill") as raised:
        _abandon(world)
    assert raised.value.exit_code == 6
    assert Abandoned not in world.kinds()
    assert world.history.alive is not None
    world.provider.faults.clear()
    _abandon(world)
    assert world.kinds().count(DestroyIntended) == 1
    (done,) = world.history.all(Abandoned)
    assert done.billing is not None
    assert len(done.billing["looks"]) >= 2


def test_a_bill_that_is_not_written_yet_is_waited_for(world: World) -> None:
    world.provider.break_("charges", (), times=0)
    with pytest.raises(NotProven, match="no charge for it is listed yet"):
        _abandon(world)
    assert Abandoned not in world.kinds()


def test_what_never_ran_need_not_have_been_billed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = _never_ran(tmp_path, monkeypatch)
    world.provider.break_("charges", (), times=0)
    world.market.lag = 500
    with pytest.raises(NotProven, match="still shown"):
        _abandon(world)
    world.market.rented.clear()
    _abandon(world)
    assert Abandoned in world.kinds()


def test_without_an_instance_there_is_nothing_to_give_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.open()
    with pytest.raises(Refused, match="no instance of this job is alive"):
        _abandon(world)
