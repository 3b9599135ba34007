"""Preconditions of a destruction, looked at anew each time. They look and refuse; they change nothing."""

from __future__ import annotations

import posixpath
from pathlib import Path, PurePosixPath

from harness.context import JobContext
from harness.core.errors import HarnessError, HostUnreachable, Refused
from harness.core.observed import CouldNotLook
from harness.core.ports import Instance, InstanceStatus
from harness.core.questions import DigestOf, Glob, ProcessesUnder
from harness.core.text import printable
from harness.job.model import Job
from harness.ledger.events import Guarded, Opened
from harness.ledger.history import Rental
from harness.release import release as releases

_CANNOT_RUN = frozenset({InstanceStatus.STOPPED, InstanceStatus.EXITED})
"""States in which no process runs on the box; its disk can wait."""

DEAD = frozenset({InstanceStatus.OFFLINE, InstanceStatus.EXITED})
"""States of an instance in whose place another may be rented."""

_NOT_YET = frozenset({InstanceStatus.PROVISIONING, InstanceStatus.CREATED, InstanceStatus.LOADING})
"""States on the way to a first start. A missing start time alone says nothing: the provider leaves it out at times."""

OTHERS = "somebody else: this job never asked for its destruction"
"""Doer of a destruction that this job finds done."""

_OUTPUTS = ("models/output", ".harness/aside/*/models/output")
"""Folders in which a training leaves its outputs, and an upload puts those of an attempt with another package."""


class BoxUnseen(Refused):
    """The box itself could not be looked at."""


_ANEW = "harness run JOB judges it anew, by what is demanded today."


def inspect(context: JobContext, rental: Rental, instance: Instance) -> Guarded:
    """Look at every precondition but the file's bytes and the operator's word.

    Raises Refused naming the first that does not hold.
    """
    now = context.clock.now()
    release = valid_release(context, now)
    late = releases.outdated(context.history)
    if late:
        raise Refused("the release is not valid: " + "; ".join(late.values()), remedy=_ANEW)
    require_ours(context, rental, instance)
    running, remote = _box(context, instance)
    return guarded(context, release, now, instance.label, running=running, remote=remote)


def guarded(
    context: JobContext,
    release: releases.Release,
    now: float,
    label: str | None,
    *,
    running: tuple[str, ...] = (),
    remote: str,
) -> Guarded:
    """Record of what was seen at ``now``."""
    sha256 = context.history.release_sha256
    return Guarded(now, release.instance_id, label, sha256, release.sha256, running, remote)


def valid_release(context: JobContext, now: float) -> releases.Release:
    """The job's release, as it is recorded. Raises Refused for one that is missing or void."""
    path = context.history.release_path
    if path is None:
        raise Refused("there is no release: no artifact of this job has passed the postdownload gate")
    try:
        release = releases.read(Path(path))
    except HarnessError as error:
        raise Refused(f"the release cannot be read: {error}") from error
    problems = releases.problems(release, context.history, now)
    if problems:
        raise Refused("the release is not valid: " + "; ".join(problems), remedy=_ANEW)
    here = context.provider().name
    if release.provider != here:
        raise Refused(f"the release is for an instance of {release.provider}, this job's provider is {here} now")
    return release


def require_ours(context: JobContext, rental: Rental, instance: Instance) -> None:
    """Raise Refused unless the instance carries this job's label, and the key is its owner's."""
    user = context.provider().account().user_id
    if rental.owner is not None and user != rental.owner:
        raise Refused(
            f"instance {instance.id} was rented by user {rental.owner}, the API key is user {user}'s",
            remedy="Use the API key of the account that rented it.",
        )
    if (instance.label or "") != rental.label:
        raise Refused(
            f"instance {instance.id} carries the label {instance.label!r}, this job's is {rental.label!r}",
            remedy="It may be somebody else's by now: look at the provider's console.",
        )


def _box(context: JobContext, instance: Instance) -> tuple[tuple[str, ...], str]:
    """Processes left on the box, and how the artifact there stands; raises Refused for any, and when it cannot look."""
    if instance.status in _CANNOT_RUN:
        return (), f"not asked: the instance is {instance.status}"
    artifact = context.history.artifact
    if artifact is None:
        raise Refused("no artifact was recorded on the box")
    places = [ProcessesUnder(place) for place in _places(context)]
    files = {DigestOf(str(PurePosixPath(artifact.path, part.path))): part for part in artifact.parts}
    try:
        answers = context.host().probe([*places, *files], timeout=600)
        running = tuple(process for place in places for process in answers[place].get().at_work())
        digests = {question: answers[question].get() for question in files}
    except (HostUnreachable, CouldNotLook) as error:
        raise BoxUnseen(
            f"the box could not be looked at: {error}",
            remedy="When it answers again: harness destroy. To save money meanwhile, stop it: the disk is kept.",
        ) from error
    if running:
        raise Refused(
            "something still runs on the box: " + "; ".join(running[:5]),
            remedy="Wait for it to end or end it, then: harness destroy.",
        )
    for question, part in files.items():
        if digests[question].exists and digests[question].sha256 != part.sha256:
            raise Refused(
                f"{printable(question.path, 300)} on the box has changed since it was verified: "
                f"it is {digests[question].sha256} now",
                remedy="harness run JOB looks at it again.",
            )
    gone = sum(not digest.exists for digest in digests.values())
    some = f"unchanged, but for {gone} of {len(files)} files that are no longer there"
    return running, "unchanged" if not gone else "no longer there" if gone == len(files) else some


def _places(context: JobContext) -> tuple[str, ...]:
    """Folders on the box in which the package lies, or lay before its job file was changed."""
    opened = context.history.all(Opened)
    return tuple(dict.fromkeys(Job.model_validate(one.job, extra="ignore").package.remote_dir for one in opened))


def of_value(context: JobContext, instance: Instance) -> tuple[str, ...]:
    """Checkpoints, adapters and model files on the box, or why they could not be looked for; empty when none is."""
    if context.job.adopted:
        return ("whatever lies on an instance that this job has not rented",)
    if not has_run(context, instance):
        return ()
    if instance.status in _CANNOT_RUN | DEAD:
        return (f"the box could not be looked at: the instance is {instance.status}",)
    outputs = [posixpath.join(place, within) for place in _places(context) for within in _OUTPUTS]
    globs = [Glob(f"{output}/{one}") for output in outputs for one in ("*/checkpoint-*", "adapter", "final/*")]
    globs += [Glob(posixpath.join(place, context.job.artifact.remote_dir, "*")) for place in _places(context)]
    try:
        answers = context.host().probe(globs)
        found = [answers[glob].get() for glob in globs]
    except (HostUnreachable, CouldNotLook) as error:
        return (f"the box could not be looked at: {error}",)
    return tuple(dict.fromkeys(entry.path for entries in found for entry in entries))


def has_run(context: JobContext, instance: Instance) -> bool:
    """True when it ever ran, as far as its row and this job can tell; in doubt it did."""
    return instance.started_at is not None or instance.status not in _NOT_YET or context.history.pin is not None
