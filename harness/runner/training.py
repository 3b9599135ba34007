"""Launch and training: started once, stopped early when it is wrong, seen through when it is right."""

from __future__ import annotations

import math
from collections.abc import Callable

from harness.context import RunnerContext
from harness.core import environment
from harness.core.answers import SessionState
from harness.core.errors import (
    BadInput,
    HarnessError,
    HostKeyChanged,
    HostUnreachable,
    InstanceDead,
    ProviderUnavailable,
)
from harness.core.ids import CheckId
from harness.core.lifecycle import Stage
from harness.core.ports import InstanceStatus
from harness.core.text import printable
from harness.core.verdict import Verdict
from harness.facts import launch as launch_facts
from harness.facts import strategy as strategy_facts
from harness.facts import training as training_facts
from harness.facts.training import TrainingFacts
from harness.gates.evidence import GateResult
from harness.job import strategy, told
from harness.job.model import Job
from harness.ledger.events import Launched, Relaunched, Trained, TrainingStopped
from harness.ledger.noted import AtWork
from harness.ledger.paid_parts import EXPORT
from harness.log.launches import LaunchLine
from harness.log.pace import pace
from harness.log.summary import LogSummary, RestsOn
from harness.remote.session import TrainingSession
from harness.runner import provision, switch
from harness.runner import strategy as strategy_runner
from harness.runner.checkpoint_mirror import Mirroring
from harness.runner.progress import STEPS, ProgressReporter, waiting
from harness.runner.spending import BudgetWatch
from harness.runner.stopping import stop_over

Judge = Callable[[Stage], GateResult]
_CLOSE_POLL_S = 2.0
_ASK_S = 30.0
_HANGS = CheckId("progress_is_advancing")
_HOPELESS = frozenset(
    map(CheckId, ("loss_is_sane", "loss_moves", "learning_rate_follows_schedule", "preferences_are_learned"))
)


def training_session(context: RunnerContext) -> TrainingSession:
    """The job's session on its box."""
    return TrainingSession(context.host(), context.job.package.remote_dir, context.job.training.session)


def launch(context: RunnerContext, reporter: ProgressReporter, budget: BudgetWatch) -> None:
    """Start the training unless it runs or has ended well; wait for its first words, its end, or the deadline."""
    session = training_session(context)
    if context.job.training.strategy != strategy.SEEDS and not session.alive():
        strategy_runner.settle(context, reporter, budget.left_s)
    spoken_before = _attempts(launch_facts.look(context).log.value)
    switch.arm(context, reporter, required=True)
    if _start(context, session):
        _record_launch(context, "launch")
        reporter.note(f"training started in session {context.job.training.session!r}")
    else:
        spoken_before = 0
        if not context.history.launches:
            _record_launch(context, "it was started before, and this was not recorded")
    within_s, began = context.job.limits.launch_deadline_s, context.clock.monotonic()
    while (waited := context.clock.monotonic() - began) < within_s:
        seen = launch_facts.look(context)
        state, log = seen.session.value, seen.log.value
        if (_attempts(log) > spoken_before and _has_spoken(log)) or (state is not None and not state.alive):
            return
        reporter.meter(waiting(_awaited(log, unmodified=context.job.unmodified)), int(waited), math.ceil(within_s))
        if state is None:
            _require_box(context, reporter, budget)
        budget.check()
        context.clock.sleep(_CLOSE_POLL_S)


def watch(context: RunnerContext, reporter: ProgressReporter, budget: BudgetWatch, judge: Judge) -> None:
    """Watch until the training has ended; after a death launch it again, as often as the job allows.

    Raises GateHeld when the budget or the deadline is used up, or the instance stays away: it is stopped, its disk
    kept. Raises InstanceDead when it is offline for too long.
    """
    with Mirroring(context, reporter) as mirroring:
        judged_at = context.clock.monotonic()
        seen = None
        while True:
            seen = training_facts.glance(context, seen)
            _show(context.job, seen, reporter)
            state = seen.session.value
            if state is None:
                _require_box(context, reporter, budget)
            budget.check(training=True)
            if state is not None and not state.alive and _ends_after_death(context, state, reporter):
                return
            _record_part(context, seen)
            mirroring.go_on(seen)
            if context.clock.monotonic() - judged_at >= context.job.limits.judge_every_s:
                judged_at = context.clock.monotonic()
                if _ends_on(judge(Stage.TRAINING), context, reporter, budget):
                    return
            context.clock.sleep(_pause_s(context, seen))


