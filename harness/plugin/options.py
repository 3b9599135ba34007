"""Command line, markers and the taking of facts: once a run, in the controlling process only."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from harness.core.errors import BadInput, HarnessError
from harness.core.lifecycle import ORDER
from harness.plugin import newhooks, session
from harness.plugin.arguments import asked_stages
from harness.plugin.declaring import PREFIX
from harness.plugin.facts_source import gather
from harness.plugin.gatekeeping import WORKER_FACTS, Gatekeeping
from harness.plugin.importing import Importing
from harness.plugin.reminding import Reminding
from harness.plugin.selecting import Selecting
from harness.plugin.verdicts import Speaking


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
    if not config.option.stage:
        config.pluginmanager.register(Reminding(), "harness-reminding")
        return
    if sys.flags.optimize:
        raise pytest.UsageError("checks are assertions, and python -O removes them: run without -O")
    config.addinivalue_line("python_files", f"{PREFIX}*.py")
    config.addinivalue_line("python_functions", f"{PREFIX}*")
    config.addinivalue_line("python_classes", "Check*")
    try:
        judging = session.Judging.of(_facts(config))
    except HarnessError as error:
        raise pytest.UsageError(f"{error}\n  next: {error.remedy}") from error
    except OSError as error:
        raise pytest.UsageError(
            f"the evidence cannot be kept: {error.filename}: {error.strerror}\n"
            "  next: see that the place is writable and has room, then run the same command again."
        ) from error
    config.stash[session.KEY] = judging
    parts: dict[str, object] = {
        "importing": Importing(),
        "selecting": Selecting(judging),
        "speaking": Speaking(judging),
    }
    if not hasattr(config, "workerinput"):
        parts["gatekeeping"] = Gatekeeping(judging, config)
    for name, part in parts.items():
        if config.pluginmanager.register(part, f"harness-{name}") is None:
            raise pytest.UsageError(f"a stage cannot be judged with -p no:harness-{name}")


def _facts(config: pytest.Config) -> dict[str, Path]:
    worker_input = getattr(config, "workerinput", None)
    if worker_input is not None:
        return {stage: Path(path) for stage, path in worker_input[WORKER_FACTS].items()}
    stages = asked_stages(config.option.stage)
    if not stages:
        raise BadInput(f"--stage names no stage: the stages are {', '.join(ORDER)}")
    return gather(stages, config, Path(tempfile.mkdtemp(prefix="harness-facts-")))
