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
    group.addoption("--job", metavar="NAME", help="the job to look at (default: the only one there is)")
    group.addoption(
        "--facts",
        action="append",
        default=[],
        metavar="FILE",
        type=Path,
        help="judge these recorded facts again, offline, instead of looking at the world",
    )
    group.addoption(
        "--bundle", metavar="FILE", type=Path, help="judge the job in this file, as harness export wrote it elsewhere"
    )
    group.addoption(
        "--artifact",
        metavar="PATH",
        type=Path,
        help="with --bundle: the job's file, or folder, on this machine, which stage postdownload then looks at",
    )
    group.addoption("--verdicts", metavar="FILE", type=Path, help="write the gates' verdicts and evidence as JSON")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """``pytest_harness_look``."""
    pluginmanager.add_hookspecs(newhooks)


LISTING = {
    "help": "--help",
    "version": "--version",
    "markers": "--markers",
    "showfixtures": "--fixtures",
    "show_fixtures_per_test": "--fixtures-per-test",
    "cacheshow": "--cache-show",
}
"""Options with which pytest lists something and ends before there is a gate, by their names in its namespace.

Those that list checks, as ``--collect-only``, leave a gate that is held.
"""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Refuse to list where a stage is to be judged: the exit status would be read as the gate's."""
    listing = [option for name, option in LISTING.items() if getattr(config.option, name, None)]
    if config.option.stage and listing:
        raise pytest.UsageError(f"{listing[0]} judges nothing: leave it out, or --stage\n  next: pytest {listing[0]}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Markers always; check files are collected and facts taken only when a stage is judged."""
    config.addinivalue_line("markers", "stage(name): the stage that this check belongs to, if not its folder's name")
    config.addinivalue_line(
        "markers",
        "remedy(text, unknown=text, gone=text): what to do next when this check does not pass; when it could not look; "
        "when the instance is proven to be gone",
    )
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
