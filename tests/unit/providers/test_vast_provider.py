from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.core.errors import AmbiguousCreate, BadInput, MissingExtra, OfferGone, ProviderUnavailable
from harness.core.ids import InstanceId, OfferId, VolumeId
from harness.core.ports import Bill, CreateRequest, DestroyReply, OfferQuery, Provider, Volume
from harness.providers.rate_limits import UNPACED, Lane, Pace, Patience
from harness.providers.vast.credentials import Credentials
from harness.providers.vast.provider import VastProvider
from tests.support.fake_clock import FakeClock
from tests.support.scripted_http import DROP, HANG, Answer, Said, Script, reply, serving
from tests.support.vast_rows import (
    AUTH_404,
    EMPTY,
    HTML_502,
    LIMITED,
    NOT_FOUND,
    RETIRED_410,
    USER,
    charge_row,
    charges,
    instance_row,
    offer_row,
    page,
    paged,
    user,
    volume_row,
)

KEY = "sesame-0123456789abcdef"
ID = InstanceId(7001)
ONE = "/api/v0/instances/7001"
LIST = "/api/v1/instances"
REQUEST = CreateRequest("pytorch/pytorch:2.1.0", 150.0, "gsh-demo-0a1b2c3d")
IMPATIENT = Patience(connect_s=2.0, reply_s=0.4, create_reply_s=0.4, log_s=5.0)

NOT_ANSWERS = {
    "auth error as 404": AUTH_404,
    "auth error in other words": reply({"success": False, "error": "auth_error", "msg": "no_such_instance"}, 404),
    "no key": reply({"success": False, "error": "auth_error", "msg": "This action requires login."}, 403),
    "not found elsewhere": Said(404, b"<html>not found</html>"),
    "retired": RETIRED_410,
    "limited": LIMITED,
    "limited in JSON": reply({"detail": "API requests too frequent endpoint threshold=1.0"}, 429),
    "gateway": HTML_502,
    "server error": reply({"success": False, "error": "internal"}, 500),
    "empty": EMPTY,
    "a list": reply([]),
    "null": reply(None),
    "a string": reply("ok"),
    "html": Said(200, b"<html>sign in</html>"),
    "another object": reply({"detail": "maintenance"}),
    "a failure that says 200": reply({"success": False, "error": "busy", "msg": "try later"}),
    "dropped": DROP,
    "cut": Said(200, b'{"success": true, "instances": null}', then="cut"),
}


@pytest.fixture
def script() -> Iterator[Script]:
    with serving() as served:
        yield served


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def vast(script: Script, clock: FakeClock) -> VastProvider:
    return VastProvider(Credentials(script.url, KEY), clock, pace=UNPACED, patience=IMPATIENT)


PENDING = "/api/v0/instances/pending-price-increases"
LOOKS: dict[str, tuple[str, Callable[[Provider], object]]] = {
    "account": ("GET /api/v0/users/current", lambda vast: vast.account()),
    "search": ("POST /api/v0/bundles", lambda vast: vast.search(OfferQuery(("H100",), 8, 150.0, 16.0))),
    "instance": (f"GET {ONE}", lambda vast: vast.instance(ID)),
    "instances": (f"GET {LIST}", lambda vast: vast.instances()),
    "host keys": ("PUT /api/v0/instances/request_logs/7001", lambda vast: vast.host_keys(ID)),
    "charges": ("GET /api/v0/charges", lambda vast: vast.charges(ID)),
    "bills": ("GET /api/v0/charges", lambda vast: vast.bills()),
    "volumes": ("GET /api/v0/volumes", lambda vast: vast.volumes()),
    "pending prices": (f"GET {PENDING}", lambda vast: vast.pending_prices(ID)),
    "start": (f"PUT {ONE}", lambda vast: vast.start(ID)),
    "stop": (f"PUT {ONE}", lambda vast: vast.stop(ID)),
    "destroy": (f"DELETE {ONE}", lambda vast: vast.destroy(ID)),
    "attach": ("POST /api/v0/instances/7001/ssh", lambda vast: vast.attach_key(ID, "ssh-ed25519 AAAA me")),
}


