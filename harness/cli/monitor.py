"""``harness monitor``: a job while it runs, looked at again and again. It only looks."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass, field
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.cli.picture import Look, headline, picture
from harness.cli.screens import encodable_text, is_unicode, say
from harness.cli.watching import Watcher
from harness.core.clock import SystemClock
from harness.core.errors import HarnessError, HostUnreachable
from harness.core.ports import Clock
from harness.core.text import human_seconds
from harness.ledger.bills import bills, sentence
from harness.ledger.history import History
from harness.wiring import open_context

_SLOW_S = 5.0
"""Seconds after which a look that has not come back yet is told of."""
_PIPE_WIDTH = 120
_ECHO = 3
"""Columns left free at the right: a terminal echoes Ctrl-C there, and a line that it breaks is not drawn over."""
_LINES_ABOVE_LOG = 16


def monitor(
    job: Annotated[str | None, typer.Argument(help="The job's name.", show_default="the one that moved last")] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one picture and end.")] = False,
    every: Annotated[float, typer.Option(min=1.0, max=3600.0, help="Seconds between two looks.")] = 5.0,
) -> None:
    """Follow a job while it runs: steps, loss, checkpoints, GPUs, disk, money, log. It only looks.

    Works beside a `harness run` in another terminal, and when none runs. Ctrl-C ends it, and says what bills.
    """
    console, clock = Console(), SystemClock()
    with open_context(job, only_looks=True) as context:
        watcher = Watcher(context)
        if once:
            _print_once(console, watcher, clock)
            return
        following = _Following(watcher, clock, every)
        following.start()
        try:
            if console.is_terminal:
                _live(console, following)
            else:
                _lines(console, following)
        except KeyboardInterrupt:
            pass
        finally:
            following.stop()
        history = following.latest.history if following.latest else context.history
    console.print(_farewell(history), markup=False, highlight=False, soft_wrap=not console.is_terminal)


def _farewell(history: History) -> str:
    return f"job {history.job.name} is closed" if history.closed else sentence(bills(history))


def _print_once(console: Console, watcher: Watcher, clock: Clock) -> None:
    """One picture; raises HostUnreachable below it when the box should have been seen and was not."""
    look = watcher.look()
    width = console.width if console.is_terminal else _PIPE_WIDTH
    for line in picture(look, clock.now(), width=width, unicode=is_unicode(console)):
        say(console, line)
    if look.problem is not None:
        raise HostUnreachable(look.problem)


@dataclass(slots=True)
class _Following:
    """A thread that looks, so that the picture's age is told while a look takes long."""

    watcher: Watcher
    clock: Clock
    every_s: float
    latest: Look | None = None
    failure: HarnessError | None = None
    number: int = 0
    """Looks that have come back."""
    _asked_at: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)
    _news: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._asked_at = self.clock.monotonic()
        threading.Thread(target=self._run, name="harness-monitor", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def wait(self, seconds: float) -> None:
        """Until there is news, or for so long."""
        self._news.wait(seconds)
        self._news.clear()
        if self.failure is not None:
            raise self.failure

    @property
    def over(self) -> bool:
        """True when nothing more will happen to the job."""
        return self.latest is not None and self.latest.history.closed

    @property
    def asking_s(self) -> float:
        """Seconds for which a look has been under way; 0 when none is."""
        return self.clock.monotonic() - self._asked_at if self._asked_at else 0.0

    def _run(self) -> None:
        while not self._ended.is_set():
            self._asked_at = self.clock.monotonic()
            try:
                self.latest = self.watcher.look()
            except HarnessError as error:
                self.failure = error
                self._ended.set()
            self.number, self._asked_at = self.number + 1, 0.0
            self._news.set()
            self._ended.wait(self.every_s)


def _live(console: Console, following: _Following) -> None:
    """The picture, drawn again twice a second, until the job is over."""

    def drawn() -> Text:
        height = shutil.get_terminal_size().lines
        lines = (encodable_text(console, line) for line in _frame(console, following, height))
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")

    with Live(get_renderable=drawn, console=console, refresh_per_second=2, redirect_stdout=False) as live:
        while not following.over:
            following.wait(1.0)
        live.refresh()


def _frame(console: Console, following: _Following, height: int) -> list[str]:
    width, slow = console.width - _ECHO, following.asking_s
    waiting = [f"asking for {human_seconds(slow)}: no answer yet"[:width]] if slow > _SLOW_S else []
    look = following.latest
    if look is None:
        return waiting or ["looking ..."]
    room = max(3, height - _LINES_ABOVE_LOG)
    shown = picture(look, following.clock.now(), width=width, log_lines=room, unicode=is_unicode(console))
    return [*shown, *waiting][: max(1, height - 1)]


def _lines(console: Console, following: _Following) -> None:
    """A line for every look that came back, until the job is over; one that says the same is left out."""
    told, number = "", 0
    while not following.over or number != following.number:
        following.wait(1.0)
        if following.latest is not None and number != following.number:
            number, line = following.number, headline(following.latest, following.clock.now())
            if line != told:
                say(console, line)
                told = line
