"""Teardown: what the guard saw before it destroyed, and what is left afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from harness import orphans as strays
from harness import release
from harness.absence import AbsenceProof, BillingProof
from harness.facts.desk import Desk
from harness.facts.reading import attempt
from harness.observed import CouldNotLook, Observed


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


def look(desk: Desk) -> TeardownFacts:
    """Read the guard's record, the local file, and the provider's listing."""
    return TeardownFacts(
        release_problems=attempt(lambda: _release_problems(desk)),
        file_problems=attempt(lambda: _file_problems(desk)),
        running=attempt(lambda: tuple(str(one) for one in _guarded(desk)["running"])),
        confirmed=attempt(lambda: _confirmed(desk)),
        absence=attempt(lambda: _absence(desk)),
        billing=attempt(lambda: _billing(desk)),
        volumes=attempt(lambda: _volumes(desk)),
        orphans=attempt(lambda: orphans(desk)),
    )


def orphans(desk: Desk) -> tuple[str, ...]:
    """Instances and volumes that this tool has to do with and that no job in the ledger answers for.

    Raises CouldNotLook when a job's log does not read: what it would answer for, or tell to be gone, is not known.
    """
    provider = desk.provider()
    listed, stored, known = provider.instances().instances, provider.volumes(), desk.known()
    found = strays.stray(known, listed, stored, desk.job.provider.kept_volumes)
    if known.unreadable:
        raise CouldNotLook(
            f"the log of job {', '.join(known.unreadable)} does not read, and what it has rented is not known;"
            f" without it nobody answers for: {'; '.join(found) or 'nothing that is listed under our labels'}"
        )
    return found


def _volumes(desk: Desk) -> tuple[str, ...]:
    mounted = {job_volume for job_volume, job in desk.known().volumes.items() if job == desk.job.name}
    unwanted = mounted - set(desk.job.provider.kept_volumes)
    return tuple(strays.described(one) for one in desk.provider().volumes() if one.id in unwanted)


def _release(desk: Desk) -> release.Release:
    if desk.history.release_path is None:
        raise CouldNotLook("no release was made")
    return release.read(Path(desk.history.release_path))


def _release_problems(desk: Desk) -> tuple[str, ...]:
    # The release was short-lived on purpose: it had to be valid when the guard used it.
    return release.problems(_release(desk), desk.history, float(_guarded(desk)["at"]))


def _file_problems(desk: Desk) -> tuple[str, ...]:
    if desk.history.verified is None:
        raise CouldNotLook("no verified file is recorded")
    problem = release.file_problem(_release(desk), Path(desk.history.verified.path))
    return (problem,) if problem else ()


def _guarded(desk: Desk) -> Mapping[str, Any]:
    if desk.history.guarded is None:
        raise CouldNotLook("the guard has not looked yet")
    return desk.history.guarded


def _confirmed(desk: Desk) -> str:
    if desk.history.confirmed is None:
        raise CouldNotLook("nobody confirmed the destruction")
    return desk.history.confirmed


def _destroyed(desk: Desk, proof: str) -> Any:
    told = (desk.history.destroyed or {}).get(proof)
    if told is None:
        raise CouldNotLook(f"there is no proof of {proof}: the destroy was requested at most")
    return told


def _absence(desk: Desk) -> AbsenceProof:
    return TypeAdapter(AbsenceProof).validate_python(_destroyed(desk, "absence"))


def _billing(desk: Desk) -> BillingProof:
    return TypeAdapter(BillingProof).validate_python(_destroyed(desk, "billing"))