@pytest.mark.parametrize("wrong", NOT_ANSWERS)
@pytest.mark.parametrize("look", LOOKS)
def test_what_is_not_an_answer_is_never_taken_for_one(look: str, wrong: str, script: Script, vast: Provider) -> None:
    route, ask = LOOKS[look]
    script.on(route, NOT_ANSWERS[wrong])
    with pytest.raises(ProviderUnavailable) as caught:
        ask(vast)
    assert KEY not in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_hanging_provider_is_given_up(script: Script, vast: Provider) -> None:
    script.on("GET /api/v0/users/current", HANG)
    with pytest.raises(ProviderUnavailable, match=r"got no reply from 127\.0\.0\.1:\d+: timed out: "):
        vast.account()


def test_the_account_tells_the_servers_own_time(script: Script, vast: Provider) -> None:
    script.on("GET /api/v0/users/current", reply(user(), Date="Fri, 15 Jan 2027 08:00:00 GMT"))
    assert vast.account().at == 1_800_000_000.0


@pytest.mark.parametrize("odd", ["", "soon", "Fri, 99 Jan 2027 08:00:00 GMT"])
def test_a_time_that_does_not_read_is_none(odd: str, script: Script, vast: Provider) -> None:
    script.on("GET /api/v0/users/current", reply(user(), Date=odd))
    assert vast.account().at is None


def test_a_refused_key_is_said_to_be_from_where_it_is(script: Script, clock: FakeClock) -> None:
    known = Credentials(script.url, KEY, "VAST_API_KEY; another key lies in /home/me/.vast_api_key")
    vast = VastProvider(known, clock, pace=UNPACED, patience=IMPATIENT)
    script.on("GET /api/v0/users/current", AUTH_404)
    with pytest.raises(ProviderUnavailable) as raised:
        vast.account()
    assert "from VAST_API_KEY; another key lies in /home/me/.vast_api_key" in raised.value.remedy


TRICKLE = Said(200, json.dumps(user()).encode() + b" " * 10_000, then="trickle")


@pytest.mark.parametrize("look", LOOKS)
def test_a_reply_that_trickles_is_given_up_at_a_total_deadline(look: str, script: Script, clock: FakeClock) -> None:
    """No pause between two of its bytes is long enough for a timeout of the socket."""
    patience = Patience(connect_s=0.3, reply_s=0.4, create_reply_s=0.4, tries=2)
    vast = VastProvider(Credentials(script.url, KEY), clock, pace=UNPACED, patience=patience)
    route, ask = LOOKS[look]
    script.on(route, TRICKLE)
    began = SystemClock().monotonic()
    with pytest.raises(ProviderUnavailable, match=r"got no reply from .*: timed out: .* not complete after 0\.7 s"):
        ask(vast)
    assert SystemClock().monotonic() - began < 10


def test_a_create_whose_reply_trickles_may_have_rented(script: Script) -> None:
    script.on("PUT /api/v0/asks/501", Said(200, b" " * 10_000, then="trickle"))
    impatient = Patience(connect_s=0.2, reply_s=0.3, create_reply_s=0.3)
    vast = VastProvider(Credentials(script.url, KEY), FakeClock(), pace=UNPACED, patience=impatient)
    with pytest.raises(AmbiguousCreate, match=r"gsh-demo-0a1b2c3d may exist"):
        vast.create(OfferId(501), REQUEST)


def test_a_container_log_that_trickles_is_given_up(script: Script, clock: FakeClock) -> None:
    vast = VastProvider(
        Credentials(script.url, KEY), clock, pace=UNPACED, patience=Patience(reply_s=0.3, log_s=0.1, connect_s=2.0)
    )
    script.on("PUT /api/v0/instances/request_logs/7001", reply({"success": True, "result_url": script.url + "/log"}))
    script.on("GET /log", Said(200, b"x" * 10_000, then="trickle"))
    with pytest.raises(ProviderUnavailable, match="did not appear"):
        vast.host_keys(ID)


def test_the_account(script: Script, vast: Provider) -> None:
    script.on("GET /api/v0/users/current", reply(user()))
    assert (vast.account().user_id, vast.account().credit_usd) == (USER, 42.5)
    assert script.asked[0].headers["Authorization"] == f"Bearer {KEY}"


