"""Turns as a base's own chat template writes them: rendered, held against what was to be said, and refused by name.

Transformers renders it, as every user of the model does. The model learns what stands behind the prompt as it will be
asked, up to and including the first token that ends the turn.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from dataclasses import dataclass, field
from typing import Any

from .errors import BadConfig, DataDefect
from .template import END_THINK, THINK

_SYSTEM, _ASK, _SAY = "Wherein", "Wherefore", "Therefore"
"""Words that no template has."""

_OTHERWISE = "write one to a file and name it in [model] of the configuration: chat = FILE"


@dataclass(frozen=True, slots=True)
class OwnTurns:
    """The turns of one template; ``rendered_as`` is its text with the day's date written in where it asks for that."""

    tokenizer: Any
    published: str
    rendered_as: str
    end: str = ""
    begins: bool = False
    marks: tuple[str, ...] = ()
    thinks: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "thinks", END_THINK in self.published)

    @property
    def ollama(self) -> str:
        """One exchange in Ollama's words, whose runtime adds the BOS."""
        user, answer = "{{ .Prompt }}", "{{ .Response }}"
        bare = self._for_ollama(user, "")
        try:
            asked = f"{{{{ if .System }}}}{self._for_ollama(user, '{{ .System }}')}{{{{ else }}}}{bare}{{{{ end }}}}"
        except DataDefect:  # no system turn, so Ollama's users have none either
            asked = bare
        return asked + answer + self.rendered(user, "", answer).rpartition(answer)[2]

    def prompt(self, prompt: str, system: str) -> str:
        """Everything up to where the model goes on; raises DataDefect for turns that the template refuses or loses."""
        text = self.rendered(prompt, system)
        if system and text == self.rendered(prompt, ""):
            raise DataDefect("the base's chat template leaves out 'system'; put its words into the prompt")
        for name, words in (("system", system), ("prompt", prompt)):
            _require_said(words, text, name)
        return text

    def answer(self, answer: str, prompt: str, system: str) -> str:
        """The model's part, with the token that ends it; raises DataDefect for one that the template changes."""
        asked, said = self.rendered(prompt, system), self.rendered(prompt, system, answer)
        if not said.startswith(asked):
            raise DataDefect("the chat template does not begin the answer as it asks for it")
        text, end, _ = said[len(asked) :].rpartition(self.end)
        _require_said(answer, text, "answer")
        return text + end

    def rendered(self, prompt: str, system: str, answer: str | None = None, **other: Any) -> str:
        """An exchange as the template writes it, or, without an answer, the question; raises DataDefect."""
        turns = [("system", system or None), ("user", prompt), ("assistant", answer)]
        try:
            text: str = self.tokenizer.apply_chat_template(
                [{"role": role, "content": content} for role, content in turns if content is not None],
                chat_template=self.rendered_as,
                add_generation_prompt=answer is None,
                tokenize=False,
                **other,
            )
        except Exception as error:
            what = "a system turn" if system else "one question and one answer"
            raise DataDefect(f"the base's chat template refuses {what}: {str(error)[:200]}") from error
        return text

    def _for_ollama(self, prompt: str, system: str) -> str:
        text = self.prompt(prompt, system)
        return text.removeprefix(self.tokenizer.bos_token) if self.begins else text


def of(tokenizer: Any, given: str | None, today: str) -> OwnTurns:
    """The turns of a template, given or the tokenizer's own; raises BadConfig for one that cannot be trained on."""
    published = _only(tokenizer.chat_template if given is None else given)
    first, second = (OwnTurns(tokenizer, published, _dated(published, day)) for day in ("2001-01-01", "2002-02-02"))
    turns = OwnTurns(tokenizer, published, _dated(published, today)) if today else first
    try:
        asked, said = turns.rendered(_ASK, ""), turns.rendered(_ASK, "", _SAY)
    except DataDefect as error:
        raise BadConfig(f"{error}; {_OTHERWISE}") from error
    if "strftime_now(" in turns.rendered_as or (not today and _differ(first, second)):
        raise BadConfig(
            "the base's chat template writes the day's date into every prompt, so the rows of two days would differ; "
            f'say which in [model] of the configuration, such as today = "2026-01-31", or {_OTHERWISE}'
        )
    if not said.startswith(asked):
        raise BadConfig(
            f"the base's chat template begins an answer otherwise ({said[:200]!r}) than it asks for one "
            f"({asked[:200]!r}), so what is learned is not what is asked for; {_OTHERWISE}"
        )
    tokens = [str(token) for token in tokenizer.added_tokens_decoder.values() if str(token) not in {THINK, END_THINK}]
    return OwnTurns(
        tokenizer,
        published,
        turns.rendered_as,
        end=_end(said.rpartition(_SAY)[2], tokens),
        begins=_begins(tokenizer, turns, asked),
        marks=tuple(token for token in tokens if token in said or token in {tokenizer.bos_token, tokenizer.eos_token}),
    )


def _dated(template: str, day: str) -> str:
    """A template that is told this day whenever it asks: transformers lets no function of ours into it."""
    told = dt.date.fromisoformat(day)
    return re.sub(r"strftime_now\(\s*(['\"])(.+?)\1\s*\)", lambda call: repr(told.strftime(call[2])), template)


def _differ(first: OwnTurns, second: OwnTurns) -> bool:
    """True when two days are asked differently, with a system turn or without one."""
    for system in ("", _SYSTEM):
        with contextlib.suppress(DataDefect):
            if first.rendered(_ASK, system) != second.rendered(_ASK, system):
                return True
    return False


def _only(template: object) -> str:
    """The template of a tokenizer that may have none, or several by name."""
    if isinstance(template, dict):
        if isinstance(template.get("default"), str):
            return str(template["default"])
        names = ", ".join(sorted(template))
        raise BadConfig(f"the base has several chat templates ({names}) and none is the default; {_OTHERWISE}")
    if not isinstance(template, str) or not template.strip():
        raise BadConfig(f"the base has no chat template (is it one before instruction tuning?); {_OTHERWISE}")
    return template


def _end(behind: str, tokens: list[str]) -> str:
    """The token that a template writes behind an answer."""
    found = [token for token in tokens if behind.lstrip().startswith(token)]
    if not found:
        raise BadConfig(
            f"the base's chat template ends an answer with {behind[:40]!r}, which is no token of its tokenizer, so the "
            f"model would not learn to stop; {_OTHERWISE}"
        )
    return max(found, key=len)


def _begins(tokenizer: Any, turns: OwnTurns, asked: str) -> bool:
    """True when a prompt begins with BOS as such: by the template, or by a tokenizer that adds it to any text."""
    bos = tokenizer.bos_token
    if bos is None:
        return False
    adds = tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id]
    written = asked.startswith(bos)
    if adds and not written:
        raise BadConfig(
            f"the tokenizer begins every text with {bos} and the base's chat template does not, so transformers and "
            f"llama.cpp would ask differently; {_OTHERWISE}, with {{{{ bos_token }}}} in front"
        )
    return written and (adds or turns.rendered(_ASK, "", bos_token="") != asked)


def _require_said(words: str, text: str, name: str) -> None:
    """Raise DataDefect when a template left out words; white space it may set anew."""
    if "".join(words.split()) not in "".join(text.split()):
        lost = 'its reasoning; set reasoning = "drop" in [model]' if END_THINK in words else "words of it"
        raise DataDefect(f"the base's chat template leaves out of {name!r} {lost}")
