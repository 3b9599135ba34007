"""The one door: the only caller of ``Provider.destroy``. On any doubt the answer is hold.

Before the request, every precondition is looked at anew; after it, absence is proven. The
intent is in the event log before the request leaves this machine, so that a process killed
anywhere goes on from what is known: an instance that was asked to go is proven gone, or
asked again after the same looks.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from harness import release as releases
from harness.absence import billing_stopped, prove_absence
from harness.canonical import Json
from harness.errors import HarnessError, HostUnreachable, NotProven, ProviderUnavailable, Refused
from harness.facts.box import Digest, Entry, Processes
from harness.facts.desk import Desk
from harness.facts.reading import typed
from harness.history import Rental
from harness.job.model import Job
from harness.observed import CouldNotLook
from harness.ports import Instance, InstanceStatus, Question
from harness.text import printable

Confirm = Callable[[int, str], str | None]
"""Asks a person, given the instance's id and what will be destroyed: how they agreed, or None."""

_CANNOT_RUN = frozenset({InstanceStatus.STOPPED, InstanceStatus.EXITED})
"""States in which no process runs on the box; its disk can wait."""

_DEAD = frozenset({InstanceStatus.OFFLINE, InstanceStatus.EXITED})
"""States of an instance in whose place another may be rented."""

_AT_ONCE_S = 1.0
"""A word that took longer was waited for: the world may be another by then."""

_NOT_YET = frozenset({InstanceStatus.PROVISIONING, InstanceStatus.CREATED, InstanceStatus.LOADING})
"""States on the way to a first start. A missing start time alone says nothing: the provider leaves it out at times."""


class _BoxUnseen(Refused):
    """The box itself could not be looked at."""


class RecordingDesk(Desk, Protocol):
    """A desk that can also write to the job's event log."""

    def record(self, kind: str, data: Mapping[str, Json]) -> None:
        """Append an event; it is on the disk when this returns."""


def destroy(
    desk: RecordingDesk, confirm: Confirm, note: Callable[[str], None], release: Callable[[], None] = lambda: None
) -> None:
    """Destroy the job's instance and prove it gone.

    ``release`` is called first when there is something to destroy: a chance to record a release
    in place of one that has expired. Raises Refused, leaving the instance alive, when any
    precondition does not hold or cannot be looked at; NotProven when the request was made but
    absence, or the end of billing, could not be shown in time.
    """
    rental = desk.history.rental
    if rental is None:
        raise Refused("this job has rented no instance", remedy="harness orphans shows what else is alive.")
    gone = desk.history.destroyed
    if gone is not None:
        note(f"instance {rental.instance_id} is already proven to be gone")
        if "billing" not in gone:
            _prove_unbilled(desk, rental, gone["absence"])
        return
    instance = desk.provider().instance(rental.instance_id)
    if instance is None and desk.history.destroy_intended:
        note(f"instance {rental.instance_id} no longer shows; proving that it is gone")
    elif instance is None:
        raise Refused(
            f"the provider shows no instance {rental.instance_id}, and this job never asked for its destruction",
            remedy="Look at the provider's console: the key may belong to another account, or somebody destroyed it.",
        )
    else:
        release()
        _ask_for_destruction(desk, rental, instance, confirm=confirm, note=note, release=release)
    _prove_unbilled(desk, rental, _prove_gone(desk, rental))


def _ask_for_destruction(
    desk: RecordingDesk,
    rental: Rental,
    instance: Instance,
    *,
    confirm: Confirm,
    note: Callable[[str], None],
    release: Callable[[], None],
) -> None:
    """Look at every precondition, ask the operator, then the provider; raises Refused.

    Where that was asked before, an instance that still shows and whose box is silent may be on its way out:
    nothing is asked again, and the proof tells.
    """
    try:
        record = inspect(desk, rental, instance)
    except _BoxUnseen as unseen:
        if desk.history.destroy_reply is None:
            raise
        note(f"{unseen}; its destruction was requested before: looking whether it goes")
        return
    asked_at = desk.clock.monotonic()
    _confirmed(desk, rental, confirm)
    if desk.clock.monotonic() - asked_at > _AT_ONCE_S:
        release()
        instance = _still_shown(desk, rental)
        record = inspect(desk, rental, instance)
    desk.record("guarded", record)
    intent: dict[str, Json] = {"instance_id": rental.instance_id, "release": desk.history.release_sha256}
    desk.record("destroy_intended", {**intent, "volumes": list(instance.volumes)})
    reply = _request(desk, rental, note)
    desk.record("destroy_requested", {"instance_id": rental.instance_id, "reply": reply})


