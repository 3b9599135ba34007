"""Ids of instances, numbers and texts: as they are typed, as they are kept."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.ids import InstanceId, JobName, instance_id, number_of, plain
from harness.ledger.chain import Record
from harness.ledger.codec import decode, encode
from harness.ledger.events import InstanceStopped


@pytest.mark.parametrize(
    ("text", "read"),
    [("4711", 4711), ("7h9k2m4n6p", "7h9k2m4n6p"), ("0123", "0123"), ("vol_x-1", "vol_x-1"), ("9" * 15, 10**15 - 1)],
)
def test_an_id_reads_back_as_it_is_written(text: str, read: int | str) -> None:
    known = instance_id(text)
    assert (str(known), plain(known)) == (text, read)
    assert instance_id(str(known)) == known


def test_a_number_too_long_for_json_stays_a_text() -> None:
    assert instance_id("9" * 16) == InstanceId("9" * 16)


@pytest.mark.parametrize("text", ["", "0", "00", "-5", "a b", "../x", "a/b", "x" * 129, "é", "_x", "a\n"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an instance's id"):
        instance_id(text)


@pytest.mark.parametrize("known", [4711, "7h9k2m4n6p"])
def test_the_log_keeps_both(known: int | str) -> None:
    kind, data = encode(InstanceStopped(InstanceId(known), "x"))
    record = Record(1, JobName("x"), 0.0, kind, data, "", "")
    assert decode(record) == InstanceStopped(InstanceId(known), "x")
    assert type(data["instance_id"]) is type(known)


@pytest.mark.parametrize("odd", [None, 1.5, True, [1], {"id": 1}])
def test_the_log_keeps_nothing_else(odd: Any) -> None:
    kind, data = encode(InstanceStopped(InstanceId(1), "x"))
    record = Record(1, JobName("x"), 0.0, kind, {**data, "instance_id": odd}, "", "")
    with pytest.raises(ValueError, match="instance_id"):
        decode(record)


def test_numbers_of_texts_differ_and_fit_into_json() -> None:
    found = {number_of(f"user_{at}") for at in range(1000)}
    assert len(found) == 1000
    assert all(0 < one < 2**53 for one in found)
