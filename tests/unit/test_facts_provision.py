"""What provision's look makes of an account's listing."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.facts import provision
from harness.lifecycle import Stage
from harness.observed import CouldNotLook
from harness.ports import Listing
from tests.support.desk import make_world


def test_a_listing_that_lacks_what_was_rented_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.run(until=Stage.PROVISION)
    world.provider.break_("instances", Listing(()))
    with pytest.raises(CouldNotLook, match="it is not whole"):
        provision.look(world.desk()).labelled.get()
    assert world.history.rental is not None
    assert provision.look(world.desk()).labelled.get() == (world.history.rental.instance_id,)
