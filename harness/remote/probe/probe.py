"""The batched look at the box: many questions, one round trip, every answer bounded and checked.

The operations and their answers are the functions of ``harness.remote.box`` (files, machine,
session, training). What comes back is a stranger's word: it is parsed with limits, and a path
that could not be a name below what was asked for makes the answer a problem.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from harness.core.canonical import require_recordable
from harness.core.ids import new_nonce
from harness.core.observed import Observed
from harness.core.ports import Answers, Json, Question, RunResult
from harness.core.text import printable
from harness.remote.path_safety import unsafe_paths
from harness.remote.probe import posix_fallback, program

ANSWER_LIMIT = 8 << 20
"""Bytes of one probe's answer; more is refused, not read."""

MARGIN_S = 10.0
"""The box is told to answer this much before the operator's patience ends (at most half of it)."""

RunOnce = Callable[[Sequence[str], bytes, float, int], RunResult]
"""(argv, stdin, timeout in seconds, output limit in bytes) -> what one command did on the box."""


def ask(run: RunOnce, questions: Sequence[Question], timeout: float) -> Answers:
    """Ask everything at once. ``run`` raises HostUnreachable; whatever else is odd is a problem of the answers."""
    if not questions:
        return Answers({})
    marker = f"harness-probe-{new_nonce()}:"
    request: dict[str, Json] = {
        "marker": marker,
        "timeout": max(timeout - MARGIN_S, timeout / 2),
        "limit": ANSWER_LIMIT // 2,
        "questions": [{"id": q.id, "op": q.op, "args": dict(q.args)} for q in questions],
    }
    modules = (program.GGUF, *program.PROBE) if any(q.op == "gguf" for q in questions) else program.PROBE
    text = program.program(modules, request)
    ran = run(program.INTERPRETER, text.encode(), timeout, ANSWER_LIMIT)
    if ran.status == posix_fallback.NO_SUCH_PROGRAM:
        return posix_fallback.ask(run, questions, timeout)
    return parse(ran, marker, questions)


def parse(ran: RunResult, marker: str, questions: Sequence[Question]) -> Answers:
    """The answers in a probe's output; a question whose answer is missing or odd has a problem instead."""
    _, found, line = ran.stdout.rpartition(marker.encode())
    if not found:
        said = (ran.stderr or ran.stdout)[-300:].decode("utf-8", "replace")
        return _all(questions, f"the probe ended with status {ran.status} and no answer: {said!r}")
    try:
        answers = json.loads(line)
    except (ValueError, RecursionError) as error:
        return _all(questions, f"the probe's answer cannot be read: {type(error).__name__}: {str(error)[:200]}")
    if not isinstance(answers, dict):
        return _all(questions, "the probe's answer is not an object")
    return Answers({q.id: _judged(q, answers.get(q.id)) for q in questions})


def _judged(question: Question, answer: Any) -> Observed[Json]:
    if not isinstance(answer, dict) or len(answer) != 1:
        return Observed(problem=f"the probe did not answer {question.op} ({question.id})")
    if "problem" in answer:
        return Observed(problem=printable(f"{question.op} on the box: {answer['problem']}", 500))
    value = answer.get("value")
    if value is None:
        return Observed(problem=f"the probe's answer to {question.op} ({question.id}) holds nothing")
    try:
        require_recordable(value)
    except ValueError as error:
        return Observed(problem=f"the answer to {question.op} cannot be written down: {error}")
    unsafe = unsafe_paths(question, value)
    if unsafe:
        return Observed(problem=f"the box answers {question.op} with a path that cannot be trusted: {unsafe[0]!r}")
    return Observed(value=value)


def _all(questions: Sequence[Question], problem: str) -> Answers:
    return Answers({q.id: Observed(problem=problem) for q in questions})
