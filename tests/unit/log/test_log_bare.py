"""Logs of trainers that announce nothing: what is a record of a step, and what only looks like one."""

from __future__ import annotations

import pytest

from harness.log import bare

STEP = '{"loss": "1.5", "learning_rate": "2e-05", "epoch": "0.1"}'


@pytest.mark.parametrize(
    "line",
    [
        STEP[:-1],
        '{"a":' + "[" * 3000,
        '{"loss": "none yet"}',
        '{"loss": "1.5", "text": "' + "3 pips " * 60 + '"}',
    ],
    ids=["cut", "nested too deep", "no number", "a row of data"],
)
def test_a_line_that_only_looks_like_a_record_tells_of_no_step(line: str) -> None:
    assert bare.tells_of_steps([line, STEP])
    assert not bare.tells_of_steps([line])
