"""An instance is reported gone only when it is: every answer here came from a real service or an issue about one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import pytest

from harness.core.canonical import canonical
from harness.core.errors import NotProven, ProviderUnavailable
from harness.core.ids import InstanceId
from harness.core.ports import DestroyReply
from harness.providers.rate_limits import UNPACED, Patience
from harness.providers.vast.credentials import Credentials
from harness.providers.vast.provider import VastProvider
from harness.release.absence import billing_stopped, prove_absence
from tests.support.fake_clock import FakeClock
from tests.support.faulty_provider import FaultyProvider
from tests.support.scripted_http import DROP, Answer, Asked, Said, Script, reply, serving
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
    page,
    paged,
    user,
)

ID = InstanceId(7001)
OTHER = 6005
ME = "GET /api/v0/users/current"
ONE = "GET /api/v0/instances/7001"
CONTROL = f"GET /api/v0/instances/{OTHER}"
LIST = "GET /api/v1/instances"
BILL = "GET /api/v0/charges"
NONE = reply({"instances": None})
ALIVE = reply({"instances": instance_row(7001)})


@pytest.fixture
def script() -> Iterator[Script]:
    """A provider that has destroyed instance 7001 and still runs 6005."""
    with serving() as served:
        served.on(ME, reply(user()))
        served.on(ONE, NONE)
        served.on(CONTROL, reply({"instances": instance_row(OTHER)}))
        served.on(LIST, paged([instance_row(OTHER)]))
        yield served


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def vast(script: Script, clock: FakeClock) -> FaultyProvider:
    patience = Patience(connect_s=2.0, reply_s=0.4, tries=1)
    return FaultyProvider(VastProvider(Credentials(script.url, "k"), clock, pace=UNPACED, patience=patience))


def test_a_destroyed_instance_is_proven_gone_over_a_minute(vast: FaultyProvider, clock: FakeClock) -> None:
    began = clock.monotonic()
    proof = prove_absence(vast, ID, clock, deadline_s=600, owner=USER)
    assert clock.monotonic() - began == 60
    assert len(proof.looks) == 7
    assert proof.looks[-1].at - proof.looks[0].at == 60
    assert {(look.user_id, look.others, look.control) for look in proof.looks} == {(USER, 1, InstanceId(OTHER))}
    assert b'"instance_id":7001' in canonical(asdict(proof))


def test_an_account_without_other_instances_has_no_control_but_is_proven(
    script: Script, vast: FaultyProvider, clock: FakeClock
) -> None:
    script.on(LIST, page([]))
    proof = prove_absence(vast, ID, clock, deadline_s=600)
    assert {(look.others, look.control) for look in proof.looks} == {(0, None)}


@pytest.mark.parametrize("window", [0.0, 3.0])
def test_a_shorter_window_still_takes_three_looks(window: float, vast: FaultyProvider, clock: FakeClock) -> None:
    proof = prove_absence(vast, ID, clock, deadline_s=60, window_s=window)
    assert len(proof.looks) >= 3
    assert proof.looks[-1].at - proof.looks[0].at >= window


@pytest.mark.parametrize(
    ("route", "answer"),
    [
        pytest.param(ONE, ALIVE, id="a destroy that answered 200 but did nothing"),
        pytest.param(ONE, AUTH_404, id="a revoked key, as 404"),
        pytest.param(ME, AUTH_404, id="a revoked key, the account says"),
        pytest.param(LIST, AUTH_404, id="a revoked key, the list says"),
        pytest.param(LIST, RETIRED_410, id="a list that was retired"),
        pytest.param(ONE, RETIRED_410, id="a show that was retired"),
        pytest.param(ONE, EMPTY, id="an empty body"),
        pytest.param(LIST, EMPTY, id="an empty list body"),
        pytest.param(ONE, reply([]), id="a JSON array"),
        pytest.param(ONE, reply({}), id="an empty object"),
        pytest.param(ONE, HTML_502, id="a gateway error"),
        pytest.param(ONE, LIMITED, id="a rate limit in plain text"),
        pytest.param(ONE, DROP, id="a dropped connection"),
        pytest.param(ONE, Said(200, b'{"instances": null}', then="cut"), id="a reply cut in the middle"),
        pytest.param(LIST, page([instance_row(7001), instance_row(OTHER)]), id="a row that is listed still"),
        pytest.param(LIST, page([], total=1), id="a list that lacks rows"),
        pytest.param(LIST, page([instance_row(OTHER)], total=2, token="t"), id="a list that ends in a circle"),
        pytest.param(ME, reply(user(id=5)), id="another account's key"),
        pytest.param(CONTROL, NONE, id="a show that shows nobody"),
        pytest.param(CONTROL, NOT_FOUND, id="a show that finds nobody"),
    ],
)
def test_it_is_never_reported_gone_on(
    route: str, answer: Answer, script: Script, vast: FaultyProvider, clock: FakeClock
) -> None:
    script.on(route, answer)
    with pytest.raises(NotProven, match="instance 7001 is not proven to be gone after 300 s") as caught:
        prove_absence(vast, ID, clock, deadline_s=300, owner=USER)
    assert "no look failed" not in str(caught.value)


@pytest.mark.parametrize("reply_", list(DestroyReply))
def test_what_a_destroy_answered_proves_nothing(
    reply_: DestroyReply, script: Script, vast: FaultyProvider, clock: FakeClock
) -> None:
    script.on(ONE, ALIVE)
    script.on(LIST, paged([instance_row(7001), instance_row(OTHER)]))
    vast.break_("destroy", reply_)
    assert vast.destroy(ID) is reply_
    with pytest.raises(NotProven, match=r"seen: it is still shown \(running\)"):
        prove_absence(vast, ID, clock, deadline_s=300)


def test_a_row_that_lags_behind_delays_the_proof(script: Script, vast: FaultyProvider, clock: FakeClock) -> None:
    began = clock.monotonic()
    script.on(ONE, ALIVE, ALIVE, ALIVE, NONE)
    prove_absence(vast, ID, clock, deadline_s=600)
    assert clock.monotonic() - began == 90


def test_one_doubt_in_the_middle_starts_the_count_anew(script: Script, vast: FaultyProvider, clock: FakeClock) -> None:
    began = clock.monotonic()
    script.on(ONE, NONE, NONE, NONE, NONE, NONE, ALIVE, NONE)
    prove_absence(vast, ID, clock, deadline_s=600)
    assert clock.monotonic() - began == 120


def test_another_account_in_the_middle_is_a_doubt_even_when_no_owner_was_given(
    script: Script, vast: FaultyProvider, clock: FakeClock
) -> None:
    script.on(ME, reply(user()), reply(user(id=5)))
    with pytest.raises(NotProven, match="the API key belongs to user 5, the instance to user 424242"):
        prove_absence(vast, ID, clock, deadline_s=300)


def test_three_looks_at_once_are_not_enough(vast: FaultyProvider, clock: FakeClock) -> None:
    with pytest.raises(NotProven, match="6 of 3 looks agree"):
        prove_absence(vast, ID, clock, deadline_s=55)


def test_a_mistake_in_the_harness_is_not_a_doubt(vast: FaultyProvider, clock: FakeClock) -> None:
    vast.break_("instance", RuntimeError("a bug"))
    with pytest.raises(RuntimeError):
        prove_absence(vast, ID, clock, deadline_s=300)


# --- billing --------------------------------------------------------------------------------------


def growing(per_look: float) -> Answer:
    seen: list[Asked] = []

    def answer(asked: Asked) -> Said:
        seen.append(asked)
        return charges(charge_row(7001, gpu=1.0 + per_look * len(seen)))

    return answer


def test_charges_that_stand_still_are_the_cost(script: Script, vast: FaultyProvider, clock: FakeClock) -> None:
    script.on(BILL, charges(charge_row(7001, gpu=10.5, disk=0.25)))
    proof = billing_stopped(vast, ID, clock, deadline_s=600)
    assert proof.usd == 10.75
    assert proof.looks[-1].at - proof.looks[0].at >= 60
    assert b'"usd":10.75' in canonical(asdict(proof))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(growing(0.04), id="a GPU that bills"),
        pytest.param(growing(0.001), id="a disk that bills"),
        pytest.param(charges(), id="no bill yet"),
        pytest.param(charges(charge_row(7002)), id="only the bill of another"),
        pytest.param(charges(charge_row(7001), total=2), id="a bill of which a page is missing"),
        pytest.param(AUTH_404, id="a revoked key"),
    ],
)
def test_billing_has_not_stopped_on(answer: Answer, script: Script, vast: FaultyProvider, clock: FakeClock) -> None:
    script.on(BILL, answer)
    with pytest.raises(NotProven, match="instance 7001 may still bill after 300 s"):
        billing_stopped(vast, ID, clock, deadline_s=300)


def test_a_last_charge_delays_the_proof(script: Script, vast: FaultyProvider, clock: FakeClock) -> None:
    script.on(BILL, charges(charge_row(7001, gpu=1.0)), charges(charge_row(7001, gpu=1.2)))
    proof = billing_stopped(vast, ID, clock, deadline_s=600)
    assert proof.usd == pytest.approx(1.3)
    assert {round(look.usd, 3) for look in proof.looks} == {1.3}


def test_an_instance_that_never_ran_may_have_no_charge(script: Script, vast: FaultyProvider, clock: FakeClock) -> None:
    script.on(BILL, charges())
    assert billing_stopped(vast, ID, clock, deadline_s=600, expect_charges=False).usd == 0


def test_a_bill_that_cannot_be_read_in_the_middle_starts_the_count_anew(
    script: Script, vast: FaultyProvider, clock: FakeClock
) -> None:
    began = clock.monotonic()
    script.on(BILL, charges(charge_row(7001)))
    vast.break_("charges", ProviderUnavailable("no"), after=2)
    billing_stopped(vast, ID, clock, deadline_s=600)
    assert clock.monotonic() - began == 90