# --- trying again ---------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["limited", "gateway", "server error", "dropped", "limited in JSON"])
def test_a_read_is_tried_again_after_longer_and_longer_waits(
    wrong: str, script: Script, vast: Provider, clock: FakeClock
) -> None:
    bad = NOT_ANSWERS[wrong]
    script.on("GET /api/v0/users/current", bad, bad, bad, reply(user()))
    assert vast.account().user_id == USER
    assert clock.slept == [1.0, 2.0, 4.0]


def test_a_read_is_given_up_after_four_tries(script: Script, vast: Provider) -> None:
    script.on("GET /api/v0/users/current", HTML_502)
    with pytest.raises(ProviderUnavailable, match="answered 502"):
        vast.account()
    assert len(script.asked) == 4


def test_the_wait_that_the_provider_asks_for_is_granted(script: Script, vast: Provider, clock: FakeClock) -> None:
    script.on("GET /api/v0/users/current", reply({}, 429, Retry_After="30"), reply(user()))
    vast.account()
    assert clock.slept == [30.0]


def test_a_wait_that_is_too_long_is_not(script: Script, vast: Provider, clock: FakeClock) -> None:
    script.on("GET /api/v0/users/current", reply({"detail": "slow down"}, 429, Retry_After="3600"))
    with pytest.raises(ProviderUnavailable, match="429 slow down"):
        vast.account()
    assert clock.slept == []


def test_a_search_quota_that_is_used_up_is_not_asked_again(script: Script, vast: Provider) -> None:
    script.on("POST /api/v0/bundles", reply({"success": False, "error": "search_quota_exceeded"}, 429))
    with pytest.raises(ProviderUnavailable, match="search_quota_exceeded"):
        vast.search(OfferQuery(("H100",), 8, 150.0, 16.0))
    assert len(script.asked) == 1


@pytest.mark.parametrize("mutation", ["start", "stop", "destroy"])
@pytest.mark.parametrize("wrong", ["dropped", "limited", "gateway"])
def test_a_change_is_sent_once(mutation: str, wrong: str, script: Script, vast: Provider) -> None:
    route, change = LOOKS[mutation]
    script.on(route, NOT_ANSWERS[wrong], reply({"success": True}))
    with pytest.raises(ProviderUnavailable):
        change(vast)
    assert len(script.asked) == 1


# --- pace -----------------------------------------------------------------------------------------


def test_calls_of_one_kind_keep_their_distance(script: Script, clock: FakeClock) -> None:
    vast = VastProvider(Credentials(script.url, KEY), clock, patience=IMPATIENT)
    script.on(f"GET {ONE}", reply({"instances": None}))
    script.on("GET /api/v0/users/current", reply(user()))
    for _ in range(3):
        vast.instance(ID)
    assert clock.slept == [2.0, 2.0]
    vast.account()
    assert clock.slept == [2.0, 2.0]
    clock.turn(60.0)
    vast.instance(ID)
    assert clock.slept == [2.0, 2.0]


def test_the_distances_are_those_of_the_provider_and_can_be_changed() -> None:
    assert [Pace().interval(lane) for lane in (Lane.SHOW, Lane.LIST, Lane.MANAGE, Lane.DESTROY, Lane.CREATE)] == [
        2.0,
        1.0,
        1.0,
        3.0,
        4.5,
    ]
    assert Pace({Lane.SHOW: 0.5}).interval(Lane.SHOW) == 0.5


# --- create ---------------------------------------------------------------------------------------


def test_a_create_says_what_to_rent_and_is_cancelled_when_it_cannot_start(script: Script, vast: Provider) -> None:
    script.on("PUT /api/v0/asks/501", reply({"success": True, "new_contract": 7001, "instance_api_key": "inner"}))
    assert vast.create(OfferId(501), REQUEST) == ID
    body = script.asked[0].body
    assert (body["image"], body["disk"], body["label"]) == ("pytorch/pytorch:2.1.0", 150.0, "gsh-demo-0a1b2c3d")
    assert (body["env"], body["price"]) == ({}, None)
    assert "cat /etc/ssh/ssh_host_*_key.pub" in body["onstart"]
    assert len(body["onstart"]) <= 4096, "the provider takes no more"
    assert body["cancel_unavail"] is True
    assert body["runtype"] == "ssh_direc ssh_proxy"


AMBIGUOUS = [
    "gateway",
    "server error",
    "empty",
    "a list",
    "null",
    "html",
    "another object",
    "a failure that says 200",
    "dropped",
    "cut",
    "not found elsewhere",
]


