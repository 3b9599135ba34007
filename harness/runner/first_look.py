"""The first look of a run: what would keep preflight shut and is to be had in seconds, told before all that is long.

Preflight sees the same again, on facts of its own: minutes lie between.
"""

from __future__ import annotations

from harness.context import RunnerContext
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.runner.progress import ProgressReporter
from harness.runner.run import shut_gate
from harness.runner.training import require_carried


def first_look(context: RunnerContext, reporter: ProgressReporter, *, holds: bool = True) -> None:
    """Hold the job before anything is staged, when what can be looked at in seconds would hold it later.

    Without ``holds`` it is only told: who asks for preflight alone is to have the whole of it. Raises GateHeld or
    GateUnknown with every such check, as the gate would; BadInput as staging does.
    """
    from harness.facts import preflight  # noqa: PLC0415 - loads what preflight looks with
    from harness.plugin.at_once import judge_at_once  # noqa: PLC0415 - loads pytest

    require_carried(context.job)
    reporter.note("first, in seconds: key, credit, SSH key, destination, disk, versions")
    result = judge_at_once(context.job, preflight.first_look(context))
    if result.verdict is not Verdict.PASS:
        reporter.judged(Stage.PREFLIGHT, result)
    if result.verdict is not Verdict.PASS and holds:
        raise shut_gate(Stage.PREFLIGHT, result)
