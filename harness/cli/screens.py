"""Screens for the progress of a job: a live region at the foot of a terminal, or plain lines anywhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from harness.cli.foot import Foot
from harness.cli.wording import Doing, meter_words
from harness.core.ports import Clock
from harness.core.rate import Meter, MeterReading
from harness.core.text import human_seconds

_PLAIN_PARTS = 20
_PLAIN_EVERY_S = 10.0
_PLAIN_REST_S = 2.0
_STILL_EVERY_S = 60.0
_REFRESH_PER_S = 4
_BAR_WIDTH, _NARROW = 20, 72
"""Columns of a bar where there is room, and of a line that has room for no bar beside what is to be read."""


class LastingConsole(Console):
    """Console of a command that drives a job: once its output takes no more, it is silent, and the command goes on."""

    def _check_buffer(self) -> None:
        """Write what was printed; a full disk or a terminal that is gone ends no job either."""
        try:
            super()._check_buffer()
        except OSError:
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """Be silent from here on, and say so where somebody may still read it; rich's own ends the process here."""
        if self.quiet:
            return
        self.quiet = True
        with suppress(OSError, AttributeError):  # what is left in the file's buffer would end the process at its exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
        if not self.stderr:
            LastingConsole(stderr=True).print(_UNREAD, soft_wrap=True, highlight=False)


_UNREAD = "nobody reads this command's output: it goes on without a word; Ctrl-C ends it"


