"""A key that can stop one instance and do nothing else: made and tried on the embedded Vast.ai, or not made at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.core.clock import SystemClock
from harness.core.errors import BadInput, HarnessError, ProviderUnavailable
from harness.core.ids import InstanceId
from harness.emulator import permissions
from harness.emulator.permissions import EndpointRight
from harness.emulator.running import Emulator, running
from harness.emulator.scenario import ApiFault
from harness.providers.rate_limits import UNPACED
from harness.providers.scoped_keys import Scope
from harness.providers.vast.keys import VastKeyIssuer
from tests.support.emulator_kit import ask, create_request, scenario

pytest.importorskip("vastai")
NAME = "gsh-switch-night-1"


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with running(tmp_path / "state", scenario=scenario(isolation="none")) as found:
        yield found


@pytest.fixture
def keys(emulator: Emulator, tmp_path: Path) -> VastKeyIssuer:
    return VastKeyIssuer(emulator.url, {"VAST_API_KEY": emulator.key}, tmp_path, SystemClock(), UNPACED)


def _made(emulator: Emulator, keys: VastKeyIssuer) -> dict[int, str]:
    """Every key but the account's own."""
    return {number: name for number, name in keys.named(emulator.key).items() if name != "default"}


def _states(emulator: Emulator) -> list[str]:
    return [row.intended.value for row in emulator.world.visible()]


def test_it_stops_its_instance_and_is_refused_all_else(emulator: Emulator, keys: VastKeyIssuer) -> None:
    mine, other = (emulator.world.create(offer, create_request()).id for offer in (7_100_001, 7_100_002))
    key = keys.issue_stop_key(emulator.key, InstanceId(mine), NAME)
    assert _made(emulator, keys) == {key.id: NAME}, "the twin that proved the form is gone"
    assert _states(emulator) == ["running", "running"], "nothing was stopped to prove it"

    def asked(method: str, path: str, **more: Any) -> int:
        return ask(emulator, method, path, key=key.secret, **more).status_code

    stop = keys.stop_request(InstanceId(mine))
    trial = keys.trial
    refused = [
        asked(trial.method, trial.url.removeprefix(emulator.url), json=dict(trial.body)),
        asked("PUT", f"/api/v0/instances/{other}/", json={"state": "stopped"}),
        asked("PUT", f"/api/v0/instances/{mine}/", json={"state": "running"}),
        asked("PUT", f"/api/v0/instances/{mine}/", json={"label": "x"}),
        asked("DELETE", f"/api/v0/instances/{mine}/", json={}),
        asked("GET", "/api/v1/instances/"),
        asked("GET", "/api/v0/users/current/"),
        asked("POST", "/api/v0/auth/apikeys/", json={"name": "x", "permissions": {"api": {}}}),
        asked("DELETE", f"/api/v0/auth/apikeys/{key.id}/", json={}),
        asked("POST", "/api/v0/bundles/", json={"limit": 1}),
    ]
    assert refused == [403] * len(refused)
    assert asked(stop.method, stop.url.removeprefix(emulator.url), json=dict(stop.body)) == 200
    states = {row.id: row.intended.value for row in emulator.world.visible()}
    assert states == {mine: "stopped", other: "running"}


def _everything(*_: Any) -> bool:
    return True


def _nothing(*_: Any) -> bool:
    return False


def _all_but(word: str) -> Callable[..., bool]:
    """Rights of which one constraint is not heeded."""
    kept = EndpointRight.holds

    def holds(right: EndpointRight, sent: Any) -> bool:
        others = {name: limits for name, limits in right.constraints.items() if name != word}
        return kept(EndpointRight(others), sent)

    return holds


