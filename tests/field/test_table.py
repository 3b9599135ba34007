"""The table of field cases as a whole: large enough, and each case says where it was found."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

from _pytest.mark import ParameterSet

_HERE = Path(__file__).parent


def _sources() -> Iterator[str]:
    for file in sorted(_HERE.glob("test_*.py")):
        module = importlib.import_module(f"{__package__}.{file.stem}")
        for _, test in inspect.getmembers(module, lambda member: hasattr(member, "pytestmark")):
            for mark in test.pytestmark:
                if mark.name == "parametrize":
                    yield from _marked(mark.args[1])


def _marked(cases: object) -> Iterator[str]:
    assert isinstance(cases, list | tuple)
    for case in cases:
        if isinstance(case, ParameterSet):
            yield from (mark.kwargs["source"] for mark in case.marks if mark.name == "field")


def test_the_table_holds_at_least_150_cases() -> None:
    assert len(list(_sources())) >= 150