@pytest.mark.parametrize("wrong", AMBIGUOUS)
def test_a_create_whose_reply_says_nothing_is_ambiguous_and_asked_once(
    wrong: str, script: Script, vast: Provider
) -> None:
    script.on("PUT /api/v0/asks/501", NOT_ANSWERS[wrong], reply({"success": True, "new_contract": 7002}))
    with pytest.raises(AmbiguousCreate, match="gsh-demo-0a1b2c3d"):
        vast.create(OfferId(501), REQUEST)
    assert len(script.asked) == 1


@pytest.mark.parametrize("contract", [None, 0, -1, True, "soon", [7001]])
def test_a_create_that_names_no_instance_is_ambiguous(contract: object, script: Script, vast: Provider) -> None:
    script.on("PUT /api/v0/asks/501", reply({"success": True, "new_contract": contract, "instance_api_key": "inner"}))
    with pytest.raises(AmbiguousCreate) as caught:
        vast.create(OfferId(501), REQUEST)
    assert "inner" not in str(caught.value)


def test_a_create_that_hangs_is_ambiguous(script: Script, vast: Provider) -> None:
    script.on("PUT /api/v0/asks/501", HANG)
    with pytest.raises(AmbiguousCreate):
        vast.create(OfferId(501), REQUEST)
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    "gone",
    [
        reply({"success": False, "error": "invalid_args", "msg": "error 404/3603: no_such_ask Instance type 5"}, 404),
        reply({"success": False, "error": "no_such_ask", "msg": "error 410/3907: no_such_ask no longer"}, 410),
        reply({"success": False, "error": "no_such_ask", "msg": "gone"}),
    ],
)
def test_an_offer_that_is_gone_is_not_a_failure_of_the_provider(gone: Said, script: Script, vast: Provider) -> None:
    script.on("PUT /api/v0/asks/501", gone)
    with pytest.raises(OfferGone):
        vast.create(OfferId(501), REQUEST)


@pytest.mark.parametrize("wrong", ["auth error as 404", "no key", "retired", "limited", "limited in JSON"])
def test_a_plain_no_means_that_nothing_was_rented(wrong: str, script: Script, vast: Provider) -> None:
    script.on("PUT /api/v0/asks/501", NOT_ANSWERS[wrong])
    with pytest.raises(ProviderUnavailable) as caught:
        vast.create(OfferId(501), REQUEST)
    assert not isinstance(caught.value, AmbiguousCreate | OfferGone)


def test_a_request_that_is_refused_as_such_is_the_users_to_correct(script: Script, vast: Provider) -> None:
    script.on("PUT /api/v0/asks/501", reply({"success": False, "error": "invalid_args", "msg": "bad image"}, 400))
    with pytest.raises(BadInput, match="bad image"):
        vast.create(OfferId(501), REQUEST)


@pytest.mark.parametrize(
    "request_",
    [
        CreateRequest("i", 150.0, "x" * 257),
        CreateRequest("i", 150.0, ""),
        CreateRequest("i", 7.9, "x"),
    ],
)
def test_what_the_provider_would_refuse_is_not_sent(request_: CreateRequest, script: Script, vast: Provider) -> None:
    with pytest.raises(BadInput):
        vast.create(OfferId(501), request_)
    assert script.asked == []


# --- one and all ----------------------------------------------------------------------------------


def test_an_instance_that_is_there(script: Script, vast: Provider) -> None:
    script.on(f"GET {ONE}", reply({"instances": instance_row()}))
    shown = vast.instance(ID)
    assert shown is not None
    assert shown.id == ID
    assert script.asked[0].query == {"owner": "me"}


@pytest.mark.parametrize("none", [reply({"instances": None}), reply({"instances": []}), NOT_FOUND])
def test_an_instance_that_the_provider_says_is_not_there(none: Said, script: Script, vast: Provider) -> None:
    script.on(f"GET {ONE}", none)
    assert vast.instance(ID) is None


@pytest.mark.parametrize(
    "odd",
    [
        reply({"instances": "none"}),
        reply({"instances": 0}),
        reply({"instances": [instance_row()]}),
        reply({"instances": instance_row(7002)}),
        reply({"success": True}),
        reply({"success": False, "instances": None}),
    ],
)
def test_an_odd_show_is_not_an_absence(odd: Said, script: Script, vast: Provider) -> None:
    script.on(f"GET {ONE}", odd)
    with pytest.raises(ProviderUnavailable):
        vast.instance(ID)