def _still_shown(desk: Desk, rental: Rental) -> Instance:
    instance = desk.provider().instance(rental.instance_id)
    if instance is None:
        raise Refused(
            f"the provider no longer shows instance {rental.instance_id}: somebody else has destroyed it, or hides it",
            remedy="Look at the provider's console before anything else.",
        )
    return instance


def _request(desk: RecordingDesk, rental: Rental, note: Callable[[str], None]) -> str:
    """Ask once. An answer that cannot be read may stand for a request that was carried out: the proof will tell."""
    try:
        return desk.provider().destroy(rental.instance_id).value
    except ProviderUnavailable as error:
        said = printable(str(error), 500)
        note(f"the answer to the request cannot be relied on ({said}); looking whether the instance goes")
        return f"unclear: {said}"


def inspect(desk: Desk, rental: Rental, instance: Instance) -> dict[str, Json]:
    """Look at every precondition but the operator's word; raises Refused naming the first that does not hold."""
    now = desk.clock.now()
    release = _release(desk, now)
    _local_file(desk, release)
    _ours(desk, rental, instance)
    running, remote = _box(desk, instance)
    return {
        "at": now,
        "instance_id": rental.instance_id,
        "label": instance.label,
        "release": desk.history.release_sha256,
        "sha256": release.sha256,
        "running": list(running),
        "remote": remote,
    }


def _release(desk: Desk, now: float) -> releases.Release:
    path = desk.history.release_path
    if path is None:
        raise Refused("there is no release: no artifact of this job has passed the postdownload gate")
    try:
        release = releases.read(Path(path))
    except HarnessError as error:
        raise Refused(f"the release cannot be read: {error}") from error
    problems = releases.problems(release, desk.history, now)
    if problems:
        raise Refused("the release is not valid: " + "; ".join(problems))
    here = desk.provider().name
    if release.provider != here:
        raise Refused(f"the release is for an instance of {release.provider}, this job's provider is {here} now")
    return release


def _local_file(desk: Desk, release: releases.Release) -> None:
    verified = desk.history.verified
    if verified is None:
        raise Refused("no verified file of this job is recorded")
    problem = releases.file_problem(release, Path(verified.path))
    if problem is not None:
        raise Refused(
            f"the verified file no longer matches its release: {problem}",
            remedy="The instance still has it: harness run JOB fetches and verifies it again.",
        )


def _ours(desk: Desk, rental: Rental, instance: Instance) -> None:
    user = desk.provider().account().user_id
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


def _box(desk: Desk, instance: Instance) -> tuple[tuple[str, ...], str]:
    """What still runs on the box, and how the artifact there stands; raises Refused when neither can be known."""
    if instance.status in _CANNOT_RUN:
        return (), f"not asked: the instance is {instance.status}"
    artifact = desk.history.artifact
    if artifact is None:
        raise Refused("no artifact was recorded on the box")
    places = _places(desk)
    try:
        answers = desk.host().probe(
            [
                *(Question(f"processes {place}", "processes", {"cwd_under": place}) for place in places),
                Question("artifact", "sha256", {"path": artifact.path}),
            ],
            timeout=600,
        )
        running = tuple(
            f"{process.pid} {printable(' '.join(process.argv), 200)}"
            for place in places
            for process in typed(answers.get(f"processes {place}"), Processes).get().processes
            if process.state not in {"Z", "X"}
        )
        digest = typed(answers.get("artifact"), Digest).get()
    except (HostUnreachable, CouldNotLook) as error:
        raise _BoxUnseen(
            f"the box could not be looked at: {error}",
            remedy="When it answers again: harness destroy. To save money meanwhile, stop it: the disk is kept.",
        ) from error
    if running:
        raise Refused(
            "something still runs on the box: " + "; ".join(running[:5]),
            remedy="Wait for it to end or end it, then: harness destroy.",
        )
    if digest.exists and digest.sha256 != artifact.sha256:
        raise Refused(
            f"{printable(artifact.path, 300)} on the box has changed since it was verified: it is {digest.sha256} now",
            remedy="harness run JOB looks at it again.",
        )
    return running, "unchanged" if digest.exists else "no longer there"


