"""The one door: the only caller of ``Provider.destroy``. On any doubt the answer is hold.

Before the request, every precondition is looked at anew; after it, absence is proven. The
intent is in the event log before the request leaves this machine, so that a process killed
anywhere goes on from what is known: an instance that was asked to go is proven gone, or
asked again after the same looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from harness.context import JobContext, RecordingContext
from harness.core.errors import NotProven, ProviderUnavailable, Refused
from harness.core.ids import InstanceId
from harness.core.ports import Instance
from harness.core.text import printable
from harness.guard import preconditions
from harness.guard.hold import HeldArtifact, holding
from harness.ledger.events import (
    Abandoned,
    Confirmed,
    Destroyed,
    DestroyIntended,
    DestroyRequested,
    LossAccepted,
    Lost,
)
from harness.ledger.history import Rental
from harness.ledger.kinds import JsonObject
from harness.release.absence import billing_stopped, prove_absence

Confirm = Callable[[InstanceId, str], str | None]
"""Asks a person, given the instance's id and what will be destroyed: how they agreed, or None."""

_AT_ONCE_S = 1.0
"""A word that took longer was waited for: the world may be another by then."""


def destroy(
    context: RecordingContext, confirm: Confirm, note: Callable[[str], None], release: Callable[[], None] = lambda: None
) -> None:
    """Destroy the job's instance and prove it gone.

    ``release`` is called first when there is something to destroy: a chance to record a release
    in place of one that has expired. Raises Refused, leaving the instance alive, when any
    precondition does not hold or cannot be looked at; NotProven when the request was made but
    absence, or the end of billing, could not be shown in time.
    """
    rental = context.history.rental
    if rental is None:
        raise Refused("this job has rented no instance", remedy="harness orphans shows what else is alive.")
    gone = context.history.destroyed
    if gone is not None:
        note(f"instance {rental.instance_id} is already proven to be gone")
        if gone.billing is None:
            _prove_unbilled(context, rental, gone.absence)
        return
    instance = context.provider().instance(rental.instance_id)
    if instance is None and not context.history.destroy_intended:
        release()
        _close_for_others(context, rental, note)
        return
    with holding(context, note) as held:
        if instance is None:
            note(f"instance {rental.instance_id} no longer shows; proving that it is gone")
        else:
            release()
            _ask_for_destruction(context, rental, instance, held, confirm=confirm, note=note, release=release)
        absence = _prove_gone(context, rental)
    _prove_unbilled(context, rental, absence)


def _close_for_others(context: RecordingContext, rental: Rental, note: Callable[[str], None]) -> None:
    """Record the end of an instance that somebody else has destroyed, once it is proven and its file is safe here."""
    note(f"the provider shows no instance {rental.instance_id}: {preconditions.OTHERS}; proving that it is gone")
    release = preconditions.valid_release(context, context.clock.now())
    remedy = f"harness abandon {context.job.name} gives the instance up, and says what is lost."
    with holding(context, note, remedy) as held:
        held.require_size(release)
        absence, billing = _prove_gone(context, rental), _billing_end(context, rental)
        held.require_bytes(release)
    remote = f"not asked: the instance is gone, destroyed by {preconditions.OTHERS}"
    context.record(preconditions.guarded(context, release, context.clock.now(), rental.label, remote=remote))
    context.record(Destroyed(rental.instance_id, absence, billing, by=preconditions.OTHERS))


def _ask_for_destruction(
    context: RecordingContext,
    rental: Rental,
    instance: Instance,
    held: HeldArtifact,
    *,
    confirm: Confirm,
    note: Callable[[str], None],
    release: Callable[[], None],
) -> None:
    """Look at every precondition, ask the operator, then the provider; raises Refused.

    The bytes at home are read last, and nothing slow stands between that and the request. Where that was asked before,
    an instance that still shows and whose box is silent may be on its way out: nothing is asked again, and the proof
    tells.
    """
    try:
        guarded = preconditions.inspect(context, rental, instance)
    except preconditions.BoxUnseen as unseen:
        if context.history.destroy_reply is None:
            raise
        note(f"{unseen}; its destruction was requested before: looking whether it goes")
        return
    held.require_size(preconditions.valid_release(context, guarded.at))  # nobody is asked about what will be refused
    asked_at = context.clock.monotonic()
    _confirmed(context, rental, confirm)
    if context.clock.monotonic() - asked_at > _AT_ONCE_S:
        release()
        instance = _still_shown(context, rental)
        guarded = preconditions.inspect(context, rental, instance)
    release_read = preconditions.valid_release(context, guarded.at)
    held.require_bytes(release_read)
    context.record(guarded)
    context.record(DestroyIntended(rental.instance_id, context.history.release_sha256, instance.volumes))
    held.require_in_place(release_read)
    _request(context, rental, note)