@pytest.mark.parametrize("count", [0, 1, 25, 26, 61])
def test_the_list_is_all_pages(count: int, script: Script, vast: Provider) -> None:
    script.on(f"GET {LIST}", paged([instance_row(8000 + number) for number in range(count)]))
    assert vast.instances().ids() == set(map(InstanceId, range(8000, 8000 + count)))


ROWS = [instance_row(8000 + number) for number in range(3)]


@pytest.mark.parametrize(
    "pages",
    [
        (page(ROWS, total=4),),
        (page(ROWS, total=2),),
        (page([], total=3),),
        (page(ROWS, total=6, token="t"), page(ROWS)),
        (page(ROWS, total=9, token="t"), page(ROWS, total=9, token="t")),
        (page(ROWS, total=6, token="t"), EMPTY),
        (page([*ROWS[:2], {"id": 9}]),),
        (page([*ROWS[:2], None]),),  # type: ignore[list-item]  # what a server may send
        (page([ROWS[0], ROWS[0]]),),
        (reply({"success": True, "instances": ROWS, "next_token": None}),),
        (reply({"success": True, "instances": {}, "instances_found": 0, "total_instances": 0}),),
        (reply({"success": True, "instances": ROWS, "instances_found": 2, "total_instances": 3}),),
        (reply({"instances": [], "instances_found": 0, "total_instances": 0}),),
    ],
)
def test_a_list_that_is_not_whole_is_no_list(pages: tuple[Answer, ...], script: Script, vast: Provider) -> None:
    script.on(f"GET {LIST}", *pages)
    with pytest.raises(ProviderUnavailable):
        vast.instances()


def test_a_list_that_goes_in_a_circle_is_noticed_at_once(script: Script, vast: Provider) -> None:
    script.on(f"GET {LIST}", page(ROWS, total=9, token="t"))
    with pytest.raises(ProviderUnavailable, match="the pages go round in a circle"):
        vast.instances()
    assert len(script.asked) == 2