@pytest.mark.parametrize(
    ("bent", "told"),
    [
        ((EndpointRight, "holds", _everything), "may start it, too"),
        ((EndpointRight, "holds", _all_but("state")), "may start it, too"),
        ((EndpointRight, "holds", _all_but("id")), "may stop another instance"),
        ((EndpointRight, "holds", _nothing), "is refused to stop one"),
        ((permissions, "_allows", _everything), "may start it, too"),
        ((permissions, "_allows", _nothing), "is refused to stop one"),
    ],
    ids=["no constraint is heeded", "state is not", "id is not", "they are not met", "all is let", "nothing is let"],
)
def test_a_service_that_does_not_hold_it_to_that_gets_none_made(
    emulator: Emulator,
    keys: VastKeyIssuer,
    monkeypatch: pytest.MonkeyPatch,
    bent: tuple[Any, str, Callable[..., bool]],
    told: str,
) -> None:
    mine = emulator.world.create(7_100_001, create_request()).id
    monkeypatch.setattr(*bent)
    with pytest.raises(HarnessError, match=told):
        keys.issue_stop_key(emulator.key, InstanceId(mine), NAME)
    assert _made(emulator, keys) == {}
    assert _states(emulator) == ["running"]


@pytest.mark.parametrize(
    ("category", "told"),
    [
        ("instance_read", "may list instances"),
        ("misc", "may search offers"),
        ("user_read", "may see the account"),
        ("billing_read", "may see what was charged"),
        ("user_write", "may (make keys|change API keys)"),
        ("instance_write", "may start it, too"),
    ],
)
def test_each_right_beyond_the_stop_is_found(
    emulator: Emulator, keys: VastKeyIssuer, monkeypatch: pytest.MonkeyPatch, category: str, told: str
) -> None:
    mine = emulator.world.create(7_100_001, create_request()).id
    kept = permissions._allows
    monkeypatch.setattr(permissions, "_allows", lambda rights, of, *more: of == category or kept(rights, of, *more))
    with pytest.raises(HarnessError, match=told):
        keys.issue_stop_key(emulator.key, InstanceId(mine), NAME)
    assert _made(emulator, keys) == {}
    assert _states(emulator) == ["running"]


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("api.user.create_api_key", "may make keys"),
        ("api.user.delete_api_key", "may change API keys"),
        ("api.instance.destroy", "may destroy an instance"),
    ],
)
def test_each_endpoint_beyond_the_stop_is_found(
    emulator: Emulator, keys: VastKeyIssuer, monkeypatch: pytest.MonkeyPatch, endpoint: str, told: str
) -> None:
    mine = emulator.world.create(7_100_001, create_request()).id
    kept = permissions._allows
    bent = lambda rights, of, name, sent: name == endpoint or kept(rights, of, name, sent)  # noqa: E731
    monkeypatch.setattr(permissions, "_allows", bent)
    with pytest.raises(HarnessError, match=told):
        keys.issue_stop_key(emulator.key, InstanceId(mine), NAME)
    assert _made(emulator, keys) == {}
    assert _states(emulator) == ["running"]


@pytest.mark.parametrize("status", [429, 500, 503, 400])
def test_an_answer_that_tells_nothing_proves_nothing(emulator: Emulator, keys: VastKeyIssuer, status: int) -> None:
    mine = emulator.world.create(7_100_001, create_request()).id
    fault = {"route": f"PUT /api/v0/instances/{mine}/", "do": "reply", "status": status, "body": "{}", "times": 0}
    emulator.world.faults.add(ApiFault.model_validate(fault))
    with pytest.raises(ProviderUnavailable):
        keys.issue_stop_key(emulator.key, InstanceId(mine), NAME)
    assert _made(emulator, keys) == {}


def test_a_key_of_a_wall_makes_none(emulator: Emulator, keys: VastKeyIssuer) -> None:
    working = keys.issue(emulator.key, Scope.WORKING, "working")
    with pytest.raises(BadInput, match="may not"):
        keys.issue_stop_key(working.secret, InstanceId(1), NAME)
    assert list(_made(emulator, keys).values()) == ["working"]
