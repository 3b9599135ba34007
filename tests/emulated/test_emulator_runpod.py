"""RunPod's counterpart knows what the published description says, and is strict about the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from harness.emulator.running import Emulator, running
from harness.emulator.scenario import Scenario
from tests.support.emulator_kit import ask, scenario

POD_FIELDS = frozenset(
    [
        "id",
        "name",
        "status",
        "actions",
        "image",
        "args",
        "disk",
        "mounts",
        "ports",
        "env",
        "registry",
        "cloud",
        "dataCenterId",
        "cudaVersion",
        "ssh",
        "template",
        "cost",
        "locked",
        "runtime",
        "createdAt",
        "startedAt",
        "globalNetworking",
    ]
)
"""Required of ``Pod`` in api-reference-v2/openapi.json of github.com/runpod/docs."""
WANTED: dict[str, Any] = {
    "name": "gsh-demo-0a1b2c3d",
    "image": "pytorch/pytorch",
    "gpu": {"id": "NVIDIA H100 80GB HBM3", "count": 8, "minCudaVersion": "12.1"},
    "disk": 20,
    "mounts": {"persistent": {"size": 20, "path": "/workspace"}},
    "ports": ["22/tcp"],
}


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with running(tmp_path / "state", scenario=scenario(isolation="none")) as found:
        yield found


def rented(emulator: Emulator, **more: Any) -> dict[str, Any]:
    reply = ask(emulator, "POST", "/v2/pods", json=WANTED | more)
    assert reply.status_code == 201, reply.text
    found: dict[str, Any] = reply.json()
    return found


def is_problem(reply: requests.Response, status: int) -> str:
    body = reply.json()
    assert (reply.status_code, body["status"]) == (status, status), reply.text
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert body["title"]
    return str(body["detail"]) + " ".join(body.get("errors", ()))


def test_a_pod_has_every_field_that_the_description_requires(emulator: Emulator) -> None:
    made = rented(emulator)
    emulator.settle()
    shown = ask(emulator, "GET", f"/v2/pods/{made['id']}").json()
    (listed,) = ask(emulator, "GET", "/v2/pods").json()["pods"]
    for row in (made, shown, listed):
        assert set(row) - {"gpu"} == POD_FIELDS
    assert (shown["status"], shown["gpu"]) == ("RUNNING", {"id": "NVIDIA H100 80GB HBM3", "count": 8})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/serverless"),
        ("PATCH", "/v2/pods/p1"),
        ("PUT", "/v2/account/ssh-keys"),
        ("GET", "/v2/catalog/datacenters"),
        ("DELETE", "/v2/network-volumes/v1"),
        ("GET", "/v2/billing"),
    ],
)
def test_what_is_not_played_is_said_by_name(method: str, path: str, emulator: Emulator) -> None:
    assert f"{method} {path}" in is_problem(ask(emulator, method, path), 501)


def test_another_query_of_graphql_is_not_played(emulator: Emulator) -> None:
    asked = ask(emulator, "POST", "/graphql", json={"query": "query { myself { pubKey } }"})
    assert "pubKey" in is_problem(asked, 501)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"cmd": ["bash"]}, "additional properties 'cmd' not allowed"),
        ({"gpuTypeIds": []}, "additional properties 'gpuTypeIds' not allowed"),
        ({"mounts": {"persistent": {"size": 20, "path": "/x", "kind": "ssd"}}}, "'kind' not allowed"),
        ({"mounts": {"persistent": {"size": 9, "path": "/x"}}}, "size"),
        ({"gpu": {"id": "NVIDIA H100 80GB HBM3", "count": 0}}, "count"),
        ({"name": ""}, "name"),
        ({"disk": "much"}, "disk"),
    ],
)
def test_a_create_that_does_not_fit_is_refused_by_name(more: Any, told: str, emulator: Emulator) -> None:
    assert told in is_problem(ask(emulator, "POST", "/v2/pods", json=WANTED | more), 422)
    assert not emulator.world.rentals()


@pytest.mark.parametrize(
    "path",
    [
        "/v2/pods?limit=5",
        "/v2/catalog/gpus",
        "/v2/catalog/gpus?include=AVAILABILITY",
        "/v2/billing/pods?lastN=3",
        "/v2/network-volumes?name=x",
    ],
)
def test_a_query_that_is_not_described_or_lacks_what_it_needs_is_refused(path: str, emulator: Emulator) -> None:
    is_problem(ask(emulator, "GET", path), 422)


def test_who_asks_is_looked_at_first(emulator: Emulator) -> None:
    made = rented(emulator)
    own = next(iter(emulator.world.rentals().values())).api_key
    is_problem(ask(emulator, "GET", "/v2/pods", key=None), 401)
    is_problem(ask(emulator, "GET", "/v2/pods", key="rpa_wrong"), 401)
    is_problem(ask(emulator, "DELETE", f"/v2/pods/{made['id']}", key=own), 403)
    assert len(emulator.world.rentals()) == 1


def test_a_pod_that_nobody_can_place_is_400_and_one_without_credit_402(emulator: Emulator) -> None:
    gpu = {"id": "NVIDIA H100 80GB HBM3", "count": 3}
    is_problem(ask(emulator, "POST", "/v2/pods", json=WANTED | {"gpu": gpu}), 400)
    emulator.world.set_credit(0.0)
    is_problem(ask(emulator, "POST", "/v2/pods", json=WANTED), 402)


def test_an_action_must_be_one_of_the_pods_own(emulator: Emulator) -> None:
    made = rented(emulator)
    emulator.settle()
    place = f"/v2/pods/{made['id']}/action"
    is_problem(ask(emulator, "POST", place, json={"action": "start"}), 409)
    is_problem(ask(emulator, "POST", place, json={"action": "reset"}), 422)
    stopped = ask(emulator, "POST", place, json={"action": "stop"}).json()
    assert (stopped["status"], stopped["cost"], stopped["ssh"]["direct"]) == ("EXITED", 0.0, None)
    is_problem(ask(emulator, "POST", place, json={"action": "restart"}), 409)
    assert ask(emulator, "POST", place, json={"action": "terminate"}).status_code == 204
    is_problem(ask(emulator, "GET", f"/v2/pods/{made['id']}"), 404)
    for never in ("p1", "1", "x", "p"):
        is_problem(ask(emulator, "GET", f"/v2/pods/{never}"), 404)


def test_both_services_show_one_world(tmp_path: Path) -> None:
    with running(tmp_path, scenario=Scenario(isolation="none")) as emulator:
        made = rented(emulator)
        (shown,) = ask(emulator, "GET", "/api/v1/instances").json()["instances"]
        assert (f"p{shown['id']:x}", shown["label"]) == (made["id"], made["name"])
