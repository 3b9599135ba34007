"""A word for who runs pytest over checks without saying which stage: nothing is collected then, and nothing judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.core.lifecycle import ORDER
from harness.plugin.declaring import PREFIX


class Reminding:
    """Registered when no stage is asked for."""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """A check that is run all the same has its fixtures, which say that nothing was looked at."""
        if any(item.path.name.startswith(PREFIX) for item in session.items):
            from harness.plugin import fixtures  # noqa: PLC0415 - loads the engine, which other runs do without

            session.config.pluginmanager.register(fixtures, "harness-fixtures")

    def pytest_report_collectionfinish(self, config: pytest.Config, items: Sequence[pytest.Item]) -> str | None:
        """Name the option that is missing when nothing was found where checks are."""
        if items or not any(_has_checks(config.invocation_params.dir / argument) for argument in config.args):
            return None
        return f"no stage is judged: add --stage=STAGE, one or several of {', '.join(ORDER)}, or all"


def _has_checks(place: Path) -> bool:
    if not place.is_dir():
        return place.name.startswith(PREFIX)
    return any(True for pattern in (f"{PREFIX}*.py", f"*/{PREFIX}*.py") for _ in place.glob(pattern))
