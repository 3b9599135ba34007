"""What an account holds under a label is found by one look, and is not there by several that agree."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.errors import NotProven, ProviderUnavailable
from harness.core.ids import InstanceId, VolumeId
from harness.core.ports import Account, Volume
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


def look(provider: FaultyProvider, market: Market, known: tuple[int, ...] = ()) -> Holdings:
    numbers = [InstanceId(number) for number in known]
    asked: dict[str, Any] = {"known": numbers, "agreements": 3, "window_s": 60, "deadline_s": 120}
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
