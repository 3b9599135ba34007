"""The batched look at the box: many questions, one round trip, every answer bounded and checked.

The questions and the types of their answers are declared in ``harness.core.questions``; the functions of
``harness.remote.box`` answer them. What comes back is a stranger's word: it is parsed with limits and must
fit its type, and a path that could not be a name below what was asked for makes the answer a problem.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from harness.core.canonical import Json, require_recordable
from harness.core.ids import new_nonce
from harness.core.observed import Observed, unseen
from harness.core.ports import RunResult
from harness.core.questions import Answers, Question
from harness.core.text import printable
from harness.remote.path_safety import refused, unsafe_paths
from harness.remote.probe import posix_fallback, program
from harness.remote.probe.typed import typed

T = TypeVar("T")

ANSWER_LIMIT = 8 << 20
"""Bytes of one probe's answer; more is refused, not read."""

MARGIN_S = 10.0
"""The box is told to answer this much before the operator's patience ends (at most half of it)."""

RunOnce = Callable[[Sequence[str], bytes, float, int], RunResult]
"""(argv, stdin, timeout in seconds, output limit in bytes) -> what one command did on the box."""


def ask(run: RunOnce, questions: Sequence[Question[Any]], timeout: float) -> Answers:
    """Ask everything at once. ``run`` raises HostUnreachable; whatever else is odd is a problem of the answers."""
    asked = tuple(dict.fromkeys(questions))
    if not asked:
        return Answers({})
    marker = f"harness-probe-{new_nonce()}:"
    request: dict[str, Json] = {
        "marker": marker,
        "timeout": max(timeout - MARGIN_S, timeout / 2),
        "limit": ANSWER_LIMIT // 2,
        "questions": on_the_wire(asked),
    }
    extras = (module for op in sorted({question.op for question in asked}) for module in program.EXTRAS.get(op, ()))
    text = program.program((*extras, *program.PROBE), request)
    ran = run(program.INTERPRETER, text.encode(), timeout, ANSWER_LIMIT)
    if ran.status == posix_fallback.NO_SUCH_PROGRAM:
        return Answers({question: read(question, posix_fallback.ask(run, question, timeout)) for question in asked})
    return parse(ran, marker, asked)


def on_the_wire(questions: Sequence[Question[Any]]) -> list[Json]:
    """Questions as the program on the box takes them: numbered, for the answers carry the numbers."""
    return [{"id": str(n), "op": question.op, "args": question.arguments()} for n, question in enumerate(questions)]


def parse(ran: RunResult, marker: str, questions: Sequence[Question[Any]]) -> Answers:
    """The answers in a probe's output; a question whose answer is missing or odd has a problem instead."""
    told = _told(ran, marker)
    if isinstance(told, str):
        return Answers(dict.fromkeys(questions, unseen(told)))
    return Answers({question: read(question, _one(question, told.get(str(n)))) for n, question in enumerate(questions)})


def _told(ran: RunResult, marker: str) -> Mapping[str, Any] | str:
    """The answers by number, or why there are none."""
    _, found, line = ran.stdout.rpartition(marker.encode())
    if not found:
        said = (ran.stderr or ran.stdout)[-300:].decode("utf-8", "replace")
        return f"the probe ended with status {ran.status} and no answer: {said!r}"
    try:
        answers = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"the probe's answer cannot be read: {type(error).__name__}: {str(error)[:200]}"
    return answers if isinstance(answers, dict) else "the probe's answer is not an object"


def _one(question: Question[Any], answer: Any) -> Observed[Json]:
    if not isinstance(answer, dict) or len(answer) != 1:
        return unseen(f"the probe did not answer {question.op}")
    if "problem" in answer:
        return unseen(printable(f"{question.op} on the box: {answer['problem']}", 500))
    return Observed(value=answer.get("value"))


def read(question: Question[T], told: Observed[Json]) -> Observed[T]:
    """Answer of the box as the type of the question's answer, whichever program on the box told it."""
    if told.problem is not None:
        return unseen(told.problem)
    try:
        require_recordable(told.value)
    except ValueError as error:
        return unseen(f"the answer to {question.op} cannot be written down: {error}")
    answer: Observed[T] = typed(told.value, question.answer_type())
    if answer.value is None:
        return unseen(f"{question.op} on the box: {answer.problem}")
    unsafe = unsafe_paths(question, answer.value)
    if unsafe:
        which = refused(unsafe[0]) or f"a path that was not asked for: {printable(repr(unsafe[0]), 300)}"
        return unseen(f"the box answers {question.op} with what cannot be trusted: {which}")
    return answer
