"""Tells people who are elsewhere what is recorded of a job, while a command works on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

from harness.cli.screens import say
from harness.core import environment
from harness.core.errors import HarnessError
from harness.job.load import load_job
from harness.ledger.bills import bills
from harness.ledger.events import Opened
from harness.ledger.history import History
from harness.ledger.kinds import JobEvent
from harness.notify import occasions, targets
from harness.notify.targets import Notice
from harness.wiring import OpenContext


def of(history: History) -> tuple[str, ...]:
    """URLs of everybody who is told of a job: those of HARNESS_NOTIFY, and of its file as that is now."""
    opened = history.all(Opened)
    try:
        own = load_job(Path(opened[-1].file)).notify.urls if opened else ()
    except HarnessError:  # a file that is gone, or does not read: what was recorded of it holds no URL
        own = ()
    return tuple(dict.fromkeys([*environment.notify_urls(), *own]))


@contextmanager
def telling(context: OpenContext, console: Console, *, agreed: bool) -> Iterator[None]:
    """Notify of what is recorded while the block runs, and of what else ends it; what does not arrive is said.

    ``agreed``: nobody is waited for before the release. Raises BadInput or MissingExtra for a target that cannot be
    used, as long as nothing may bill.
    """
    urls = of(context.history)
    if context.history.rental is None and not bills(context.history).may_bill:
        targets.require_usable(urls)

    def tell(made: Callable[[], Notice | None]) -> None:
        try:
            notice = made()
            for problem in targets.send(notice, urls) if notice is not None else ():
                say(console, problem)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, the job goes on
            with suppress(Exception, SystemExit):
                say(console, f"a notification failed: {type(error).__name__}")

    def hear(event: JobEvent) -> None:
        tell(lambda: occasions.notice(event, context.history, agreed=agreed))

    if urls:
        context.heard = hear
    try:
        yield
    except BaseException as ended:
        if urls and (by := _ender(ended)):
            tell(lambda: occasions.ended(context.history, by))
        raise


def _ender(ended: BaseException) -> str:
    """Name of what ends a command unforeseen; empty for Ctrl-C, where a person is, and for errors that are explained.

    Those are recorded as ``held``, and told then.
    """
    if isinstance(ended, KeyboardInterrupt):
        return str(ended)  # a signal's name
    return "" if isinstance(ended, HarnessError) else type(ended).__name__
