"""After the instance died: another may take its place, if a person agrees and the budget allows.

The dead one is proven to be gone before anything is rented: at most one instance of a job is billed,
and none that may still live is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.context import RunnerContext
from harness.core.errors import GateHeld, InstanceDead
from harness.core.ids import InstanceId
from harness.core.ports import Offer
from harness.facts.mirror import MIRROR, Resumable, resumable
from harness.guard import destroy
from harness.guard.preconditions import DEAD
from harness.job import estimate
from harness.ledger import billing
from harness.runner import renting, switch
from harness.runner.progress import ProgressReporter
from harness.runner.renting import Ask, RentPlan

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
    # None may be on offer: the machine that fits may be the dead one's own. Once it is gone, a plan is asked for anew.
    offers = renting.on_offer(context.job, context.provider(), context.history)
    how = renting.ask(context, agreement.to_rent, shown := _another(context, offers, str(dead), resume, said))
    if how is None:
        reporter.note(f"on another instance {said}")
        return False
    _require_budget(context, spent, resume)
    if not _stays_dead(context, rental.instance_id, reporter):
        return True
    if shown.offers:
        context.record(shown.agreed(how))
    machine_id, package = rental.offer["machine_id"], context.history.package
    destroy.replace(context, agreement.to_lose, reporter.note, how=how, machine_id=machine_id, package=package)
    switch.revoke(context, reporter.note)
    context.forget_connections()
    reporter.note(f"instance {rental.instance_id} is proven to be gone; on another one {said}")
    return True


def planned(context: RunnerContext, offers: Sequence[Offer]) -> RentPlan:
    """The plan of the next rental: in the place of an instance that is proven to be gone, it says so.

    Raises GateHeld when such a one is over the budget.
    """
    lost = context.history.lost
    if lost is None:
        return renting.plan(context.job, offers, context.earlier(), context.history)
    resume = to_go_on_from(context)
    _require_budget(context, billing.spent(context.history, context.clock.now()) or 0.0, resume)
    said = where_it_goes_on(resume, another=context.history.repackaged)
    return _another(context, offers, f"instance {lost.instance_id} died, and is proven to be gone", resume, said)


def _another(
    context: RunnerContext, offers: Sequence[Offer], dead: str, resume: Resumable | None, said: str
) -> RentPlan:
    """The plan of another instance in the place of a dead one."""
    meaning = f"{dead}. Another instance costs at most ${_needed(context, resume):.2f} to the end of the job; on it "
    done = estimate.NOTHING if resume is None else resume.steps
    return renting.plan(context.job, offers, context.earlier(), context.history, done=done, meaning=f"{meaning}{said}")


def _needed(context: RunnerContext, resume: Resumable | None) -> float:
    """Most that another instance costs to the end of the job (USD)."""
    return estimate.cost(context.job, estimate.NOTHING if resume is None else resume.steps).total


def to_resume(context: RunnerContext) -> Resumable | None:
    """Mirrored checkpoints that the job's training can go on from on another box."""
    return resumable(context.directory / MIRROR, context.job)


def to_go_on_from(context: RunnerContext) -> Resumable | None:
    """Those of the instance that died, for the next one to go on from: none of another package's."""
    history = context.history
    return to_resume(context) if history.lost is not None and not history.repackaged else None


def where_it_goes_on(resume: Resumable | None, *, another: bool = False) -> str:
    """Place from which the training goes on, in words; ``another``: its package is not the checkpoints' own."""
    if another:
        return "the training begins anew: the package is another one"
    if resume is None:
        return "the training begins anew: nothing that it could go on from is mirrored here"
    trainer, step = list(resume.steps.items())[-1]
    return f"the training goes on from {trainer} step {step}, which is mirrored here"


def _require_budget(context: RunnerContext, already: float, resume: Resumable | None) -> None:
    """Raise GateHeld when the USD spent ``already`` and those for the rest come to more than the budget."""
    needed, budget = _needed(context, resume), context.job.limits.budget_usd
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
