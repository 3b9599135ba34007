"""One case of the field: its values for a parametrized test, and where it was found."""

from __future__ import annotations

import pytest
from _pytest.mark import ParameterSet


def field_case(name: str, source: str, *values: object) -> ParameterSet:
    """Case of a table; ``source`` is a repository with its issue number, a public file, or "own" with the reason."""
    if not source.strip():
        raise ValueError(f"{name} has no source")
    return pytest.param(*values, id=name, marks=pytest.mark.field(source=source))
