"""Rows into token ids, in the chat format of the base: of its own template, or R1's by our hand.

Prompt and answer are tokenised apart, which is also what happens when the model is used. The format is found once, and
a base whose template cannot teach what it would be asked for is refused before anything is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from . import own_template
from .config import Model
from .errors import BadConfig, DataDefect
from .rows import Example, Preference
from .template import BOS, END_THINK, EOS, TURN_MARKS, R1Turns

R1 = "r1"


class Turns(Protocol):
    """A format: texts of one exchange, the token that ends an answer, and how other programs are told of it."""

    @property
    def end(self) -> str:
        """The token that ends an answer."""

    @property
    def begins(self) -> bool:
        """True when a prompt begins with the tokenizer's BOS, which a runtime adds by itself."""

    @property
    def thinks(self) -> bool:
        """True when an answer's reasoning has marks of its own."""

    @property
    def marks(self) -> tuple[str, ...]:
        """Tokens that no text of a row may hold: they would fake a turn."""

    @property
    def published(self) -> str:
        """The format as a Jinja template."""

    @property
    def ollama(self) -> str:
        """One exchange as a template of Ollama."""

    def prompt(self, prompt: str, system: str) -> str:
        """Everything up to where the model goes on."""

    def answer(self, answer: str, prompt: str, system: str) -> str:
        """The model's part, with the token that ends it."""


class Chat:
    """A tokenizer and the turns that it speaks in."""

    def __init__(self, tokenizer: Any, turns: Turns, reasoning: str = "template") -> None:
        self.tokenizer, self.turns, self._reasoning = tokenizer, turns, reasoning

    @property
    def reasons(self) -> bool:
        """True when the model was taught to reason before it answers, up to a mark that is one token."""
        return self.turns.thinks and self._reasoning != "drop" and END_THINK in self.tokenizer.get_vocab()

    def prompts(self, rows: Sequence[Example | Preference]) -> list[list[int]]:
        """Token ids of the prompts."""
        return self._ids([self.turns.prompt(row.prompt, row.system) for row in rows])

    def answers(self, rows: Sequence[Example | Preference], name: str) -> list[list[int]]:
        """Token ids of the answers in one field, each with its one end."""
        return self._ids([self._answer(row, name) for row in rows])

    def refuse(self, path: Path, rows: Sequence[Example | Preference], limit: int) -> None:
        """Raise DataDefect, with the file and the line, for a row that the format cannot say or has no room for."""
        texts = []
        for number, row in enumerate(rows, start=1):
            try:
                texts.append(self._checked(row))
            except DataDefect as error:
                raise DataDefect(f"{path}, line {number}: {error}") from error
        long = {at: text for at, text in enumerate(texts, start=1) if _may_fill(rows[at - 1], text, limit)}
        for number, ids in zip(long, self._ids(list(long.values())), strict=True):
            if len(ids) >= limit:
                raise DataDefect(
                    f"{path}, line {number}: the prompt has {len(ids)} tokens and max_length is {limit}, which leaves "
                    "no room for an answer; shorten it, or raise max_length"
                )

    def _checked(self, row: Example | Preference) -> str:
        """The prompt of a row whose texts and answers the format can say."""
        answers = ("chosen", "rejected") if isinstance(row, Preference) else ("completion",)
        for name in ("prompt", "system", *answers):
            if mark := next((mark for mark in self.turns.marks if mark in getattr(row, name)), None):
                raise DataDefect(f"{name!r} holds {mark!r}, a mark of the base's turns, and would fake a turn")
        for name in answers:
            self._answer(row, name)
        return self.turns.prompt(row.prompt, row.system)

    def _answer(self, row: Example | Preference, name: str) -> str:
        text: str = getattr(row, name)
        if self._reasoning == "drop":
            text = text.rpartition(END_THINK)[2].lstrip()
        elif END_THINK in text and self._reasoning == "template" and not self.turns.thinks:
            raise DataDefect(
                f"{name!r} holds {END_THINK}, which the base's chat template does not know; take the reasoning out, or "
                'set reasoning in [model] of the configuration: "drop" learns the answer alone, "keep" takes the marks '
                "for text"
            )
        return self.turns.answer(text, row.prompt, row.system)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        return ids


def of(tokenizer: Any, model: Model) -> Chat:
    """The chat format that a configuration asks for; raises BadConfig for one that the base cannot speak."""
    known = tokenizer.get_vocab()
    lacking = [mark for mark in TURN_MARKS if mark not in known]
    fits = not lacking and (tokenizer.bos_token, tokenizer.eos_token) == (BOS, EOS)
    if model.chat == R1 and not fits:
        raise BadConfig(
            f"model.chat is {R1!r}, but the tokenizer of {model.name} has no token {lacking[0]}"
            if lacking
            else f"model.chat is {R1!r}, but the tokenizer of {model.name} begins or ends with other tokens than R1's"
        )
    if model.chat == R1 or (not model.chat and fits):
        return Chat(tokenizer, R1Turns(tokenizer), model.reasoning)
    given = None
    if model.chat:
        try:
            given = Path(model.chat).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadConfig(f"model.chat: cannot read the chat template {model.chat}: {error}") from error
    return Chat(tokenizer, own_template.of(tokenizer, given, model.today), model.reasoning)


def _may_fill(row: Example | Preference, text: str, limit: int) -> bool:
    """False for a prompt that is known, without its tokens, to have fewer than ``limit``.

    No byte of ASCII makes more than one token; other letters may, where a tokenizer normalises them.
    """
    return len(text.encode()) >= limit or not (row.prompt.isascii() and row.system.isascii())
