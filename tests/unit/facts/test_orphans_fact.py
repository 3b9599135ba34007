"""The orphans of an account: a list that hides what a job is known to have says nothing about anybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.ids import InstanceId, JobName
from harness.core.observed import CouldNotLook
from harness.core.ports import Listing
from harness.facts.teardown import orphans
from harness.ledger.events import DestroyIntended
from tests.support.context import World, make_world, other_job


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = make_world(tmp_path, monkeypatch, fast=True)
    made.run()
    made.market.add(99, "gsh-night-0a1b2c3d")
    return made


def test_what_nobody_answers_for_is_named(world: World) -> None:
    (told,) = orphans(world.context())
    assert told.startswith("instance 99 gsh-night-0a1b2c3d")


def test_a_list_that_hides_a_known_instance_is_not_whole(world: World) -> None:
    other_job(world, 600)
    world.provider.break_("instances", Listing(()), times=0)
    with pytest.raises(CouldNotLook, match="the list lacks instance 600 of job day, which shows"):
        orphans(world.context())


def test_an_instance_that_neither_lists_nor_shows_hides_nothing(world: World) -> None:
    other_job(world, 600)
    del world.market.rented[InstanceId(600)]
    assert len(orphans(world.context())) == 1


def test_what_was_rented_a_moment_ago_may_be_listed_late(world: World) -> None:
    other_job(world, 600)
    world.provider.break_("instances", Listing(()), times=2)
    assert len(orphans(world.context())) == 1


def test_an_instance_that_is_about_to_go_may_go_from_the_list_first(world: World) -> None:
    other_job(world, 600)
    world.store.append(JobName("day"), DestroyIntended(InstanceId(600), None, ()))
    world.provider.break_("instances", Listing(()), times=0)
    assert orphans(world.context()) == ()
