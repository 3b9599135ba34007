"""One picture of a job while it runs, in lines for people. Pure.

Words that come from the box are made printable, one a line and bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.cli.sparkline import sparkline
from harness.cli.status import money_words
from harness.core.answers import BoxCheckpoint, Gpu
from harness.core.text import human_bytes, human_seconds, one_line
from harness.facts.checkpoints import problems
from harness.facts.training import TrainingFacts
from harness.ledger.bills import bills, next_command
from harness.ledger.history import History
from harness.ledger.outlook import outlook
from harness.log.pace import TrainingPace, pace
from harness.log.summary import RECORDS, RestsOn

_LABEL = 8
_NARROW = 80
"""Columns below which the bar is half as long."""
_MIB = 1 << 20
_SHOWN_CHECKPOINTS = 5


@dataclass(frozen=True, slots=True)
class Look:
    """A job as it stands by its log, and the newest look at its box: when it was had, and why there is no newer one.

    ``problem`` is None while the box answers, and where there is no box to ask.
    """

    history: History
    facts: TrainingFacts | None = None
    seen_at: float | None = None
    problem: str | None = None


def picture(look: Look, now: float, *, width: int, log_lines: int = 10, unicode: bool = True) -> Iterator[str]:
    """Everything about a job that one look tells, in lines of at most ``width`` characters."""
    for line in _lines(look, now, width, log_lines, unicode):
        yield line if len(line) <= width else line[: width - 1] + ("…" if unicode else "~")


def headline(look: Look, now: float) -> str:
    """The picture in one line, for an output that is no terminal."""
    seen = _pace(look)
    steps = [_steps(seen, _age(look, now))] if seen is not None else []
    loss = [f"{seen.trainer} loss {seen.loss:.4g}"] if seen is not None and seen.loss is not None else []
    cut = [f"not seen for {human_seconds(_age(look, now))}: {one_line(look.problem)}"] if look.problem else []
    held = [f"held: {one_line(look.history.held.reason)}"] if look.history.held else []
    return "  ".join([_where(look.history), *steps, *loss, *_money(look, seen, now), *held, *cut])


def _lines(look: Look, now: float, width: int, log_lines: int, unicode: bool) -> Iterator[str]:
    history, facts = look.history, look.facts
    seen = _pace(look)
    age = "" if look.seen_at is None else f"  seen {human_seconds(_age(look, now))} ago"
    yield f"{history.job.name}  {_where(history)}{age}"
    if look.problem is not None:
        yield from _row("cut", f"{one_line(look.problem)}; trying again", width)
    if seen is not None:
        yield from _row(
            "steps", f"{_bar(seen, 10 if width < _NARROW else 20, unicode)} {_steps(seen, _age(look, now))}", width
        )
    if facts is not None:
        yield from _of_the_box(facts, history.job.trainers, seen, width, unicode)
    for label, words in zip(("money", "bills"), _money(look, seen, now), strict=True):
        yield from _row(label, words, width)
    if history.held is not None:
        yield from _row("held", one_line(history.held.reason, 600), width)
    if (command := next_command(history, bills(history))) is not None:
        yield from _row("next", command, width)
    lines = facts.last_lines.value if facts is not None else None
    if lines and log_lines > 0:
        grown = facts.log_age_s.value if facts is not None else None
        yield from _row("log", "" if grown is None else f"grew {human_seconds(grown)} before that look", width)
        yield from (f"  {one_line(line, width)}" for line in lines[-log_lines:])


def _where(history: History) -> str:
    passed = sum(map(history.passed, history.stages))
    return f"{'closed' if history.closed else history.stage or 'closing'} {passed}/{len(history.stages)}"


def _of_the_box(
    facts: TrainingFacts, trainers: Sequence[str], seen: TrainingPace | None, width: int, unicode: bool
) -> Iterator[str]:
    log = facts.log.value
    if log is not None and log.rests_on is RestsOn.TRAINER:
        yield from _row("rests on", RECORDS, width)
    if log is not None and seen is not None and seen.trainer is not None:
        losses = [step.loss for step in log.of(seen.trainer).steps]
        curve = sparkline(losses, max(1, width - _LABEL - 22), unicode=unicode)
        yield from _row("loss", f"{curve} {losses[-1]:.4g} ({seen.trainer})", width)
        yield from _row("rate", f"learning rate {seen.learning_rate:.3g}", width)
    shown = [(trainer, facts.checkpoints[trainer].value or ()) for trainer in trainers if trainer in facts.checkpoints]
    told = [words for trainer, found in shown if (words := _steps_of(trainer, found))]
    if told:
        yield from _row("on box", f"checkpoints {', '.join(told)}", width)
        kept = [f"{one.trainer} {one.step}" for one in facts.mirror.value or () if one.problem is None]
        yield from _row("mirrored", ", ".join(kept) or "none yet: what is on the box alone is lost with it", width)
    if facts.gpus.value is not None and facts.gpus.value.gpus:
        yield from _row("gpu", _gpus(facts.gpus.value.gpus), width)
    if facts.disk.value is not None:
        disk = facts.disk.value
        yield from _row("disk", f"{human_bytes(disk.used)} of {human_bytes(disk.total)} used", width)
    state = facts.session.value
    if state is not None and state.started and not state.alive:
        yield from _row("session", f"the training {state.ending}", width)


def _pace(look: Look) -> TrainingPace | None:
    log = look.facts.log.value if look.facts is not None else None
    job = look.history.job
    return pace(log, job.training.steps, job.limits.s_per_step) if log is not None else None


def _age(look: Look, now: float) -> float:
    return max(0.0, now - look.seen_at) if look.seen_at is not None else 0.0


def _steps(seen: TrainingPace, age_s: float) -> str:
    share = seen.step / seen.total if seen.total else 1.0
    left = f", {human_seconds(max(0.0, seen.left_s - age_s))} left" if seen.step < seen.total else ""
    return f"step {seen.step}/{seen.total}, {share:.0%}{left}"


def _bar(seen: TrainingPace, length: int, unicode: bool) -> str:
    done = length * seen.step // seen.total if seen.total else length
    full, empty = ("█", "░") if unicode else ("#", ".")
    return full * min(done, length) + empty * max(0, length - done)


def _money(look: Look, seen: TrainingPace | None, now: float) -> tuple[str, str]:
    history = look.history
    money = outlook(history, now, seen, _age(look, now))
    words = " ".join(money_words(money.spent, money.projected, money.cap, over=history.closed))
    return words, bills(history).brief


def _steps_of(trainer: str, found: Sequence[BoxCheckpoint]) -> str:
    """Steps of the newest checkpoints on the box, one that nothing can go on from marked."""
    told = [f"{one.step}{'' if not problems(one) else ' (not whole)'}" for one in found[-_SHOWN_CHECKPOINTS:]]
    earlier = f"{len(found) - len(told)} earlier, " if len(found) > len(told) else ""
    return f"{trainer} {earlier}{' '.join(told)}" if told else ""


def _gpus(gpus: Sequence[Gpu]) -> str:
    names = ", ".join(dict.fromkeys(one_line(gpu.name, 40) for gpu in gpus))
    use = _range([gpu.utilization_percent for gpu in gpus], "%.0f")
    memory = _range([gpu.memory_used_mib and gpu.memory_used_mib * _MIB / 1e9 for gpu in gpus], "%.1f")
    total = _range([gpu.memory_total_mib and gpu.memory_total_mib * _MIB / 1e9 for gpu in gpus], "%.1f")
    told = [f"{len(gpus)}x {names}", f"{use} % busy" if use else "", f"{memory} of {total} GB each" if memory else ""]
    return ", ".join(one for one in told if one)


def _range(values: Iterable[float | None], form: str) -> str:
    """The lowest and the highest of several values; one when they are alike, nothing when none is known."""
    known = [value for value in values if value is not None]
    return "-".join(dict.fromkeys(form % one for one in (min(known), max(known)))) if known else ""


def _row(label: str, words: str, width: int) -> Iterator[str]:
    """A labelled row, folded between its words where it is too long."""
    line = f"{label:<{_LABEL}} "
    indent, empty = " " * len(line), True
    for word in words.split():
        if not empty and len(line) + 1 + len(word) > width:
            yield line
            line, empty = indent, True
        line += word if empty else f" {word}"
        empty = False
    yield line.rstrip()
