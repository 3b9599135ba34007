"""Built-in checks are imported as ``harness.checks``, whatever else is named ``checks`` where pytest runs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from harness.gates import plan


class Importing:
    """Collects the built-in folder under its own name; pytest would take a clone's for a package ``checks``."""

    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Dir | None:
        """Folder and stages are plain directories: pytest would import a package by the name of its folder."""
        return pytest.Dir.from_parent(parent, path=path) if path.is_relative_to(plan.FOLDER) else None

    def pytest_pycollect_makemodule(self, module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
        """A file of the folder is a module of ``harness.checks``."""
        return _BuiltIn.from_parent(parent, path=module_path) if module_path.is_relative_to(plan.FOLDER) else None


class _BuiltIn(pytest.Module):
    def _getobj(self) -> object:
        return import_module(".".join(("harness.checks", *self.path.relative_to(plan.FOLDER).with_suffix("").parts)))