def stop_training(context: RunnerContext, reporter: ProgressReporter, why: str) -> None:
    """End the training on the box, as far as it answers; the instance and its disk stay."""
    try:
        require_stopped(context, reporter, why)
    except HarnessError as error:
        reporter.note(f"the training could not be stopped: {printable(str(error))}")


def require_stopped(context: RunnerContext, reporter: ProgressReporter, why: str) -> None:
    """End the training on the box if it runs; raises HostUnreachable when it may go on."""
    session = training_session(context)
    if not session.alive():
        return
    context.require_lease()
    state = session.stop()
    context.record(TrainingStopped(why, state.exit_status))
    reporter.note(f"the training was stopped: {why}")


def _require_box(context: RunnerContext, reporter: ProgressReporter, budget: BudgetWatch) -> None:
    """For a box that could not be asked: raises what no waiting mends, that it was stopped, is gone, or is another.

    A provider that cannot be asked either is this machine's network, more often than not: the watch goes on, for
    the limits are held by nobody else.
    """
    status = _status(context)
    if status is None:
        reporter.note("neither the box nor the provider can be asked: watching on")
        return
    if status is not InstanceStatus.RUNNING:
        _await_return(context, reporter, budget)
        return
    try:
        context.host().run(["true"], timeout=_ASK_S)
    except HostKeyChanged:
        raise
    except HostUnreachable:
        pass


def _await_return(context: RunnerContext, reporter: ProgressReporter, budget: BudgetWatch) -> None:
    """Wait for an instance of which the provider says that it does not run: nothing on it can be looked at meanwhile.

    Raises InstanceDead for one that is offline too long; one that stays away otherwise, longer than a training may
    stall, is stopped, so that it does not come back to bill unwatched.
    """
    limits, since = context.job.limits, context.clock.monotonic()
    reporter.note("the box does not answer, and the provider says that it does not run: waiting for it")
    while (status := _status(context)) is not InstanceStatus.RUNNING:
        budget.check(training=True)
        away = context.clock.monotonic() - since
        if status is InstanceStatus.OFFLINE and away > limits.dead_after_s:
            raise InstanceDead(f"the instance has been offline for more than {limits.dead_after_s:.0f} s")
        if status not in {InstanceStatus.OFFLINE, None} and away > limits.stall_s:
            over = f"the instance does not run, for longer than {limits.stall_s:.0f} s"
            stop_over(context, reporter, over, "limits.stall_s")
        context.clock.sleep(limits.poll_s)


def _status(context: RunnerContext) -> InstanceStatus | None:
    """Status of the instance by the provider; None when it cannot be asked. Raises as ``require_running`` else."""
    try:
        return provision.require_running(context)
    except InstanceDead:
        raise
    except ProviderUnavailable:
        return None


def _start(context: RunnerContext, session: TrainingSession) -> bool:
    """Start the job's command, by the strategy that was settled; an unmodified trainer's behind a line of its own."""
    job, history = context.job, context.history
    context.require_lease()
    found, _ = carried(job)  # of one that is not here any more the training does without
    command, variables = strategy.started(job, strategy_facts.used(history))
    found |= variables
    if not job.unmodified or history.alive is None:
        return session.start(command, found, told.told(job))
    line = LaunchLine(job.name, str(history.alive.instance_id), history.launches + 1)
    marked = ("sh", "-c", 'printf "\\n%s\\n" "$0"; exec "$@"', str(line), *command)
    # Buffered, its records would come a page later than the bars that tell their steps.
    return session.start(marked, {**found, "PYTHONUNBUFFERED": "1"}, told.told(job))


def carried(job: Job) -> tuple[dict[str, str], tuple[str, ...]]:
    """Variables that the job file has the training get, by name, and the names of those that are not set here."""
    here = environment.variables()
    names = job.training.environment
    return {name: here[name] for name in names if here.get(name)}, tuple(name for name in names if not here.get(name))


def require_carried(job: Job) -> None:
    """Raise BadInput unless every variable that the job file names is set on this machine."""
    _, absent = carried(job)
    if absent:
        raise BadInput(
            f"training.environment names {', '.join(absent)}, which this machine's environment does not have",
            remedy=f"Set it ({absent[0]}), or take the name out of the job file.",
        )


