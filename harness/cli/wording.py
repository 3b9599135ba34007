"""Words of the terminal view, as styled lines. Pure.

Lines are ``rich.text.Text``: what comes from the box is never parsed as markup, and passes
``printable`` first, so that no escape sequence and no line break of a stranger gets through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

from harness.core.errors import HarnessError
from harness.core.rate import BYTES, Meter, MeterReading
from harness.core.text import human_bytes, human_seconds, one_line, printable
from harness.core.verdict import Verdict
from harness.gates.evidence import CheckResult, GateResult, Sight

STYLES = {Verdict.PASS: "green", Verdict.UNKNOWN: "yellow", Verdict.FAIL: "red"}
MARKS = {Verdict.PASS: "\N{CHECK MARK}", Verdict.UNKNOWN: "?", Verdict.FAIL: "\N{BALLOT X}"}

_MESSAGE_LINES = 30
_SIGHTS = 12
_LABEL_WIDTH = 10


def note_line(text: str) -> Text:
    """Something worth a line."""
    return Text("  " + one_line(text, 600), style="dim")


def stage_line(name: str, verdict: str, style: str, details: Iterable[str]) -> Text:
    """One line a stage: name, verdict, what it took."""
    return Text.assemble(
        (f"{name:<13}", "bold"), (f"{verdict:<8}", style), "  ", "   ".join(part for part in details if part)
    )


def gate_lines(results: Sequence[CheckResult], gate: GateResult, *, verbose: bool) -> Iterator[Text]:
    """The given results, what did not pass in full; and whatever kept the gate from being judged."""
    for result in results:
        if result.verdict is not Verdict.PASS:
            yield from _in_full(result)
        elif verbose:
            yield Text.assemble("  ", ("PASS", "green"), f" {one_line(result.id)}: {one_line(result.claim)}")
            yield from _sights("saw", result.saw)
    for check in gate.missing:
        yield Text.assemble("  ", ("UNKNOWN", "yellow"), f" {one_line(check)}: it did not report")
    for problem in gate.problems:
        yield Text.assemble("  ", ("UNKNOWN", "yellow"), f" gate {one_line(gate.stage)}: {one_line(problem, 1000)}")


def count_line(gate: GateResult) -> Text:
    """Number of the required checks that passed."""
    passed = sum(result.verdict is Verdict.PASS for result in gate.results)
    return Text(f"  {passed} of {len(gate.required)} checks passed", style="dim")


@dataclass(frozen=True, slots=True)
class Doing:
    """Whatever is being done, since when (seconds of a monotonic clock), and the most seconds that it may take."""

    what: str
    since: float
    at_most: float | None = None
    detail: str = ""

    def words(self, now: float) -> str:
        """How long it has taken, of how long."""
        within = f" of at most {human_seconds(self.at_most)}" if self.at_most else ""
        detail = f", {one_line(self.detail, 80)}" if self.detail else ""
        return f"{one_line(self.what)}{detail}, {human_seconds(now - self.since)}{within}"


def meter_words(meter: Meter, reading: MeterReading, detail: str, *, short: bool = False) -> list[str]:
    """Done and total, percent, rate and time left, and what else is known; ``short``: without the rate."""
    if meter.unit == BYTES:
        amount = f"{human_bytes(reading.done)} of {human_bytes(reading.total)}"
        rate = f"{human_bytes(reading.rate)}/s" if reading.rate else ""
    else:
        amount = f"{reading.done}/{reading.total}"
        rate = _count_rate(reading.rate, meter.unit) if reading.rate else ""
    left = f"{human_seconds(reading.left_s)} left" if reading.left_s else ""
    words = [amount, f"{reading.share:.0%}", *([] if short else [rate]), left, one_line(detail, 80)]
    return [word for word in words if word]


def _count_rate(rate: float, unit: str) -> str:
    return f"{rate:.1f} {unit}/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit.removesuffix('s')}"


def summary_line(meter: Meter, amount: int, seconds: float) -> Text:
    """Amount, time and rate of a finished meter."""
    counts = meter.unit != BYTES
    what = f"{amount} {meter.unit}" if counts else human_bytes(amount)
    rate = "" if counts or seconds <= 0 else f", {human_bytes(amount / seconds)}/s"
    return Text(f"  {meter.name}: {what} in {human_seconds(seconds)}{rate}", style="dim")


def failure_lines(error: HarnessError) -> Iterator[Text]:
    """Lines of a failure: the problem, the next step, and the exit code that says so to a script."""
    message, *more = _lines(str(error)) or [type(error).__name__]
    yield Text.assemble(("error: ", "bold red"), message)
    yield from (Text("       " + line) for line in more)
    yield Text.assemble(("next:  ", "bold"), one_line(error.remedy, 1000))
    yield Text(f"exit code {error.exit_code} ({type(error).__name__})", style="dim")


def _in_full(result: CheckResult) -> Iterator[Text]:
    word = (result.verdict.name, f"bold {STYLES[result.verdict]}")
    yield Text.assemble("  ", word, f" {one_line(result.id)}: {one_line(result.claim)}")
    yield from _sights("saw", result.saw)
    yield from _sights("expected", result.expected)
    for position, line in enumerate(_lines(result.message)):
        yield _labelled("because" if position == 0 else "", line)
    if result.remedy:
        yield _labelled("next", one_line(result.remedy, 1000))


def _sights(label: str, sights: Sequence[Sight]) -> Iterator[Text]:
    for sight in sights[:_SIGHTS]:
        yield _labelled(label, f"{one_line(sight.name, 80)} = {one_line(sight.value)}")
    if len(sights) > _SIGHTS:
        yield _labelled("", f"and {len(sights) - _SIGHTS} more")


def _labelled(label: str, words: str) -> Text:
    return Text.assemble("    ", (f"{label:<{_LABEL_WIDTH}}", "dim"), words)


def _lines(text: str) -> list[str]:
    lines = [one_line(line, 500) for line in printable(text, 4000).splitlines() if line.strip()]
    return (
        lines if len(lines) <= _MESSAGE_LINES else [*lines[:_MESSAGE_LINES], f"and {len(lines) - _MESSAGE_LINES} more"]
    )
