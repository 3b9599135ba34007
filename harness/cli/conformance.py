"""``harness conformance``: what is believed about a provider, tried on the live service for a few cents."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness.cli.screens import LastingConsole, say
from harness.conformance import report, run
from harness.conformance.bench import DISK_GB, RunBench
from harness.conformance.run import Answer, Conformance, ConformancePlan, Outcome
from harness.core import environment
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, GateHeld, GateUnknown, HarnessError, LogDamaged, Refused
from harness.core.money import as_paid
from harness.core.text import human_seconds
from harness.job.provider import ProviderTable
from harness.ledger import throwaway
from harness.providers import registry
from harness.wiring import open_ledger, open_subject, open_trial_box

_WORD = "rent"


def conformance(
    provider: Annotated[
        str, typer.Option(help="A kind of provider, as in a job file.", autocompletion=registry.kinds)
    ] = registry.DEFAULT,
    budget: Annotated[float, typer.Option(help="USD that it may cost in all.", min=0.01, max=100)] = 0.25,
    gpu: Annotated[
        list[str] | None, typer.Option(help="A GPU that will do, as the market names it; may be repeated.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Agree in advance to the rental, within the budget.")] = False,
    end: Annotated[bool, typer.Option("--end", help="Only end what runs that were cut off have left.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Only show the beliefs, as a table.")] = False,
    into: Annotated[
        Path | None, typer.Option("--report", help="Folder for the report.", show_default="the run's own")
    ] = None,
    server_url: Annotated[str | None, typer.Option(help="Address of the service, as in a job file.")] = None,
    scenario: Annotated[str | None, typer.Option(help="For the embedded provider: what befalls it.")] = None,
) -> None:
    """Try what is believed about a provider on its live service: rents a box for cents, asks first, destroys it.

    Asks first. Exit code 0: all that it tries holds; 3: something does not; 4: something could not be tried.
    """
    if list_:
        typer.echo(report.table(registry.assumptions(provider)), nl=False)
        return
    console, clock, home = LastingConsole(), SystemClock(), environment.home()
    table = _place(provider, server_url, scenario)
    subject = open_subject(table, home, clock)
    with open_ledger(home) as ledger:
        known = ledger.known(table)
        if known.unreadable:  # what a job has had is not known then, and the door would not open
            raise LogDamaged(f"the log of job {', '.join(known.unreadable)} does not read")
        for left in known.throwaways:
            if (left.may_bill or left.keeps_keys) and not left.at_work():
                say(console, f"conformance run {left.nonce} was cut off: ending what it has left")
                with _named(left, console):
                    run.end(subject, left, clock, known, lambda text: say(console, text))
    if end:
        say(console, "nothing of a conformance run is left")
        return
    plan = run.plan(subject, budget, gpu or ())
    _show(plan, console, embedded=registry.is_embedded(provider))
    if not yes and not _agreed(console):
        raise Refused("nobody agreed to the rental", remedy="Run it at a terminal and type the word, or give --yes.")
    account = subject.provider.account()
    journal = throwaway.begin(home, clock, table.kind, table.own, account.user_id)
    bench = RunBench(subject, clock, account, journal, open_trial_box)
    work = Conformance(bench, plan, known, lambda text: say(console, text))
    ended = "it was cut off"
    try:
        with _named(journal, console):
            work.go()
        ended = "to its end"
    except HarnessError as error:
        ended = f"{type(error).__name__}: {error}"
        raise
    finally:
        for path in report.write(work, into or journal.folder, ended):
            say(console, f"wrote {path}")
        say(console, report.counted(work.answers()))
    _judge(work.answers())


def _place(kind: str, server_url: str | None, scenario: str | None) -> ProviderTable:
    if scenario is not None and not registry.is_embedded(kind):
        raise BadInput("--scenario is for --provider emulated only")
    own = {"server_url": server_url, "scenario": scenario}
    table = ProviderTable.model_validate({"kind": kind, **own})
    table.require_own()
    return table


def _judge(answers: Sequence[Answer]) -> None:
    """Raise GateHeld for rows that do not hold, else GateUnknown for those that were meant to be tried and were not."""
    wrong = [one for one in answers if one.outcome is Outcome.WRONG]
    missed = [one for one in answers if one.outcome is Outcome.UNTRIED and one.meant]
    told = "; ".join(f"{one.row.id} {one.row.claim} ({one.seen})" for one in wrong or missed)
    if wrong:
        raise GateHeld(
            f"{len(wrong)} of what is believed does not hold: {told}",
            remedy="Open an issue with the report attached. Until it is mended, look at what rests on these rows.",
        )
    if missed:
        raise GateUnknown(f"{len(missed)} of what is believed could not be tried: {told}", remedy=_AGAIN)


_AGAIN = "The report says why, row by row; run the same command again where that can be mended."


def _show(plan: ConformancePlan, console: Console, *, embedded: bool) -> None:
    offer = plan.offers[0]
    say(console, f"rents, for at most {human_seconds(plan.seconds(offer))}, with {DISK_GB:g} GB of disk:")
    for one in plan.offers:
        place = f", {one.place}" if one.place else ""
        say(console, f"  offer {one.id}: {one.num_gpus}x {one.gpu_name} at ${one.usd_per_hour:.4f}/h{place}")
    say(console, "the first of them that is still there. Then it logs in, stops it, starts it, destroys it, and proves")
    say(console, "that it is gone and bills no more. Beside that it makes scoped API keys, tries and deletes them.")
    most = max(plan.most(one) for one in plan.offers)
    say(console, f"It costs at most {as_paid(f'${most:.2f}', embedded=embedded)}, of a budget of ${plan.budget:.2f}.")


def _agreed(console: Console) -> bool:
    if not sys.stdin.isatty():
        return False
    try:
        return console.input(f"type '{_WORD}' to begin: ", markup=False).strip() == _WORD
    except EOFError:
        return False


@contextmanager
def _named(left: throwaway.Throwaway, console: Console) -> Iterator[None]:
    """Whatever breaks the block off is followed by what may bill and the command that ends it."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, HarnessError) and (left.may_bill or left.keeps_keys):
            error.remedy = f"{left.end_command} goes on; {error.remedy}"
        raise
    finally:
        loud = LastingConsole(stderr=True) if console.quiet else console
        if left.may_bill:
            which = f"instance {left.instance_id}" if left.instance_id else f"an instance labelled {left.label}"
            say(loud, f"{which} MAY STILL BILL: {left.end_command} ends it")
        elif left.keeps_keys:
            say(loud, f"an API key of this run may be left: {left.end_command} deletes it")
