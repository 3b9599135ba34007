"""Provision: one instance, rented at most once, running, its host key pinned, logged in to."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from harness.context import RunnerContext
from harness.core.errors import (
    GateHeld,
    HarnessError,
    HostKeyChanged,
    HostUnreachable,
    InstanceDead,
    ProviderUnavailable,
)
from harness.core.ids import InstanceId
from harness.core.lifecycle import Stage
from harness.core.ports import Instance, InstanceStatus
from harness.core.text import human_seconds, printable
from harness.guard.preconditions import DEAD
from harness.ledger.events import InstanceStarted, InstanceStopped, Pinned, Reopened
from harness.ledger.history import Rental
from harness.ledger.outlook import outlook
from harness.runner.affording import require_affordable
from harness.runner.progress import ProgressReporter
from harness.runner.reconciling import find_rented
from harness.runner.renting import Ask, rent
from harness.runner.replacement import planned

_POLL_S = 2.0
_INVISIBLE_S = 60.0
"""Seconds that an instance whose create was answered may be missing where single instances are shown."""
_KEYS_S = 60.0
"""Seconds to wait for the provider to show a host key."""
_PREFLIGHT_HOLDS_S = 6 * 3600.0
"""Seconds after which credit, disk and the account's other instances, as preflight saw them, may be others."""
_STARTABLE = {InstanceStatus.STOPPED, InstanceStatus.EXITED}


def provision(context: RunnerContext, reporter: ProgressReporter, to_rent: Ask) -> None:
    """Find what was rented, or rent what is agreed to; wait until it runs, can be trusted and lets us in.

    Nothing is rented on a preflight of long ago: its gate is shut, and nothing done.
    """
    if context.history.rental is None:
        find_rented(context, reporter)
    if context.history.rental is None:
        if reopen_if_old(context, reporter):
            return
        rent(context, reporter, to_rent, partial(planned, context))
    _make_ready(context, reporter)


def reopen_if_old(context: RunnerContext, reporter: ProgressReporter) -> bool:
    """True when preflight, which comes before a rental, had passed long ago and is to be judged again."""
    history = context.history
    age = context.clock.now() - history.judged_at.get(Stage.PREFLIGHT, 0.0)
    if not history.passed(Stage.PREFLIGHT) or abs(age) <= _PREFLIGHT_HOLDS_S:
        return False
    why = f"it was judged {human_seconds(age)} ago" if age > 0 else "it was judged at a time that is yet to come"
    context.record(Reopened(Stage.PREFLIGHT, why))
    reporter.note(f"preflight is judged again before anything is rented: {why}")
    return True


def resume(context: RunnerContext, reporter: ProgressReporter, *, may_start: bool) -> None:
    """Before a later stage goes on: the instance is still there and runs; a stopped one ``may_start`` again.

    One that was taken over is entered here for the first time. Raises InstanceDead when it is gone or will not run
    again, GateHeld when it was stopped and may not start.
    """
    if not may_start:
        require_running(context)
    rental = context.history.alive
    if rental is None:
        return
    instance = shown(context, rental)
    if instance.status is not InstanceStatus.RUNNING or not instance.endpoints or context.history.pin is None:
        _make_ready(context, reporter)
    elif context.history.instance_stopped:
        context.record(InstanceStarted(instance.id))


def require_running(context: RunnerContext) -> InstanceStatus:
    """In the midst of a stage: raises GateHeld when somebody stopped the instance, InstanceDead when it is gone.

    Otherwise its status: it may be offline or restarting, and come back.
    What a person or the provider has just stopped is not started behind their back.
    """
    rental = context.history.alive
    if rental is None:
        return InstanceStatus.UNKNOWN
    instance = shown(context, rental)
    if instance.status in _STARTABLE:
        raise GateHeld(
            f"instance {instance.id} is {instance.status}, and not by this job; its disk is kept: "
            f"{printable(instance.status_message, 300)}",
            remedy="Find out why (limits.toml, the box's own switch of limits.stop_unheard_s, the provider's console, "
            "the account's credit); the same command starts it again.",
        )
    return instance.status


def gone_by_now(context: RunnerContext) -> bool:
    """True when an instance whose destruction was intended no longer shows, and when that cannot be seen."""
    rental = context.history.alive
    try:
        return rental is None or context.provider().instance(rental.instance_id) is None
    except ProviderUnavailable:
        return True


def death(context: RunnerContext) -> InstanceDead | None:
    """Death of a box that cannot be reached, by the provider's word; None when it lives, or no word can be had."""
    rental = context.history.alive
    if rental is None:
        return None
    try:
        instance = shown(context, rental)
    except InstanceDead as dead:
        return dead
    except HarnessError:
        return None
    return InstanceDead(f"instance {instance.id} is {instance.status}") if instance.status in DEAD else None