@dataclass(slots=True)
class PlainScreen:
    """Lines without control characters; a meter speaks every 5 % or 10 s, one that stands still each minute.

    Where nothing speaks for 10 s, ``beat`` says what is still being done, and since when.
    """

    console: Console
    clock: Clock
    _told: dict[Meter, tuple[float, MeterReading]] = field(default_factory=dict)
    _doing: Doing | None = None
    _spoke_at: float = 0.0
    _asks: bool = False

    def line(self, text: Text) -> None:
        """A line that stays."""
        self._spoke_at = self.clock.monotonic()
        write(self.console, Text(text.plain))

    def stage(self, name: str) -> None:
        """Another stage begins; its meters start at nothing."""
        self._told.clear()
        self.line(Text(name))

    def meter(self, meter: Meter, reading: MeterReading, detail: str) -> None:
        """A line, unless the last one is still fresh."""
        now = self.clock.monotonic()
        if self._is_news(meter, reading, now):
            self._told[meter] = (now, reading)
            self.line(Text(f"  {meter.name} " + ", ".join(meter_words(meter, reading, detail))))

    def doing(self, what: Doing | None) -> None:
        """Told by ``beat``, when it takes long."""
        self._doing = what

    def beat(self) -> None:
        """Say that the work goes on, when nothing has been said for long; a meter that is under way speaks itself."""
        now = self.clock.monotonic()
        counted = any(reading.done < reading.total for _, reading in self._told.values())
        if self._doing and not self._asks and now - self._spoke_at >= (_STILL_EVERY_S if counted else _PLAIN_EVERY_S):
            self.line(Text(f"  still at it: {self._doing.words(now)}"))

    def status(self, text: str) -> None:
        """Polls that pass are no line in a log."""

    def foot(self, told: Foot) -> None:
        """A log has no foot."""

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Be silent while the block runs: somebody is asked."""
        self._asks = True
        try:
            yield
        finally:
            self._asks, self._spoke_at = False, self.clock.monotonic()

    def close(self) -> None:
        """Nothing is held open."""

    def _is_news(self, meter: Meter, reading: MeterReading, now: float) -> bool:
        if meter not in self._told:
            return True
        at, last = self._told[meter]
        if (reading.done, reading.total) == (last.done, last.total):
            return now - at >= _STILL_EVERY_S
        if reading.done >= reading.total or reading.done < last.done:
            return True
        quiet = now - at
        return (_part(reading) > _part(last) and quiet >= _PLAIN_REST_S) or quiet >= _PLAIN_EVERY_S


class LiveScreen:
    """A region at the foot of the terminal: the stage, its time, a bar for each meter. Lines scroll above it."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._name = ""
        self._status = ""
        self._since = clock.monotonic()
        self._meters: dict[Meter, tuple[MeterReading, str]] = {}
        self._doing: Doing | None = None
        self._foot: tuple[float, Foot] | None = None
        self._spinner = Spinner("dots" if is_unicode(console) else "line")
        self._live = self._begin()

    def line(self, text: Text) -> None:
        """A line that stays, above the region."""
        write(self._console, text)

    def stage(self, name: str) -> None:
        """Another stage begins."""
        self._name, self._status, self._since = name, "", self._clock.monotonic()
        self._meters = {}

    def meter(self, meter: Meter, reading: MeterReading, detail: str) -> None:
        """The bar shows it at the next refresh."""
        self._meters = {**self._meters, meter: (reading, detail)}  # the refreshing thread reads the old one meanwhile

    def doing(self, what: Doing | None) -> None:
        """Below the stage's name, with its time."""
        self._doing = what

    def beat(self) -> None:
        """The region shows by itself that the work goes on."""

    def status(self, text: str) -> None:
        """Beside the stage's name."""
        self._status = text

    def foot(self, told: Foot) -> None:
        """Below all else, from now on."""
        self._foot = self._clock.monotonic(), told

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the region away while the block runs, so that what is typed is not drawn over."""
        self._live.stop()
        try:
            yield
        finally:
            self._live = self._begin()  # a new one: the old one would wipe as many lines as it had drawn

    def close(self) -> None:
        """Take the region away."""
        self._live.stop()

    def _begin(self) -> Live:
        live = Live(
            console=self._console,
            get_renderable=self._region,
            refresh_per_second=_REFRESH_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        live.start(refresh=True)
        return live

    def _region(self) -> RenderableType:
        if not self._name:
            return Text("")
        elapsed = human_seconds(self._clock.monotonic() - self._since)
        self._spinner.update(text=Text.assemble((f"{self._name:<13}", "bold"), elapsed, "  ", (self._status, "dim")))
        bars = Table.grid(padding=(0, 2))
        room = min(_BAR_WIDTH, self._console.width - _NARROW)
        for meter, (reading, detail) in self._meters.items():
            words = "  ".join(meter_words(meter, reading, detail, short=room <= 0))
            bar = [ProgressBar(total=1.0, completed=reading.share, width=room)] if room > 0 else []
            bars.add_row(
                Text(f"  {meter.name}", no_wrap=True),
                *bar,
                Text(encodable_text(self._console, words), no_wrap=True, overflow="ellipsis"),
            )
        shown: list[RenderableType] = [self._spinner]
        if self._doing:
            words = encodable_text(self._console, self._doing.words(self._clock.monotonic()))
            shown.append(Text(f"  {words}", style="dim", no_wrap=True, overflow="ellipsis"))
        if self._meters:
            shown.append(bars)
        if self._foot:
            at, told = self._foot
            lines = told.lines(self._clock.monotonic() - at)
            shown += [Text(encodable_text(self._console, f"  {line}"), style="dim") for line in lines]
        return Group(*shown)


def _part(reading: MeterReading) -> int:
    """Number of the twentieth that it is in."""
    return reading.done * _PLAIN_PARTS // max(1, reading.total)


Screen = PlainScreen | LiveScreen


def write(console: Console, line: Text) -> None:
    """One line: no markup, no wrapping, and nothing that the output's encoding lacks."""
    shown = line.copy()
    shown.plain = encodable_text(console, line.plain)
    console.print(shown, soft_wrap=True)


def say(console: Console, told: str, style: str = "") -> None:
    """A line of words in which nothing is markup, as ``write`` shows it."""
    write(console, Text(told, style=style))


def encodable_text(console: Console, text: str) -> str:
    """The text with ``?`` for what the output's encoding cannot say (a Windows code page, a C locale)."""
    return text.encode(console.encoding, "replace").decode(console.encoding)


def is_unicode(console: Console) -> bool:
    """True for an output that can show more than a code page."""
    return console.encoding.lower().startswith("utf")
