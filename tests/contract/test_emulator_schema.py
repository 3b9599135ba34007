"""Every answer of the emulator fits the service's own OpenAPI description, and holds every member that it names.

Where the description and the official client disagree the client wins; each such place is listed here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from jsonschema import Draft202012Validator

from harness.emulator.running import Emulator, running
from tests.support.emulator_kit import OFFER, ask, key_pair, scenario

DESCRIBED: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data/vast-responses.json").read_text("utf-8")
)["responses"]

CLIENT_WINS = {
    ("GET /api/v0/instances/{id}", "instances.ports"): "described as a list; the client reads ports['22/tcp']",
    ("GET /api/v0/instances/{id}", "instances"): "described as an object; a missing instance is null",
    ("GET /api/v1/instances", "instances.ports"): "listed always; the client needs it absent while nothing runs",
    ("GET /api/v0/charges", "metadata"): "described with four ids; the client reads none of them",
}

LEFT_OUT = {
    "GET /api/v0/instances/{id}": {"ports"},
    "GET /api/v1/instances": {"ports"},
    "GET /api/v0/volumes": {
        "cuda_max_good",
        "public_ipaddr",
        "cpu_name",
        "mobo_name",
        "os_version",
        "static_ip",
        "cpu_arch",
    },
}
"""Described members that an answer may lack."""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with running(tmp_path_factory.mktemp("schema"), scenario=scenario(isolation="none")) as found:
        yield found


def check(route: str, response: requests.Response) -> Any:
    """Validate an answer against its description; returns the parsed answer."""
    schema = DESCRIBED[route][str(response.status_code)]
    data = response.json()
    problems = [
        error
        for error in Draft202012Validator(schema).iter_errors(data)
        if (route, ".".join(str(part) for part in error.absolute_path if not isinstance(part, int))) not in CLIENT_WINS
    ]
    assert not problems, [error.message for error in problems]
    missing = unnamed(schema, data) - LEFT_OUT.get(route, set())
    assert not missing, f"{route}: the description names {sorted(missing)}"
    return data


def unnamed(schema: dict[str, Any], data: Any) -> set[str]:
    """Members that the description names and the answer lacks, at every depth."""
    if isinstance(data, list):
        return set().union(*(unnamed(schema.get("items", {}), item) for item in data))
    if not isinstance(data, dict):
        return set()
    named = schema.get("properties", {})
    inner = [unnamed(part, data[name]) for name, part in named.items() if name in data and name != "metadata"]
    return {name for name in named if name not in data}.union(*inner)


def create(emulator: Emulator, offer: int = OFFER, **more: Any) -> requests.Response:
    body = {"image": "pytorch/pytorch", "disk": 20, "label": "schema", "runtype": "ssh_direc ssh_proxy", **more}
    return ask(emulator, "PUT", f"/api/v0/asks/{offer}/", json=body)


def test_the_life_of_an_instance(emulator: Emulator, tmp_path: Path) -> None:
    check("GET /api/v0/users/current", ask(emulator, "GET", "/api/v0/users/current/"))
    offers = check("POST /api/v0/bundles", ask(emulator, "POST", "/api/v0/bundles/", json={"gpu_name": {"eq": "H200"}}))
    made = check("PUT /api/v0/asks/{id}", create(emulator, offers["offers"][0]["id"]))
    path = f"/api/v0/instances/{made['new_contract']}/"
    emulator.settle()
    row = check("GET /api/v0/instances/{id}", ask(emulator, "GET", path))["instances"]
    assert row["ports"]["22/tcp"][0]["HostPort"]
    check("GET /api/v1/instances", ask(emulator, "GET", "/api/v1/instances/"))
    public = key_pair(tmp_path).with_suffix(".pub").read_text()
    check("POST /api/v0/instances/{id}/ssh", ask(emulator, "POST", path + "ssh/", json={"ssh_key": public}))
    keys = check("GET /api/v0/instances/{id}/ssh", ask(emulator, "GET", path + "ssh/"))
    key_id = json.loads(keys["ssh_keys"])[0]["id"]
    check("DELETE /api/v0/instances/{id}/ssh/{ssh_key_id}", ask(emulator, "DELETE", f"{path}ssh/{key_id}/", json={}))
    check("DELETE /api/v0/instances/{id}/ssh/{ssh_key_id}", ask(emulator, "DELETE", f"{path}ssh/{key_id}/", json={}))
    for verb in ("reboot", "recycle"):
        changed = ask(emulator, "PUT", f"/api/v0/instances/{verb}/{row['id']}/", json={})
        check(f"PUT /api/v0/instances/{verb}/{{id}}", changed)
    emulator.settle()
    check("PUT /api/v0/instances/{id}", ask(emulator, "PUT", path, json={"label": "renamed"}))
    check("PUT /api/v0/instances/{id}", ask(emulator, "PUT", path, json={"state": "stopped"}))
    check("PUT /api/v0/instances/{id}", ask(emulator, "PUT", path, json={"state": "nonsense"}))
    for verb, body in (("request_logs", {}), ("command", {"command": "ls /workspace"})):
        answer = ask(emulator, "PUT", f"/api/v0/instances/{verb}/{row['id']}/", json=body)
        check(f"PUT /api/v0/instances/{verb}/{{id}}", answer)
    emulator.clock.turn(60)
    span = json.dumps({"day": {"gte": 0, "lte": 4e9}})
    charges = check("GET /api/v0/charges", ask(emulator, "GET", "/api/v0/charges/", params={"select_filters": span}))
    assert charges["results"]
    check("GET /api/v1/invoices", ask(emulator, "GET", "/api/v1/invoices/", params={"select_filters": "{}"}))
    check("DELETE /api/v0/instances/{id}", ask(emulator, "DELETE", path, json={}))
    check("DELETE /api/v0/instances/{id}", ask(emulator, "DELETE", path, json={}))
    assert check("GET /api/v0/instances/{id}", ask(emulator, "GET", path))["instances"] is None


def test_account_keys_volumes_and_copies(emulator: Emulator, tmp_path: Path) -> None:
    public = key_pair(tmp_path).with_suffix(".pub").read_text()
    key = check("POST /api/v0/ssh", ask(emulator, "POST", "/api/v0/ssh/", json={"ssh_key": public}))["key"]
    check("GET /api/v0/ssh", ask(emulator, "GET", "/api/v0/ssh/"))
    check("DELETE /api/v0/ssh/{id}", ask(emulator, "DELETE", f"/api/v0/ssh/{key['id']}/"))
    check("DELETE /api/v0/ssh/{id}", ask(emulator, "DELETE", f"/api/v0/ssh/{key['id']}/"))
    check("PUT /api/v0/volumes", ask(emulator, "PUT", "/api/v0/volumes/", json={"id": OFFER, "size": 20}))
    volumes = check("GET /api/v0/volumes", ask(emulator, "GET", "/api/v0/volumes/"))["volumes"]
    gone = ask(emulator, "DELETE", "/api/v0/volumes/", params={"id": volumes[0]["id"]})
    check("DELETE /api/v0/volumes", gone)
    check("DELETE /api/v0/volumes", ask(emulator, "DELETE", "/api/v0/volumes/", params={"id": volumes[0]["id"]}))
    nothing = ask(emulator, "PUT", "/api/v0/commands/copy_direct/", json={"src_id": "s3.1", "dst_id": "C.1"})
    check("PUT /api/v0/commands/copy_direct", nothing)


def test_api_keys_variables_and_templates(emulator: Emulator) -> None:
    keys, secrets, template = "/api/v0/auth/apikeys/", "/api/v0/secrets/", "/api/v0/template/"
    body = {"name": "reads", "permissions": {"api": {"instance_read": {}}}}
    made = check("POST /api/v0/auth/apikeys", ask(emulator, "POST", keys, json=body))
    check("POST /api/v0/auth/apikeys", ask(emulator, "POST", keys, json={"name": "x", "permissions": {"read": True}}))
    check("GET /api/v0/auth/apikeys", ask(emulator, "GET", keys))
    check("DELETE /api/v0/auth/apikeys/{id}", ask(emulator, "DELETE", f"{keys}{made['id']}/", json={}))
    check("DELETE /api/v0/auth/apikeys/{id}", ask(emulator, "DELETE", f"{keys}{made['id']}/", json={}))
    variable = {"key": "HF_TOKEN", "value": "hf_x"}
    for method in ("POST", "POST", "PUT", "DELETE", "PUT", "DELETE"):
        check(f"{method} /api/v0/secrets", ask(emulator, method, secrets, json=variable))
    check("GET /api/v0/secrets", ask(emulator, "GET", secrets))
    sent = {"name": "mine", "image": "pytorch/pytorch"}
    shown = check("POST /api/v0/template", ask(emulator, "POST", template, json=sent))["template"]
    change = {"hash_id": shown["hash_id"], "name": "other"}
    changed = check("PUT /api/v0/template", ask(emulator, "PUT", template, json=change))["template"]
    check("GET /api/v0/template", ask(emulator, "GET", template))
    gone = {"hash_id": changed["hash_id"]}
    check("DELETE /api/v0/template", ask(emulator, "DELETE", template, json=gone))


def test_offers_of_volumes_and_deposits(emulator: Emulator) -> None:
    check("POST /api/v0/volumes/search", ask(emulator, "POST", "/api/v0/volumes/search/", json={}))
    made = create(emulator, 7_100_007).json()["new_contract"]
    for number in (made, 1):
        check("GET /api/v0/instances/balance/{id}", ask(emulator, "GET", f"/api/v0/instances/balance/{number}/"))
    ask(emulator, "DELETE", f"/api/v0/instances/{made}/", json={})


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"image": "", "disk": 20}, 400, "invalid_args"),
        ({"image": "x", "disk": 7}, 400, "invalid_args"),
        ({"image": "x", "disk": "20"}, 400, "invalid_args"),
        ({"image": "x", "disk": 20, "label": "l" * 257}, 400, "invalid_args"),
        ({"image": "x", "disk": 20, "onstart": "o" * 4097}, 400, "invalid_args"),
        ({"image": "x", "disk": 20, "price": 0.0001}, 400, "invalid_price"),
        ({"image": "x", "disk": 20, "price": 1.0}, 400, "invalid_price"),
    ],
)
def test_creates_that_are_refused(emulator: Emulator, body: dict[str, Any], status: int, error: str) -> None:
    answer = ask(emulator, "PUT", f"/api/v0/asks/{OFFER}/", json=body)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert not list(Draft202012Validator(DESCRIBED["PUT /api/v0/asks/{id}"][str(status)]).iter_errors(answer.json()))


def test_an_offer_is_rented_once(emulator: Emulator) -> None:
    first = create(emulator, 7_100_008)
    second, never = create(emulator, 7_100_008), create(emulator, 1)
    assert (first.status_code, second.status_code, never.status_code) == (200, 410, 404)
    assert second.json()["error"] == "no_such_ask"
    assert "error 404/3603: no_such_ask" in never.json()["msg"]
    ask(emulator, "DELETE", f"/api/v0/instances/{first.json()['new_contract']}/", json={})


def test_the_check_goes_red_on_a_wrong_type_and_on_a_missing_member() -> None:
    class Doctored(requests.Response):
        def __init__(self, body: object) -> None:
            super().__init__()
            self.status_code, self._content = 200, json.dumps(body).encode()

    with pytest.raises(AssertionError, match="is not of type 'integer'"):
        check("GET /api/v1/instances", Doctored({"instances": [{"id": "one"}]}))
    with pytest.raises(AssertionError, match="actual_status"):
        check("GET /api/v1/instances", Doctored({"instances": [{"id": 1}]}))
