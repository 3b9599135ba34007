"""At most one instance a job, whatever the ledger remembers: what it may have rented is found before it rents."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

from harness.context import RunnerContext
from harness.core.errors import AmbiguousCreate, GateHeld, NotProven, ProviderUnavailable, Refused, Unaccounted
from harness.core.ids import InstanceId
from harness.core.ports import Account, Instance, Volume
from harness.core.text import command_line, printable
from harness.ledger.events import Abandoned, Lost, Opened, Rented, RentFailed, RentIntended
from harness.ledger.ownership import described
from harness.ledger.remembered import Remembered, remembered
from harness.ledger.traces import Traces
from harness.ledger.two_clocks import TwoClocks
from harness.release.absence import look_for
from harness.runner.progress import ProgressReporter

_AGREEMENTS = 3
_LOST_PARTS = 3
"""Windows for which nothing may show after a rent that may have happened, counted in this run: by no wall clock."""

_AGAIN = (
    "Run the same command again: it looks for the instance before it rents another. What it names as perhaps this "
    "job's and is somebody else's: give it a label of its own in the provider's console."
)


def find_rented(context: RunnerContext, reporter: ProgressReporter) -> None:
    """Before anything is rented: whatever carries this job's label, and what its folder tells of, is looked for.

    A rent that was begun may have happened after its reply was lost; a ledger may be older than the job. What
    provably is this job's is recorded as rented; raises Unaccounted for anything else, and for more than one instance;
    AmbiguousCreate when it is not proven that there is none.
    """
    history, job, now = context.history, context.job, context.clock.now()
    begun, provider_now = history.intended, None
    told = [one for one in remembered(context.directory, job.name) if one.label not in history.labels]
    if begun is not None:
        reporter.note(f"a rent was begun before ({begun.label}): looking for it")
        provider_now = _required(context, begun).at
    if told:
        numbers = ", ".join(str(one.instance_id) for one in told)
        reporter.note(f"the job's folder tells of instance {numbers}, the ledger does not: looking for it")
    traces = Traces(history, context.known(), TwoClocks.told(provider_now, now))
    _require_untrained(traces)
    billed = cache(partial(_billed, context, traces))
    window_s = job.limits.absence_window_s * (1 if begun is None and not told else _LOST_PARTS)
    try:
        found = look_for(
            context.provider(),
            context.clock,
            traces.labelled,
            known=[*(one.instance_id for one in told), *(() if begun is None else billed())],
            billed=billed,
            alive=traces.known.alive(),
            doubt=traces.doubt,
            agreements=_AGREEMENTS,
            window_s=window_s,
            deadline_s=window_s + job.limits.absence_deadline_s,
        )
    except NotProven as error:
        raise AmbiguousCreate(str(error), remedy=_AGAIN) from error
    stored = [one for one in found.volumes if one.id not in job.provider.kept_volumes]
    if stored or len(found.instances) > 1:
        raise _not_ours(context, found.instances, stored)
    if found.instances:
        _take_over(context, reporter, found.instances[0], told)
    elif begun is not None:
        context.record(RentFailed(begun.label, "no instance carries the label"))


def _require_untrained(traces: Traces) -> None:
    """Raise Refused when another job of this ledger took this job's instance over and has its model: it is done."""
    by = next((job for label, job in traces.known.taken_over.items() if traces.labelled(label)), None)
    if by is not None:
        raise Refused(
            f"job {by} took this job's instance over and is closed: its model is home, and nothing is rented for it",
            remedy=f"harness report {by} names the file. To train once more, give the job another name.",
        )


def _billed(context: RunnerContext, traces: Traces) -> tuple[InstanceId, ...]:
    """Instances that the account was billed for under this job's label: a list that is empty hides none of them."""
    try:
        bills = context.provider().bills()
    except ProviderUnavailable:
        return ()  # the looks at the lists go on without
    return tuple(InstanceId(bill.id) for bill in bills if bill.kind == "instance" and traces.labelled(bill.label))


def _take_over(context: RunnerContext, reporter: ProgressReporter, found: Instance, told: Sequence[Remembered]) -> None:
    """Record as rented what this job provably rented: its label is in the log or its folder, and no end of it."""
    history = context.history
    owner = context.provider().account().user_id
    ended = {one.instance_id for one in history.all(Rented)}
    ended |= {one.instance_id for one in history.all(Abandoned)} | {one.instance_id for one in history.all(Lost)}
    intents = [one for one in history.all(RentIntended) if one.label == found.label and found.id not in ended]
    for one in told:
        if (one.instance_id, one.label) == (found.id, found.label):
            intents.append(RentIntended(one.label, one.offer, owner))
            context.record(intents[-1])
    if not intents:
        raise _not_ours(context, (found,), ())
    record_rented(context, intents[-1], found.id)
    reporter.note(f"found it: instance {found.id}")


def _required(context: RunnerContext, begun: RentIntended) -> Account:
    """The account that a rent was begun by; raises GateHeld when the API key is another's."""
    account = context.provider().account()
    if begun.owner is not None and account.user_id != begun.owner:
        raise GateHeld(
            f"the rent {begun.label} was begun by user {begun.owner}, the API key is user {account.user_id}'s: it "
            "cannot show whether an instance came of it",
            remedy=f"Use user {begun.owner}'s API key, and run the same command again.",
        )
    return account


def _not_ours(context: RunnerContext, instances: Sequence[Instance], volumes: Sequence[Volume]) -> Unaccounted:
    """The hold of a job under whose label something bills that it cannot account for: nothing is rented beside it."""
    name = context.job.name
    lines = [f"instance {one.id} ({one.label}, {one.status}, ${one.usd_per_hour:.2f}/h)" for one in instances]
    lines += [described(one) for one in volumes]
    file = command_line([context.history.all(Opened)[-1].file])
    ways = [f"harness destroy --instance-id {one.id} --job-file {file}" for one in instances]
    bring = f"Without one: {' or '.join(ways)} brings home what it has trained and destroys it. " if ways else ""
    return Unaccounted(
        printable(f"under this job's label there is, and the ledger does not account for it: {'; '.join(lines)}", 2000),
        remedy="A ledger that was restored, lost or is another machine's: put the newest state.db back and run the "
        f"same command again. {bring}What holds nothing is deleted in the provider's console; "
        f"harness orphans {name} shows what is left.",
    )


def record_rented(context: RunnerContext, intended: RentIntended, instance_id: InstanceId) -> None:
    """Record that the intended rent has happened."""
    offer = intended.offer
    context.record(Rented(instance_id, intended.label, offer, offer["usd_per_hour"], intended.owner))