def _places(desk: Desk) -> tuple[str, ...]:
    """Where on the box the package lies, or lay before its job file was changed."""
    opened = [event.data["job"] for event in desk.history.events if event.kind == "opened"]
    return tuple(dict.fromkeys(Job.model_validate(job, extra="ignore").package.remote_dir for job in opened))


def _confirmed(desk: RecordingDesk, rental: Rental, confirm: Confirm) -> None:
    verified = desk.history.verified
    how = confirm(rental.instance_id, str(verified.path) if verified else "")
    if not how:
        raise Refused("nobody confirmed the destruction", remedy="harness destroy asks again; --yes agrees in advance.")
    desk.record("confirmed", {"how": how, "instance_id": rental.instance_id})


def _prove_gone(desk: RecordingDesk, rental: Rental) -> dict[str, Json]:
    limits = desk.job.limits
    return prove_absence(
        desk.provider(),
        rental.instance_id,
        desk.clock,
        deadline_s=limits.absence_deadline_s,
        window_s=limits.absence_window_s,
        owner=rental.owner,
    ).as_json()


def _prove_unbilled(desk: RecordingDesk, rental: Rental, absence: Json) -> None:
    """Record the destruction with the end of its billing; without it when that does not show, to be proven later."""
    proof: dict[str, Json] = {"instance_id": rental.instance_id, "absence": absence}
    try:
        billing = _billing_end(desk, rental)
    except NotProven:
        if desk.history.destroyed is None:
            desk.record("destroyed", proof)
        raise
    desk.record("destroyed", {**proof, "billing": billing})


def _billing_end(desk: RecordingDesk, rental: Rental, *, ran: bool = True) -> dict[str, Json]:
    """Proof that an instance that is gone is no longer charged; ``ran``: that it was charged at all is expected."""
    limits = desk.job.limits
    try:
        return billing_stopped(
            desk.provider(),
            rental.instance_id,
            desk.clock,
            deadline_s=limits.absence_deadline_s,
            window_s=limits.absence_window_s,
            expect_charges=ran,
        ).as_json()
    except NotProven as error:
        raise NotProven(
            f"instance {rental.instance_id} is gone, but {error}",
            remedy="Run the same command again: it looks at the bill anew. The provider's billing page shows it, too.",
        ) from error


LOSS_SENTENCE = "I accept the loss of everything on instance {instance_id}"
"""What a person must type when an instance may hold something of value that is not at home."""


def abandon(desk: RecordingDesk, accepts: Callable[[str], bool], note: Callable[[str], None]) -> None:
    """Give back an instance that holds nothing of value, or whose loss a person accepts in so many words.

    ``accepts`` is asked with the sentence to type, only when something of value lies there or it could not
    be looked at. Raises Refused, leaving the instance alive, and NotProven as ``destroy`` does: run again,
    it goes on from what is proven.
    """
    rental = _alive(desk)
    instance = desk.provider().instance(rental.instance_id)
    if instance is None and not desk.history.destroy_intended:
        raise Refused(
            f"the provider shows no instance {rental.instance_id}, and this job never asked for its destruction",
            remedy="Look at the provider's console: the key may belong to another account, or somebody destroyed it.",
        )
    proof = _let_go(desk, rental, instance, accepts, note)
    desk.record("abandoned", {"instance_id": rental.instance_id, **proof})