def _record_launch(context: RunnerContext, why: str) -> None:
    launched = Relaunched if context.history.launches else Launched
    command, _ = strategy.started(context.job, strategy_facts.used(context.history))
    context.record(launched(command, why))


def _ends_after_death(context: RunnerContext, state: SessionState, reporter: ProgressReporter) -> bool:
    """False when the session, which no longer runs, is launched again; True when it ended well or died too often."""
    if state.exit_status == 0:
        if context.history.trained_at is None:
            context.record(Trained(context.clock.now() - (state.ended_s or 0.0)))
        return True
    how = "was killed" if state.exit_status is None else f"ended with status {state.exit_status}"
    if context.history.launches > context.job.limits.relaunches:
        reporter.note(f"the training {how}, and has been launched {context.history.launches} times")
        return True
    reporter.note(f"the training {how}: launching it again, it goes on from its newest complete checkpoint")
    switch.arm(context, reporter)
    if _start(context, training_session(context)):
        _record_launch(context, f"the training {how}")
    return False


def _ends_on(gate: GateResult, context: RunnerContext, reporter: ProgressReporter, budget: BudgetWatch) -> bool:
    """True when the watch is over: in mid-training only what cannot mend itself has consequences."""
    failed = {result.id for result in gate.results if result.verdict is Verdict.FAIL}
    if hopeless := sorted(_HOPELESS & failed):
        stop_training(context, reporter, f"what it trains is lost already: {', '.join(hopeless)}")
        return True
    if _HANGS in failed and budget.training_s > context.job.limits.stall_s:  # a fresh attempt has its own time to speak
        stop_training(context, reporter, "it made no progress")
    return False


def _pause_s(context: RunnerContext, seen: TrainingFacts) -> float:
    """Seconds to the next look: short once nothing but the export is left, for from its end on the box idles."""
    poll_s = context.job.limits.poll_s
    return min(poll_s, _CLOSE_POLL_S) if _part(context.job, seen) == EXPORT else poll_s


def _part(job: Job, seen: TrainingFacts) -> str | None:
    """Part that the training is at by its log: the trainer after the last that is complete, at the end the export."""
    log = seen.log.value
    if log is None or not _has_spoken(log):
        return None
    complete = [at for at, trainer in enumerate(job.trainers, start=1) if log.of(trainer).complete is not None]
    return (*job.trainers, EXPORT)[max(complete, default=0)]


def _record_part(context: RunnerContext, seen: TrainingFacts) -> None:
    part, state = _part(context.job, seen), seen.session.value
    if part is not None and part != context.history.at_work and state is not None and state.alive:
        context.record(AtWork(part))


def _attempts(log: LogSummary | None) -> int:
    """Number of trainings that have begun in this log: an earlier attempt's words are not this one's."""
    return log.attempts if log is not None else 0


def _awaited(log: LogSummary | None, *, unmodified: bool = False) -> str:
    """The word of a training's log that comes next, of those that its launch is judged by."""
    if unmodified:
        return "waiting for the first record of a step: libraries, data and the base model load"
    if log is None or log.data is None:
        return "waiting for the log's proof line: libraries and data load"
    return "waiting for the plan" if log.plan is None else "waiting for the first steps: the base model loads"


def _has_spoken(log: LogSummary | None) -> bool:
    announced = log is not None and (log.plan is not None or log.rests_on is RestsOn.TRAINER)
    return log is not None and announced and any(trainer.steps for trainer in log.trainers.values())


def _show(job: Job, seen: TrainingFacts, reporter: ProgressReporter) -> None:
    log = seen.log.value
    at = pace(log, job.training.steps, job.limits.s_per_step) if log is not None else None
    if log is None or at is None:
        return
    detail = f"{at.trainer} loss {at.loss:.4g}" if at.trainer and at.loss is not None else ""
    rows = (log.rows_a_step(at.trainer) or job.training.rows_a_step(at.trainer)) if at.trainer else 0
    if at.trainer and rows and (rate := log.of(at.trainer).samples_per_s(rows)):
        detail += f", {rate:.1f} samples/s"
    reporter.meter(STEPS, at.step, at.total, detail)
