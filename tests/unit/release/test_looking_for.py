"""What an account holds under a label is found by one look, and is not there by several that agree."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.errors import NotProven, ProviderUnavailable
from harness.core.ids import InstanceId, VolumeId
from harness.core.ports import Account, Listing, Volume
from harness.release.absence import Holdings, look_for
from tests.support.fake_clock import FakeClock
from tests.support.faulty_provider import FaultyProvider
from tests.support.scripted_world import Market

LABEL = "gsh-night-0a1b2c3d"


@pytest.fixture
def market() -> Market:
    return Market(FakeClock(1e9))


@pytest.fixture
def provider(market: Market) -> FaultyProvider:
    return FaultyProvider(market)


def look(provider: FaultyProvider, market: Market, known: tuple[int, ...] = (), **more: Any) -> Holdings:
    numbers = [InstanceId(number) for number in known]
    asked: dict[str, Any] = {"known": numbers, "agreements": 3, "window_s": 60, "deadline_s": 120, **more}
    return look_for(provider, market.clock, lambda label: label == LABEL, **asked)


def test_nothing_is_there_when_three_looks_over_a_minute_agree(market: Market, provider: FaultyProvider) -> None:
    market.add(5, "somebody's")
    assert look(provider, market) == Holdings()
    assert provider.count("instances") >= 3
    assert sum(market.clock.slept) >= 60


def test_what_comes_up_between_two_looks_is_found(market: Market, provider: FaultyProvider) -> None:
    provider.break_("instances", ProviderUnavailable("502"), times=1)
    market.add(5, LABEL)
    assert [one.id for one in look(provider, market).instances] == [InstanceId(5)]
    assert sum(market.clock.slept) < 60


@pytest.mark.parametrize(
    ("label", "known", "found"),
    [(LABEL, (), [5]), (LABEL, (5,), [5]), ("renamed", (5,), [5]), ("renamed", (), []), (None, (6,), [])],
)
def test_an_instance_is_found_by_its_label_and_by_its_number(
    market: Market, provider: FaultyProvider, label: str | None, known: tuple[int, ...], found: list[int]
) -> None:
    market.add(5, label)
    assert [one.id for one in look(provider, market, known).instances] == list(map(InstanceId, found))


@pytest.mark.parametrize(("label", "found"), [(LABEL, 1), ("other", 0), (None, 0)])
def test_a_volume_with_the_label_is_found(
    market: Market, provider: FaultyProvider, label: str | None, found: int
) -> None:
    market.stored.append(Volume(VolumeId(3), label, 12, 20.0, 0.004, ()))
    assert len(look(provider, market).volumes) == found


def test_looks_that_fail_prove_nothing(market: Market, provider: FaultyProvider) -> None:
    provider.break_("volumes", ProviderUnavailable("502"), times=0)
    with pytest.raises(NotProven, match="it is not proven that nothing was rented after 120 s: 0 of 3"):
        look(provider, market)


class TwoKeys(Market):
    """The key is one user's, then another's."""

    def account(self) -> Account:
        self.user = 15 - self.user
        return Market.account(self)


def test_a_key_of_another_account_in_the_middle_proves_nothing() -> None:
    market = TwoKeys(FakeClock(1e9))
    with pytest.raises(NotProven, match=r"the API key was user \d's, and is user \d's now"):
        look(FaultyProvider(market), market)


def test_a_list_that_lacks_what_is_believed_alive_and_shows_proves_nothing(
    market: Market, provider: FaultyProvider
) -> None:
    """Another job's instance is its control; of many, a few are asked for: services limit how often one may ask."""
    market.add(6, "another's")
    assert look(provider, market, alive=[InstanceId(6), InstanceId(9)]) == Holdings()
    provider.break_("instances", Listing(()), times=0)
    with pytest.raises(NotProven, match="instance 6 shows and is not listed: the list is not whole"):
        look(provider, market, alive=[InstanceId(9), InstanceId(6)])
    gone = [InstanceId(number) for number in range(100, 120)]
    before = provider.count("instance")
    assert look(provider, market, alive=gone) == Holdings()
    assert provider.count("instance") - before == 5 * 7


def test_what_may_be_wanted_is_a_doubt_whatever_it_is(market: Market, provider: FaultyProvider) -> None:
    market.add(6, "renamed")
    market.stored.append(Volume(VolumeId(3), None, 12, 20.0, 0.004, ()))
    with pytest.raises(NotProven, match=r"seen: may be 6; may be 3\)?$"):
        look(provider, market, doubt=lambda one: f"may be {one.id}")
    assert look(provider, market) == Holdings()


def test_an_empty_list_is_held_against_what_was_billed(market: Market, provider: FaultyProvider) -> None:
    market.add(6, "renamed")
    billed = [InstanceId(6)]
    assert look(provider, market, billed=lambda: billed) == Holdings(), "a list that has something needs no control"
    provider.break_("instances", Listing(()), times=0)
    assert [one.id for one in look(provider, market, billed=lambda: billed).instances] == billed


@pytest.mark.parametrize("agreements", [1, 2, 4])
def test_as_many_looks_agree_as_were_asked_for(agreements: int, market: Market, provider: FaultyProvider) -> None:
    assert look(provider, market, agreements=agreements, window_s=0) == Holdings()
    assert provider.count("instances") == agreements


def test_fewer_than_one_look_proves_nothing(market: Market, provider: FaultyProvider) -> None:
    with pytest.raises(ValueError, match="at least one look"):
        look(provider, market, agreements=0)
    assert provider.calls == []


def test_each_doubt_is_told_once_and_the_last_few_of_them(market: Market, provider: FaultyProvider) -> None:
    for said in ("1", "2", "2", "2", "3", "4", "5", "6"):
        provider.break_("volumes", ProviderUnavailable(said))
    provider.break_("volumes", ProviderUnavailable("7"), times=0)
    with pytest.raises(NotProven, match=r"at the end; seen: 3; 4; 5; 6; 7$"):
        look(provider, market)
    provider.faults.clear()
    provider.break_("volumes", ProviderUnavailable("1"))
    provider.break_("volumes", ProviderUnavailable("2"), times=0)
    with pytest.raises(NotProven, match=r"at the end; seen: 1; 2$"):
        look(provider, market)


def test_a_deadline_that_the_last_look_just_meets_is_met(market: Market, provider: FaultyProvider) -> None:
    assert look(provider, market, deadline_s=60) == Holdings()
    with pytest.raises(NotProven, match="after 59 s: 6 of 3 looks agree"):
        look(provider, market, deadline_s=59)
