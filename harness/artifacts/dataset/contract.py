"""Rows that a training package reads, and those that it refuses: the contract's rules on one row. Pure.

Examples are ``{"messages": [...]}`` with one exchange, ``{"instruction", "input"?, "output"}`` or
``{"prompt", "completion"}``; preferences are ``{"prompt", "chosen", "rejected"}``. Of several shapes in one row
the first of these counts. Conversations and plain texts are rows of other packages, which have rules of their own:
``shapes.conversation`` and ``shapes.plain``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import repeat
from operator import contains, itemgetter
from typing import Any, Final

MAX_LINE_BYTES: Final = 1 << 20
"""Bytes that a line may have, its line feed included; a longer one is no training example."""

THINK, END_THINK = "<think>", "</think>"
TURN_MARKS: Final = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")  # noqa: RUF001
"""Marks of the turn format that trains; one in a text would fake a turn."""

SUSPECT_BYTES: Final = ("\uff5c".encode(), b"\\u")
"""Bytes of a line, digits and signs taken out, without which no text in it holds a turn mark or half a character."""

_EXCHANGES: Final = (["user", "assistant"], ["system", "user", "assistant"])


class Teaching(StrEnum):
    """Rows of a data file by what they teach."""

    EXAMPLES = "examples"
    PREFERENCES = "preferences"
    CONVERSATIONS = "conversations"
    TEXTS = "texts"


class Schema(StrEnum):
    """The shape of a row, by the fields that it must have."""

    PREFERENCE = "prompt/chosen/rejected"
    MESSAGES = "messages"
    INSTRUCTION = "instruction/output"
    COMPLETION = "prompt/completion"
    TEXT = "text"


FIELDS: Final = {schema: tuple(schema.split("/")) for schema in Schema}


_ONE_SHAPE: Final = {
    Teaching.PREFERENCES: Schema.PREFERENCE,
    Teaching.CONVERSATIONS: Schema.MESSAGES,
    Teaching.TEXTS: Schema.TEXT,
}
"""Shapes of rows that have no other."""


class MisfitError(ValueError):
    """A row that does not fit; the message says why."""


def schema_of(row: Mapping[str, Any] | Sequence[str], teaching: Teaching) -> Schema:
    """The shape by which a row, or one with these fields, is read."""
    if teaching in _ONE_SHAPE:
        return _ONE_SHAPE[teaching]
    return Schema.MESSAGES if "messages" in row else Schema.INSTRUCTION if "instruction" in row else Schema.COMPLETION


def refuse(row: Mapping[str, Any], teaching: Teaching) -> None:
    """Raise MisfitError for a row that no package of the contract reads."""
    schema = schema_of(row, teaching)
    for name in _optional(schema):
        if row.get(name) not in (None, ""):
            _text(row, name)
    if schema is Schema.MESSAGES:
        _answered(_exchange(row["messages"]))
        return
    texts = [_text(row, name) for name in FIELDS[schema]]
    if schema is Schema.PREFERENCE and _equal(texts[1], texts[2]):
        raise MisfitError("'chosen' equals 'rejected'")
    for answer in texts[1:]:
        _answered(answer)


def as_completion(row: Mapping[str, Any]) -> dict[str, str]:
    """Prompt and completion of a row of examples that is not refused, whatever its shape."""
    match schema_of(row, Teaching.EXAMPLES):
        case Schema.MESSAGES:
            *asked, answer = (turn["content"] for turn in row["messages"])
            return {"prompt": "\n".join(asked), "completion": answer}
        case Schema.INSTRUCTION:
            extra = row.get("input")
            prompt = f"{row['instruction']}\n{extra}" if extra else row["instruction"]
            return {"prompt": prompt, "completion": row["output"]}
        case _:
            return {"prompt": row["prompt"], "completion": row["completion"]}


def all_read(rows: Sequence[Mapping[str, str]], fields: Sequence[str], teaching: Teaching, *, thoughts: int) -> bool:
    """True when none of the rows is refused, at a glance; they have these fields, with texts without ``SUSPECT_BYTES``.

    ``thoughts`` is the most ``think>`` that one of them holds. False means only that each row is worth a look.
    """
    schema = schema_of(fields, teaching)
    if schema is Schema.MESSAGES or not set(FIELDS[schema]) <= set(fields):
        return False
    columns = [[row[name] for row in rows] for name in FIELDS[schema]]
    beside = [[row[name] for row in rows] for name in _optional(schema) if name in fields]
    if not all(map(all, columns)) or any(any(map(str.isspace, column)) for column in (*columns, *beside)):
        return False
    answers = columns[1:]
    if thoughts and (thoughts > 2 * len(answers) or any(map(_odd_thoughts, answers))):
        return False
    return schema is not Schema.PREFERENCE or not any(map(_equal, columns[1], columns[2]))


def _equal(chosen: str, rejected: str) -> bool:
    return chosen[-1:] == rejected[-1:] and _learned(chosen) == _learned(rejected)


def _optional(schema: Schema) -> tuple[str, ...]:
    match schema:
        case Schema.PREFERENCE:
            return "system", "date"
        case Schema.INSTRUCTION:
            return "system", "pair", "date", "input"
        case _:
            return "system", "pair", "date"


def _odd_thoughts(answers: list[str]) -> bool:
    """True when the reasoning of one answer does not stand first in it, does not end, or is all of it."""
    return (
        not all(map(str.startswith, answers, repeat(THINK)))
        or not all(map(contains, answers, repeat(END_THINK)))
        or any(last.isspace() or last == END_THINK[-1] for last in set(map(itemgetter(-1), answers)))
    )


def _answered(text: str) -> None:
    before, opened, _ = text.partition(THINK)
    if opened and before.strip():
        raise MisfitError(f"the answer has text before {THINK}")
    if text.rfind(THINK) > text.rfind(END_THINK):
        raise MisfitError(f"the answer opens {THINK} and never closes it")
    if not text.rpartition(END_THINK)[2].strip():
        raise MisfitError(f"nothing stands after {END_THINK}: the answer is missing")


def _learned(answer: str) -> str:
    """An answer as a model learns it: the same with and without its opening ``<think>``."""
    body = answer.lstrip()
    if body.startswith(THINK):
        return body.removeprefix(THINK).lstrip("\n")
    return body if END_THINK in body else f"\n{END_THINK}\n\n{body}"


def _exchange(messages: object) -> str:
    """The assistant's text of one exchange: an optional system turn, one user turn, one assistant turn."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise MisfitError("'messages' is not a list of objects")
    roles = [message.get("role") for message in messages]
    if roles not in _EXCHANGES:
        shown = ", ".join([str(role)[:20] for role in roles[:5]] + ["..."] * (len(roles) > 5))
        raise MisfitError(f"'messages' has the roles [{shown}]; one user and one assistant turn are learned")
    return [_text(message, "content") for message in messages][-1]


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise MisfitError(f"{name!r} is {'missing' if value is None else 'not text'}")
    if not value.strip():
        raise MisfitError(f"{name!r} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise MisfitError(f"{name!r} holds half of a surrogate pair, which is no character") from error
    if any(mark in value for mark in TURN_MARKS):
        raise MisfitError(f"{name!r} holds a mark of the turn format and would fake a turn")
    return value
