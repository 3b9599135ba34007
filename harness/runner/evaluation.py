"""Evaluation: the package judges its model on the box, after the file is verified at home and before the release.

It holds nothing, and costs at most its limit. Killed anywhere, the next run goes on with what is left of that: it waits
for an evaluation that still runs, takes its words home when it has ended, and begins anew when there are none.
Whatever comes of it is recorded once, and the teardown follows.
"""

from __future__ import annotations

import posixpath

from harness.artifacts import digest, evaluation
from harness.context import RunnerContext
from harness.core.errors import HarnessError, HostUnreachable
from harness.core.observed import CouldNotLook
from harness.core.ports import RemoteFile
from harness.core.questions import Command, DigestOf, Glob, ProcessesUnder
from harness.core.text import human_seconds, printable
from harness.ledger.events import Evaluated, EvaluationBegun
from harness.runner.progress import ProgressReporter
from harness.runner.spending import BudgetWatch

_ON_THE_BOX = 0.9
"""Share of the time that is left after which the box itself ends the command: nothing runs when the guard looks."""

_ANSWER_S = 30.0
"""Seconds in which the box tells that a command was ended."""


def evaluate(context: RunnerContext, reporter: ProgressReporter, budget: BudgetWatch) -> None:
    """Run the evaluation that the job asks for and bring its words home, unless that was done, or nothing can run."""
    history, argv = context.history, context.job.package.evaluate
    if not argv or history.evaluated is not None or history.alive is None:
        return
    if history.destroy_intended or history.instance_stopped:
        return
    begun = history.evaluation_at is not None
    if not begun:
        context.record(EvaluationBegun(argv))
    try:
        _evaluate(context, reporter, budget, begun=begun)
    except (HarnessError, CouldNotLook, OSError) as error:
        context.record(Evaluated(printable(str(error), 600), None))
        reporter.note(f"the model was not evaluated: {printable(str(error), 600)}")


def bring(context: RunnerContext) -> bool:
    """Bring ``evaluation.json`` home and record it; False when there is none of this training.

    One that is older than MANIFEST.json, which a training writes last, is of an earlier training. Raises CouldNotLook
    and HarnessError.
    """
    directory = context.job.package.remote_dir
    asked = [Glob(posixpath.join(directory, name)) for name in ("MANIFEST.json", evaluation.FILE)]
    answers = context.host().probe(asked)
    ended, found = (answers[one].get() for one in asked)
    if not ended or not found or found[0].mtime < ended[0].mtime:
        return False
    path = found[0].path
    if found[0].kind != "file" or found[0].bytes > evaluation.MAX_BYTES:
        raise CouldNotLook(f"{path} is no file of a sane size")
    seen = context.host().probe([question := DigestOf(path)])[question].get()
    if seen.sha256 is None:
        return False
    local = context.directory / "companions" / evaluation.FILE
    if not local.is_file() or digest.of_file(local).sha256 != seen.sha256:
        local.parent.mkdir(parents=True, exist_ok=True)
        context.host().fetch(RemoteFile(path, seen.bytes, seen.sha256), local)
    if context.history.evaluated != (told := Evaluated(None, seen.sha256)):
        context.record(told)
    return True


def _evaluate(context: RunnerContext, reporter: ProgressReporter, budget: BudgetWatch, *, begun: bool) -> None:
    """See the command to its end within the limit, ``begun`` by an earlier run or not; raises when nothing came of it.

    A connection that is cut ends nothing: what runs on the box is waited for.
    """
    package, poll_s = context.job.package, context.job.limits.poll_s
    while (left := _left_s(context, budget)) > 0:
        running = context.host().probe([under := ProcessesUnder(package.remote_dir)])[under].get().at_work()
        if running and not begun:
            raise CouldNotLook(f"something else runs on the box: {running[0]}")
        if running:
            context.clock.sleep(min(left, poll_s))
            continue
        if bring(context):
            return
        reporter.note(f"the verified file is here; evaluating on the box for {human_seconds(left)} at most")
        begun, asked = True, Command(package.evaluate, package.remote_dir, left * _ON_THE_BOX)
        try:
            ran = context.host().probe([asked], timeout=left * _ON_THE_BOX + _ANSWER_S)[asked].get()
        except HostUnreachable as error:
            reporter.note(f"the evaluation is out of sight: {printable(str(error), 300)}")
            context.clock.sleep(min(left, poll_s))
            continue
        if ran.status != 0:
            raise CouldNotLook(f"it ended with status {ran.status}: {(ran.err or ran.out)[-400:].strip()}")
        if not bring(context):
            raise CouldNotLook(f"the command wrote no {evaluation.FILE}")
        return
    raise CouldNotLook("its time, or the budget, was used up before it had ended")


def _left_s(context: RunnerContext, budget: BudgetWatch) -> float:
    """Seconds that are left of the limit since the evaluation was begun, as far as the budget pays for them."""
    begun_at, now = context.history.evaluation_at, context.clock.now()
    budget.check()
    return min(context.job.limits.evaluate_s - (0.0 if begun_at is None else now - begun_at), budget.left_s)
