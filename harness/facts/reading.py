"""From answers of strangers to typed observations: what does not fit its type was not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from harness.context import JobContext
from harness.core import canonical
from harness.core.errors import HarnessError
from harness.core.observed import CouldNotLook, Observed, seen, unseen
from harness.core.ports import Answers, Json, Question
from harness.core.text import printable
from harness.facts.box import JsonFile, Text

T = TypeVar("T")


def attempt(look: Callable[[], T]) -> Observed[T]:
    """What a look came back with; an error becomes the observation's problem.

    Any error: what can be raised over a stranger's bytes has no list, and a look that failed opens no gate.
    """
    try:
        return seen(look())
    except (HarnessError, CouldNotLook, OSError) as error:
        return unseen(str(error))
    except Exception as error:  # noqa: BLE001 - see above
        return unseen(printable(f"unexpected answer: {type(error).__name__}: {error}", 500))


def ask(context: JobContext, questions: Sequence[Question], *, timeout: float = 120.0) -> Answers:
    """One round trip to the box; when it cannot be asked, that is the problem of every question."""
    answered = attempt(lambda: context.host().probe(questions, timeout=timeout))
    if answered.value is not None:
        return answered.value
    return Answers({question.id: unseen(answered.problem or "the box was not asked") for question in questions})


def typed(observed: Observed[Json], kind: type[T]) -> Observed[T]:
    """An answer of the box as a value of ``kind``; anything else is a problem, said in one line."""
    if observed.problem is not None:
        return unseen(observed.problem)
    try:
        return seen(_adapter(kind).validate_python(observed.value))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return unseen(f"the box's answer does not fit: {where}: {first['msg']}")


def json_text(observed: Observed[Text]) -> Observed[JsonFile]:
    """A text file's JSON. The probe's own ``read_json`` would judge paths inside it as paths on the box."""
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


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]
