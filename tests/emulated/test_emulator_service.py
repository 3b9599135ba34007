"""The service over HTTP: who asks, what is listed, what is charged, what is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from harness.emulator.clock import TurnableClock
from harness.emulator.running import Emulator, running
from harness.emulator.world import World
from tests.support.emulator_kit import OFFER, Box, ask, create_request, key_pair, scenario

HOUR = 3600.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    clock = TurnableClock(speed=0)
    quiet = scenario(isolation="none", account={"credit_usd": 1e5})
    with running(tmp_path_factory.mktemp("world") / "s", clock=clock, scenario=quiet) as found:
        yield found


def test_the_ledger_agrees_with_charges(service: Emulator) -> None:
    rental = service.world.create(7_100_002, create_request())
    service.settle()
    for _ in range(5):
        service.clock.turn(9 * HOUR)
        service.world.traffic(rental.id, to_box=3_000_000_000, from_box=8_000_000_000)
        service.world.settle()
    service.world.destroy(rental.id)
    span = json.dumps({"day": {"gte": 0, "lte": 4e9}})
    answer = ask(service, "GET", "/api/v0/charges/", params={"select_filters": span, "format": "table"}).json()
    mine = next(row for row in answer["results"] if row["source"] == f"instance-{rental.id}")
    assert mine["amount"] == pytest.approx(service.world.state.charges.total(rental.id))
    assert mine["amount"] == pytest.approx(sum(item["amount"] for item in mine["items"]))
    by_kind = {kind: sum(i["amount"] for i in mine["items"] if i["type"] == kind) for kind in ("gpu", "bwd", "bwu")}
    assert by_kind == {"gpu": pytest.approx(45 * 17.60), "bwd": pytest.approx(0.03), "bwu": pytest.approx(0.08)}
    credit = ask(service, "GET", "/api/v0/users/current").json()["credit"]
    assert credit == pytest.approx(1e5 - service.world.state.charges.total())


def test_bytes_over_ssh_are_charged(tmp_path: Path) -> None:
    with running(tmp_path / "state", scenario=scenario()) as emulator:
        rental = emulator.world.create(OFFER, create_request())
        key = key_pair(tmp_path)
        emulator.world.attach_key(rental.id, key.with_suffix(".pub").read_text())
        emulator.settle()
        Box(emulator, rental.id, key).ssh("cat > /dev/null; head -c 5000000 /dev/zero", stdin=bytes(3_000_000))
        deadline = time.monotonic() + 120
        while (billed := kinds(emulator.world)) != {"bwd": 3_000_000, "bwu": 5_000_000}:
            assert time.monotonic() < deadline, billed
            time.sleep(0.02)


def kinds(world: World) -> dict[str, int]:
    entries = [entry for entry in world.state.charges.entries if entry.kind.startswith("bw")]
    return {entry.kind: round(entry.quantity * 1e9) for entry in entries}


@pytest.mark.parametrize(
    ("key", "status", "error"), [(None, 403, "auth_error"), ("wrong", 404, "auth_error"), ("", 200, None)]
)
def test_who_asks(service: Emulator, key: str | None, status: int, error: str | None) -> None:
    for path in ("/api/v0/users/current", "/api/v0/users/current/"):
        answer = ask(service, "GET", path, key=key)
        assert (answer.status_code, answer.json().get("error")) == (status, error)
        assert answer.headers["Content-Type"] == "application/json"


def test_the_key_may_stand_in_the_query(service: Emulator) -> None:
    url = f"{service.url}/api/v0/users/current/?api_key={service.key}"
    assert requests.get(url, timeout=10).status_code == 200


def test_a_bad_key_can_be_401(tmp_path: Path) -> None:
    with running(tmp_path / "s", scenario=scenario(bad_key_status=401)) as emulator:
        assert ask(emulator, "GET", "/api/v0/users/current", key="wrong").status_code == 401


def test_an_instances_own_key_acts_on_that_instance_only(service: Emulator) -> None:
    mine, other = (service.world.create(offer, create_request()) for offer in (7_100_004, 7_100_005))
    assert ask(service, "GET", f"/api/v0/instances/{mine.id}/", key=mine.api_key).json()["instances"]["id"] == mine.id
    assert ask(service, "GET", f"/api/v0/instances/{other.id}/", key=mine.api_key).json()["instances"] is None
    assert ask(service, "DELETE", f"/api/v0/instances/{other.id}/", key=mine.api_key, json={}).status_code == 404
    assert ask(service, "GET", "/api/v1/instances/", key=mine.api_key).status_code == 403
    assert ask(service, "DELETE", f"/api/v0/instances/{mine.id}/", key=mine.api_key, json={}).status_code == 200
    service.world.destroy(other.id)


def test_the_listing_is_paged_filtered_and_ordered(service: Emulator) -> None:
    for at in range(30):
        service.world.create(_ask(service, at), create_request(label=f"job-{at % 3}"))
    first = listing(service)
    assert (len(first["instances"]), first["total_instances"], first["next_token"] is not None) == (25, 30, True)
    second = listing(service, after_token=first["next_token"])
    assert (len(second["instances"]), second["next_token"]) == (5, None)
    assert len({row["id"] for row in (*first["instances"], *second["instances"])}) == 30
    some = listing(service, select_filters={"label": {"eq": "job-1"}}, order_by=[{"col": "id", "dir": "desc"}])
    ids = [row["id"] for row in some["instances"]]
    assert (len(ids), ids) == (10, sorted(ids, reverse=True))
    assert listing(service, select_filters={"id": {"notin": ids}})["total_instances"] == 20
    assert listing(service, select_filters={"id": {"gte": str(ids[0])}})["total_instances"] == 30 - ids_below(
        service, ids[0]
    )
    assert set(listing(service, select_cols=["id", "label"])["instances"][0]) == {"id", "label"}
    assert first["label_counts"] == {"job-0": 10, "job-1": 10, "job-2": 10}
    for bad in ({"dph_total": {"lt": 5}}, {"num_gpus": {"eq": 1}}, {"nonsense": {"eq": 1}}, {"id": {"like": 1}}, [1]):
        query = {"select_filters": json.dumps(bad)}
        assert ask(service, "GET", "/api/v1/instances/", params=query).status_code == 400
    assert (
        ask(service, "GET", "/api/v1/instances/", params={"after_token": "forged"}).json()["error"] == "invalid_token"
    )
    for rental_id in list(service.world.rentals()):
        service.world.destroy(rental_id)


def ids_below(service: Emulator, rental_id: int) -> int:
    return sum(known < rental_id for known in service.world.rentals())


def listing(service: Emulator, **query: Any) -> Any:
    params = {key: value if isinstance(value, str) else json.dumps(value) for key, value in query.items()}
    return ask(service, "GET", "/api/v1/instances/", params=params).json()


def _ask(service: Emulator, at: int) -> int:
    """One more offer on the market, to have many."""
    with service.world.lock:
        template = service.world.state.asks[7_100_003]
        made = replace(template, id=9_000_000 + at, machine_id=50_000 + at, rented=False)
        service.world.state.asks[made.id] = made
    return made.id


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"gpu_name": {"eq": "H100"}}, set()),
        ({"gpu_name": {"eq": "H100 SXM"}, "num_gpus": {"gte": "8"}, "verified": {"eq": True}}, {"H100 SXM"}),
        ({"gpu_name": {"in": ["H200", "H100 NVL"]}}, {"H200", "H100 NVL"}),
        ({"gpu_ram": {"gte": "140000"}}, {"H200"}),
        ({"direct_port_count": {"lt": 1}}, {"RTX 4090"}),
        ({"duration": {"gte": 86400.0 * 31}}, set()),
    ],
)
def test_search(service: Emulator, query: dict[str, Any], names: set[str]) -> None:
    offers = ask(service, "POST", "/api/v0/bundles/", json=query).json()["offers"]
    assert {offer["gpu_name"] for offer in offers} == names
    same = ask(service, "PUT", "/api/v0/search/asks/", json={"q": query}).json()["offers"]
    assert [offer["id"] for offer in same] == [offer["id"] for offer in offers]


@pytest.mark.parametrize(
    "query", [{"nonsense": {"eq": 1}}, {"gpu_name": "H100"}, {"gpu_ram": {"gte": "much"}}, {"order": 1}]
)
def test_a_search_that_cannot_be_read_is_refused(service: Emulator, query: dict[str, Any]) -> None:
    assert ask(service, "POST", "/api/v0/bundles/", json=query).status_code == 400


def test_bodies_that_are_not_json_objects_are_refused(service: Emulator) -> None:
    headers = {"Authorization": f"Bearer {service.key}"}
    url = service.url + "/api/v0/bundles/"
    for body, kind in ((b"{", "application/json"), (b"[]", "application/json"), (b"{}", "text/plain")):
        answer = requests.post(url, data=body, headers={**headers, "Content-Type": kind}, timeout=10)
        assert answer.status_code == 400
    assert requests.post(
        url, data=b" " * (2 << 20), headers={**headers, "Content-Type": "application/json"}, timeout=10
    ).status_code in {400, 413}
    assert ask(service, "GET", "/api/v0/nothing/here").status_code == 501
