"""Looks that end in a value or in a problem, whatever a stranger's bytes do to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from harness.context import JobContext
from harness.core import canonical
from harness.core.answers import JsonFile, Text
from harness.core.errors import HarnessError, MissingExtra
from harness.core.observed import CouldNotLook, Observed, seen, unseen
from harness.core.questions import Answers, Question
from harness.core.text import printable

T = TypeVar("T")


def attempt(look: Callable[[], T]) -> Observed[T]:
    """Answer of one look; an error becomes the observation's problem.

    Any error: what can be raised over a stranger's bytes has no list, and a look that failed opens no gate.
    """
    try:
        return seen(look())
    except MissingExtra as error:
        return unseen(f"{error}: {error.remedy}")
    except (HarnessError, CouldNotLook, OSError) as error:
        return unseen(str(error))
    except Exception as error:  # noqa: BLE001 - see above
        return unseen(printable(f"unexpected answer: {type(error).__name__}: {error}", 500))


def needed(value: T | None, problem: str) -> T:
    """A value that a look needs; raises CouldNotLook with the problem when there is none."""
    if value is None:
        raise CouldNotLook(problem)
    return value


def ask(context: JobContext, *questions: Question[Any], timeout: float = 120.0) -> Answers:
    """One round trip to the box; when it cannot be asked, that is the problem of every question."""
    answered = attempt(lambda: context.host().probe(questions, timeout=timeout))
    if answered.value is not None:
        return answered.value
    return Answers(dict.fromkeys(questions, answered))


def json_text(observed: Observed[Text]) -> Observed[JsonFile]:
    """A text file's JSON."""
    return attempt(lambda: _parsed(observed.get()))


def _parsed(text: Text) -> JsonFile:
    if not text.exists:
        return JsonFile(exists=False)
    if text.truncated:
        raise CouldNotLook(f"the file is too large to read: {text.bytes} bytes")
    try:
        return JsonFile(exists=True, bytes=text.bytes, json=canonical.parse(text.text))
    except ValueError as error:
        raise CouldNotLook(f"not JSON: {error}") from error
