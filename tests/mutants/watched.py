"""Pytest plugin of the mutants: which tests run through which line, and a run of chosen tests in a chosen order.

``MUTANTS_WATCHED`` names the folder in which a run leaves what it saw, one file a process. ``MUTANTS_CHOSEN`` names a
file with the ids of the only tests that are run, the first first.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

WATCHED, CHOSEN = "MUTANTS_WATCHED", "MUTANTS_CHOSEN"


class Watch:
    """Notes the lines of each test; those of a fixture that tests share go to each test that asks for it."""

    def __init__(self, folder: Path, root: Path) -> None:
        import coverage

        self._folder, self._root = folder, root
        self._coverage = coverage.Coverage(
            data_file=None, config_file=False, include=[f"{root}/harness/*", f"{root}/checks/*"]
        )
        self._now = [""]
        self._seconds: dict[str, float] = defaultdict(float)
        self._sharing: dict[str, list[str]] = {}
        self._failed: set[str] = set()
        self._coverage.start()

    def _enter(self, context: str) -> None:
        self._now.append(context)
        self._coverage.switch_context(context)

    def _leave(self) -> None:
        self._now.pop()
        self._coverage.switch_context(self._now[-1])

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Everything of a test, its own fixtures included."""
        known = getattr(item, "_fixtureinfo", None)
        found = (each[-1] for each in known.name2fixturedefs.values()) if known else ()
        self._sharing[item.nodeid] = [_name(fixture) for fixture in found if fixture.scope != "function"]
        self._enter(item.nodeid)
        try:
            return (yield)
        finally:
            self._leave()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        """A fixture that tests share."""
        if fixturedef.scope == "function":
            return (yield)
        self._enter(_name(fixturedef))
        try:
            return (yield)
        finally:
            self._leave()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """How long each takes; one that fails judges nothing."""
        self._seconds[report.nodeid] += report.duration
        if not report.passed:
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Leave what was seen."""
        self._coverage.stop()
        data = self._coverage.get_data()
        lines: dict[str, dict[str, list[int]]] = {}
        for file in sorted(data.measured_files()):
            seen = lines[Path(file).relative_to(self._root).as_posix()] = defaultdict(list)
            for line, contexts in data.contexts_by_lineno(file).items():
                for context in filter(None, contexts):
                    seen[context].append(line)
        tests = {
            test: (self._seconds[test], shared) for test, shared in self._sharing.items() if test not in self._failed
        }
        text = json.dumps({"tests": tests, "lines": lines})
        (self._folder / f"{os.getpid()}.json").write_text(text, "utf-8")


def _name(fixture: Any) -> str:
    return f"fixture {fixture.baseid} {fixture.argname}"


class Choice:
    """Runs the chosen tests alone, in their order."""

    def __init__(self, chosen: list[str]) -> None:
        self._rank = {test: rank for rank, test in enumerate(chosen)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave the others out without a word."""
        items[:] = sorted((one for one in items if one.nodeid in self._rank), key=lambda one: self._rank[one.nodeid])


def pytest_configure(config: pytest.Config) -> None:
    """What is asked for; in a run on several processes only those that run tests watch."""
    if (folder := os.environ.get(WATCHED)) and (
        os.environ.get("PYTEST_XDIST_WORKER") or not config.option.numprocesses
    ):
        config.pluginmanager.register(Watch(Path(folder), config.rootpath))
    if chosen := os.environ.get(CHOSEN):
        config.pluginmanager.register(Choice(json.loads(Path(chosen).read_text("utf-8"))))
