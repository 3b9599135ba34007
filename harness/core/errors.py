"""One tree of errors: each class carries its process exit code and a remedy.

An error message says what was wrong and where; ``remedy`` says what to do next.
The command line prints both and exits with ``exit_code``; nothing below the
command line ever exits by itself. The table of codes is docs/exit-codes.md.
"""

from __future__ import annotations

import errno
from typing import ClassVar


class HarnessError(Exception):
    """Any failure that the harness understands well enough to explain."""

    exit_code: ClassVar[int] = 1
    default_remedy: ClassVar[str] = "Run the same command again; if it persists, report it with the message above."

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.remedy = remedy or self.default_remedy


class BadInput(HarnessError):
    """The job file, an argument or a file the user named cannot be used as it is."""

    exit_code = 2
    default_remedy = "Correct the input named above and run the command again."


class NoKey(BadInput):
    """No key of a provider is there: nobody can be asked, and nothing is wrong as long as nobody rents there."""


class GateHeld(HarnessError):
    """At least one check of the stage failed; the job does not move."""

    exit_code = 3
    default_remedy = "Read the failed checks above, mend what they name, and run the same command again."


class Unaccounted(GateHeld):
    """Something bills under the job's label for which its log does not account; nothing is rented beside it."""

    default_remedy = "Put the newest state.db back, or take the instance over as the message says."


class Claimed(GateHeld):
    """A job file was written down from what a box says of itself; nothing goes on before a person has compared it."""

    default_remedy = "Compare the file with what was meant, and correct it; then go on as the message says."


class GateUnknown(HarnessError):
    """No check failed, but at least one could not look; the job does not move."""

    exit_code = 4
    default_remedy = "Restore what could not be looked at (network, box, file) and run the same command again."


class Refused(HarnessError):
    """An irreversible act was refused, a release does not hold, or nobody agreed to a cost. Nothing was changed."""

    exit_code = 5
    default_remedy = "Bring the artifact home and verify it first: harness run JOB."


class NotProven(HarnessError):
    """Destruction was requested, but the instance is not proven to be gone; it may still bill."""

    exit_code = 6
    default_remedy = "Run the same command again until it says destroyed, and look at the provider's console."


class ProviderUnavailable(HarnessError):
    """The provider did not answer, or answered what cannot be trusted. It says nothing about any instance."""

    exit_code = 7
    default_remedy = "Check the network and the API key, then run the same command again."


class NoAnswer(ProviderUnavailable):
    """The provider gave no reply, or said that it cannot answer now (429, 5xx): it may the next time."""


class InstanceDead(ProviderUnavailable):
    """The provider does not show the job's instance any more, or shows that it will not run again by itself."""

    default_remedy = (
        "Look at the provider's console: somebody destroyed the instance, or the key belongs to another account. "
        "harness run JOB --replace-dead-instance rents another once it is proven to be gone; "
        "harness abandon JOB ends it."
    )


class AmbiguousCreate(ProviderUnavailable):
    """The reply to a create was lost: an instance may or may not exist. Reconcile by label, never retry blindly."""

    default_remedy = "Run the same command again: it looks for the instance by its label before renting another."


class OfferGone(ProviderUnavailable):
    """The offer was taken or withdrawn before the create; nothing was rented."""

    default_remedy = "Run the same command again: it searches for another offer."


class HostUnreachable(HarnessError):
    """The box did not answer over SSH, or the connection was cut. It says nothing about what is on the box."""

    exit_code = 8
    default_remedy = "Run the same command again; the instance is kept, its disk with it."


class HostKeyChanged(HostUnreachable):
    """The box showed another SSH host key than the pinned one: it may be somebody else's machine."""

    default_remedy = (
        "Compare the key with the one that the provider shows. When the box was only rebooted, stop the instance in "
        "the provider's console (its disk is kept): the same command starts it and pins the key that is shown then."
    )


class TransferFailed(HarnessError):
    """A file could not be brought home or sent, or what arrived is not what was promised."""

    exit_code = 9
    default_remedy = "Run the same command again: verified chunks are kept, only the rest is fetched."


class RemoteChanged(TransferFailed):
    """The remote file is not the one whose digest was recorded."""

    default_remedy = "Find out what still writes to the file on the box; then run the same command again."


class LocalDiskFull(TransferFailed):
    """The destination has not enough room."""

    default_remedy = "Free the bytes named above, or choose another destination, and run the same command again."


class LocalReadOnly(TransferFailed):
    """The destination does not let this user write."""

    default_remedy = "Let this user write there, or choose another destination, and run the same command again."


class StoreFailed(HarnessError):
    """The event store cannot be read or written; no step is taken without it."""

    exit_code = 10
    default_remedy = "Check that the state directory named above exists, is writable and has room."


class LogDamaged(StoreFailed):
    """The log of one job does not read; those of the others may."""

    default_remedy = "Restore the store from a copy; harness orphans shows meanwhile what bills, whosever it is."


class Conflict(StoreFailed):
    """Another writer appended to the job's log in between; nothing was appended."""

    default_remedy = "Run the same command again: it reads what the other one did and goes on from there."


class JobBusy(StoreFailed):
    """Another process is running this job now."""

    default_remedy = "Wait until the process named above has ended, or end it, and run the same command again."


class LeaseLost(StoreFailed):
    """Another process has taken the job over: this one was not heard from for longer than its lease."""

    default_remedy = "Nothing is to be done here: the process named above drives the job; harness status shows it."


class StillBilling(HarnessError):
    """Something bills and nobody looks after it, as every line says; nothing was stopped or destroyed."""

    exit_code = 12
    default_remedy = "Each line above names the command that ends it."


class MissingExtra(HarnessError):
    """A part of the harness needs packages that are not installed."""

    exit_code = 11

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs packages that are not installed",
            remedy=f"pip install 'gold-standard-harness[{extra}]'",
        )


def of_this_machine(error: OSError, place: str = "", otherwise: type[HarnessError] = HarnessError) -> HarnessError:
    """Error with a remedy for what the operating system refused; ``place`` where it does not say which file."""
    where, told = str(error.filename or place or "this machine"), error.strerror or str(error)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return LocalDiskFull(f"{where} is full: {told}")
    if error.errno == errno.EROFS:
        return LocalReadOnly(f"{where} cannot be written: it is on a read-only file system")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return LocalReadOnly(f"{where} is closed to this user, or read-only: {told}")
    return otherwise(f"{where} cannot be used: {told}")