def _still_shown(context: JobContext, rental: Rental) -> Instance:
    instance = context.provider().instance(rental.instance_id)
    if instance is None:
        raise Refused(
            f"the provider no longer shows instance {rental.instance_id}: somebody else has destroyed it, or hides it",
            remedy="Run the same command again: it looks whether the instance is gone, and proves it.",
        )
    return instance


def _request(context: RecordingContext, rental: Rental, note: Callable[[str], None]) -> None:
    """Ask once. An answer that cannot be read may stand for a request that was carried out: the proof will tell."""
    context.require_lease()
    try:
        reply: str = context.provider().destroy(rental.instance_id).value
    except ProviderUnavailable as error:
        said = printable(str(error), 500)
        note(f"the answer to the request cannot be relied on ({said}); looking whether the instance goes")
        reply = f"unclear: {said}"
    context.record(DestroyRequested(rental.instance_id, reply))


def _confirmed(context: RecordingContext, rental: Rental, confirm: Confirm) -> None:
    verified = context.history.verified
    how = confirm(rental.instance_id, str(verified.path) if verified else "")
    if not how:
        raise Refused("nobody confirmed the destruction", remedy="harness destroy asks again; --yes agrees in advance.")
    context.record(Confirmed(how, rental.instance_id))


def _prove_gone(context: RecordingContext, rental: Rental) -> JsonObject:
    limits = context.job.limits
    proof = prove_absence(
        context.provider(),
        rental.instance_id,
        context.clock,
        deadline_s=limits.absence_deadline_s,
        window_s=limits.absence_window_s,
        owner=rental.owner,
    )
    return asdict(proof)


def _prove_unbilled(context: RecordingContext, rental: Rental, absence: JsonObject) -> None:
    """Record the destruction with the end of its billing; without it when that does not show, to be proven later."""
    try:
        billing = _billing_end(context, rental)
    except NotProven:
        if context.history.destroyed is None:
            context.record(Destroyed(rental.instance_id, absence))
        raise
    context.record(Destroyed(rental.instance_id, absence, billing))


def _billing_end(context: RecordingContext, rental: Rental, *, ran: bool = True) -> JsonObject:
    """Proof that an instance that is gone is no longer charged; ``ran``: that it was charged at all is expected."""
    limits = context.job.limits
    try:
        proof = billing_stopped(
            context.provider(),
            rental.instance_id,
            context.clock,
            deadline_s=limits.absence_deadline_s,
            window_s=limits.absence_window_s,
            expect_charges=ran and context.job.is_billed,
        )
    except NotProven as error:
        raise NotProven(
            f"instance {rental.instance_id} is gone, but {error}",
            remedy="Run the same command again: it looks at the bill anew. The provider's billing page shows it, too.",
        ) from error
    return asdict(proof)


LOSS_SENTENCE = "I accept the loss of everything on instance {instance_id}"
"""Sentence that a person must type when an instance may hold something of value that is not at home."""


def abandon(context: RecordingContext, accepts: Callable[[str], bool], note: Callable[[str], None]) -> None:
    """Give back an instance that holds nothing of value, or whose loss a person accepts in so many words.

    ``accepts`` is asked with the sentence to type, only when something of value lies there or it could not
    be looked at. Raises Refused, leaving the instance alive, and NotProven as ``destroy`` does: run again,
    it goes on from what is proven.
    """
    rental = _alive(context)
    instance = context.provider().instance(rental.instance_id)
    if instance is None and any(asked.release for asked in context.history.all(DestroyIntended)[-1:]):
        raise Refused(
            f"instance {rental.instance_id} was asked to go behind its verified file, and shows no longer",
            remedy=f"Nothing is lost: harness destroy {context.job.name} proves that it is gone, and closes the job.",
        )
    by = preconditions.OTHERS if instance is None and not context.history.destroy_intended else None
    if by is not None:
        _accept_loss(context, rental, ("whatever lay on it: it was destroyed by " + by,), accepts, note)
    absence, billing = _let_go(context, rental, instance, accepts, note)
    context.record(Abandoned(rental.instance_id, absence, billing, by))


