"""The items that are this run's checks, recorded before anything can deselect them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.core.ids import CheckId
from harness.core.lifecycle import ORDER
from harness.gates import plan
from harness.plugin.clones import checks_of
from harness.plugin.declaring import in_folders
from harness.plugin.session import Judging, check_id

_WORKER_COLLECTED = "harness_collected"
_WORKER_DECLARED = "harness_declared"
_WORKER_PROBLEMS = "harness_problems"


@dataclass(slots=True, eq=False)  # pytest keeps plugins in sets
class Selecting:
    """Keeps the judged stages' checks and remembers them all, whatever ``-k`` removes afterwards."""

    judging: Judging

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Leave the folders of other stages alone: their state is not this gate's business."""
        other = collection_path.name in set(ORDER) - set(self.judging.facts)
        return True if other and collection_path.is_dir() else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Runs before pytest's own ``-k`` and ``--deselect``."""
        kept, others = [], []
        for item in items:
            stage = self.judging.stage_of(item)
            check = check_id(item)
            if stage is None or check in plan.left_out(stage, self.judging.facts[stage].job):
                others.append(item)
                continue
            self.judging.collected.setdefault(stage, []).append(check)
            kept.append(item)
        if others:
            config.hook.pytest_deselected(items=others)
        items[:] = kept
        self._declare(config, kept)

    def _declare(self, config: pytest.Config, kept: list[pytest.Item]) -> None:
        """Count what the files of the stages' folders declare, whether or not it was collected."""
        for stage, facts in self.judging.facts.items():
            own = [folder / stage for folder in facts.job.gates.checks]
            beside = {item.path.parent for item in kept if item.path.parent.name == stage}
            theirs = [] if checks_of(config.rootpath) else [config.rootpath / "checks" / stage]
            found = in_folders({*beside, *own, *theirs})
            left_out = plan.left_out(stage, facts.job)
            self.judging.declared[stage] = [check for check in found.checks if check not in left_out]
            self.judging.problems += [one for one in found.problems if one not in self.judging.problems]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A check file that cannot be imported hides its checks; the gate must know."""
        if report.failed:
            problem = f"cannot collect {report.nodeid}"
            if problem not in self.judging.problems:
                self.judging.problems.append(problem)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """An xdist worker tells the controller what it collected."""
        worker_output = getattr(session.config, "workeroutput", None)
        if worker_output is not None:
            worker_output[_WORKER_COLLECTED] = self.judging.collected
            worker_output[_WORKER_DECLARED] = self.judging.declared
            worker_output[_WORKER_PROBLEMS] = self.judging.problems

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """The controller hears what a worker collected, or that it died."""
        if error:
            self.judging.problems.append(f"a worker process died: {str(error)[:200]}")
        told: dict[str, Any] = getattr(node, "workeroutput", {})
        for stage, checks in told.get(_WORKER_DECLARED, {}).items():
            self.judging.declared[stage] = [CheckId(check) for check in checks]
        said = [str(problem) for problem in told.get(_WORKER_PROBLEMS, ())]
        self.judging.problems += [problem for problem in said if problem not in self.judging.problems]
        for stage, checks in told.get(_WORKER_COLLECTED, {}).items():
            # Every worker collects the same items; a duplicate inside one worker's list must stay visible.
            if len(checks) > len(self.judging.collected.get(stage, [])):
                self.judging.collected[stage] = [CheckId(check) for check in checks]