def test_a_list_without_end_is_given_up(script: Script, vast: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.providers.vast.provider._MAX_PAGES", 5)
    script.on(f"GET {LIST}", lambda asked: page([], 0, token=f"{asked.query.get('after_token', '')}x"))
    with pytest.raises(ProviderUnavailable, match="more than 5 pages"):
        vast.instances()


def test_a_reply_without_end_is_not_believed(script: Script, vast: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.providers.wire.MAX_REPLY_BYTES", 1000)
    script.on("GET /api/v0/users/current", reply(user(padding="x" * 2000)))
    with pytest.raises(ProviderUnavailable, match="at most 1000 are read"):
        vast.account()


def test_without_the_client_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vastai.api.client", None)
    with pytest.raises(MissingExtra) as caught:
        VastProvider(Credentials("https://vast.example", KEY), FakeClock())
    assert caught.value.remedy == "pip install 'gold-standard-harness[vast]'"


def test_a_retired_list_is_not_an_empty_one(script: Script, vast: Provider) -> None:
    script.on(f"GET {LIST}", RETIRED_410)
    with pytest.raises(ProviderUnavailable, match="410 deprecated_endpoint"):
        vast.instances()


# --- destroy, stop, start -------------------------------------------------------------------------


def test_a_destroy_that_is_accepted(script: Script, vast: Provider) -> None:
    script.on(f"DELETE {ONE}", reply({"success": True, "msg": "destroyed"}))
    assert vast.destroy(ID) is DestroyReply.ACCEPTED
    assert script.asked[0].body == {}


@pytest.mark.parametrize(
    "body",
    [
        {"success": False, "error": "not_found", "msg": "Instance not found"},
        {"success": False, "error": "no_such_instance", "msg": "gone"},
        {"success": False, "error": "invalid_args", "msg": "error 404/3302: no_such_instance 7001"},
    ],
)
def test_a_destroy_of_what_is_not_there(body: dict[str, object], script: Script, vast: Provider) -> None:
    script.on(f"DELETE {ONE}", reply(body, 404))
    assert vast.destroy(ID) is DestroyReply.NO_SUCH_INSTANCE


@pytest.mark.parametrize(("verb", "state"), [("start", "running"), ("stop", "stopped")])
def test_starting_and_stopping(verb: str, state: str, script: Script, vast: Provider) -> None:
    script.on(f"PUT {ONE}", reply({"success": True}))
    getattr(vast, verb)(ID)
    assert script.asked[0].body == {"state": state}


# --- keys, logs, money ----------------------------------------------------------------------------


def test_a_key_is_attached_as_one_line(script: Script, vast: Provider) -> None:
    script.on("POST /api/v0/instances/7001/ssh", reply({"success": True, "msg": "attached"}))
    vast.attach_key(ID, "ssh-ed25519 AAAA me\n")
    assert script.asked[0].body == {"ssh_key": "ssh-ed25519 AAAA me"}


def test_a_key_that_is_there_already_is_fine(script: Script, vast: Provider) -> None:
    script.on("POST /api/v0/instances/7001/ssh", reply({"success": False, "error": "duplicate"}, 400))
    script.on(
        "GET /api/v0/instances/7001/ssh",
        reply({"success": True, "ssh_keys": '[{"id": 1, "public_key": "ssh-ed25519 AAAA other-comment"}]'}),
    )
    vast.attach_key(ID, "ssh-ed25519 AAAA me")
    assert [asked.method for asked in script.asked] == ["POST", "GET"]


@pytest.mark.parametrize("keys", ["[]", "not json", '{"id": 1}', "[3]", None, '[{"public_key": "ssh-ed25519 BBBB"}]'])
def test_a_key_that_was_refused_and_is_not_there_is_an_error(keys: object, script: Script, vast: Provider) -> None:
    script.on("POST /api/v0/instances/7001/ssh", reply({"success": False, "error": "no", "msg": "bad key"}, 400))
    script.on("GET /api/v0/instances/7001/ssh", reply({"success": True, "ssh_keys": keys}))
    with pytest.raises(ProviderUnavailable, match="bad key"):
        vast.attach_key(ID, "ssh-ed25519 AAAA me")


@pytest.mark.parametrize("key", ["", "ssh-ed25519", "ssh-ed25519 AAAA\nssh-rsa BBBB"])
def test_what_is_not_one_public_key_is_not_attached(key: str, script: Script, vast: Provider) -> None:
    with pytest.raises(BadInput):
        vast.attach_key(ID, key)
    assert script.asked == []


def test_a_log_is_fetched_when_it_appears_and_without_the_key(
    script: Script, vast: VastProvider, clock: FakeClock
) -> None:
    script.on(
        "PUT /api/v0/instances/request_logs/7001", reply({"success": True, "result_url": f"{script.url}/logs/x.log"})
    )
    script.on("GET /logs/x.log", Said(404), Said(404), Said(200, b"host key \xff\x1b[2J"))
    assert vast.container_log(ID) == "host key \N{REPLACEMENT CHARACTER}\x1b[2J"
    assert clock.slept == [0.5, 0.5]
    assert "Authorization" not in script.requests("GET /logs/x.log")[0].headers


def test_a_log_that_never_appears_was_not_read(script: Script, vast: VastProvider) -> None:
    script.on("PUT /api/v0/instances/request_logs/7001", reply({"success": True, "result_url": f"{script.url}/x"}))
    script.on("GET /x", Said(403))
    with pytest.raises(ProviderUnavailable, match="did not appear within 5 s \\(last answer: 403\\)"):
        vast.container_log(ID)


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "http://logs.example/x", 3])
def test_a_log_is_not_fetched_from_anywhere(url: object, script: Script, vast: VastProvider) -> None:
    script.on("PUT /api/v0/instances/request_logs/7001", reply({"success": True, "result_url": url}))
    with pytest.raises(ProviderUnavailable):
        vast.container_log(ID)


def test_a_log_whose_store_cannot_be_reached_was_not_read(script: Script, vast: VastProvider) -> None:
    script.on("PUT /api/v0/instances/request_logs/7001", reply({"success": True, "result_url": f"{script.url}/x"}))
    script.on("GET /x", DROP)
    with pytest.raises(
        ProviderUnavailable, match=r"did not appear within 5 s \(last answer: the connection was cut: .*\)"
    ):
        vast.container_log(ID)


