"""DeepSeek-R1's turns, by our own hand. Pure but for the tokenizer.

The model's own chat template drops everything up to ``</think>`` from assistant turns, and a
tokenizer may or may not add a BOS by itself; so nothing is left to either: one BOS, the
prompt up to and including ``<think>``, the completion from the reasoning on, one EOS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"  # noqa: RUF001 - the model's own spelling
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"  # noqa: RUF001 - the model's own spelling
THINK, END_THINK = "<think>", "</think>"
TURN_MARKS = (BOS, EOS, USER, ASSISTANT)
"""No text of a row may hold one of these."""

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}{{ message['content'] }}"
    "{%- elif message['role'] == 'user' -%}{{ '" + USER + "' + message['content'] }}"
    "{%- else -%}{{ '" + ASSISTANT + "' + message['content'].split('</think>')[-1] + eos_token }}"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '" + ASSISTANT + THINK + "\\n' }}{%- endif -%}"
)
"""The same format as a Jinja template, for a tokenizer that brings none."""


def prompt_text(prompt: str, system: str = "") -> str:
    """A prompt without BOS, up to the point where the assistant's reasoning begins."""
    return f"{system}{USER}{prompt}{ASSISTANT}{THINK}\n"


def completion_text(completion: str) -> str:
    """The rest of the assistant's turn after ``<think>``, without EOS; a turn without reasoning closes at once."""
    body = completion.lstrip()
    if body.startswith(THINK):
        return body.removeprefix(THINK).lstrip("\n")
    return body if END_THINK in body else f"\n{END_THINK}\n\n{body}"


@dataclass(frozen=True, slots=True)
class R1Turns:
    """R1's format, for every tokenizer that has its marks."""

    tokenizer: Any
    end: ClassVar[str] = EOS
    begins: ClassVar[bool] = True
    thinks: ClassVar[bool] = True
    marks: ClassVar[tuple[str, ...]] = TURN_MARKS

    @property
    def published(self) -> str:
        """The tokenizer's own template when it asks as the training did, else the training's."""
        own = self.tokenizer.chat_template
        if isinstance(own, str):
            asked = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": "?"}], add_generation_prompt=True, tokenize=False
            )
            if asked == self.prompt("?", ""):
                return own
        return CHAT_TEMPLATE

    @property
    def ollama(self) -> str:
        """One exchange in Ollama's words."""
        return f"{{{{ if .System }}}}{{{{ .System }}}}{{{{ end }}}}{prompt_text('{{ .Prompt }}')}{{{{ .Response }}}}"

    def prompt(self, prompt: str, system: str) -> str:
        """Everything up to where the model goes on."""
        return BOS + prompt_text(prompt, system)

    def answer(self, answer: str, prompt: str, system: str) -> str:  # noqa: ARG002 - of other formats, they decide
        """The model's part, with the token that ends it."""
        return completion_text(answer) + EOS
