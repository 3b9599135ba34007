"""Whatever a service answers, the adapter believes it only when it is the documented shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.core.errors import AmbiguousCreate, BadInput, HarnessError, OfferGone, ProviderUnavailable
from harness.core.ids import InstanceId, OfferId
from harness.core.ports import CreateRequest, DestroyReply
from harness.providers.rate_limits import UNPACED, Patience
from harness.providers.vast.credentials import Credentials
from harness.providers.vast.provider import VastProvider
from tests.support.fake_clock import FakeClock
from tests.support.scripted_http import Said, Script, reply, serving
from tests.support.vast_rows import instance_row

SCALAR = st.none() | st.booleans() | st.integers(-5, 9000) | st.floats() | st.text(max_size=12)
ANY = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner), max_leaves=6
)
ERROR = st.sampled_from(["auth_error", "not_found", "no_such_instance", "no_such_ask", "busy"]) | ANY
ROWS = st.lists(st.just(instance_row(7001)) | st.just(instance_row(7002)) | ANY, max_size=3)
BODY = ANY | st.fixed_dictionaries(
    {},
    optional={
        "success": st.booleans() | ANY,
        "error": ERROR,
        "msg": ERROR,
        "instances": ROWS | st.just(instance_row(7001)) | ANY,
        "instances_found": st.integers(0, 3) | ANY,
        "total_instances": st.integers(0, 3) | ANY,
        "next_token": st.none() | ANY,
        "new_contract": st.integers(-1, 3) | ANY,
        "id": st.integers(0, 3) | ANY,
        "credit": SCALAR,
        "offers": ROWS | ANY,
        "results": ROWS | ANY,
    },
)
STATUS = st.sampled_from([200, 200, 200, 204, 302, 400, 401, 403, 404, 404, 410, 429, 500, 502])
UNHURRIED = settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],  # the server keeps no state
)
ID = InstanceId(7001)


@pytest.fixture
def script() -> Iterator[Script]:
    with serving() as served:
        yield served


@pytest.fixture
def vast(script: Script) -> VastProvider:
    patience = Patience(connect_s=5.0, reply_s=5.0, tries=1)
    return VastProvider(Credentials(script.url, "k"), FakeClock(), pace=UNPACED, patience=patience)


def answered(status: int, body: Any) -> Said:
    return reply(body, status, Location="/elsewhere") if status == 302 else reply(body, status)


@UNHURRIED
@given(STATUS, BODY)
def test_none_is_shown_only_when_none_was_said(script: Script, vast: VastProvider, status: int, body: Any) -> None:
    script.on("GET /api/v0/instances/7001", answered(status, body))
    try:
        shown = vast.instance(ID)
    except ProviderUnavailable:
        return
    assert isinstance(body, dict)
    if shown is not None:
        assert (status, body["instances"]["id"]) == (200, 7001)
    elif status == 200:
        assert body["instances"] in (None, [], {})
    else:
        said = f"{body.get('error')} {body.get('msg')}"
        assert (status, body.get("error") == "auth_error") == (404, False)
        assert "not_found" in said or "no_such_instance" in said


@UNHURRIED
@given(STATUS, BODY)
def test_a_list_is_whole_or_none(script: Script, vast: VastProvider, status: int, body: Any) -> None:
    script.on("GET /api/v1/instances", answered(status, body))
    try:
        listed = vast.instances().ids()
    except ProviderUnavailable:
        return
    assert (status, body["success"], body["total_instances"]) == (200, True, len(listed))
    assert listed == {row["id"] for row in body["instances"]}


@UNHURRIED
@given(STATUS, BODY)
def test_a_destroy_is_accepted_only_in_so_many_words(
    script: Script, vast: VastProvider, status: int, body: Any
) -> None:
    script.on("DELETE /api/v0/instances/7001", answered(status, body))
    try:
        said = vast.destroy(ID)
    except ProviderUnavailable:
        return
    assert (said, status) in {(DestroyReply.ACCEPTED, 200), (DestroyReply.NO_SUCH_INSTANCE, 404)}
    assert (body.get("success") is True) == (status == 200)


@UNHURRIED
@given(STATUS, BODY)
def test_a_create_names_an_instance_or_says_what_is_known(
    script: Script, vast: VastProvider, status: int, body: Any
) -> None:
    script.on("PUT /api/v0/asks/5", answered(status, body))
    try:
        rented = vast.create(OfferId(5), CreateRequest("i", 20.0, "gsh-x-1"))
    except (OfferGone, BadInput):
        assert isinstance(body, dict)
    except AmbiguousCreate:
        assert status < 400 or status >= 500 or not isinstance(body, dict)
    except ProviderUnavailable:
        assert status == 429 or (400 < status < 500 and isinstance(body, dict))
    else:
        assert (status, body["success"]) == (200, True)
        assert rented == InstanceId(int(body["new_contract"]))
        assert int(body["new_contract"]) > 0


@UNHURRIED
@given(STATUS, BODY)
@example(200, {"error": "no\nnext: harness destroy"})
def test_every_other_look_reads_or_raises_what_the_harness_understands(
    script: Script, vast: VastProvider, status: int, body: Any
) -> None:
    reads = ("GET /api/v0/users/current", "GET /api/v0/charges", "GET /api/v0/volumes")
    for route in (*reads, "POST /api/v0/instances/7001/ssh"):
        script.on(route, answered(status, body))
    script.on("GET /api/v0/instances/7001/ssh", answered(status, body))
    looks = (vast.account, lambda: vast.charges(ID), vast.bills, vast.volumes)
    for look in (*looks, lambda: vast.attach_key(ID, "ssh-ed25519 AAAA")):
        try:
            look()
        except HarnessError as error:
            problem = str(error)
        else:
            problem = ""
        assert problem.isprintable()
        assert problem == "" or len(problem) < 1000
