"""Whatever is sent to the service, it answers; nothing that a client says is an error of the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.emulator.running import Emulator, running
from harness.emulator.web.app import ROUTES
from tests.support.emulator_kit import scenario

NUMBERS = st.integers(-(2**70), 2**70) | st.floats() | st.integers(0, 30)
TEXTS = st.text(max_size=30) | st.sampled_from(
    [
        "\x00",
        "\ud800",
        "nan",
        "1e999",
        "/",
        "/..",
        "ls /\x00",
        "rm -rf /workspace/x",
        "C.1",
        "local",
        "ssh-ed25519 AAAA",
    ]
)
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(LEAVES, lambda of: st.lists(of, max_size=3) | st.dictionaries(TEXTS, of, max_size=3))
MEMBERS = st.sampled_from(
    [
        "image",
        "disk",
        "label",
        "onstart",
        "env",
        "runtype",
        "price",
        "args",
        "id",
        "ids",
        "instance_ids",
        "state",
        "ssh_key",
        "command",
        "tail",
        "filter",
        "q",
        "order",
        "limit",
        "type",
        "allocated_storage",
        "gpu_name",
        "num_gpus",
        "size",
        "name",
        "src_id",
        "dst_id",
        "src_path",
        "dst_path",
        "in",
        "eq",
        "daemon_logs",
        "permissions",
        "api",
        "instance_read",
        "key",
        "value",
        "image_tag",
        "hash_id",
        "template_hash_id",
        "template_id",
        "recommended_disk_space",
        "extra_filters",
        "pending_price_increase_id",
    ]
)
BODIES = st.dictionaries(MEMBERS, VALUES, max_size=5) | st.just(
    {"image": "x", "disk": 20, "env": {"A=B": "c", "D": "\x00"}, "onstart": "\ud800"}
)
QUERIES = st.dictionaries(
    st.sampled_from(["select_filters", "order_by", "select_cols", "limit", "after_token", "id", "api_key", "owner"]),
    VALUES.map(json.dumps) | TEXTS.filter(lambda text: text.isprintable()),
    max_size=3,
)


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with running(tmp_path / "s", scenario=scenario(isolation="none")) as found:
        yield found


@settings(max_examples=400)
@given(
    route=st.sampled_from(ROUTES),
    body=BODIES,
    query=QUERIES,
    number=st.sampled_from(["7100001", "24000001", "9" * 40]),
)
def ask_anything(
    emulator: Emulator, route: tuple[str, str, Any, Any], body: dict[str, Any], query: dict[str, str], number: str
) -> None:
    method, path, *_ = route
    for name in (r"{id:\d+}", r"{key:\d+}", "{name}"):
        path = path.replace(name, number)
    headers = {"Authorization": f"Bearer {emulator.key}", "Content-Type": "application/json"}
    data = json.dumps(body) if method != "GET" else None
    answer = requests.request(method, emulator.url + path, headers=headers, data=data, params=query, timeout=20)
    assert answer.status_code < 500, (answer.status_code, answer.text, method, path, body, query)
    assert answer.headers["Content-Type"] == "application/json"


def test_nothing_that_is_asked_is_the_servers_fault_and_its_keeper_is_at_work_after_all_that(
    emulator: Emulator,
) -> None:
    ask_anything(emulator)
    for rental_id in emulator.world.rentals():
        emulator.world.destroy(rental_id)
    emulator.settle()
    headers = {"Authorization": f"Bearer {emulator.key}"}
    body = {"image": "x", "disk": 20, "env": {"-p 80:80": "1"}, "onstart": "true"}
    ask = emulator.world.search({"rentable": {"eq": True}})[0]["id"]
    assert requests.put(f"{emulator.url}/api/v0/asks/{ask}/", json=body, headers=headers, timeout=10).status_code == 200
    emulator.settle()
