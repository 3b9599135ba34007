"""Command-line options and markers: all that a pytest run has of the plugin until it judges a stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.lifecycle import ORDER
from harness.plugin import newhooks
from harness.plugin.reminding import Reminding


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--stage``, ``--job``, ``--facts``, ``--verdicts``."""
    group = parser.getgroup("harness", "verification gates")
    group.addoption(
        "--stage",
        action="append",
        default=[],
        metavar="STAGE",
        help=f"judge this stage's checks: {', '.join(ORDER)}, a stage of your own, several with commas, or 'all'",
    )
    group.addoption("--job", metavar="NAME", help="the job to look at (default: the one that moved last)")
    group.addoption(
        "--facts",
        action="append",
        default=[],
        metavar="FILE",
        type=Path,
        help="judge these recorded facts again, offline, instead of looking at the world",
    )
    group.addoption("--verdicts", metavar="FILE", type=Path, help="write the gates' verdicts and evidence as JSON")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """``pytest_harness_look``."""
    pluginmanager.add_hookspecs(newhooks)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Markers always; check files are collected and facts taken only when a stage is judged."""
    config.addinivalue_line("markers", "stage(name): the stage that this check belongs to, if not its folder's name")
    config.addinivalue_line("markers", "remedy(text): what to do next when this check does not pass")
    config.addinivalue_line(
        "markers", "seed(document, rule): the operating rule that this check keeps, by its name there"
    )
    if config.option.showfixtures:
        from harness.plugin import fixtures  # noqa: PLC0415 - loads the engine, which other runs do without

        config.pluginmanager.register(fixtures, "harness-fixtures")
        return
    if not config.option.stage:
        config.pluginmanager.register(Reminding(), "harness-reminding")
        return
    from harness.plugin.judging import begin  # noqa: PLC0415 - see above

    begin(config)
