"""Hooks that the plugin adds to pytest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.job.model import Job


@pytest.hookspec(firstresult=True)
def pytest_harness_look(stage: str, job: Job) -> Mapping[str, Any] | None:
    """Take the facts of a stage that you added: look at the world once, return JSON-able facts.

    The built-in stages are looked at by the harness itself. The first answer that is not None
    counts; checks read it through the ``facts`` fixture.
    """
