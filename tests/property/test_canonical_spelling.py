"""Where the ledger's canonical JSON and RFC 8785 spell a value alike, and where they do not."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from harness.core.canonical import canonical

_SAFE = 2**53 - 1
_ASCII = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
_ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def _json(texts: st.SearchStrategy[str], numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=12,
    )


@given(_json(_ASCII, st.integers(-_SAFE, _SAFE)))
def test_printable_ascii_and_safe_whole_numbers_are_spelled_alike(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(st.floats(1e-4, 1e15).filter(lambda number: not number.is_integer()))
def test_a_float_with_a_fraction_and_no_exponent_is_spelled_alike(number: float) -> None:
    assert canonical(number) == rfc8785.dumps(number)


@given(_json(_ANY_TEXT, st.integers(-_SAFE, _SAFE) | _FLOATS))
def test_who_reads_numbers_as_doubles_reads_the_same_value_from_both(value: Any) -> None:
    assert json.loads(canonical(value), parse_int=float) == json.loads(rfc8785.dumps(value), parse_int=float) == value


def test_python_reads_a_large_float_back_from_rfc_8785_as_another_number() -> None:
    """So what is stored to be read again is not spelled by it; what only a digest is taken of may be."""
    large = 4.271773146629398e16
    assert json.loads(rfc8785.dumps(large)) != large


@pytest.mark.parametrize(
    ("value", "ours", "theirs"),
    [
        (5.0, b"5.0", b"5"),
        (-0.0, b"-0.0", b"0"),
        (1e16, b"1e+16", b"10000000000000000"),
        (1e-5, b"1e-05", b"0.00001"),
        (1e-7, b"1e-07", b"1e-7"),
        (1e21, b"1e+21", b"1e+21"),
        ("€", b'"\\u20ac"', '"€"'.encode()),
        ("\x7f", b'"\\u007f"', b'"\x7f"'),
        ({"\U0001f600": 1, "\ufb33": 2}, b'{"\\ufb33":2,"\\ud83d\\ude00":1}', '{"\U0001f600":1,"\ufb33":2}'.encode()),
    ],
)
def test_these_are_spelled_differently(value: Any, ours: bytes, theirs: bytes) -> None:
    assert (canonical(value), rfc8785.dumps(value)) == (ours, theirs)


@pytest.mark.parametrize("value", [2**53, "\ud800", math.nan])
def test_rfc_8785_says_no_such_value(value: Any) -> None:
    with pytest.raises(rfc8785.CanonicalizationError):
        rfc8785.dumps(value)
