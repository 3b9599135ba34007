"""Where the ledger's canonical JSON and RFC 8785 spell a value alike, and where they do not."""

from __future__ import annotations

import json
import math
import struct
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


def test_the_library_spells_the_example_of_rfc_8785_as_the_rfc_does() -> None:
    """Its section 3.2.2."""
    told = json.loads(
        r"""{
            "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"""
    )
    spelled = r"""{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"""
    spelled += r""""string":"€$\u000f\nA'B\"\\\\\"/"}"""
    assert rfc8785.dumps(told) == spelled.encode()


def test_the_library_sorts_the_keys_of_rfc_8785_as_the_rfc_does() -> None:
    """Its section 3.2.3: by the code units of UTF-16."""
    keys = ["\r", "1", "\x80", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(rfc8785.dumps(dict.fromkeys(sorted(keys), 0)))) == keys


@pytest.mark.parametrize(
    ("bits", "spelled"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("ffefffffffffffff", "-1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555554", "333333333.33333325"),
        ("41b3de4355555555", "333333333.3333333"),
        ("41b3de4355555556", "333333333.3333334"),
        ("41b3de4355555557", "333333333.33333343"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_the_library_spells_the_numbers_of_rfc_8785_as_the_rfc_does(bits: str, spelled: str) -> None:
    """Its appendix B."""
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert rfc8785.dumps(number).decode() == spelled