def _make_ready(context: RunnerContext, reporter: ProgressReporter) -> None:
    started_before = _starts(context)
    instance = _wait_until_running(context, reporter)
    context.provider().attach_key(instance.id, context.public_key)
    if context.history.pin is None:
        _pin(context, instance.id, reporter)
    try:
        _wait_for_login(context, reporter)
    except HostKeyChanged:
        # A start may give a box new host keys: then the provider, which is asked over its own TLS, shows them.
        if _starts(context) == started_before or not _pin_anew(context, instance.id):
            raise
        reporter.note(f"the box was started again and shows new host keys: {context.provider().host_key_source}")
        _wait_for_login(context, reporter)


def _starts(context: RunnerContext) -> int:
    return len(context.history.all(InstanceStarted))


def shown(context: RunnerContext, rental: Rental) -> Instance:
    """The instance as the provider shows it; one may be missing for some seconds, a fresh one above all."""
    deadline = context.clock.monotonic() + _INVISIBLE_S
    while True:
        instance = context.provider().instance(rental.instance_id)
        if instance is not None:
            return instance
        if context.clock.monotonic() > deadline:
            raise InstanceDead(f"the provider shows no instance {rental.instance_id}, which this job rented")
        context.clock.sleep(_POLL_S)


def _wait_until_running(context: RunnerContext, reporter: ProgressReporter) -> Instance:
    rental = context.history.rental
    assert rental is not None  # noqa: S101 - provision recorded it just before
    deadline = context.clock.monotonic() + context.job.machine.ready_timeout_s
    told, asked = None, False
    while True:
        instance = shown(context, rental)
        if instance.status is InstanceStatus.RUNNING and instance.endpoints:
            return instance
        if instance.status in _STARTABLE and instance.intended_status == "stopped" and not asked:
            ahead = outlook(context.history, context.clock.now())
            costs = rental.usd_per_hour - (instance.disk_usd_per_hour or 0.0), ahead.projected - ahead.spent
            require_affordable(context, *costs)
            reporter.note(f"instance {instance.id} is stopped; starting it again")
            # Recorded first: killed in between, it counts as billing although it is not, never the other way round.
            context.record(InstanceStarted(instance.id))
            try:  # once more, so that of two jobs that start at once each counts the other
                require_affordable(context, *costs)
            except HarnessError as error:
                context.record(InstanceStopped(instance.id, f"not started: {printable(str(error), 500)}"))
                raise
            context.require_lease()
            context.provider().start(instance.id)
            asked = True
        message = printable(instance.status_message, 300)
        if instance.status in DEAD and not asked:
            raise InstanceDead(
                f"instance {instance.id} will not run: {instance.status}: {message}",
                remedy="It may come back: run the same command again later. With --replace-dead-instance another one "
                f"takes its place when it stays so for {context.job.limits.dead_after_s:.0f} s.",
            )
        if instance.failure is not None:
            raise ProviderUnavailable(
                f"instance {instance.id} will not run: {instance.status}: {printable(instance.failure, 300)}",
                remedy=f"It may still bill. harness abandon {context.job.name} gives it back, and the same "
                "command then rents another.",
            )
        if told != instance.status:
            told = instance.status
            reporter.note(f"instance {instance.id}: {told}")
        if context.clock.monotonic() > deadline:
            raise ProviderUnavailable(
                f"instance {instance.id} is {instance.status} after {context.job.machine.ready_timeout_s:.0f} s: "
                f"{message}"
            )
        context.clock.sleep(_POLL_S)


def _pin(context: RunnerContext, instance_id: InstanceId, reporter: ProgressReporter) -> None:
    """Pin the host keys that the provider shows; when it shows none, say so and pin at first use."""
    provider, deadline = context.provider(), context.clock.monotonic() + _KEYS_S
    while True:
        try:
            keys = provider.host_keys(instance_id)
        except ProviderUnavailable:
            keys = ()
        if keys:
            context.record(Pinned(keys, provider.host_key_source))
            return
        if context.clock.monotonic() > deadline:
            break
        context.clock.sleep(_POLL_S)
    reporter.note("the provider shows no host key: the first one that the box shows will be required from then on")
    shown = _patiently(context, context.shown_host_key)
    context.record(Pinned((shown,), "first use"))


def _pin_anew(context: RunnerContext, instance_id: InstanceId) -> bool:
    """Pin what the provider shows of the newest start; False when that tells nothing new."""
    keys = context.provider().host_keys(instance_id, newest=True)
    if not keys or (context.history.pin is not None and context.history.pin.keys == keys):
        return False
    context.record(Pinned(keys, f"{context.provider().host_key_source}, after a start"))
    return True


def _wait_for_login(context: RunnerContext, reporter: ProgressReporter) -> None:
    reporter.note("waiting for the box to let us in")
    context.forget_connections()
    _patiently(context, lambda: context.host().run(["true"], timeout=30))


def _patiently(context: RunnerContext, ask: Callable[[], Any]) -> Any:
    """``running`` comes minutes before sshd accepts the key: ask until the machine's own deadline."""
    deadline = context.clock.monotonic() + context.job.machine.ready_timeout_s
    while True:
        try:
            return ask()
        except HostKeyChanged:
            raise
        except HostUnreachable:
            if context.clock.monotonic() > deadline:
                raise
        context.clock.sleep(_POLL_S)
