"""Faults of the HTTP API: they strike when and as often as said."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from harness.emulator.clock import TurnableClock
from harness.emulator.faults import FaultBook
from harness.emulator.running import Emulator, running
from harness.emulator.scenario import When
from tests.support.emulator_kit import OFFER, ask, scenario

Faulty = Callable[..., Any]


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Faulty]:
    with running(tmp_path / "s", scenario=scenario(isolation="none")) as emulator:

        def arm(**fault: Any) -> Emulator:
            emulator.world.faults.add(scenario(api=[fault]).api[0])
            return emulator

        yield arm


def test_a_condition_is_asked_while_others_count() -> None:
    """What answers it may wait for somebody who writes the counts down."""
    book = FaultBook(scenario(life=[{"do": "outbid"}]).life)
    counted: list[list[tuple[int, int]]] = []

    def holds(_: When) -> bool:
        other = threading.Thread(target=lambda: counted.append(book.counts()), daemon=True)
        other.start()
        other.join(120)
        return True

    assert book.life(frozenset({"outbid"}), holds) is not None
    assert counted == [[(0, 0)]]
    assert book.counts() == [(1, 1)]


def test_a_fault_that_struck_while_its_condition_was_asked_strikes_no_second_time() -> None:
    book = FaultBook(scenario(life=[{"do": "outbid"}]).life)
    within = []

    def holds(_: When) -> bool:
        within.append(book.life(frozenset({"outbid"}), lambda _: True))
        return True

    assert book.life(frozenset({"outbid"}), holds) is None
    assert within[0] is not None
    assert book.counts() == [(1, 1)]


def test_a_fault_that_was_disarmed_while_its_condition_was_asked_does_not_strike() -> None:
    book = FaultBook(scenario(life=[{"do": "outbid"}]).life)

    def holds(_: When) -> bool:
        book.clear()
        return True

    assert book.life(frozenset({"outbid"}), holds) is None


def test_replies_are_spoiled_as_often_as_said_and_not_more(faulty: Faulty) -> None:
    html = {"status": 503, "content_type": "text/html", "body": "<html>down</html>"}
    emulator = faulty(route="GET /api/v0/users/current", do="reply", after=1, times=2, **html)
    codes = [ask(emulator, "GET", "/api/v0/users/current/").status_code for _ in range(5)]
    assert codes == [200, 503, 503, 200, 200]


def test_a_dropped_create_has_happened_only_when_committed(faulty: Faulty) -> None:
    emulator = faulty(route="PUT /api/v0/asks/{id}", do="drop")
    body = {"image": "x", "disk": 20}
    with pytest.raises(requests.ConnectionError):
        ask(emulator, "PUT", f"/api/v0/asks/{OFFER}/", json=body)
    assert not emulator.world.rentals()
    faulty(route="PUT /api/v0/asks/{id}", do="drop", commit=True)
    with pytest.raises(requests.ConnectionError):
        ask(emulator, "PUT", f"/api/v0/asks/{OFFER}/", json=body)
    assert len(emulator.world.rentals()) == 1


def test_a_body_cut_in_the_middle_is_seen_by_the_client(faulty: Faulty) -> None:
    emulator = faulty(route="GET /api/v1/instances", do="truncate")
    with pytest.raises(requests.RequestException):
        ask(emulator, "GET", "/api/v1/instances/")


def test_a_hanging_answer(faulty: Faulty) -> None:
    emulator = faulty(route="GET /api/v1/instances", do="hang")
    with pytest.raises(requests.Timeout):
        requests.get(
            emulator.url + "/api/v1/instances/", headers={"Authorization": f"Bearer {emulator.key}"}, timeout=0.5
        )


def test_edited_answers(faulty: Faulty) -> None:
    emulator = faulty(route="GET /api/v1/instances", do="edit", set={"instances": {}}, unset=["next_token"])
    answer = ask(emulator, "GET", "/api/v1/instances/").json()
    assert answer["instances"] == {}
    assert "next_token" not in answer


def test_rate_limits_are_kept_by_the_clock(tmp_path: Path) -> None:
    with running(tmp_path / "s", clock=TurnableClock(speed=0), scenario=scenario(rate_limits=True)) as emulator:
        codes = []
        for seconds in (0.0, 0.5, 0.6, 0.0):
            emulator.clock.turn(seconds)
            answer = ask(emulator, "GET", "/api/v1/instances/")
            codes.append(answer.status_code)
        assert codes == [200, 429, 200, 429]
        assert not answer.headers["Content-Type"].startswith("application/json")


def test_lag_and_invisibility(tmp_path: Path) -> None:
    slow = scenario(pace={"hidden_s": 5.0, "destroy_lag_s": 7.0}, isolation="none")
    with running(tmp_path / "s", clock=TurnableClock(speed=0), scenario=slow) as emulator:
        made = ask(emulator, "PUT", f"/api/v0/asks/{OFFER}/", json={"image": "x", "disk": 20}).json()["new_contract"]
        assert total(emulator) == 0
        emulator.clock.turn(5)
        assert total(emulator) == 1
        assert ask(emulator, "DELETE", f"/api/v0/instances/{made}/", json={}).status_code == 200
        assert total(emulator) == 1
        assert ask(emulator, "DELETE", f"/api/v0/instances/{made}/", json={}).status_code == 404
        emulator.clock.turn(7)
        assert total(emulator) == 0


def total(emulator: Emulator) -> int:
    found = ask(emulator, "GET", "/api/v1/instances/").json()["total_instances"]
    assert isinstance(found, int)
    return found