def test_a_huge_log_is_cut(script: Script, vast: VastProvider) -> None:
    script.on("PUT /api/v0/instances/request_logs/7001", reply({"success": True, "result_url": f"{script.url}/x"}))
    script.on("GET /x", Said(200, b"x" * (5 << 20)))
    assert len(vast.container_log(ID)) == 4 << 20


def test_the_host_keys_are_those_that_the_container_printed(script: Script, vast: Provider) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"
    block = "-----BEGIN SSH HOST KEY KEYS-----\n{}\n-----END SSH HOST KEY KEYS-----\n"
    log = block.format(f"{key} root@box") + block.format(f"{key}New")
    script.on("PUT /api/v0/instances/request_logs/7001", reply({"success": True, "result_url": f"{script.url}/x"}))
    script.on("GET /x", Said(200, log.encode()))
    assert (vast.host_keys(ID), vast.host_keys(ID, newest=True)) == ((key,), (f"{key}New",))
    assert vast.host_key_source == "container log over the provider's TLS API"


def test_charges_are_those_of_the_instance_on_all_pages(script: Script, vast: Provider, clock: FakeClock) -> None:
    script.on(
        "GET /api/v0/charges",
        charges(charge_row(7001), charge_row(7002), total=3, token="t"),
        charges(charge_row(7001, gpu=2.0), total=3),
    )
    assert [charge.usd for charge in vast.charges(ID)] == [1.0, 0.1, 2.0, 0.1]
    assert script.asked[1].query["after_token"] == "t"
    assert f'"gte": {int(clock.now()) - 90 * 86400}' in script.asked[0].query["select_filters"]


def test_charges_of_which_a_page_is_missing_are_none(script: Script, vast: Provider) -> None:
    script.on("GET /api/v0/charges", charges(charge_row(7001), total=3))
    with pytest.raises(ProviderUnavailable, match="total is 3"):
        vast.charges(ID)


def test_bills_are_those_of_every_contract(script: Script, vast: Provider) -> None:
    volume = {**charge_row(9, gpu=0.0, disk=0.25), "type": "volume", "source": "volume-9", "metadata": {"label": "x"}}
    script.on("GET /api/v0/charges", charges(charge_row(7001), total=2, token="t"), charges(volume, total=2))
    first, second = vast.bills()
    assert first == Bill("instance", 7001, None, math.fsum((1.0, 0.1)), 1_800_000_000, 1_799_999_000)
    assert second == Bill("volume", 9, "x", 0.25, 1_800_000_000, 1_799_999_000)
    assert "type" not in json.loads(script.asked[0].query["select_filters"])


def test_bills_of_which_a_page_is_missing_are_none(script: Script, vast: Provider) -> None:
    script.on("GET /api/v0/charges", charges(charge_row(7001), total=2))
    with pytest.raises(ProviderUnavailable, match="total is 2"):
        vast.bills()


def test_volumes_of_both_kinds_are_asked_for(script: Script, vast: Provider) -> None:
    network = volume_row(9002, machine_id=None, label=None, storage_total_cost=None, instances=[{"id": 7001}, 7002])
    script.on("GET /api/v0/volumes", reply({"volumes": [volume_row(), network]}))
    assert vast.volumes() == (
        Volume(VolumeId(9001), "data", 12, 20.0, 0.0041),
        Volume(VolumeId(9002), None, 0, 20.0, None, (InstanceId(7001), InstanceId(7002))),
    )
    assert script.asked[0].query["type"] == "all_volume"


@pytest.mark.parametrize(
    "volumes",
    [
        None,
        {},
        [volume_row(), volume_row()],
        [volume_row(id=None)],
        [volume_row(disk_space="large")],
        [volume_row(instances="7001")],
        [volume_row(instances=[{}])],
        [volume_row(), "and more"],
    ],
)
def test_a_list_of_volumes_that_does_not_read_is_no_list(volumes: object, script: Script, vast: Provider) -> None:
    script.on("GET /api/v0/volumes", reply({"success": True, "volumes": volumes}))
    with pytest.raises(ProviderUnavailable):
        vast.volumes()


