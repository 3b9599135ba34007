"""No second rental, whatever lists, replies, kills and restored ledgers do: 200 seeded lives of one job."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import AmbiguousCreate, HarnessError, ProviderUnavailable
from harness.core.lifecycle import Stage
from harness.core.ports import Listing
from harness.ledger.kinds import JobEvent
from tests.support.context import Killed, MemoryStore, World, make_world

RUNS = 200
_ROUNDS = 4
_HIDDEN = 14
"""Looks in a row that a list may be falsely empty after a lost reply: more than two of the three minutes."""


def _listing_empty(world: World, dice: random.Random) -> None:
    world.provider.break_("instances", Listing(()), after=dice.randrange(3), times=dice.randrange(1, _HIDDEN))


def _listing_fails(world: World, dice: random.Random) -> None:
    world.provider.break_("instances", ProviderUnavailable("429"), times=dice.randrange(1, 40))


def _too_often(world: World, dice: random.Random) -> None:
    method = dice.choice(["account", "volumes", "instance", "search"])
    world.provider.break_(method, ProviderUnavailable("429 API requests too frequent"), times=dice.randrange(1, 5))


def _reply_lost(world: World, dice: random.Random) -> None:
    outcome = dice.choice([AmbiguousCreate("the reply was lost"), Killed()])
    world.provider.break_("create", outcome, commit=dice.random() < 0.7)


def _create_too_often(world: World, dice: random.Random) -> None:
    world.provider.break_("create", ProviderUnavailable("429"), times=dice.randrange(1, 3))


def _label_cut(world: World, dice: random.Random) -> None:
    for number, one in list(world.market.rented.items()):
        world.market.change(number, label=(one.label or "")[: dice.choice([6, 12, 16])])


def _older_ledger(world: World, dice: random.Random) -> None:
    """A copy of any earlier time is put back, or none at all."""
    assert isinstance(world.store, MemoryStore)
    log = world.store.logs.get(world.job.name, [])
    del log[dice.randrange(len(log) + 1) :]


def _time_passes(world: World, dice: random.Random) -> None:
    world.clock.turn(dice.choice([60.0, 3600.0, 86_400.0]))


_MISFORTUNES: tuple[Callable[[World, random.Random], None], ...] = (
    _listing_empty,
    _listing_fails,
    _too_often,
    _reply_lost,
    _reply_lost,
    _create_too_often,
    _older_ledger,
    _time_passes,
)


def _live(world: World, dice: random.Random) -> None:
    """One command after the other, each in its own misfortune."""
    for _ in range(_ROUNDS):
        world.provider.faults.clear()
        for misfortune in dice.sample(_MISFORTUNES, dice.randrange(4)):
            misfortune(world, dice)
        left = dice.randrange(1, 30)

        def dies(_event: JobEvent, _done: bool, countdown: list[int] = [left]) -> None:  # noqa: B006 - its own
            countdown[0] -= 1
            if not countdown[0]:
                raise Killed

        with contextlib.suppress(HarnessError, Killed):
            world.run(until=Stage.PROVISION, on_record=dies)
        if dice.random() < 0.1:
            _label_cut(world, dice)


@pytest.mark.parametrize("tenth", range(10))
def test_no_second_rental_in_two_hundred_lives(tenth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rented = 0
    for seed in range(tenth, RUNS, 10):
        world = make_world(tmp_path / str(seed), monkeypatch, fast=True)
        _live(world, random.Random(seed))
        assert world.market.created <= 1, f"seed {seed} rented {world.market.created} times"
        assert world.provider.count("destroy") == 0
        rented += world.market.created
    assert rented >= RUNS // 10 // 2, "most of these lives do rent"
