"""Turns into the token ids of DeepSeek-R1's format, by our own hand. Pure but for the tokenizer.

The model's own chat template drops everything up to ``</think>`` from assistant turns, and a
tokenizer may or may not add a BOS by itself; so nothing is left to either: one BOS, the
prompt up to and including ``<think>``, the completion from the reasoning on, one EOS. Prompt
and completion are tokenised apart, which is also what happens when the model is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import DataDefect

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


def encode_prompts(tokenizer: Any, prompts: Sequence[tuple[str, str]]) -> list[list[int]]:
    """Token ids of (prompt, system) pairs, each with its one BOS."""
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    texts = [prompt_text(prompt, system) for prompt, system in prompts]
    return [bos + ids for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def _may_fill(prompt: tuple[str, str], limit: int) -> bool:
    """False for a prompt that is known, without its tokens, to have fewer than ``limit``.

    No byte of ASCII makes more than one token; other letters may, where a tokenizer normalises them.
    """
    text, system = prompt
    size = 1 + len(prompt_text(text, system).encode())  # BOS and all of the marks' bytes
    return size >= limit or not (text.isascii() and system.isascii())


def encode_completions(tokenizer: Any, completions: Sequence[str]) -> list[list[int]]:
    """Token ids of answers, each with its one EOS."""
    eos = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    texts = [completion_text(completion) for completion in completions]
    return [ids + eos for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def refuse_full(path: Path, tokenizer: Any, prompts: Sequence[tuple[str, str]], limit: int) -> None:
    """Raise DataDefect, with the file and the line, for a prompt that leaves no room for its answer."""
    long = {number: prompt for number, prompt in enumerate(prompts, start=1) if _may_fill(prompt, limit)}
    if not long:
        return
    for number, ids in zip(long, encode_prompts(tokenizer, list(long.values())), strict=True):
        if len(ids) >= limit:
            raise DataDefect(
                f"{path}, line {number}: the prompt has {len(ids)} tokens and max_length is {limit}, which leaves "
                "no room for an answer; shorten it, or raise max_length"
            )
