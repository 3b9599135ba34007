"""Teardown: a release for the verified file, the operator's word, and the guard."""

from __future__ import annotations

import contextlib
from pathlib import Path

from harness.artifacts import arrival, digest
from harness.context import RunnerContext
from harness.core import durable
from harness.core.errors import HarnessError
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.guard import destroy
from harness.guard.destroy import Confirm
from harness.ledger.events import GateJudged, Released, Reopened
from harness.release import release as releases
from harness.runner import postdownload, provision, switch
from harness.runner.progress import ProgressReporter


def teardown(context: RunnerContext, reporter: ProgressReporter, confirm: Confirm) -> None:
    """Release the instance and have the guard destroy it; raises Refused or NotProven, as the guard does."""

    def release() -> None:
        if not _has_valid_release(context):
            _release(context)

    destroy.destroy(context, confirm, reporter.note, release)
    switch.revoke(context, reporter.note)
    if context.history.verified is not None:
        with contextlib.suppress(OSError):  # a deletion may have failed when the file came home, and may again
            arrival.sweep(Path(context.history.verified.path))


def reopen_if_outdated(context: RunnerContext, reporter: ProgressReporter) -> None:
    """Judge the artifact anew, on the box and here, when what is demanded of it is not what it was judged by.

    On the box only as long as there is one: nothing is destroyed for the sake of what cannot be judged there.
    """
    if context.history.destroyed is not None:
        return
    _keep_to_the_last_look(context, reporter)
    late = releases.outdated(context.history)
    gone = bool(late) and provision.gone_by_now(context)
    if not late or (gone and context.history.destroy_intended):
        return
    for stage in (Stage.POSTDOWNLOAD,) if gone else (Stage.POSTDOWNLOAD, Stage.POSTTRAIN):
        if context.history.passed(stage):
            context.record(Reopened(stage, late.get(stage, "what came before it is judged anew")))
    reporter.note("; ".join(late.values()) + ": judging the artifact again")


def _keep_to_the_last_look(context: RunnerContext, reporter: ProgressReporter) -> None:
    """Where the box went while its artifact was to be judged there anew, its last judgement there stands.

    Only for the very file that is here, and when it had passed: it is still judged here, by what is demanded today.
    """
    history = context.history
    looks = [one for one in history.all(GateJudged) if one.stage is Stage.POSTTRAIN]
    decided = [one for one in looks if one.verdict is not Verdict.UNKNOWN]
    if history.passed(Stage.POSTTRAIN) or not decided or decided[-1].verdict is not Verdict.PASS:
        return
    if history.artifact is None or postdownload.local_problem(context, history.artifact) is not None:
        return
    if provision.gone_by_now(context):
        context.record(decided[-1])
        reporter.note("the instance is gone and its model is here: what was judged on the box last stands")


def _has_valid_release(context: RunnerContext) -> bool:
    path = context.history.release_path
    if path is None:
        return False
    try:
        release = releases.read(Path(path))
    except HarnessError:
        return False
    late = releases.outdated(context.history)
    return not late and not releases.problems(release, context.history, context.clock.now())


def _release(context: RunnerContext) -> None:
    release = releases.statement(context.history, context.provider().name, context.clock.now())
    data = releases.to_json(release)
    path = context.directory / f"release-{len(context.history.records)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write(path, data)
    context.record(Released(str(path), digest.of_bytes(data)))
