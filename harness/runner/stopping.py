"""Ends the billing of an instance's GPUs, its disk kept: asked for until it is proven, by a process that stays."""

from __future__ import annotations

from typing import NoReturn

from harness.context import RunnerContext
from harness.core.errors import GateHeld, HarnessError, InstanceDead, LeaseLost
from harness.core.ports import InstanceStatus
from harness.core.text import printable
from harness.ledger.bills import bills
from harness.ledger.events import InstanceStopped
from harness.ledger.history import Rental
from harness.runner import provision
from harness.runner.progress import ProgressReporter

_FIRST_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 60.0
_TRIED_FOR_S = 24 * 3600.0
"""Seconds after which an instance that will not stop is left to a person: by then the console has been needed long."""
_UNBILLED = frozenset({InstanceStatus.STOPPED, InstanceStatus.EXITED, InstanceStatus.OFFLINE})
"""States in which no GPU is billed; an instance whose stop was accepted does not leave them by itself."""


def stop_instance(context: RunnerContext, reporter: ProgressReporter, why: str) -> bool:
    """Stop the instance and see that it stands still; False when that was not to be had in a day.

    Raises InstanceDead when the provider shows it no more, GateHeld when a person or the system ends this process: it
    still bills then.
    """
    rental = context.history.alive
    if rental is None:
        return False
    if not context.job.is_billed:
        reporter.note(f"{why}: nothing is stopped on your own machine, and what runs there goes on")
        return True
    deadline, pause, told = context.clock.monotonic() + _TRIED_FOR_S, _FIRST_PAUSE_S, None
    try:
        while (problem := _problem(context, rental)) is not None:
            if problem != told:
                told = problem
                reporter.note(f"instance {rental.instance_id} is not stopped yet: {problem}; asking until it is")
            if context.clock.monotonic() > deadline:
                return False
            context.clock.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
    except KeyboardInterrupt:
        raise still_bills(context, rental, why) from None
    context.record(InstanceStopped(rental.instance_id, why))
    reporter.note(f"instance {rental.instance_id} was stopped, its disk kept: {why}")
    return True


def stop_over(context: RunnerContext, reporter: ProgressReporter, over: str, limit: str) -> NoReturn:
    """Stop the instance, its disk kept, and hold until ``limit``, a field of the job file, is raised."""
    rental = context.history.alive
    if rental is not None and not context.history.instance_stopped and not stop_instance(context, reporter, over):
        raise still_bills(context, rental, over)
    left, again = "The instance is stopped, its disk kept with all that is on it.", "starts it again and goes on"
    if not context.job.is_billed:
        left, again = "Your machine is left as it is: nothing on it was stopped.", "goes on"
    raise GateHeld(
        over,
        remedy=f"{left} Raise {limit} in the job file, then harness run {context.job.name} --accept-changes {again} "
        "where it stood.",
    )


def keep_from_billing(context: RunnerContext, reporter: ProgressReporter, why: str) -> None:
    """An instance that is given up for now may come back, with nobody watching: stop it, if it still shows."""
    if not provision.gone_by_now(context):
        stop_instance(context, reporter, why)


def still_bills(context: RunnerContext, rental: Rental, why: str) -> GateHeld:
    """The error of an instance that is left running: what it costs, and how that ends."""
    price = bills(context.history).price
    return GateHeld(
        f"{why}, and instance {rental.instance_id} could not be stopped: it still bills {price}",
        remedy=f"harness run {context.job.name} asks for the stop again, first of all; or stop it in the provider's "
        "console: its disk is kept.",
    )


def _problem(context: RunnerContext, rental: Rental) -> str | None:
    """Ask for the stop and look: the reason why it is not proven to stand still, None when it is."""
    refused = None
    try:
        context.require_lease()
        context.provider().stop(rental.instance_id)
    except LeaseLost:
        raise
    except HarnessError as error:
        refused = printable(str(error), 300)
    try:
        status = provision.shown(context, rental).status
    except InstanceDead:
        raise
    except HarnessError as error:
        return refused or printable(str(error), 300)
    if status is InstanceStatus.STOPPED or (refused is None and status in _UNBILLED):
        return None
    return refused or f"it is {status}"
