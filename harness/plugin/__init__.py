"""The pytest plugin: ``--stage``, ``--job``, ``--facts``; verdicts and evidence in place of bare outcomes.

Loaded by entry point where the harness is installed, and by the root conftest.py of this repository. A run
without ``--stage`` gets the options and markers alone.
"""

from harness.plugin.arguments import pytest_load_initial_conftests
from harness.plugin.options import pytest_addhooks, pytest_addoption, pytest_cmdline_main, pytest_configure

__all__ = [
    "pytest_addhooks",
    "pytest_addoption",
    "pytest_cmdline_main",
    "pytest_configure",
    "pytest_load_initial_conftests",
]