def replace(
    context: RecordingContext,
    accepts: Callable[[str], bool],
    note: Callable[[str], None],
    *,
    how: str,
    machine_id: int,
    package: str | None,
) -> None:
    """Let go of an instance that died, so that another may take its place; record it as ``Lost``.

    One that the provider does not show is proven to be gone. One that it shows as offline or exited still bills its
    disk, and is destroyed as ``abandon`` does it. Raises Refused for one in any other state; NotProven.
    """
    rental = _alive(context)
    instance = context.provider().instance(rental.instance_id)
    if instance is not None and instance.status not in preconditions.DEAD and not context.history.destroy_intended:
        raise Refused(f"instance {rental.instance_id} is {instance.status}: nothing may take its place")
    absence, billing = _let_go(context, rental, instance, accepts, note)
    context.record(Lost(rental.instance_id, how, machine_id, package, absence, billing))


def _alive(context: JobContext) -> Rental:
    rental = context.history.alive
    if rental is None:
        raise Refused("no instance of this job is alive", remedy="harness orphans shows what else is alive.")
    return rental


def _let_go(
    context: RecordingContext,
    rental: Rental,
    instance: Instance | None,
    accepts: Callable[[str], bool],
    note: Callable[[str], None],
) -> tuple[JsonObject, JsonObject]:
    """Destroy without a verified file what still shows, once its loss is accepted.

    Returns the proofs that the instance is gone and that it bills no more.
    """
    if instance is not None:
        preconditions.require_ours(context, rental, instance)
        value, asked_at = preconditions.of_value(context, instance), context.clock.monotonic()
        _accept_loss(context, rental, value, accepts, note)
        if context.clock.monotonic() - asked_at > _AT_ONCE_S:
            _require_as_it_was(context, rental, instance, value)
        has_run = preconditions.has_run(context, instance)
        context.record(DestroyIntended(rental.instance_id, None, instance.volumes, has_run))
        _request(context, rental, note)
    asked = context.history.all(DestroyIntended)
    ran = asked[-1].ran is not False if asked else context.history.pin is not None
    return _prove_gone(context, rental), _billing_end(context, rental, ran=ran)


def _require_as_it_was(context: JobContext, rental: Rental, instance: Instance, value: tuple[str, ...]) -> None:
    """Raise Refused when an instance whose loss was accepted is another by now: it runs again, or holds more."""
    found = _still_shown(context, rental)
    preconditions.require_ours(context, rental, found)
    if found.status is not instance.status or set(preconditions.of_value(context, found)) - set(value):
        raise Refused(
            f"instance {rental.instance_id} has changed while its loss was being accepted: it is {found.status} now",
            remedy="Run the same command again: it says what would be lost by now.",
        )


def _accept_loss(
    context: RecordingContext,
    rental: Rental,
    value: tuple[str, ...],
    accepts: Callable[[str], bool],
    note: Callable[[str], None],
) -> None:
    if not context.job.is_billed and not context.job.provider.own.get("clean"):
        note("what lies on your machine stays there: only its claim is given up")
        return
    if not value:
        note(f"instance {rental.instance_id} holds no checkpoint, no adapter and no model file")
        return
    for one in value[:20]:
        note(f"would be lost: {printable(one, 200)}")
    sentence = LOSS_SENTENCE.format(instance_id=rental.instance_id)
    if not accepts(sentence):
        raise Refused(
            f"instance {rental.instance_id} may hold something of value: {printable(value[0], 200)}",
            remedy=f"harness run {context.job.name} brings it home; to lose it for good, run the same command with "
            f"--accept-loss '{sentence}'",
        )
    context.record(LossAccepted(rental.instance_id, sentence, value[:100]))
