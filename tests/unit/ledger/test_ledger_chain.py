from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.core.canonical import canonical, digest
from harness.core.ids import JobName
from harness.ledger.chain import EMPTY, GENESIS, Head, Record, head_of, is_sealed, problems, seal

JOB = JobName("forex")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
UNHURRIED = settings(suppress_health_check=[HealthCheck.too_slow])  # the first draw loads tables


def chain(length: int = 4) -> list[Record]:
    log: list[Record] = []
    for number in range(length):
        log.append(seal(head_of(log), JOB, 1000.0 + number, f"kind-{number}", {"n": number}))
    return log


def test_each_event_names_the_one_before() -> None:
    log = chain()
    assert [event.seq for event in log] == [1, 2, 3, 4]
    assert log[0].previous == GENESIS
    assert [event.previous for event in log[1:]] == [event.digest for event in log[:-1]]
    assert problems(log, head_of(log)) == ()


def test_the_digest_is_over_all_other_fields_in_canonical_form() -> None:
    event = seal(EMPTY, JOB, 5, "verified", {"b": 1, "a": [1.0, None, "é"]})
    spelled = (
        b'{"at":5.0,"data":{"a":[1.0,null,"\\u00e9"],"b":1},"job":"forex","kind":"verified",'
        b'"previous":"' + b"0" * 64 + b'","seq":1}'
    )
    rest: dict[str, Any] = {"seq": 1, "job": "forex", "at": 5.0, "kind": "verified", "previous": GENESIS}
    assert canonical({**rest, "data": dict(event.data)}) == spelled
    assert event.digest == digest({**rest, "data": dict(event.data)})


@UNHURRIED
@given(
    at=st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**40), 2**40),
    kind=st.text(max_size=9),
    data=st.dictionaries(st.text(max_size=5), JSON, max_size=3),
)
def test_what_stands_in_the_store_is_sealed_as_it_stands(at: float, kind: str, data: dict[str, Any]) -> None:
    event = seal(Head(7, "ab" * 32), JOB, at, kind, data)
    stored = canonical(data).decode()
    assert is_sealed(event)
    assert is_sealed(event, stored)
    other: dict[str, Any] = {
        "at": event.at + 1 + abs(event.at),
        "kind": kind + "x",
        "job": JobName("other"),
        "seq": 9,
        "previous": "",
    }
    assert not any(is_sealed(replace(event, **{name: value}), stored) for name, value in other.items())
    assert not is_sealed(event, canonical({**data, "more": 1}).decode())


def test_an_empty_log_is_whole() -> None:
    assert problems([], EMPTY) == ()
    assert head_of([]) == EMPTY


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"at": 1.0}, "event 2 (kind-1) was changed after it was written"),
        ({"kind": "destroyed"}, "event 2 (destroyed) was changed after it was written"),
        ({"data": {"n": 2}}, "event 2 (kind-1) was changed after it was written"),
        ({"data": {"n": 1.0}}, "event 2 (kind-1) was changed after it was written"),
        ({"job": "another"}, "event 2 (kind-1) was changed after it was written"),
        ({"data": {"n": float("nan")}}, "event 2 (kind-1) was changed after it was written"),
    ],
)
def test_a_changed_event_is_named(change: dict[str, Any], named: str) -> None:
    log = chain()
    assert problems([log[0], replace(log[1], **change), *log[2:]], head_of(log)) == (named,)


def test_an_event_that_was_changed_and_sealed_again_breaks_the_chain_behind_it() -> None:
    log = chain()
    forged = seal(Head(1, log[0].digest), JOB, 1.0, "kind-1", {"n": 99})
    found = problems([log[0], forged, *log[2:]], head_of(log))
    assert found == ("event 3 (kind-2) does not follow event 2: one of them was replaced",)


def test_a_missing_event_is_named() -> None:
    log = chain(6)
    assert problems([log[0], *log[2:]], head_of(log)) == ("event 2 missing",)
    assert problems([log[0], *log[4:]], head_of(log)) == ("events 2-4 missing",)
    assert problems(log[1:], head_of(log)) == ("event 1 missing",)
    assert problems(log[:4], head_of(log)) == ("events 5-6 missing: the log was cut off",)
    assert problems([], head_of(log)) == ("events 1-6 missing: the log was cut off",)


def test_an_added_event_is_named() -> None:
    log = chain()
    assert problems(log, head_of(log[:3])) == ("event 4 added behind the log's back",)


def test_a_log_that_ends_otherwise_than_its_head_says_is_named() -> None:
    log = chain()
    forged = [*log[:3], seal(head_of(log[:3]), JOB, 1.0, "another", {})]
    assert problems(forged, head_of(log)) == ("event 4 is not the one that the log's head names",)


@UNHURRIED
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.floats(0, 4e9), st.text(max_size=8))
def test_any_json_can_be_sealed(data: dict[str, Any], at: float, kind: str) -> None:
    event = seal(EMPTY, JOB, at, kind, data)
    assert problems([event], head_of([event])) == ()


@UNHURRIED
@given(JSON, JSON)
def test_different_values_have_different_spellings(one: Any, two: Any) -> None:
    assert (canonical(one) == canonical(two)) == (repr(_sorted(one)) == repr(_sorted(two)))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(inner) for inner in value] if isinstance(value, list) else value


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), {1: 2}, {"a": {None: 1}}, {"a": object()}, b"bytes", {"s": {1, 2}}, _deep(100)],
)
def test_what_json_cannot_say_has_no_digest(value: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        canonical(value)
