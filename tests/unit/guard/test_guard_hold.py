"""The local file is read last, and held until its instance is gone: whatever becomes of its name, nothing is lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import digest
from harness.core import durable
from harness.core.errors import NotProven, ProviderUnavailable, Refused
from harness.core.ids import InstanceId
from harness.core.lifecycle import Stage
from harness.core.ports import DestroyReply
from harness.guard import hold
from harness.ledger.events import DestroyIntended, DestroyRequested, Guarded
from harness.ledger.kinds import JobEvent
from harness.runner import teardown
from tests.support.context import Killed, Telling, World, make_world
from tests.support.scripted_world import MODEL, BoxHost, Market

INSTANCE = InstanceId(4711)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A job before its teardown."""
    made = make_world(tmp_path, monkeypatch, fast=True)
    made.run(until=Stage.POSTDOWNLOAD)
    return made


@pytest.fixture(params=["second names", "no second names"])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file system that knows hard links, and one that does not."""
    if request.param == "no second names":

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    return str(request.param)


def _home(world: World) -> Path:
    assert world.history.fetched is not None
    return Path(world.history.fetched.path)


def _remove(path: Path) -> None:
    path.unlink()


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"?" + MODEL[1:])
    other.replace(path)


def _overwrite(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(MODEL[:-1] + b"?")


def _rename(path: Path) -> None:
    path.rename(path.with_name("moved"))


SPOILT: dict[str, Callable[[Path], None]] = {
    "removed": _remove,
    "replaced": _replace,
    "renamed": _rename,
    "overwritten": _overwrite,
}


def _at_record(world: World, kind: type[JobEvent], after: bool, act: Callable[[], None]) -> Telling:
    def spoil(event: JobEvent, done: bool) -> None:
        if (type(event), done) == (kind, after):
            act()

    return world.run(on_record=spoil)


def _while_the_box_is_asked(world: World, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    probe = BoxHost.probe

    def slowly(host: BoxHost, questions: Any, *, timeout: float = 120.0) -> Any:
        world.clock.turn(240)
        act()
        return probe(host, questions, timeout=timeout)

    monkeypatch.setattr(BoxHost, "probe", slowly)


@pytest.mark.parametrize("how", SPOILT)
def test_a_file_that_is_spoilt_while_the_box_is_asked_keeps_the_instance(
    world: World, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _while_the_box_is_asked(world, monkeypatch, lambda: SPOILT[how](_home(world)))
    with pytest.raises(Refused, match="no longer matches its release"):
        world.run()
    assert world.provider.count("destroy") == 0


@pytest.mark.parametrize("how", SPOILT)
@pytest.mark.parametrize(
    ("kind", "after"), [(Guarded, False), (Guarded, True), (DestroyIntended, False), (DestroyIntended, True)]
)
def test_a_file_that_is_spoilt_after_it_was_read_keeps_the_instance(
    world: World, how: str, kind: type[JobEvent], after: bool, disk: str
) -> None:
    with pytest.raises(Refused, match="no longer matches its release"):
        _at_record(world, kind, after, lambda: SPOILT[how](_home(world)))
    assert world.provider.count("destroy") == 0, disk
    world.run()
    assert world.history.closed
    assert _home(world).read_bytes() == MODEL


@pytest.mark.parametrize("how", SPOILT)
def test_a_file_that_is_spoilt_while_it_is_read_keeps_the_instance(
    world: World, how: str, monkeypatch: pytest.MonkeyPatch, disk: str
) -> None:
    read = digest.of_open

    def reading(*given: Any) -> digest.Hashed:
        hashed = read(*given)
        if world.history.confirmed is not None and not world.history.destroy_intended:
            SPOILT[how](_home(world))
        return hashed

    monkeypatch.setattr(digest, "of_open", reading)
    with pytest.raises(Refused, match="no longer matches its release"):
        world.run()
    assert world.provider.count("destroy") == 0, disk


GONE = [how for how in SPOILT if how != "overwritten"]
"""What takes a name away, and not the bytes."""


@pytest.mark.parametrize("how", GONE)
@pytest.mark.parametrize("commit", [False, True])
def test_a_file_that_goes_with_the_request_is_put_back(
    world: World, how: str, commit: bool, monkeypatch: pytest.MonkeyPatch, disk: str
) -> None:
    real = Market.destroy

    def destroy(market: Market, instance_id: InstanceId) -> DestroyReply:
        reply = real(market, instance_id) if commit else DestroyReply.ACCEPTED
        SPOILT[how](_home(world))
        return real(market, instance_id) if not commit else reply

    monkeypatch.setattr(Market, "destroy", destroy)
    told = world.run()
    assert world.history.closed
    assert _home(world).read_bytes() == MODEL, disk
    assert _home(world).stat().st_mode & 0o222 == 0
    assert any("was taken away meanwhile" in note for note in told.notes)
    assert not list((world.context().directory / "held").iterdir())


@pytest.mark.parametrize("how", GONE)
@pytest.mark.parametrize("after", [False, True])
def test_a_file_that_goes_before_absence_is_proven_is_put_back(world: World, how: str, after: bool) -> None:
    _at_record(world, DestroyRequested, after, lambda: SPOILT[how](_home(world)))
    assert world.history.closed
    assert _home(world).read_bytes() == MODEL


@pytest.mark.parametrize("how", GONE)
def test_killed_after_the_request_the_next_run_puts_it_back(world: World, how: str) -> None:
    """The bytes keep their second name when the process that holds them is gone."""

    def kill(event: JobEvent, done: bool) -> None:
        if isinstance(event, DestroyRequested) and done:
            SPOILT[how](_home(world))
            raise Killed

    held = list((world.context().directory).glob("held/*"))
    assert held == []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(hold.HeldFile, "put_back", lambda *_: None)  # a killed process does nothing more
        patched.setattr(hold.HeldFile, "let_go", lambda *_: None)
        with pytest.raises(Killed):
            world.run(on_record=kill)
    world.run()
    assert world.history.closed
    assert _home(world).read_bytes() == MODEL


def test_it_is_held_as_long_as_absence_is_not_proven(world: World) -> None:
    world.market.lag = 10**6
    with pytest.raises(NotProven):
        world.run()
    (held,) = (world.context().directory / "held").iterdir()
    assert held.samefile(_home(world))
    world.market.lag = 0
    world.run()
    assert world.history.closed
    assert not held.exists()


def test_a_refusal_leaves_no_second_name(world: World) -> None:
    with pytest.raises(Refused, match="nobody confirmed"):
        world.run(lambda _id, _file: None)
    assert not list((world.context().directory / "held").iterdir())


def test_the_box_is_asked_before_the_file_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    read, probe, ask = digest.of_open, BoxHost.probe, Market.destroy

    def reading(*given: Any) -> digest.Hashed:
        order.append("read")
        return read(*given)

    def probing(host: BoxHost, questions: Any, *, timeout: float = 120.0) -> Any:
        order.append("box")
        return probe(host, questions, timeout=timeout)

    def asking(market: Market, instance_id: InstanceId) -> DestroyReply:
        order.append("request")
        return ask(market, instance_id)

    monkeypatch.setattr(digest, "of_open", reading)
    monkeypatch.setattr(BoxHost, "probe", probing)
    monkeypatch.setattr(Market, "destroy", asking)
    world.run()
    at = order.index("request")
    assert order[at - 2 : at] == ["box", "read"]
    assert order[:at].count("read") <= 2, "once for the gate's own look, once before the request"


def test_a_pipe_in_the_files_place_hangs_nobody(world: World) -> None:
    with pytest.raises(Refused, match="nobody confirmed"):
        world.run(lambda _id, _file: None)
    path = _home(world)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Refused, match="not a file that holds bytes"):
        teardown.teardown(world.context(), Telling(), lambda _id, _file: "yes")
    assert world.provider.count("destroy") == 0


def test_a_provider_that_answers_nothing_leaves_the_hold(world: World) -> None:
    world.provider.break_("destroy", ProviderUnavailable("no answer"), times=0)
    with pytest.raises(NotProven):
        world.run()
    assert list((world.context().directory / "held").iterdir())


@pytest.mark.parametrize("room", [True, False])
def test_bytes_that_cannot_be_put_back_are_kept_where_it_says(
    world: World, disk: str, monkeypatch: pytest.MonkeyPatch, room: bool
) -> None:
    """The destination's disk is full by then, and that of the job's folder too when there is no ``room``."""
    home, copy, link, telling = _home(world), durable.copy, os.link, Telling()

    def copied(source: Any, target: Path) -> None:
        if target == home or not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy(source, target)

    def linked(source: Path, target: Path) -> None:
        if target == home:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        link(source, target)

    def take_away(event: JobEvent, done: bool) -> None:
        if done and isinstance(event, DestroyRequested):
            home.unlink()

    monkeypatch.setattr(durable, "copy", copied)
    monkeypatch.setattr(os, "link", linked)
    teardown.teardown(world.context(take_away), telling, lambda _id, _file: "yes")
    (said,) = [note for note in telling.notes if "cannot be put back" in note]
    kept = [path.read_bytes() for path in (world.home / "jobs" / "night" / "held").iterdir()]
    assert kept == ([MODEL] if room or disk == "second names" else [])
    assert ("its bytes are in" in said) is bool(kept)
