"""The built-in checks are a package ``checks``, and so may yours be: Python knows one of a name at a time."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType

import pytest

from harness.gates import plan


class Importing:
    """While a built-in check is imported or set up, ``checks`` is the built-in package; else it is whose it was."""

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Collecting a file imports it."""
        with _built_in() if _is_built_in(collector.path) else nullcontext():
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        """Setting up the first check of a package imports the package."""
        with _built_in() if _is_built_in(item.path) else nullcontext():
            return (yield)


def _is_built_in(path: Path) -> bool:
    return path.suffix == ".py" and path.is_relative_to(plan.FOLDER)


@contextmanager
def _built_in() -> Iterator[None]:
    theirs = _taken()
    sys.path.insert(0, str(plan.FOLDER.parent))
    try:
        yield
    finally:
        sys.path.remove(str(plan.FOLDER.parent))
        _taken()
        sys.modules.update(theirs)


def _taken() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] == plan.FOLDER.name]
    return {name: sys.modules.pop(name) for name in names}
