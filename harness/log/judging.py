"""A training log on its own, judged without its job: its end, its errors and its course."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, ParamSpec

from harness.core.finding import Finding
from harness.core.observed import CouldNotLook
from harness.log import bare, course
from harness.log.bare import BareTraining
from harness.log.course import CourseLimits
from harness.log.errors import ErrorLine, error_line
from harness.log.grammar import DPO, Trainer, lines, parse_line
from harness.log.summary import LogSummary, TrainerLog, summarise

P = ParamSpec("P")

_LIMITS: Final = CourseLimits()
_MAYBE: Final = frozenset({".txt", ".out", ".jsonl"})
_HEAD: Final = 1 << 16
"""Bytes in which such a text shows what it is: settings may be printed before the first step."""

_COURSE_REMEDY: Final = (
    "look at what is trainable, at the labels, at the data and at the learning rate, and train again"
)


def judge(path: Path) -> tuple[Finding, ...]:
    """Claims about a log with the contract's lines, or with those that trainers print by themselves."""
    try:
        clean = list(_lines(path))
    except OSError as error:
        return (_of("readable", "The log can be read", None, str(error), "a file", "look at its path and its rights"),)
    events = [event for line in clean if (event := parse_line(line)) is not None]
    log = summarise(events)
    if log.plan is not None or log.trainers:
        return (*_end(log), _errors(log.errors), *_announced(log), *_courses(log))
    trainings = bare.read(clean)
    if not trainings:
        errors = _error_lines(clean)
        return (_nothing(clean), *([_errors(errors)] if errors else []))
    return (_bare_end(trainings[-1]), _errors(_error_lines(clean[_present(trainings) :])), *_bare_courses(trainings))


def is_log(path: Path) -> bool:
    """True for a training's log: a .log, or a text that begins to tell of steps as a trainer does."""
    if path.suffix.lower() == ".log":
        return path.is_file()
    try:
        with path.open("rb") as file:
            return path.suffix.lower() in _MAYBE and bare.tells_of_steps(lines(file.read(_HEAD)))
    except OSError:
        return False


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for piece in file:
            yield from lines(piece, torn_end=False)


def _present(trainings: tuple[BareTraining, ...]) -> int:
    """Line with which the present attempt begins: that of the first training, unless the last one is it once more."""
    again = [one for one in trainings[:-1] if one.trainer is trainings[-1].trainer]
    return trainings[-1].begins_at if again else 0


def _error_lines(clean: list[str]) -> tuple[ErrorLine, ...]:
    return tuple(error for line in clean if (error := error_line(line)) is not None)


def _of(name: str, claim: str, holds: bool | None, seen: str, *advice: str) -> Finding:
    """Finding on a log; ``advice`` is what was expected, and what to do."""
    expected, remedy = advice
    return Finding.of(f"log_{name}", claim, holds, seen, expected, remedy=remedy)


def _nothing(clean: list[str]) -> Finding:
    return _of(
        "tells_of_a_training",
        "The log tells of a training",
        None,
        f"{len(clean)} lines, no logged step among them",
        "lines of docs/contract.md (training.log), or records of steps as transformers, TRL, ms-swift, LLaMA-Factory or"
        " torchtune writes them",
        "give the log of the training itself",
    )


def _end(log: LogSummary) -> Iterator[Finding]:
    reached = ", ".join(f"{trainer} step {said.last.step}" for trainer, said in log.trainers.items() if said.last)
    yield _of(
        "ends_well",
        "The training came to its end",
        log.complete,
        "TRAINING COMPLETE"
        if log.complete
        else f"TRAINING FAILED: {log.failed}"
        if log.failed
        else f"ends at {reached}",
        "TRAINING COMPLETE",
        "if it still runs, look again when it has ended; else mend what ended it and go on from its newest checkpoint",
    )


def _errors(errors: tuple[ErrorLine, ...]) -> Finding:
    return _of(
        "has_no_error_lines",
        "No line of the present attempt speaks of an error",
        not errors,
        "; ".join(f"{error.kind}: {error.text[:200]}" for error in errors[:3]) or "none",
        "none",
        "the line says what broke; mend it and go on from the newest checkpoint",
    )


