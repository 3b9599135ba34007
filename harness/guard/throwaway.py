"""The small door: gives back the instance that a conformance run rented for itself. No job's instance fits through it.

What may go is what this run's journal says was to be rented, before it was: its number if that is recorded, the run's
own label, the account that rented it, nothing mounted; and what no job's log here has ever had. A job's instance bears
another label, for no job's name begins as a run's label goes on. On any doubt nothing is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from harness.core.errors import NotProven, ProviderUnavailable, Refused
from harness.core.ids import InstanceId
from harness.core.ports import Clock, DestroyReply, Instance, Provider
from harness.core.text import printable
from harness.guard.preconditions import NOT_YET
from harness.ledger.ownership import Known
from harness.ledger.throwaway import Throwaway, TrialStep
from harness.release.absence import AbsenceProof, BillingProof, billing_stopped, look_for, prove_absence

DEADLINE_S = 600.0
"""How long a proof may take, seconds: as a job's ``limits.absence_deadline_s``."""

_WINDOW_S = 60.0
_LOST_WINDOW_S = 180.0
"""For so long nothing may show after a create whose reply was lost, as for a job."""


def find(provider: Provider, run: Throwaway, clock: Clock) -> InstanceId | None:
    """Number of the run's instance, recorded; None, recorded too, when it is proven that nothing was rented.

    Raises Refused for more than one, NotProven as ``look_for``.
    """
    if run.instance_id is not None:
        return run.instance_id
    found = look_for(
        provider,
        clock,
        run.labels,
        agreements=3,
        window_s=_LOST_WINDOW_S,
        deadline_s=_LOST_WINDOW_S + DEADLINE_S,
    ).instances
    if len(found) > 1:
        raise _refused(f"instances {', '.join(str(one.id) for one in found)} bear this run's label")
    if not found:
        run.record(TrialStep.NOT_RENTED, why="nothing shows that bears the label")
        return None
    run.record(TrialStep.RENTED, instance_id=found[0].id)
    return found[0].id


def ask(
    provider: Provider, run: Throwaway, known: Known, note: Callable[[str], None]
) -> DestroyReply | ProviderUnavailable | None:
    """Ask the provider once to destroy the run's instance: its answer, or why it gave none; None when nothing shows.

    Raises Refused, asking nothing, for whatever is not provably this run's and nobody else's.
    """
    instance = provider.instance(_recorded(run))
    if instance is None:
        return None
    _require_throwaway(provider, run, instance, known)
    ran = instance.started_at is not None or instance.status not in NOT_YET
    run.record(TrialStep.DESTROY_INTENDED, instance_id=instance.id, ran=ran)
    try:
        reply = provider.destroy(instance.id)
    except ProviderUnavailable as error:
        said = printable(str(error), 500)
        note(f"the answer to the destroy cannot be relied on ({said}); looking whether instance {instance.id} goes")
        run.record(TrialStep.DESTROY_REQUESTED, reply=f"unclear: {said}")
        return error
    run.record(TrialStep.DESTROY_REQUESTED, reply=str(reply))
    return reply


def prove_gone(provider: Provider, run: Throwaway, clock: Clock) -> AbsenceProof:
    """Proof that the run's instance is gone, recorded. Raises NotProven."""
    proof = prove_absence(provider, _recorded(run), clock, deadline_s=DEADLINE_S, window_s=_WINDOW_S, owner=run.owner)
    run.record(TrialStep.GONE, looks=[asdict(one) for one in proof.looks])
    return proof


def prove_unbilled(provider: Provider, run: Throwaway, clock: Clock) -> BillingProof:
    """Proof that it is charged no more, recorded. Raises NotProven."""
    if run.last(TrialStep.GONE) is None:
        raise NotProven(f"instance {run.instance_id} is not proven to be gone")
    asked = run.last(TrialStep.DESTROY_INTENDED)
    proof = billing_stopped(
        provider,
        _recorded(run),
        clock,
        deadline_s=DEADLINE_S,
        window_s=_WINDOW_S,
        expect_charges=asked is None or asked["ran"],
    )
    run.record(TrialStep.UNBILLED, usd=proof.usd)
    return proof


def _recorded(run: Throwaway) -> InstanceId:
    if run.instance_id is None or run.last(TrialStep.RENT_INTENDED) is None:
        raise _refused("this run has rented nothing that its journal tells of")
    return run.instance_id


def _require_throwaway(provider: Provider, run: Throwaway, instance: Instance, known: Known) -> None:
    """Raise Refused for an instance that is not provably this run's, or in which something of anybody's may lie."""
    user = provider.account().user_id
    wrong = [
        (not run.labels(instance.label), f"it bears the label {printable(repr(instance.label), 120)}, not this run's"),
        (user != run.owner, f"the API key is user {user}'s, the run was user {run.owner}'s"),
        (instance.id in known.instances, "a job's log says that it is that job's"),
        (bool(known.unreadable), f"the log of job {', '.join(known.unreadable)} does not read: it may be that job's"),
        (bool(instance.volumes), f"volume {', '.join(map(str, instance.volumes))} is mounted in it"),
        (run.may_bill is False, "this run has proven that its own is gone"),
    ]
    for found, why in wrong:
        if found:
            raise _refused(f"instance {instance.id}: {why}")


def _refused(why: str) -> Refused:
    return Refused(
        f"nothing was asked to be destroyed: {why}",
        remedy="Look at the provider's console, and end there what is yours; harness orphans shows what bills.",
    )
