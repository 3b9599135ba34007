"""Killed before and after every event of a whole job, the same command goes on: nothing is lost, nothing paid twice."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import pytest

from harness.core.ids import InstanceId
from harness.core.lifecycle import Stage
from harness.core.ports import DestroyReply
from harness.ledger.events import Rented
from harness.ledger.kinds import JobEvent
from harness.ledger.noted import ImageHad
from tests.support.context import Killed, World, make_world
from tests.support.scripted_world import MODEL, Market

EVENTS = 41
"""Events of a whole job that nothing disturbs; the last test here holds it."""


def _watch_destroys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Market.destroy

    def destroy(self: Market, instance_id: InstanceId) -> DestroyReply:
        history = world.history
        assert history.verified is not None, "destroyed before anything was verified"
        assert hashlib.sha256(Path(history.verified.path).read_bytes()).hexdigest() == history.verified.sha256
        assert history.destroy_intended, "destroyed without a recorded intent"
        return real(self, instance_id)

    monkeypatch.setattr(Market, "destroy", destroy)


def _ends_well(world: World) -> None:
    history = world.history
    assert history.closed
    assert world.provider.count("create") == 1
    assert not world.market.rented
    assert world.box.attempts == 1
    assert {name: world.box.begun[name] for name in ("install", "base")} == {"install": 1, "base": 1}
    assert world.kinds().count(Rented) == world.kinds().count(ImageHad) == 1
    assert history.verified is not None
    assert Path(history.verified.path).read_bytes() == MODEL
    assert not list(Path(history.verified.path).parent.glob("*.rejected-*"))
    assert world.store.verify(world.job.name) == ()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(2, EVENTS + 1))
def test_killed_at_an_event(number: int, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    _watch_destroys(world, monkeypatch)
    count = itertools.count(2)  # the first event is written before there is a context
    now = 0

    def kill(_event: JobEvent, done: bool) -> None:
        nonlocal now
        now = now if done else next(count)
        if now == number and done is after:
            raise Killed

    with pytest.raises(Killed):
        world.run(on_record=kill)
    world.run()
    _ends_well(world)


@pytest.mark.parametrize("first", range(2, EVENTS + 1, 5))
def test_killed_again_and_again(first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process dies after a few events of its own; the job moves on all the same."""
    world = make_world(tmp_path, monkeypatch, fast=True)
    _watch_destroys(world, monkeypatch)
    for life in range(60):
        left = itertools.count(1)

        def kill(_event: JobEvent, done: bool, left: itertools.count[int] = left, life: int = life) -> None:
            if done and next(left) == 2 + (first + life) % 3:
                raise Killed

        try:
            world.run(on_record=kill)
        except Killed:
            continue
        break
    _ends_well(world)


@pytest.mark.parametrize("method", ["account", "search", "create", "instance", "attach_key", "instances", "destroy"])
@pytest.mark.parametrize("commit", [False, True])
def test_killed_at_a_provider_call(method: str, commit: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the call reached the provider, and after it took effect without an answer."""
    world = make_world(tmp_path, monkeypatch, fast=True)
    _watch_destroys(world, monkeypatch)
    world.provider.break_(method, Killed(), commit=commit)
    with pytest.raises(Killed):
        world.run()
    creates = world.provider.count("create")
    world.run()
    # A create that never reached the provider is asked for again: what counts is what was rented.
    assert world.provider.count("create") == creates + (
        method in {"account", "search", "instances"} or (method == "create" and not commit)
    )
    assert world.kinds().count(Rented) == 1
    assert world.history.closed
    assert not world.market.rented


def test_a_whole_job_has_so_many_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.run()
    assert len(world.kinds()) == EVENTS
    events = len(world.kinds())
    world.run()
    assert len(world.kinds()) == events, "a closed job is left as it is"


def test_what_a_companions_download_left_is_swept_although_it_is_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the rename and before its journal was deleted: the next run finds it whole, and tidies up."""
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.run(until=Stage.POSTTRAIN)
    (run,) = world.home.rglob("companions/run.json")
    left = [run.with_name(f"run.json.part.{end}") for end in ("journal", "lock")]
    for path in left:
        path.write_bytes(b"")
    world.run()
    assert world.history.closed
    assert not [path for path in left if path.exists()]
