"""API keys with permissions: made with the official client, and refused what they lack whoever asks with them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import requests

from harness.emulator.permissions import Category
from harness.emulator.running import Emulator, running
from harness.emulator.web.app import ROUTES
from tests.support.emulator_kit import ask, create_request, scenario
from tests.support.official_client import official_client

pytest.importorskip("vastai")

READS: dict[str, Any] = {"api": {"misc": {}, "user_read": {}, "instance_read": {}, "billing_read": {}}}
WORKS: dict[str, Any] = {
    "api": {"misc": {}, "user_read": {}, "instance_read": {}, "instance_write": {}, "billing_read": {}}
}


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with running(tmp_path / "state", scenario=scenario(isolation="none")) as found:
        yield found


def sdk(emulator: Emulator, key: str) -> Any:
    from vastai import VastAI

    return VastAI(api_key=key, server_url=emulator.url, retry=1)


def made(emulator: Emulator, permissions: dict[str, Any], by: str = "") -> str:
    key = sdk(emulator, by or emulator.key).create_api_key("everyday", permissions)["key"]
    assert isinstance(key, str)
    return key


def test_a_key_that_reads_looks_at_everything_and_changes_nothing(emulator: Emulator) -> None:
    rented = emulator.world.create(7_100_001, create_request())
    reading = sdk(emulator, made(emulator, READS))
    assert [row["id"] for row in reading.show_instances()] == [rented.id]
    assert reading.show_instance(id=rented.id)["id"] == rented.id
    assert reading.search_offers(query="gpu_name=H100_NVL")
    assert reading.show_user()["id"] == emulator.world.scenario.account.user_id
    for change in (
        lambda: reading.destroy_instance(id=rented.id),
        lambda: reading.stop_instance(id=rented.id),
        lambda: reading.recycle_instance(id=rented.id),
        lambda: reading.label_instance(id=rented.id, label="x"),
        lambda: reading.create_instance(id=7_100_002, image="x", disk=20),
        lambda: reading.create_api_key("all", {"api": {}}),
        lambda: reading.delete_api_key(id=1),
        reading.reset_api_key,
    ):
        with pytest.raises(requests.HTTPError) as refused:
            change()
        assert refused.value.response is not None
        assert refused.value.response.status_code == 403
        assert refused.value.response.json()["error"] == "auth_error"
    assert [(row.id, row.label, row.intended) for row in emulator.world.visible()] == [
        (rented.id, rented.label, rented.intended)
    ]


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl on this machine")
def test_curl_is_refused_too_by_every_road_of_the_key(emulator: Emulator) -> None:
    rented = emulator.world.create(7_100_001, create_request())
    key = made(emulator, READS)
    for line in (
        ["-X", "DELETE", f"{emulator.url}/api/v0/instances/{rented.id}/", "-H", f"Authorization: Bearer {key}"],
        ["-X", "DELETE", f"{emulator.url}/api/v0/instances/{rented.id}/?api_key={key}"],
        ["-X", "DELETE", f"{emulator.url}/api/v0/instances/{rented.id}?api_key={key}"],
    ):
        done = subprocess.run(["curl", "-s", *line], capture_output=True, text=True, timeout=120, check=True)
        assert "auth_error" in done.stdout, done.stdout
    bulk = ask(emulator, "DELETE", "/api/v0/instances/", key=key, json={"instance_ids": [rented.id]})
    assert bulk.status_code == 403
    assert list(emulator.world.rentals()) == [rented.id]


def test_the_command_line_makes_shows_resets_and_deletes_keys(emulator: Emulator, tmp_path: Path) -> None:
    rented = emulator.world.create(7_100_001, create_request())
    (tmp_path / "reads.json").write_text(json.dumps(READS))
    with official_client(emulator.url, tmp_path) as client:

        def vastai(key: str, *words: str) -> str:
            return client(emulator.url, key, *words).text

        said = vastai(
            emulator.key, "create", "api-key", "--name", "r", "--permission_file", str(tmp_path / "reads.json")
        )
        assert "api-key created" in said
        (known,) = emulator.world.state.scoped_keys.values()
        assert known.secret in said
        assert f"'id': {known.id}" in vastai(emulator.key, "show", "api-keys")
        shown = vastai(emulator.key, "show", "api-key", str(known.id))
        assert "instance_read" in shown
        assert known.secret not in shown
        assert str(rented.id) in vastai(known.secret, "show", "instances")
        vastai(known.secret, "destroy", "instance", str(rented.id), "-y")
        vastai(known.secret, "destroy", "instances", str(rented.id), "-y")
        assert list(emulator.world.rentals()) == [rented.id]
        first = emulator.key
        assert "New api-key" in vastai(first, "reset", "api-key")
        assert "Invalid user key" in vastai(first, "show", "instances")
        assert "Successfully Deleted" in vastai(emulator.key, "delete", "api-key", str(known.id))
        assert "Invalid user key" in vastai(known.secret, "show", "instances")


def test_a_key_with_the_right_destroys_and_one_that_it_makes_can_do_no_more(emulator: Emulator) -> None:
    rented = emulator.world.create(7_100_001, create_request())
    makes_keys = made(emulator, {"api": {"user_write": {}, "user_read": {}, "instance_read": {}}})
    child = made(emulator, {"api": {}}, by=makes_keys)
    assert ask(emulator, "DELETE", f"/api/v0/instances/{rented.id}/", key=child, json={}).status_code == 403
    assert ask(emulator, "GET", f"/api/v0/instances/{rented.id}/", key=child).status_code == 200
    assert ask(emulator, "GET", "/api/v0/charges/", key=child).status_code == 403
    works = made(emulator, WORKS)
    assert sdk(emulator, works).destroy_instance(id=rented.id)["success"]
    assert not emulator.world.rentals()


def test_the_account_shows_a_key_only_itself(emulator: Emulator) -> None:
    key = made(emulator, READS)
    shown = ask(emulator, "GET", "/api/v0/users/current/", key=key).json()
    assert shown["api_key"] == key
    everything = "".join(
        ask(emulator, "GET", path, key=key).text for path in ("/api/v0/auth/apikeys/", "/api/v1/instances")
    )
    assert emulator.key not in everything
    assert key not in everything


@pytest.mark.parametrize(
    ("constraints", "other", "status"),
    [
        ({"eq": "its own"}, False, 200),
        ({"eq": "its own"}, True, 403),
        ({"gte": 1, "lte": 100}, False, 403),
        ({"gte": 24_000_000}, False, 200),
    ],
)
def test_constraints_narrow_an_endpoint(
    emulator: Emulator, constraints: dict[str, Any], other: bool, status: int
) -> None:
    first, second = (emulator.world.create(ask_id, create_request()).id for ask_id in (7_100_001, 7_100_002))
    limits = {operator: first if limit == "its own" else limit for operator, limit in constraints.items()}
    rights = {"api": {"instance_read": {"api.instance.request_logs": {"constraints": {"id": limits}}}}}
    key = made(emulator, rights)
    path = f"/api/v0/instances/request_logs/{second if other else first}/"
    assert ask(emulator, "PUT", path, key=key, json={}).status_code == status
    assert ask(emulator, "PUT", path, key=key, json={"id": first}).status_code == status
    assert ask(emulator, "GET", "/api/v1/instances/", key=key).status_code == 403


def test_an_id_beside_a_list_of_others_does_not_meet_a_constraint(emulator: Emulator) -> None:
    first, second = (emulator.world.create(ask_id, create_request()).id for ask_id in (7_100_001, 7_100_002))
    only = {"constraints": {"id": {"eq": first}}}
    key = made(emulator, {"api": {"instance_write": {"*": only}}})
    bulk = ask(emulator, "DELETE", "/api/v0/instances/", key=key, json={"id": first, "instance_ids": [second]})
    assert bulk.status_code == 403
    assert ask(emulator, "DELETE", f"/api/v0/instances/{second}/?id={first}", key=key, json={}).status_code == 403
    assert ask(emulator, "DELETE", f"/api/v0/instances/{first}/", key=key, json={"id": second}).status_code == 200
    assert list(emulator.world.rentals()) == [second]


def test_a_key_may_be_held_to_stopping_one_instance_and_nothing_else(emulator: Emulator) -> None:
    """What a box could be given: neither a destroy, nor a start, nor a look, nor another instance."""
    mine, other = (emulator.world.create(ask_id, create_request()).id for ask_id in (7_100_001, 7_100_002))
    only = {"constraints": {"id": {"eq": mine}, "state": {"eq": "stopped"}}}
    key = made(emulator, {"api": {"instance_write": {"api.instance.change": only}}})

    def asked(method: str, path: str, **more: Any) -> int:
        return ask(emulator, method, f"/api/v0{path}", key=key, **more).status_code

    refused = [
        asked("PUT", f"/instances/{mine}/", json={"state": "running"}),
        asked("PUT", f"/instances/{mine}/", json={"label": "x"}),
        asked("PUT", f"/instances/{other}/", json={"state": "stopped"}),
        asked("PUT", f"/instances/{other}/", json={"state": "stopped", "id": mine}),
        asked("PUT", "/instances/", json={"ids": [other], "state": "stopped", "id": mine}),
        asked("DELETE", f"/instances/{mine}/", json={}),
        asked("PUT", f"/instances/recycle/{mine}/", json={}),
        asked("GET", f"/instances/{mine}/"),
        asked("GET", "/users/current/"),
        asked("POST", "/auth/apikeys/", json={"name": "x", "permissions": {"api": {}}}),
    ]
    assert refused == [403] * len(refused)
    assert asked("PUT", f"/instances/{mine}/", json={"state": "stopped"}) == 200
    assert [emulator.world.rental(number).intended.value for number in (mine, other)] == ["stopped", "running"]


@pytest.mark.parametrize(
    ("permissions", "error"),
    [
        (None, "missing_permissions"),
        ({}, "invalid_permissions"),
        ({"read": True}, "invalid_permissions"),
        ({"api": {"instances_read": {}}}, "invalid_permissions"),
        ({"api": {"instance_read": True}}, "invalid_permissions"),
        ({"api": {"instance_read": {"x": {"constraints": {"id": {"neq": 1}}}}}}, "invalid_permissions"),
        ({"api": {}, "web": {}}, "invalid_permissions"),
        ("all", "invalid_permissions"),
    ],
)
def test_permissions_that_mean_nothing_make_no_key(emulator: Emulator, permissions: Any, error: str) -> None:
    body = {"name": "x", "permissions": permissions}
    answer = ask(emulator, "POST", "/api/v0/auth/apikeys/", json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert not emulator.world.state.scoped_keys


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_every_route_belongs_to_a_category_or_is_open_on_purpose(emulator: Emulator, method: str) -> None:
    """A key without any category is refused on all of them, before the request is looked at."""
    nothing = made(emulator, {"api": {"team_read": {}}})
    for route, path, _, category in ROUTES:
        if route != method or category is None:
            continue
        plain = path.replace(r"{id:\d+}", "1").replace(r"{key:\d+}", "1")
        answer = ask(emulator, method, plain, key=nothing, **({} if method == "GET" else {"json": {}}))
        assert (answer.status_code, answer.json()["error"]) == (403, "auth_error"), path
    assert {path for _, path, _, category in ROUTES if category is None} == {
        "/api/v0/gpu_names/unique",
        "/api/v0/gpu_types",
        "/results/{name}",
    }
    assert {category for *_, category in ROUTES if category} <= set(get_args(Category))


def test_keys_outlive_the_process(tmp_path: Path) -> None:
    with running(tmp_path, scenario=scenario(isolation="none")) as first:
        key = made(first, READS)
    with running(tmp_path, scenario=scenario(isolation="none")) as second:
        assert ask(second, "GET", "/api/v1/instances/", key=key).status_code == 200
        assert ask(second, "DELETE", "/api/v0/instances/1/", key=key, json={}).status_code == 403
