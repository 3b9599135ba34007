"""After the instance died: another may take its place, if a person agrees and the budget allows.

The dead one is proven to be gone before anything is rented: at most one instance of a job is billed,
and none that may still live is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.artifacts import digest
from harness.context import RunnerContext
from harness.core.canonical import canonical
from harness.core.errors import GateHeld, InstanceDead
from harness.core.ids import InstanceId, Sha256
from harness.facts.mirror import MIRROR, Resumable, resumable
from harness.guard import destroy
from harness.guard.preconditions import DEAD
from harness.job import estimate
from harness.ledger.history import History
from harness.runner import renting
from harness.runner.progress import ProgressReporter
from harness.runner.renting import Ask

_LOOK_S = 2.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """Answers of a person, asked anew each time.

    ``to_rent`` is shown the plan of a rental: how they agreed, or None. ``to_lose`` is given the sentence that
    accepts the loss of what lies on an instance that is still shown.
    """

    to_rent: Ask
    to_lose: Callable[[str], bool]


NOBODY_AGREES = Agreement(lambda _: None, lambda _: False)


def replace(
    context: RunnerContext, reporter: ProgressReporter, dead: InstanceDead, agreement: Agreement, spent: float
) -> bool:
    """True when the job goes on, its dead instance given up or alive again; False when nobody agrees.

    ``spent``: cost of the job so far (USD).
    Raises GateHeld when the budget does not allow it; Refused or NotProven, as the guard does.
    """
    rental = context.history.alive
    if rental is None or context.job.adopted:  # a job that took its instance over has no other to rent
        return False
    resume = to_resume(context)
    said = where_it_goes_on(resume)
    done = resume.steps if resume is not None else estimate.NOTHING
    needed = estimate.cost(context.job, done).total
    shown = renting.plan(
        context.job,
        renting.fitting(context.job, context.provider(), context.history),
        context.earlier(),
        context.history,
        done=done,
        meaning=f"{dead}. Another instance costs at most ${needed:.2f} to the end of the job; on it {said}",
    )
    how = agreement.to_rent(shown)
    if how is None:
        reporter.note(f"on another instance {said}")
        return False
    _require_budget(context, spent, needed)
    if not _stays_dead(context, rental.instance_id, reporter):
        return True
    context.record(shown.agreed(how))
    machine_id, package = rental.offer["machine_id"], package_digest(context.history)
    destroy.replace(context, agreement.to_lose, reporter.note, how=how, machine_id=machine_id, package=package)
    context.forget_connections()
    reporter.note(f"instance {rental.instance_id} is proven to be gone; on another one {said}")
    return True


def to_resume(context: RunnerContext) -> Resumable | None:
    """Mirrored checkpoints that the job's training can go on from on another box."""
    training = context.job.training
    return resumable(context.directory / MIRROR, {"sft": training.sft_steps, "dpo": training.dpo_steps})


def steps_done(context: RunnerContext) -> Mapping[str, int]:
    """Steps that are not trained again on the next instance, by trainer: those mirrored of the one that died."""
    resume = to_resume(context) if context.history.lost is not None else None
    return estimate.NOTHING if resume is None else resume.steps


def where_it_goes_on(resume: Resumable | None) -> str:
    """Place from which the training goes on, in words."""
    if resume is None:
        return "the training begins anew: nothing that it could go on from is mirrored here"
    trainer, step = list(resume.steps.items())[-1]
    return f"the training goes on from {trainer} step {step}, which is mirrored here"


def package_digest(history: History) -> Sha256 | None:
    """Names the staged package: checkpoints are of use to the very package that made them."""
    return digest.of_bytes(canonical(history.staged.files)) if history.staged is not None else None


def _require_budget(context: RunnerContext, already: float, needed: float) -> None:
    """Raise GateHeld when what was spent and the USD ``needed`` for the rest come to more than the budget."""
    budget = context.job.limits.budget_usd
    if already + needed > budget:
        raise GateHeld(
            f"the instance died, and another one is over the budget: ${already:.2f} are spent, "
            f"${needed:.2f} more may be needed, the budget is ${budget:.2f}",
            remedy="Raise limits.budget_usd in the job file, then: harness run JOB --accept-changes "
            "--replace-dead-instance.",
        )


def _stays_dead(context: RunnerContext, instance_id: InstanceId, reporter: ProgressReporter) -> bool:
    """True when an instance that is still shown goes on being offline or exited for the limit; gone is gone."""
    limit = context.job.limits.dead_after_s
    deadline = context.clock.monotonic() + limit
    told = False
    while True:
        instance = context.provider().instance(instance_id)
        if instance is None or context.history.destroy_intended:
            return True
        if instance.status not in DEAD:
            reporter.note(f"instance {instance_id} is {instance.status} again")
            return False
        if context.clock.monotonic() > deadline:
            return True
        if not told:
            reporter.note(
                f"instance {instance_id} is {instance.status}: watching for {limit:.0f} s whether it stays so"
            )
            told = True
        context.clock.sleep(_LOOK_S)
