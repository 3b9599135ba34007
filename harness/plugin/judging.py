"""The beginning of a run that judges stages: facts taken once, in the controlling process, and the parts that judge."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from harness.core.errors import BadInput, HarnessError
from harness.core.lifecycle import ORDER
from harness.plugin import fixtures, session
from harness.plugin.arguments import asked_stages
from harness.plugin.declaring import PREFIX
from harness.plugin.facts_source import Gathered, gather
from harness.plugin.gatekeeping import WORKER_FACTS, Gatekeeping
from harness.plugin.importing import Importing
from harness.plugin.selecting import Selecting
from harness.plugin.verdicts import Speaking


def begin(config: pytest.Config) -> None:
    """Collect check files, take the facts of the stages that were asked for, register what judges them.

    Raises pytest.UsageError when they cannot be judged.
    """
    if sys.flags.optimize:
        raise pytest.UsageError("checks are assertions, and python -O removes them: run without -O")
    config.addinivalue_line("python_files", f"{PREFIX}*.py")
    config.addinivalue_line("python_functions", f"{PREFIX}*")
    config.addinivalue_line("python_classes", "Check*")
    try:
        gathered = _facts(config)
        judging = session.Judging.of(gathered.paths)
    except HarnessError as error:
        raise pytest.UsageError(f"{error}\n  next: {error.remedy}") from error
    except OSError as error:
        raise pytest.UsageError(
            f"the evidence cannot be kept: {error.filename}: {error.strerror}\n"
            "  next: see that the place is writable and has room, then run the same command again."
        ) from error
    judging.recorded = gathered.recorded
    judging.notes = gathered.notes
    config.stash[session.KEY] = judging
    parts: dict[str, object] = {
        "fixtures": fixtures,
        "importing": Importing(),
        "selecting": Selecting(judging),
        "speaking": Speaking(judging),
    }
    if not hasattr(config, "workerinput"):
        parts["gatekeeping"] = Gatekeeping(judging, config)
    for name, part in parts.items():
        if config.pluginmanager.register(part, f"harness-{name}") is None:
            raise pytest.UsageError(f"a stage cannot be judged with -p no:harness-{name}")


def _facts(config: pytest.Config) -> Gathered:
    worker_input = getattr(config, "workerinput", None)
    if worker_input is not None:
        return Gathered({stage: Path(path) for stage, path in worker_input[WORKER_FACTS].items()})
    if not asked_stages(config.option.stage):
        raise BadInput(f"--stage names no stage: the stages are {', '.join(ORDER)}")
    scratch = tempfile.TemporaryDirectory(prefix="harness-facts-")
    config.add_cleanup(scratch.cleanup)
    return gather(config.option.stage, config, Path(scratch.name))
