"""Shapes of rows that people train on elsewhere, brought into the contract's own. Pure.

Known are chats (``messages`` as TRL and OpenAI write them, ShareGPT's ``conversations``), Alpaca's instructions,
prompts with a completion or response, preference pairs (texts or turns), and plain text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from harness.artifacts.dataset.contract import MisfitError, Schema

_ASSISTANT: Final = frozenset({"assistant", "gpt", "model", "bot", "chatgpt", "function_call"})
_ROLES: Final = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("tool", "function", "ipython", "observation", "function_response"), "tool"),
    "assistant": "assistant",
}
"""Speakers by the names that chats have for them."""

_MAY_FOLLOW: Final[Mapping[str, tuple[str, ...]]] = {
    "": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}
"""Speakers that may follow one; a conversation begins after nobody."""

_QUESTIONS: Final = ("prompt", "instruction", "question", "query")
_ANSWERS: Final = ("completion", "output", "response", "answer")
_CHATS: Final = ("messages", "conversations", "conversation")
_CHOSEN: Final = ("chosen", "chosen_messages", "preferred_output")
_REJECTED: Final = ("rejected", "rejected_messages", "non_preferred_output")


class _UnknownShapeError(ValueError):
    """Turns that are written in a way that is not known here."""


def contracted(row: object) -> tuple[Schema, dict[str, Any]] | None:
    """The row in the contract's shape, with its other fields; None for one of an unknown shape.

    Raises MisfitError for a row of a known shape with something else where a text belongs.
    """
    if not isinstance(row, dict):
        raise MisfitError(f"a {type(row).__name__} where an object belongs")
    try:
        return _contracted(row)
    except _UnknownShapeError:
        return None


def conversation(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row that is a conversation of any number of turns, as ``messages``; raises MisfitError for any other row.

    It begins with a question, speakers take turns, and an answer ends it; only a system or a tool may say nothing.
    """
    name = _first(row, _CHATS)
    if not name:
        raise MisfitError("there is no list of turns: 'messages' or 'conversations'")
    before, found = "", []
    try:
        turns = _turns(row[name], name)
    except _UnknownShapeError as error:
        raise MisfitError(f"a turn in {name!r} has no speaker: 'role', or 'from'") from error
    for number, turn in enumerate(turns, start=1):
        speaker = _ROLES.get(turn["role"].strip().lower())
        if speaker is None:
            raise MisfitError(f"turn {number} of {name!r} is by {turn['role'][:20]!r}, who is not known")
        if speaker not in _MAY_FOLLOW[before]:
            raise MisfitError(f"turn {number} of {name!r} is by {speaker}, after {before or 'none before it'}")
        if speaker in {"user", "assistant"}:
            _said(turn["content"], f"turn {number} of {name!r}")
        found.append({"role": speaker, "content": turn["content"]})
        before = speaker
    if before != "assistant":
        raise MisfitError(f"{name!r} ends with {before or 'no turn at all'}: there is no answer to learn")
    return {**row, "messages": found}


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of plain text; raises MisfitError for any other row."""
    if not isinstance(row.get("text"), str):
        raise MisfitError(f"'text' is {'missing' if row.get('text') is None else 'not text'}")
    _said(row["text"], "'text'")
    return {**row}


def _said(text: str, place: str) -> None:
    if not text.strip():
        raise MisfitError(f"{place} is empty")
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise MisfitError(f"{place} holds half of a surrogate pair, which is no character")


def _contracted(row: dict[str, Any]) -> tuple[Schema, dict[str, Any]] | None:
    chat, asked, learned, chosen, rejected = (
        _first(row, names) for names in (_CHATS, _QUESTIONS, _ANSWERS, _CHOSEN, _REJECTED)
    )
    if chosen and rejected:
        prompt = _question(row, asked or chat or ("input" if row.get("input") else ""))
        pair = {"chosen": _spoken(row[chosen], chosen), "rejected": _spoken(row[rejected], rejected)}
        return Schema.PREFERENCE, row | {"prompt": prompt} | pair
    if chat:
        turns = _turns(row[chat], chat)
        while turns and turns[-1]["role"] != "assistant":
            turns.pop()
        return (Schema.MESSAGES, row | {"messages": turns}) if turns else None
    if asked and learned:
        told = {"prompt": _question(row, asked), "completion": _spoken(row[learned], learned)}
        return Schema.COMPLETION, row | told
    return (Schema.TEXT, row) if isinstance(row.get("text"), str) else None


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((name for name in names if row.get(name) is not None), "")


def _question(row: Mapping[str, Any], name: str) -> str:
    more = row.get("input") if name == "instruction" else None
    return "\n".join(_spoken(value, field) for value, field in ((row.get(name), name), (more, "input")) if value)


def _spoken(value: object, name: str) -> str:
    """A text, or what is said in turns."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        value = value.get("messages", [value])
    turns = _turns(value, name)
    return "\n".join(turn["content"] for turn in turns)


def _turns(value: object, name: str) -> list[dict[str, Any]]:
    """Turns as ``{"role", "content"}``; a turn that calls a tool, or is answered by one, may say nothing."""
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise MisfitError(f"{name!r} is not text and not a list of turns")
    return [_turn(turn, name) for turn in value]


def _turn(turn: Mapping[str, Any], name: str) -> dict[str, Any]:
    role, said = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if not isinstance(role, str):
        raise _UnknownShapeError
    tools = next((turn[field] for field in ("tool_calls", "function_call") if turn.get(field)), None)
    if not said and tools is not None:
        said = str(tools)
    if isinstance(said, list):  # parts: text, images, sound
        said = "\n".join(
            str(part.get("text", part.get("value", part))) if isinstance(part, dict) else str(part) for part in said
        )
    if not isinstance(said, str):
        raise MisfitError(f"a turn in {name!r} says {'nothing' if said is None else 'what is not text'}")
    return {"role": "assistant" if role in _ASSISTANT else role, "content": said}
