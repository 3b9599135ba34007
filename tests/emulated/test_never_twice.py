"""No second rental over the embedded Vast.ai: lost replies, empty lists, cut labels, 429, and an older ledger."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import HarnessError
from harness.core.lifecycle import Stage
from harness.emulator.running import running
from harness.ledger.events import Rented
from harness.ledger.kinds import JobEvent
from harness.providers.rate_limits import UNPACED
from harness.providers.vast.credentials import Credentials
from harness.providers.vast.provider import VastProvider
from tests.support.context import Killed, MemoryStore, World, make_world
from tests.support.emulator_kit import scenario
from tests.support.faulty_provider import FaultyProvider

pytest.importorskip("vastai")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")

CREATE, LIST = "PUT /api/v0/asks/{id}", "GET /api/v1/instances"
LOST = {"route": CREATE, "do": "drop", "commit": True}
EMPTY = '{"success": true, "instances_found": 0, "total_instances": 0, "next_token": null, "instances": []}'
NO_BILL = {"route": "GET /api/v0/charges", "do": "reply", "status": 500, "times": 0}
SLOW_DOWN = {"do": "reply", "status": 429, "body": "API requests too frequent", "content_type": "text/plain"}


def _empty(times: int, after: int = 0) -> dict[str, Any]:
    return {"route": LIST, "do": "reply", "body": EMPTY, "times": times, "after": after}


def _cut(route: str) -> dict[str, Any]:
    return {"route": route, "do": "edit", "cut": {"instances.label": 9}, "times": 0}


def _unlabelled(route: str) -> dict[str, Any]:
    return {"route": route, "do": "edit", "set": {"instances.label": None}, "times": 0}


def _ends(event: JobEvent, done: bool) -> None:
    """The box is another test's: the process ends when its instance is recorded."""
    if done and isinstance(event, Rented):
        raise Killed


def _command(world: World) -> bool:
    """One ``harness run``; True when it recorded an instance as its own."""
    with contextlib.suppress(HarnessError):
        try:
            world.run(until=Stage.PROVISION, on_record=_ends)
        except Killed:
            return True
    return False


@pytest.mark.parametrize(
    ("faults", "forgets", "taken"),
    [
        pytest.param([LOST], False, True, id="the reply lost"),
        pytest.param([LOST, _empty(12, after=7)], False, True, id="and the list empty for two minutes"),
        pytest.param([{**LOST, "do": "reply", "status": 502}], False, True, id="a gateway in between"),
        pytest.param([{**SLOW_DOWN, "route": CREATE}], False, True, id="429 for the create"),
        pytest.param([LOST, {**SLOW_DOWN, "route": LIST, "times": 9, "after": 7}], False, True, id="429 for the lists"),
        pytest.param([LOST, _cut(LIST)], False, True, id="the label cut in the list, whole in the bill"),
        pytest.param([LOST, _cut(LIST), NO_BILL], False, False, id="the label cut, and no bill"),
        pytest.param([LOST, _unlabelled(LIST), NO_BILL], False, False, id="no label, and no bill"),
        pytest.param([], True, False, id="a ledger from before the rent"),
        pytest.param([_empty(0, after=7)], True, False, id="and a list that is empty ever after"),
    ],
)
def test_an_account_has_one_instance_of_a_job(
    faults: list[dict[str, Any]], forgets: bool, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    with running(tmp_path / "service", scenario=scenario(api=faults, isolation="none")) as emulator:
        vast = VastProvider(Credentials(emulator.url, emulator.key), world.clock, pace=UNPACED)
        world.provider = FaultyProvider(vast)
        found = _command(world)
        if forgets:
            assert found
            assert isinstance(world.store, MemoryStore)
            log = world.store.logs[world.job.name]
            del log[next(n for n, one in enumerate(log) if one.kind == "gate") + 1 :]
            found = False
        for _ in range(2):
            found = found or _command(world)
        assert (len(emulator.world.rentals()), found) == (1, taken)
