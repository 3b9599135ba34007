"""The guard of stops: what it stops is what was listed, and nothing else in the engine asks a provider for a stop."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest

from harness.core.errors import ProviderUnavailable
from harness.core.ids import InstanceId
from harness.core.ports import InstanceStatus
from harness.guard.stop import ask, stands, stop_listed
from tests.support.fake_clock import FakeClock
from tests.support.faulty_provider import FaultyProvider
from tests.support.scripted_world import Market

ROOT = Path(__file__).resolve().parents[3]
IT = InstanceId(7)


@pytest.fixture
def market() -> Market:
    made = Market(FakeClock())
    made.add(7, "gsh-night-0a1b2c3d")
    return made


def test_it_is_stopped_and_seen_to_stand_still(market: Market) -> None:
    assert stop_listed(market, market.rented[IT], market.clock) is None
    assert market.rented[IT].status is InstanceStatus.STOPPED


def test_an_instance_with_another_label_is_another(market: Market) -> None:
    listed, provider = market.rented[IT], FaultyProvider(market)
    market.change(IT, label="somebody else's")
    assert "nothing was asked" in (stop_listed(provider, listed, market.clock) or "")
    market.rented.clear()
    assert "nothing was asked" in (stop_listed(provider, listed, market.clock) or "")
    assert provider.count("stop") == 0


def test_a_stop_that_takes_no_effect_is_not_called_one(market: Market) -> None:
    market.change(IT, status=InstanceStatus.OFFLINE)
    provider = FaultyProvider(market)
    provider.break_("stop", None, times=0)
    market.change(IT, status=InstanceStatus.RUNNING)
    assert stop_listed(provider, market.rented[IT], market.clock) == "it is running"


def test_an_instance_that_shows_no_more_was_not_seen_to_stand_still(market: Market) -> None:
    listed, provider = market.rented[IT], FaultyProvider(market)
    provider.break_("instance", None, after=1, times=0)
    assert stop_listed(provider, listed, market.clock) == "it shows no more"


def test_a_refusal_is_told_and_an_offline_host_that_refused_may_come_back(market: Market) -> None:
    provider = FaultyProvider(market)
    provider.break_("stop", ProviderUnavailable("403 auth_error"), times=0)
    market.change(IT, status=InstanceStatus.OFFLINE)
    assert stop_listed(provider, market.rented[IT], market.clock) == "403 auth_error"


def test_what_cannot_be_looked_at_says_why_and_is_asked_nothing(market: Market) -> None:
    provider = FaultyProvider(market)
    provider.break_("instance", ProviderUnavailable("502 \x1b[2JBad Gateway"))
    assert stop_listed(provider, market.rented[IT], market.clock) == "502 Bad Gateway"
    assert provider.count("stop") == 0


def test_a_stop_that_takes_a_while_is_waited_for_a_while(market: Market) -> None:
    provider = FaultyProvider(market)
    provider.break_("instance", market.rented[IT], after=1, times=3)
    assert stop_listed(provider, market.rented[IT], market.clock) is None
    assert (provider.count("stop"), len(market.clock.slept)) == (1, 3)
    assert min(market.clock.slept) >= 1.0
    provider.break_("instance", dataclasses.replace(market.rented[IT], status=InstanceStatus.RUNNING), times=0)
    assert stop_listed(provider, market.rented[IT], market.clock) == "it is running"
    assert len(market.clock.slept) < 20, "it ends"


REFUSED = "403 auth_error"


@pytest.mark.parametrize("status", InstanceStatus)
def test_only_what_bills_no_gpu_stands(status: InstanceStatus) -> None:
    """An instance that is offline or has exited comes back where no stop was accepted."""
    unbilled = {InstanceStatus.STOPPED, InstanceStatus.EXITED, InstanceStatus.OFFLINE}
    assert stands(status, None) is (status in unbilled)
    assert stands(status, REFUSED) is (status is InstanceStatus.STOPPED)


def test_an_accepted_stop_has_no_reason_against_it(market: Market) -> None:
    provider = FaultyProvider(market)
    provider.break_("stop", ProviderUnavailable(REFUSED))
    assert ask(provider, IT) == REFUSED
    assert ask(provider, IT) is None


def _callers(folder: str) -> set[str]:
    """Files that call ``stop`` on something that is called a provider."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "stop" and "provider" in ast.unparse(node.value)
    }


def test_the_guard_is_the_only_one_that_asks_for_a_stop() -> None:
    assert _callers("harness") == {"harness/guard/stop.py", "harness/conformance/trials.py"}
