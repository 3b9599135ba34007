"""The operator's word before what cannot be undone, or costs anew."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console

from harness.cli import plan_view
from harness.cli.progress_view import paused
from harness.cli.screens import LastingConsole, say
from harness.context import JobContext
from harness.core.errors import HarnessError, Refused
from harness.core.ids import InstanceId
from harness.core.money import as_paid
from harness.core.text import printable
from harness.guard.destroy import Confirm
from harness.job import estimate
from harness.ledger.bills import Billing, bills, sentence
from harness.runner.progress import ProgressReporter
from harness.runner.renting import RentPlan
from harness.runner.replacement import Agreement

_TRIES = 3
_NO = frozenset({"", "n", "no"})


def confirming(context: JobContext, console: Console, reporter: ProgressReporter, *, yes: bool) -> Confirm:
    """The job's way to ask: none when it was agreed in advance, else the instance id typed on a terminal."""

    def confirm(instance_id: InstanceId, file: str) -> str | None:
        if yes:
            return "--yes, given in advance"
        if context.job.teardown.confirm == "yes":
            return "the job file agrees in advance"
        told, verb = f"instance {instance_id} and everything on its disk will be deleted for good", "destroy it"
        if not context.job.is_billed:
            left = "is deleted" if context.job.provider.own.get("clean") else "stays"
            told, verb = f"your machine will be given back; what the job wrote on it {left}", "give it back"
        prompt = f"type the instance id to {verb}: "
        return _typed(console, reporter, str(instance_id), prompt, f"verified file: {file}", told, stakes(context))

    return confirm


def stakes(context: JobContext) -> str:
    """Price of training again beside that of another look, at what the job's instance costs."""
    rental, bill = context.history.rental, bills(context.history)
    price = rental.usd_per_hour if rental is not None else None
    told = estimate.stakes(context.job, price, stopped=bill.state is Billing.STOPPED)
    return as_paid(told, embedded=bill.embedded)


@contextmanager
def staked(context: JobContext, console: Console) -> Iterator[None]:
    """Whatever breaks the block off, an error or Ctrl-C, is followed by what still bills and the command that ends it.

    An error while an instance lives that nobody has asked to go is told with what is at stake, its remedy for this job.
    """
    try:
        yield
    except BaseException as error:
        with suppress(HarnessError):  # a log that cannot be read hides no cause
            if isinstance(error, HarnessError):
                error.remedy = context.job.addressed(error.remedy)
                if context.history.alive is not None and not context.history.destroy_intended:
                    say(console, stakes(context))
            say_bills(context, console)
        raise


def say_bills(context: JobContext, console: Console) -> None:
    """A line about what bills and the command that ends it, where anything may bill; in any case where it is read."""
    bill = bills(context.history)
    if bill.may_bill:
        say(LastingConsole(stderr=True) if console.quiet else console, sentence(bill))


def accepting(
    context: JobContext, console: Console, reporter: ProgressReporter, in_advance: str | None
) -> Callable[[str], bool]:
    """The way a loss is accepted: by the very sentence, given in advance or typed on a terminal."""

    def accepts(sentence: str) -> bool:
        if in_advance is not None:
            return in_advance.strip() == sentence
        return _typed(console, reporter, sentence, f"type '{sentence}': ", stakes(context)) is not None

    return accepts


def agreeing(
    context: JobContext,
    console: Console,
    reporter: ProgressReporter,
    *,
    in_advance: bool,
    loss: str | None,
    yes: bool = False,
    brief: bool = False,
) -> Agreement:
    """The way a rental is agreed to, its plan shown (``brief``: in one line): in advance, or on a terminal.

    ``yes`` agrees to the first one, ``in_advance`` to another in the place of a dead instance.
    """

    def to_rent(plan: RentPlan) -> str | None:
        how, another = None, bool(plan.meaning) or context.history.lost is not None
        if in_advance and another:
            how = "--replace-dead-instance, given in advance"
        elif yes and not another:
            how = "--yes, given in advance"
        if how is not None or not sys.stdin.isatty():
            with paused(reporter):
                plan_view.show(plan, console, brief=brief)
            return how
        word, end = ("rent another", "have it replaced") if another else ("rent", "rent the first still there")
        return _typed(console, reporter, word, f"type '{word}' to {end}: ", *plan_view.told(plan, console, brief=brief))

    return Agreement(to_rent, accepting(context, console, reporter, loss))


def _typed(console: Console, reporter: ProgressReporter, answer: str, prompt: str, *told: str) -> str | None:
    """How the answer was given: typed on a terminal, below what is told; None without a terminal, and for no word.

    "No" is no word. A wrong one is asked again, twice. Raises Refused for a third one.
    """
    if not sys.stdin.isatty():
        return None
    with paused(reporter):
        for line in told:
            say(console, line)
        if console.quiet:  # nobody reads what is asked
            return None
        for _ in range(_TRIES):
            try:
                typed = console.input(prompt, markup=False).strip()
            except EOFError:
                return None
            if typed == answer:
                return "typed at the terminal"
            if typed.lower() in _NO:
                return None
            wrong = f"{printable(typed, 80)!r} was typed where {answer!r} belongs"
            say(console, f"{wrong}: nothing was done")
    raise Refused(wrong, remedy="Run the same command again; harness status says which instance is which job's.")
