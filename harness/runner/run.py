"""The loop: act, look, judge, record, next stage. What was recorded is never done twice.

Killed at any instruction, the same command goes on: every act first looks at what the
event log and the world already hold, and a stage is left only by its gate's event.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.context import RunnerContext
from harness.core.errors import (
    BadInput,
    GateHeld,
    GateUnknown,
    HarnessError,
    HostUnreachable,
    InstanceDead,
    StoreFailed,
    of_this_machine,
)
from harness.core.ids import Sha256
from harness.core.lifecycle import Stage
from harness.core.observed import CouldNotLook
from harness.core.text import printable
from harness.core.verdict import Verdict
from harness.gates import judge as gates
from harness.gates.evidence import GateResult
from harness.guard.destroy import Confirm
from harness.job.model import Job
from harness.job.staging import is_staged, stage_package
from harness.ledger import ownership
from harness.ledger.codec import decode
from harness.ledger.events import (
    Abandoned,
    Adopted,
    Closed,
    Destroyed,
    GateJudged,
    Held,
    Lost,
    Opened,
    Polled,
    Rented,
    RentFailed,
    RentIntended,
    Reopened,
    StageEntered,
    Verified,
)
from harness.ledger.history import History
from harness.ledger.jobs import folded
from harness.ledger.store import EventStore
from harness.runner import (
    evaluation,
    package,
    postdownload,
    provision,
    replacement,
    stopping,
    switch,
    teardown,
    training,
)
from harness.runner.progress import ProgressReporter
from harness.runner.replacement import NOBODY_AGREES, Agreement
from harness.runner.spending import BudgetWatch, WatchedReporter

FirstLook = Callable[[RunnerContext, ProgressReporter], None]
_UNKNOWN_RETRIES = 2
_RETRY_AFTER_S = 3.0
_WATCHED_BY_SWITCH = {Stage.TRAINING, Stage.POSTTRAIN, Stage.POSTDOWNLOAD}
_PACKAGE_MAY_CHANGE = {Stage.PROVISION, Stage.UPLOAD, Stage.INSTALL, Stage.LAUNCH}
_ELSEWHERE = {"machine.ssh_user", "package.remote_dir", "training.session"}
"""Fields of the job file that say where what lies and runs on its instance is to be found."""


def open_job(store: EventStore, job: Job, file: Path, *, accept_changes: bool) -> None:
    """Record a job's configuration before its first step; later, that it changed.

    Until something is rented, the file may be mended as preflight asks for it; from then on a change must be agreed to.
    Raises BadInput when the job is under way with another configuration, or would look elsewhere for what it has:
    an instance that is alive at one provider, a checkpoint that lies in one directory.
    """
    opened = Opened(job.model_dump(mode="json"), str(file))
    records = store.records(job.name)
    if records:
        history = folded(job.name, records)
        known = history.job.model_dump(mode="json")  # with what its version did not know yet
        if known == opened.job:
            return
        _require_agreement(history, job, _changed(known, opened.job), file, accept_changes=accept_changes)
    store.append(job.name, opened)


def _require_agreement(history: History, job: Job, fields: list[str], file: Path, *, accept_changes: bool) -> None:
    """Raise BadInput unless a job that was begun may go on with these fields of its file changed."""
    name = history.job.name
    if history.job.adopted:
        raise BadInput(
            f"job {name} took its instance over: it has no job file of its own",
            remedy=f"harness destroy {name} goes on with it.",
        )
    if not accept_changes and (history.all(Rented) or _may_bill(history)):
        raise BadInput(
            f"job {name} is under way with another configuration; {file} changes {', '.join(fields)}",
            remedy="Undo the change, give the job another name, or agree to it with --accept-changes.",
        )
    places = ownership.place(history.job.provider) ^ ownership.place(job.provider)
    elsewhere = {f"provider.{setting}" for setting, _ in places} | _ELSEWHERE & set(fields)
    if elsewhere and _may_bill(history):
        raise BadInput(
            f"job {name} has rented an instance; {file} changes where that, or what is on it, would be looked "
            f"for ({', '.join(sorted(elsewhere))})",
            remedy="Undo the change, or give the job another name.",
        )


def run(
    context: RunnerContext,
    reporter: ProgressReporter,
    confirm: Confirm,
    *,
    until: Stage | None = None,
    agreement: Agreement = NOBODY_AGREES,
    first_look: FirstLook | None = None,
) -> None:
    """Drive the job to its end, or through the gate of ``until``.

    ``agreement`` is asked before an instance is rented, and when it died, before another takes its place.
    ``first_look`` may hold preflight before its act.

    Raises GateHeld or GateUnknown when a gate stays shut, and whatever kept an act from being done;
    each is recorded as ``held`` before it is raised. Nothing that runs is ever destroyed on that way.
    """
    teardown.reopen_if_outdated(context, reporter)
    watched = WatchedReporter(reporter, BudgetWatch(context, reporter))
    commanded = True  # what stands still is started for an operator's command, not behind anybody's back later
    while (stage := context.history.stage) is not None and not (until and context.history.passed(until)):
        if context.history.held is not None or stage not in context.history.entered:
            context.record(StageEntered(stage))
        reporter.stage(stage)
        try:
            if first_look is not None and stage is Stage.PREFLIGHT:
                first_look(context, reporter)
            if not _acted(stage, context, watched, confirm, agreement, commanded=commanded):
                commanded = True
                continue
            _pass_gate(stage, context, reporter)
            commanded = commanded and stage is Stage.PREFLIGHT
        except (HarnessError, CouldNotLook, OSError) as error:
            explained = _explained(error)
            _record_held(context, reporter, stage, explained)
            if explained is error:
                raise
            raise explained from error
    if context.history.stage is None and not context.history.closed:
        context.record(Closed())


def _acted(
    stage: Stage,
    context: RunnerContext,
    reporter: WatchedReporter,
    confirm: Confirm,
    agreement: Agreement,
    *,
    commanded: bool,
) -> bool:
    """True when the stage's act is done, within the budget; False when something comes first.

    Another instance in a dead one's place, or an earlier gate that is shut again.
    """
    on_the_box = _needs_the_box(stage, context)
    try:
        if on_the_box or stage is Stage.PROVISION:
            reporter.budget.check()
        if on_the_box:
            provision.resume(context, reporter, may_start=commanded)
            if stage in _WATCHED_BY_SWITCH:
                switch.arm(context, reporter)
        _act(stage, context, reporter, confirm, agreement)
    except (InstanceDead, HostUnreachable) as error:
        if on_the_box and not isinstance(error, InstanceDead):
            reporter.budget.check()
        if not _replaced(error, context, reporter, agreement):
            raise
        return False
    return context.history.stage is stage


def _replaced(
    error: InstanceDead | HostUnreachable, context: RunnerContext, reporter: WatchedReporter, agreement: Agreement
) -> bool:
    """True when another instance takes the place of the dead one; one that is only held is kept from billing."""
    dead = error if isinstance(error, InstanceDead) else provision.death(context)
    if dead is None:
        return False
    replaced = False
    try:
        _require_model_elsewhere(context, dead)
        replaced = replacement.replace(context, reporter, dead, agreement, reporter.budget.usd)
    finally:
        if not replaced and not context.history.destroy_intended:
            stopping.keep_from_billing(context, reporter, str(dead))
    return replaced


def _require_model_elsewhere(context: RunnerContext, dead: InstanceDead) -> None:
    """Raise the death again when the model is home already: nothing is trained a second time for it."""
    artifact = context.history.artifact
    if artifact is not None and postdownload.local_problem(context, artifact) is None:
        raise InstanceDead(
            f"{dead}; its model is on this machine, and no other instance is rented",
            remedy="Run the same command again: it goes on once the instance answers, or is proven to be gone. "
            f"harness abandon {context.job.name} gives it up.",
        ) from dead


def reopen_if_spoilt(context: RunnerContext, reporter: ProgressReporter) -> None:
    """Go back to postdownload when the verified file is gone or changed and the instance still has it."""
    history, artifact = context.history, context.history.artifact
    if artifact is None or not history.passed(Stage.POSTDOWNLOAD) or history.destroyed is not None:
        return
    problem = postdownload.local_problem(context, artifact)
    if problem is not None and not (history.destroy_intended and provision.gone_by_now(context)):
        context.record(Reopened(Stage.POSTDOWNLOAD, problem))
        reporter.note(f"{problem}: going back to fetch and verify it again")


def reopen_if_mended(context: RunnerContext, reporter: ProgressReporter) -> None:
    """Go back to preflight when package or job file were changed since, and the training has not passed launch.

    What a held gate asks to be mended is mended there; the instance is kept meanwhile.
    """
    history = context.history
    if history.staged is None or history.stage not in _PACKAGE_MAY_CHANGE:
        return
    if _stands(context, history.staged.files):
        if _configured_since_preflight(history):
            context.record(Reopened(Stage.PREFLIGHT, "the job file has changed"))
            reporter.note("the job file has changed: preflight judges it anew")
        return
    if history.launches:
        training.stop_training(context, reporter, "its package has changed")
    for stage in (Stage.LAUNCH, Stage.INSTALL, Stage.UPLOAD, Stage.PREFLIGHT):
        if history.passed(stage):
            context.record(Reopened(stage, "the package has changed"))
    reporter.note("the package has changed: it is checked, sent and installed anew")


def _stands(context: RunnerContext, staged: Mapping[str, Sha256]) -> bool:
    """True when the package is as it was staged; the snapshot alone tells on a machine that took the job over."""
    if not context.job.package.source.exists() and is_staged(context.directory, staged):
        return True
    return stage_package(context.job, context.directory).manifest == staged


def judge(
    stage: Stage,
    context: RunnerContext,
    reporter: ProgressReporter,
    *,
    judged: type[GateJudged | Polled] = GateJudged,
) -> GateResult:
    """Take the stage's facts, judge them, and record what was decided with the facts that it rests on.

    Only ``GateJudged`` opens a gate; ``Polled`` is a judgement in mid-stage.
    """
    taken, demand = context.take_facts(stage), gates.demand(stage, context.job)
    result = gates.judge(taken.path)
    body: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(result)))
    context.record(judged(stage, result.verdict, result.plan_digest, body, str(taken.path), taken.sha256, demand))
    reporter.judged(stage, result)
    return result


def _needs_the_box(stage: Stage, context: RunnerContext) -> bool:
    """True for a stage that works on the box which an earlier one has made ready: it may be stopped or gone by now."""
    if stage is Stage.POSTDOWNLOAD and context.history.artifact is not None:
        return postdownload.local_problem(context, context.history.artifact) is not None
    return stage not in {Stage.PREFLIGHT, Stage.PROVISION, Stage.TEARDOWN}


def _explained(error: HarnessError | CouldNotLook | OSError) -> HarnessError:
    """Cause that kept a stage from being passed, as an error with a remedy."""
    if isinstance(error, HarnessError):
        return error
    if isinstance(error, CouldNotLook):
        return GateUnknown(str(error))
    return of_this_machine(error)


def _record_held(context: RunnerContext, reporter: ProgressReporter, stage: Stage, error: HarnessError) -> None:
    """Say in the log why the job stands still; a log that cannot be written hides no cause."""
    try:
        context.record(Held(stage, type(error).__name__, printable(str(error), 4000)))
    except StoreFailed as failed:
        reporter.note(f"the event log does not take that the job is held: {printable(str(failed))}")


_ACTS: Mapping[Stage, Callable[[RunnerContext, ProgressReporter], None]] = {
    Stage.PREFLIGHT: package.preflight,
    Stage.UPLOAD: package.upload,
    Stage.POSTTRAIN: postdownload.posttrain,
    Stage.POSTDOWNLOAD: postdownload.download,
}


def _act(
    stage: Stage, context: RunnerContext, reporter: WatchedReporter, confirm: Confirm, agreement: Agreement
) -> None:
    if stage is Stage.PROVISION:
        provision.provision(context, reporter, agreement.to_rent)
    elif stage is Stage.INSTALL:
        package.install(context, reporter, reporter.budget.left_s)
    elif stage is Stage.LAUNCH:
        training.launch(context, reporter, reporter.budget)
    elif stage is Stage.TRAINING:
        polled = functools.partial(judge, context=context, reporter=reporter, judged=Polled)
        training.watch(context, reporter, reporter.budget, polled)
    elif stage is Stage.TEARDOWN:
        _record_verified(context)
        evaluation.evaluate(context, reporter, reporter.budget)
        teardown.teardown(context, reporter, confirm)
    else:
        _ACTS[stage](context, reporter)


def _pass_gate(stage: Stage, context: RunnerContext, reporter: ProgressReporter) -> None:
    """Judge until the answer is not UNKNOWN, a few times; then the gate is open, or holds."""
    result = judge(stage, context, reporter)
    for _ in range(0 if stage is Stage.PREFLIGHT else _UNKNOWN_RETRIES):  # whose look is long
        if result.verdict is not Verdict.UNKNOWN:
            break
        context.clock.sleep(_RETRY_AFTER_S)
        context.forget_connections()
        result = judge(stage, context, reporter)
    if result.verdict is Verdict.PASS:
        if stage is Stage.POSTDOWNLOAD:
            _record_verified(context)
        return
    if stage is Stage.LAUNCH and result.verdict is Verdict.FAIL:
        training.stop_training(context, reporter, "the launch gate failed")
    raise shut_gate(stage, result)


def shut_gate(stage: Stage, result: GateResult) -> GateHeld | GateUnknown:
    """The error for a gate that did not open, every check named that keeps it shut."""
    shut = result.not_passed()
    told = [f"{one.id} ({printable(one.message.strip(), 200)})" if one.message else one.id for one in shut]
    told += [f"{check} did not report" for check in result.missing]
    text = f"stage {stage} is held: " + "; ".join([*result.problems, *told])
    remedy = next((one.remedy for one in shut if one.remedy), None)
    return GateHeld(text, remedy=remedy) if result.verdict is Verdict.FAIL else GateUnknown(text, remedy=remedy)


def _record_verified(context: RunnerContext) -> None:
    """The postdownload gate has passed on the fetched file: commit that, unless it was before the last death."""
    fetched = context.history.fetched
    if fetched is not None and context.history.verified != fetched:
        context.record(Verified(str(fetched.path), fetched.size, fetched.sha256))


def _configured_since_preflight(history: History) -> bool:
    """True when the job's configuration is another than the one that preflight was last judged on."""
    marks = [
        event
        for event in map(decode, history.records)
        if isinstance(event, Opened) or (isinstance(event, GateJudged) and event.stage is Stage.PREFLIGHT)
    ]
    return isinstance(marks[-1], Opened)


def _may_bill(history: History) -> bool:
    """True when a rent was begun and no destruction proven since."""
    begun, over = (RentIntended, Rented, Adopted), (RentFailed, Destroyed, Abandoned, Lost)
    marks = [event for event in map(decode, history.records) if isinstance(event, begun + over)]
    return bool(marks) and isinstance(marks[-1], begun)


def _changed(before: Any, after: Any, prefix: str = "") -> list[str]:
    """The names of the fields in which two configurations differ."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before == after else [prefix]
    return [
        name
        for key in sorted(set(before) | set(after))
        for name in _changed(before.get(key), after.get(key), f"{prefix}.{key}" if prefix else key)
    ]
