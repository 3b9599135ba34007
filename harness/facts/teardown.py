"""Teardown: what the guard saw before it destroyed, and what is left afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from harness.context import JobContext
from harness.core.observed import CouldNotLook, Observed
from harness.facts.reading import attempt, needed
from harness.ledger import ownership as strays
from harness.ledger.events import Guarded
from harness.release import release
from harness.release.absence import AbsenceProof, BillingProof, hidden

_LOOKS = 4
_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class TeardownFacts:
    """One look after the instance was destroyed; ``release_problems`` is empty for a valid release.

    ``volumes`` were mounted in the instance and still bill, and are not meant to.
    """

    release_problems: Observed[tuple[str, ...]]
    file_problems: Observed[tuple[str, ...]]
    running: Observed[tuple[str, ...]]
    confirmed: Observed[str]
    absence: Observed[AbsenceProof]
    billing: Observed[BillingProof]
    volumes: Observed[tuple[str, ...]]
    orphans: Observed[tuple[str, ...]]


def look(context: JobContext) -> TeardownFacts:
    """Read the guard's record, the local file, and the provider's listing."""
    return TeardownFacts(
        release_problems=attempt(lambda: _release_problems(context)),
        file_problems=attempt(lambda: _file_problems(context)),
        running=attempt(lambda: _guarded(context).running),
        confirmed=attempt(lambda: _confirmed(context)),
        absence=attempt(lambda: _absence(context)),
        billing=attempt(lambda: _billing(context)),
        volumes=attempt(lambda: _volumes(context)),
        orphans=attempt(lambda: orphans(context)),
    )


def orphans(context: JobContext) -> tuple[str, ...]:
    """Instances and volumes that this tool has to do with and that no job in the ledger answers for.

    Raises CouldNotLook when the list lacks an instance that shows, and when a job's log does not read: what it would
    answer for, or tell to be gone, is not known.
    """
    provider = context.provider()
    stored, known = provider.volumes(), context.known()
    for look in range(_LOOKS):  # what was rented a moment ago may show before it is listed
        if look:
            context.clock.sleep(_PAUSE_S)
        listing = provider.instances()
        if (unlisted := hidden(provider, listing, known.alive())) is None:
            break
    if unlisted is not None:
        told = known.instances[unlisted].job
        raise CouldNotLook(f"the list lacks instance {unlisted} of job {told}, which shows: it is not whole")
    found = strays.stray(known, listing.instances, stored, context.job.provider.kept_volumes)
    if known.unreadable:
        raise CouldNotLook(
            f"the log of job {', '.join(known.unreadable)} does not read, and what it has rented is not known;"
            f" without it nobody answers for: {'; '.join(found) or 'nothing that is listed under our labels'}"
        )
    return found


def _volumes(context: JobContext) -> tuple[str, ...]:
    mounted = {job_volume for job_volume, job in context.known().volumes.items() if job == context.job.name}
    unwanted = mounted - set(context.job.provider.kept_volumes)
    return tuple(strays.described(one) for one in context.provider().volumes() if one.id in unwanted)


def _release(context: JobContext) -> release.Release:
    return release.read(Path(needed(context.history.release_path, "no release was made")))


def _release_problems(context: JobContext) -> tuple[str, ...]:
    # The release was short-lived on purpose: it had to be valid when the guard used it.
    return release.problems(_release(context), context.history, _guarded(context).at)


def _file_problems(context: JobContext) -> tuple[str, ...]:
    verified = needed(context.history.verified, "no verified file is recorded")
    problem = release.file_problem(_release(context), Path(verified.path))
    return (problem,) if problem else ()


def _confirmed(context: JobContext) -> str:
    """Consent to the destruction; for one that this job did not ask for, that it did not."""
    destroyed = context.history.destroyed
    if destroyed is not None and destroyed.by is not None:
        return f"not asked: it was destroyed by {destroyed.by}"
    return needed(context.history.confirmed, "nobody confirmed the destruction")


def _guarded(context: JobContext) -> Guarded:
    return needed(context.history.guarded, "the guard has not looked yet")


def _absence(context: JobContext) -> AbsenceProof:
    destroyed = needed(context.history.destroyed, "there is no proof of absence: the destroy was requested at most")
    return TypeAdapter(AbsenceProof).validate_python(destroyed.absence)


def _billing(context: JobContext) -> BillingProof:
    destroyed = context.history.destroyed
    billing = destroyed.billing if destroyed is not None else None
    told = needed(billing, "there is no proof of billing: the destroy was requested at most")
    return TypeAdapter(BillingProof).validate_python(told)
