"""The live terminal view: one line a stage, bars for what is long, every check that did not pass in full."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from harness.cli.foot import Foot
from harness.cli.screens import LiveScreen, PlainScreen, Screen, is_unicode, write
from harness.cli.wording import (
    MARKS,
    STYLES,
    Doing,
    count_line,
    failure_lines,
    gate_lines,
    note_line,
    stage_line,
    summary_line,
)
from harness.core.clock import SystemClock
from harness.core.errors import HarnessError
from harness.core.ids import CheckId
from harness.core.lifecycle import Stage
from harness.core.ports import Clock
from harness.core.rate import SECONDS, Meter, RateMeter
from harness.core.text import human_seconds, one_line
from harness.core.verdict import Verdict
from harness.gates.evidence import CheckResult, GateResult
from harness.runner.progress import ProgressReporter

_BEAT_S = 1.0
_MOMENT_S = 0.5
"""Seconds after which something counted is worth a line when it is over."""
Footing = Callable[[], Foot | None]
"""Foot of the screen as the job stands, None where it cannot be told; asked only by whoever drives the job."""
Spent = Callable[[], float | None]
"""Cost of the job so far (USD), None when nothing is rented or known; asked only between a stage's ends."""


@contextmanager
def open_reporter(
    console: Console,
    plain: bool,
    *,
    clock: Clock | None = None,
    verbose: bool = False,
    spent: Spent | None = None,
    footing: Footing | None = None,
) -> Iterator[ProgressReporter]:
    """A reporter on a console: live, or with ``plain`` (also when it is no terminal) line by line.

    ``verbose`` shows the checks that passed too. When the block ends by an exception, the
    stage that was under way is shown as stopped; the exception goes on.
    """
    time = clock or SystemClock()
    screen = PlainScreen(console, time) if plain or not console.is_terminal else LiveScreen(console, time)
    usually = spent or (lambda: None), footing or (lambda: None)
    reporter = _TerminalReporter(screen, time, verbose, is_unicode(console), *usually)
    over = threading.Event()
    if clock is None:  # one that a test turns does not beat
        threading.Thread(target=reporter.live, args=(over,), name="harness-heartbeat", daemon=True).start()
    try:
        yield reporter
    except BaseException:
        reporter.end(interrupted=True)
        raise
    else:
        reporter.end(interrupted=False)
    finally:
        over.set()
        screen.close()


def paused(reporter: ProgressReporter) -> AbstractContextManager[None]:
    """Leave the terminal to a question while the block runs; a reporter of another kind has nothing to pause."""
    return reporter.screen.paused() if isinstance(reporter, _TerminalReporter) else nullcontext()


def show_failure(console: Console, error: HarnessError) -> None:
    """Print an error: the problem, the next step, and the exit code."""
    for line in failure_lines(error):
        write(console, line)


@dataclass(slots=True)
class _Course:
    """Stage under way: since when, at what cost, and the last word of its gate."""

    stage: Stage
    began: float
    spent: float | None
    gate: GateResult | None = None
    shown: dict[CheckId, tuple[Verdict, str]] = field(default_factory=dict)
    meters: dict[Meter, RateMeter] = field(default_factory=dict)