def _announced(log: LogSummary) -> Iterator[Finding]:
    changed = list(course.changed_announcements(log))
    yield _of(
        "announced_plan_holds",
        "Steps, batch size, adapter and dtype stay what was announced",
        not changed,
        "; ".join(changed) or "nothing changed",
        "one plan",
        "see what starts the training or changes it, and train again",
    )
    for trainer, said in log.trainers.items():
        done = said.complete.step if said.complete else said.last.step if said.last else 0
        total = said.complete.total if said.complete else said.last.total if said.last else 0
        yield _of(
            f"{trainer}_steps_done",
            f"{trainer.upper()} reached its last step",
            done >= total > 0,
            f"step {done}",
            f"step {total}",
            "go on from the newest checkpoint",
        )


def _courses(log: LogSummary) -> Iterator[Finding]:
    for trainer, said in log.trainers.items():
        if said.steps:
            yield _losses(trainer, said)
            yield from _moves(trainer, said)
            yield _rate(trainer, said)
    dpo = log.of(DPO)
    if dpo.steps:
        problem = _asked(course.preference_problem, dpo, log.first_dpo_loss, _LIMITS)
        yield _course(DPO, dpo, "preferences", "begins at ln 2 and learns to prefer", problem)


def _losses(trainer: Trainer, said: TrainerLog) -> Finding:
    odd = next((step for step in said.steps if not math.isfinite(step.loss)), None)
    problem = f"step {odd.step}: {odd.loss}" if odd else None
    return _course(trainer, said, "losses", "has losses that are numbers", problem)


def _moves(trainer: Trainer, said: TrainerLog) -> Iterator[Finding]:
    yield _course(trainer, said, "moves", "does not stand still", course.standstill(said, _LIMITS))
    yield _course(trainer, said, "converges", "does not diverge", course.divergence(said, _LIMITS))


def _rate(trainer: Trainer, said: TrainerLog) -> Finding:
    problem = _asked(course.rate_problem, said, _LIMITS)
    return _course(trainer, said, "learning_rate", "has a learning rate", problem)


def _asked(question: Callable[P, str | None], *given: P.args, **named: P.kwargs) -> str | CouldNotLook | None:
    """Problem that a question on a course finds; what keeps it from an answer is none."""
    try:
        return question(*given, **named)
    except CouldNotLook as unsure:
        return unsure


def _course(trainer: Trainer, said: TrainerLog, name: str, claim: str, problem: str | CouldNotLook | None) -> Finding:
    short = ", too few to judge a course" if course.too_short(said, _LIMITS) else ""
    return _of(
        f"{trainer}_{name}",
        f"{trainer.upper()} {claim}",
        None if isinstance(problem, CouldNotLook) else problem is None,
        str(problem or f"{len(said.steps)} logged steps{short}"),
        "no problem",
        _COURSE_REMEDY,
    )


def _bare_end(last: BareTraining) -> Finding:
    return _of(
        "ends_well",
        "The training came to its end",
        True if last.ended else None,
        "the trainer's summary" if last.ended else f"{len(last.entries)} logged steps, and no summary behind them",
        "{'train_runtime': ...}, which the trainer prints last (torchtune prints nothing of the kind)",
        "if it still runs, look again when it has ended; of torchtune, look whether its last checkpoint is there",
    )


def _bare_courses(trainings: tuple[BareTraining, ...]) -> Iterator[Finding]:
    for training in trainings:
        trainer, said = training.trainer, training.log
        yield _losses(trainer, said)
        if odd := [loss for loss in training.eval_losses if not math.isfinite(loss)]:
            yield _course(trainer, said, "evaluations", "is evaluated in numbers", f"eval_loss is {odd[0]}")
        if training.by_rewards:
            problem = course.flat_rewards(said, sum(spread == 0 for spread in training.all("reward_std")))
            yield _course(trainer, said, "rewards", "has rewards that differ", problem)
        else:
            yield from _moves(trainer, said)
        if training.all("learning_rate"):
            yield _rate(trainer, said)
        if norms := training.all("grad_norm"):
            idle = sum(norm == 0 or not math.isfinite(norm) for norm in norms)
            # A scaler of fp16 skips a step now and then, and logs nan there.
            problem = (
                f"the gradient is 0 or no number at {idle} of {len(norms)} steps" if idle * 2 > len(norms) else None
            )
            yield _course(trainer, said, "gradients", "has gradients", problem)
        if trainer == DPO:
            unlearned = _asked(course.margin_problem, said, training.all("rewards/margins"), _LIMITS)
            yield _course(DPO, said, "preferences", "begins at ln 2 and learns to prefer", unlearned)
