"""What provision's look makes of an account's listing."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.lifecycle import Stage
from harness.core.observed import CouldNotLook
from harness.core.ports import Listing
from harness.facts import provision
from tests.support.context import make_world


def test_a_listing_that_lacks_what_was_rented_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.run(until=Stage.PROVISION)
    world.provider.break_("instances", Listing(()))
    with pytest.raises(CouldNotLook, match="it is not whole"):
        provision.look(world.context()).labelled.get()
    assert world.history.rental is not None
    assert provision.look(world.context()).labelled.get() == (world.history.rental.instance_id,)