@dataclass(slots=True)
class _TerminalReporter:
    """Progress reporter of the terminal: lines and bars; transfers report from several threads."""

    screen: Screen
    clock: Clock
    verbose: bool
    unicode: bool
    spent: Spent
    footing: Footing
    _course: _Course | None = None
    _doing: Doing | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def stage(self, stage: Stage) -> None:
        """End the stage before, and begin this one."""
        with self._lock:
            self.end(interrupted=False)
            self._course = _Course(stage, self.clock.monotonic(), self._spent())
            self.screen.stage(stage.value)
            self._stand()
            self._do(Doing(stage.value, self.clock.monotonic()))

    def note(self, text: str) -> None:
        """A line."""
        with self._lock:
            self.screen.line(note_line(text))
            self._do(Doing(text, self.clock.monotonic()))

    def meter(self, meter: Meter, done: int, total: int, detail: str = "") -> None:
        """A bar; a line for a wait."""
        with self._lock:
            if meter.unit == SECONDS:
                self._wait(Doing(meter.name, self.clock.monotonic() - done, total, detail))
                return
            if self._doing and self._doing.at_most:  # what was waited for is over
                self._do(None)
            meters = self._course.meters if self._course else {}
            measured = meters.setdefault(meter, RateMeter())
            self.screen.meter(meter, measured.update(self.clock.monotonic(), done, total), detail)

    def live(self, over: threading.Event) -> None:
        """Have the screen say every few seconds that the work goes on, until it is over."""
        while not over.wait(_BEAT_S):
            with self._lock:
                self.screen.beat()

    def _wait(self, wait: Doing) -> None:
        """Begin a wait with a line, or go on with the one that was begun."""
        if self._doing is None or self._doing.what != wait.what:
            self.screen.line(note_line(f"{wait.what} (at most {human_seconds(wait.at_most or 0.0)})"))
        self._do(wait)

    def _do(self, what: Doing | None) -> None:
        self._doing = what
        self.screen.doing(what)

    def judged(self, stage: Stage, gate: GateResult) -> None:
        """The checks that turned since the last judgement of this stage; the others are counted."""
        with self._lock:
            course = self._course
            if course is None or course.stage is not stage:
                self.stage(stage)
                course = self._course
            assert course is not None  # noqa: S101 - stage() has just set it
            news = _news(gate, course, verbose=self.verbose)
            for line in gate_lines(news, gate, verbose=self.verbose or course.gate is not None):
                self.screen.line(line)
            if gate.verdict is not Verdict.PASS:
                self.screen.line(count_line(gate))
            self.screen.status(f"{_passed(gate)}/{len(gate.required)} checks passed")
            course.gate = gate
            self._stand()

    def end(self, *, interrupted: bool) -> None:
        """The line of the stage that was under way, if any."""
        with self._lock:
            course, self._course = self._course, None
            if course is None:
                return
            for meter, measured in course.meters.items():
                amount, seconds = measured.whole
                if amount > 0 and seconds >= _MOMENT_S:
                    self.screen.line(summary_line(meter, amount, seconds))
            self.screen.line(self._stage_line(course, interrupted=interrupted))

    def _stand(self) -> None:
        """Tell the foot anew."""
        try:
            told = self.footing()
        except HarnessError:
            return
        if told is not None:
            self.screen.foot(told)

    def _spent(self) -> float | None:
        """A cost that cannot be read must not hide what went wrong."""
        try:
            return self.spent()
        except HarnessError:
            return None

    def _stage_line(self, course: _Course, *, interrupted: bool) -> Text:
        gate = course.gate
        verdict = gate.verdict if gate else None
        word, style = "STOPPED", "red"
        if verdict is not None and not (interrupted and verdict is Verdict.PASS):
            word, style = verdict.name, STYLES[verdict]
        mark = MARKS[verdict] + " " if verdict and word == verdict.name and self.unicode else ""
        spent = self._spent()
        usd = f"${spent - (course.spent or 0.0):.2f}" if spent is not None else ""
        checks = f"{_passed(gate)}/{len(gate.required)} checks" if gate else ""
        took = human_seconds(self.clock.monotonic() - course.began)
        return stage_line(one_line(course.stage.value), mark + word, style, (checks, took, usd))


def _news(gate: GateResult, course: _Course, *, verbose: bool) -> tuple[CheckResult, ...]:
    """Results that were not shown like this before, failures first; of the passed ones those that had not."""
    told: list[CheckResult] = []
    for result in gate.results:
        now, before = (result.verdict, result.message), course.shown.get(result.id)
        turned = before is not None and before[0] is not result.verdict
        first_seen = before is None and (result.verdict is not Verdict.PASS or verbose)
        reworded = result.verdict is not Verdict.PASS and now != before
        if turned or first_seen or reworded:
            told.append(result)
        course.shown[result.id] = now
    return tuple(sorted(told, key=lambda result: (result.verdict is not Verdict.FAIL, result.id)))


def _passed(gate: GateResult) -> int:
    return sum(result.verdict is Verdict.PASS for result in gate.results)