def increase(**fields: object) -> dict[str, object]:
    """A row as the official client's own documentation has it."""
    second = {"new_gpu_costpersec": 0.008, "new_disk_ram_costpersec": None, "old_gpu_costpersec": 0.004}
    ends = {"contract_end_date": 1_800_000_600.0, "ask_end_date": 1_800_900_000.0}
    return {"contract_id": 7001, **second, "old_disk_ram_costpersec": 0.00001, **ends, **fields}


def pending_rows(*found: object, **fields: object) -> Said:
    return reply({"success": True, "truncated": False, "pending_price_increases": list(found), **fields})


def test_a_pending_price_is_for_its_instance_by_the_hour(script: Script, vast: Provider) -> None:
    script.on(f"GET {PENDING}", pending_rows(increase(), increase(contract_id=7002)))
    (price,) = vast.pending_prices(ID)
    assert price.usd_per_hour == pytest.approx(28.836)
    assert (price.since, price.until) == (1_800_000_600.0, 1_800_900_000.0)


def test_a_price_of_which_no_time_is_told_has_none(script: Script, vast: Provider) -> None:
    script.on(f"GET {PENDING}", pending_rows(increase(contract_end_date=None, ask_end_date=None)))
    assert [(one.since, one.until) for one in vast.pending_prices(ID)] == [(None, None)]


@pytest.mark.parametrize(
    "said",
    [
        pending_rows(truncated=True),
        pending_rows(increase(contract_id=None)),
        pending_rows(increase(new_gpu_costpersec="dear")),
        pending_rows(increase(new_gpu_costpersec=None, old_gpu_costpersec=None)),
        pending_rows("and more"),
        reply({"success": True, "pending_price_increases": None}),
    ],
)
def test_a_list_of_prices_that_is_not_whole_is_no_list(said: Said, script: Script, vast: Provider) -> None:
    script.on(f"GET {PENDING}", said)
    with pytest.raises(ProviderUnavailable):
        vast.pending_prices(ID)


def test_a_search_finds_what_fits(script: Script, vast: Provider) -> None:
    script.on("POST /api/v0/bundles", reply({"offers": [offer_row(501), offer_row(502, num_gpus=1)]}))
    assert [offer.id for offer in vast.search(OfferQuery(("H100",), 8, 150.0, 16.0))] == [501]


# --- secrets and isolation ------------------------------------------------------------------------


def test_a_reply_that_repeats_the_key_does_not_put_it_in_the_error(script: Script, vast: Provider) -> None:
    script.on("GET /api/v0/users/current", reply({"error": "bad", "msg": f"key {KEY} is bad"}, 400))
    with pytest.raises(ProviderUnavailable, match="key \\(the API key\\) is bad"):
        vast.account()


def test_values_of_an_unexpected_reply_are_not_shown(script: Script, vast: Provider) -> None:
    script.on("GET /api/v0/users/current", reply({"jupyter_token": "inner-secret"}, 418))
    with pytest.raises(ProviderUnavailable) as caught:
        vast.account()
    assert "jupyter_token" in str(caught.value)
    assert "inner-secret" not in str(caught.value)


def test_a_revoked_key_says_so(script: Script, vast: Provider) -> None:
    script.on("GET /api/v0/users/current", AUTH_404)
    with pytest.raises(ProviderUnavailable, match="404 auth_error Invalid user key") as caught:
        vast.account()
    assert "API key" in caught.value.remedy


ISOLATED = """
import sys
calls = []
sys.addaudithook(lambda event, args: calls.append(event) if event in {"socket.connect", "socket.getaddrinfo"} else None)
import harness, harness.core.ports, harness.release.absence, harness.providers.vast.provider, harness.providers.emulated
heavy = {"vastai", "requests", "paramiko", "torch", "psutil"} & set(sys.modules)
assert not heavy, heavy
from harness.core.clock import SystemClock
from harness.providers.vast.credentials import Credentials
harness.providers.vast.provider.VastProvider(Credentials("https://vast.example", "k"), SystemClock())
assert "vastai" in sys.modules
assert not calls, calls
"""


def test_the_client_is_loaded_late_and_touches_neither_the_network_nor_the_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("VAST", "XDG"))}
    environ |= {"HOME": str(home), "USERPROFILE": str(home)}
    subprocess.run([sys.executable, "-c", ISOLATED], env=environ, check=True)
    assert list(home.rglob("*")) == []
