"""The pytest plugin: ``--stage``, ``--job``, ``--facts``; verdicts and evidence in place of bare outcomes.

Loaded by entry point where the harness is installed, and by the root conftest.py of this repository.
"""

from harness.plugin.fixtures import STAGE_FIXTURES, evidence, facts, job
from harness.plugin.options import pytest_addhooks, pytest_addoption, pytest_configure

__all__ = ["evidence", "facts", "job", "pytest_addhooks", "pytest_addoption", "pytest_configure"]

globals().update(STAGE_FIXTURES)
