"""Tells people who are elsewhere what is recorded of a job, while a command works on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from harness.cli.screens import say
from harness.core import environment
from harness.core.errors import HarnessError
from harness.job.load import load_job
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
    """Notify of what is recorded while the block runs, and of a signal that ends it; what does not arrive is said.

    ``agreed``: nobody is waited for before the release. Raises BadInput or MissingExtra for a target that cannot be
    used, as long as nothing has been rented.
    """
    urls = of(context.history)
    if context.history.rental is None:
        targets.require_usable(urls)

    def send(notice: Notice | None) -> None:
        for problem in targets.send(notice, urls) if notice is not None else ():
            say(console, problem)

    def hear(event: JobEvent) -> None:
        send(occasions.notice(event, context.history, agreed=agreed))

    if urls:
        context.heard = hear
    try:
        yield
    except KeyboardInterrupt as ended:
        if urls and ended.args:  # a signal; at Ctrl-C a person is there
            send(occasions.ended(context.history, str(ended)))
        raise
