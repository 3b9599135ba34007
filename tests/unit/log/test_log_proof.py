"""A proof line is read back as it was written, and one that could not be is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.log import grammar
from harness.log.grammar import DataAnnounced
from harness.log.proof import LONGEST, ProofLine

READY = ProofLine("ROWS {sft}/{dpo} READY")
counts = st.integers(0, 10**12 - 1)
words = st.text(st.characters(exclude_characters="{}", exclude_categories=["C", "Z"]), max_size=20)


@given(words, words.filter(lambda between: not between.isdigit() and between), words, counts, counts)
def test_what_a_line_states_is_read_back(before: str, between: str, after: str, sft: int, dpo: int) -> None:
    proof = ProofLine(f"Rows{before}: {{sft}}{between}x{{dpo}}{after}")
    line = proof.stating({"sft": sft, "dpo": dpo})
    assert grammar.parse(grammar.lines(f"{line}\n".encode()), proof) == (DataAnnounced({"sft": sft, "dpo": dpo}),)
    assert re.search(grammar.matters(proof), line)
    assert line.startswith(proof.opening)


def test_the_counts_may_stand_in_any_order() -> None:
    proof = ProofLine("pairs: {dpo}, rows: {sft}")
    assert proof.stating({"sft": 3, "dpo": 2}) == "pairs: 2, rows: 3"
    assert grammar.parse(["pairs: 2, rows: 3"], proof) == (DataAnnounced({"sft": 3, "dpo": 2}),)


@pytest.mark.parametrize(
    ("text", "opening"),
    [
        ("V2 FOREX INTEGRATION: {sft} SFT + {dpo} DPO samples from YOUR data", "V2 FOREX INTEGRATION"),
        (READY.text, "ROWS"),
        ("a+b ({dpo}) {sft}", "a+b"),
    ],
)
def test_a_line_is_found_by_the_words_before_its_counts(text: str, opening: str) -> None:
    assert ProofLine(text).opening == opening


@pytest.mark.parametrize(
    "line", ["ROWS 1/2", "ROWS 1/2 READY!", " ROWS 1/2 READY", "ROWS -1/2 READY", "ROWS x/2 READY", "rows 1/2 READY"]
)
def test_what_is_not_word_for_word_is_not_the_line(line: str) -> None:
    assert grammar.parse([line], READY) == ()


def test_the_line_of_another_job_is_none() -> None:
    assert grammar.parse(["V2 FOREX INTEGRATION: 15300 SFT + 2550 DPO samples from YOUR data"], READY) == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ROWS ready", "name of each trainer"),
        ("ROWS {sft}/{dpo}/{dpo}", "in braces once"),
        ("ROWS {sft}/{dpo} of {All}", "no other brace"),
        ("ROWS {{sft}}/{dpo}", "no other brace"),
        ("ROWS {sft:d}/{dpo}", "no other brace"),
        ("ROWS\n{sft}/{dpo}", "one printable line"),
        ("ROWS \x1b[1m{sft}/{dpo}", "one printable line"),
        (" ROWS {sft}/{dpo}", "without blanks at its ends"),
        ("{sft}/{dpo} ROWS", "begins with words"),
        ("-- {sft}/{dpo} ROWS", "begins with words"),
        ("ROWS {sft}{dpo}", "apart"),
        ("ROWS {sft}0{dpo}", "apart"),
        ("ROWS {sft}/{dpo}" + " " * LONGEST + "READY", f"at most {LONGEST} characters"),
    ],
)
def test_a_line_that_could_not_be_read_back_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ProofLine(text)