def replace(
    desk: RecordingDesk, accepts: Callable[[str], bool], note: Callable[[str], None], why: Mapping[str, Json]
) -> None:
    """Let go of an instance that died, so that another may take its place; record it as ``lost``, with ``why``.

    One that the provider does not show is proven to be gone. One that it shows as offline or exited still bills its
    disk, and is destroyed as ``abandon`` does it. Raises Refused for one in any other state; NotProven.
    """
    rental = _alive(desk)
    instance = desk.provider().instance(rental.instance_id)
    if instance is not None and instance.status not in _DEAD and not desk.history.destroy_intended:
        raise Refused(f"instance {rental.instance_id} is {instance.status}: nothing may take its place")
    proof = _let_go(desk, rental, instance, accepts, note)
    desk.record("lost", {**why, "instance_id": rental.instance_id, **proof})


def _alive(desk: Desk) -> Rental:
    rental = desk.history.alive
    if rental is None:
        raise Refused("no instance of this job is alive", remedy="harness orphans shows what else is alive.")
    return rental


def _let_go(
    desk: RecordingDesk,
    rental: Rental,
    instance: Instance | None,
    accepts: Callable[[str], bool],
    note: Callable[[str], None],
) -> dict[str, Json]:
    """Destroy without a verified file what still shows, once its loss is accepted.

    Returns the proofs that the instance is gone and that it bills no more.
    """
    if instance is not None:
        _ours(desk, rental, instance)
        _accept_loss(desk, rental, _of_value(desk, instance), accepts, note)
        intent: dict[str, Json] = {"instance_id": rental.instance_id, "release": None}
        ran = _has_run(desk, instance)
        desk.record("destroy_intended", {**intent, "volumes": list(instance.volumes), "ran": ran})
        reply = _request(desk, rental, note)
        desk.record("destroy_requested", {"instance_id": rental.instance_id, "reply": reply})
    absence = _prove_gone(desk, rental)
    return {"absence": absence, "billing": _billing_end(desk, rental, ran=_had_run(desk))}


def _has_run(desk: Desk, instance: Instance) -> bool:
    """Whether it ever ran, as far as its row and this job can tell; in doubt it did."""
    return instance.started_at is not None or instance.status not in _NOT_YET or desk.history.pin is not None


def _had_run(desk: Desk) -> bool:
    """What was known of that when its destruction was last asked for."""
    asked = [event.data for event in desk.history.events if event.kind == "destroy_intended"]
    return asked[-1].get("ran") is not False if asked else True


def _of_value(desk: Desk, instance: Instance) -> tuple[str, ...]:
    """Checkpoints, adapters and model files on the box, or why they could not be looked for; empty when none is."""
    if desk.job.adopted:
        return ("whatever lies on an instance that this job has not rented",)
    if not _has_run(desk, instance):
        return ()
    if instance.status in _CANNOT_RUN | _DEAD:
        return (f"the box could not be looked at: the instance is {instance.status}",)
    outputs = [posixpath.join(place, "models/output") for place in _places(desk)]
    patterns = [f"{output}/{one}" for output in outputs for one in ("*/checkpoint-*", "adapter", "final/*")]
    try:
        answers = desk.host().probe([Question(pattern, "glob", {"pattern": pattern}) for pattern in patterns])
        found = [typed(answers.get(pattern), tuple[Entry, ...]).get() for pattern in patterns]
    except (HostUnreachable, CouldNotLook) as error:
        return (f"the box could not be looked at: {error}",)
    return tuple(entry.path for entries in found for entry in entries)


def _accept_loss(
    desk: RecordingDesk,
    rental: Rental,
    value: tuple[str, ...],
    accepts: Callable[[str], bool],
    note: Callable[[str], None],
) -> None:
    if not value:
        note(f"instance {rental.instance_id} holds no checkpoint, no adapter and no model file")
        return
    for one in value[:20]:
        note(f"would be lost: {printable(one, 200)}")
    sentence = LOSS_SENTENCE.format(instance_id=rental.instance_id)
    if not accepts(sentence):
        raise Refused(
            f"instance {rental.instance_id} may hold something of value: {printable(value[0], 200)}",
            remedy=f"harness run JOB brings it home; to lose it for good, type: {sentence}",
        )
    desk.record("loss_accepted", {"instance_id": rental.instance_id, "sentence": sentence, "value": list(value[:100])})
