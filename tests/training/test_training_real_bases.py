"""Two real models' tokenizers through the package: the header is theirs again, and R1's rows are what they were."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from forex import base, chat, gguf_vocab, manifest, template
from forex.config import Model
from forex.rows import Example

from tests.support import real_bases

R1_ROWS = [
    Example("Where will EURUSD stand? +0.33%", "<think>\nwhy\n</think>\n\nUP"),
    Example("Is it worth its risk?\n", "TAKE", "You answer in one word."),
    Example("naïve 12345 …  \n\n x", "because\n</think>\n\nDecision: SKIP \n"),
    Example("你好, 世界 3,14", "  <think>reason</think>answer", "Système."),
]
R1_IDS = "4c80450fef3e1a6179c0fc99b911c8cad88c7108c2a392507a00661890834e91"
"""SHA-256 of these rows' token ids as the first release of the package trained on them."""

REAL = pytest.mark.parametrize("what", [real_bases.SMOLLM2, real_bases.R1_DISTILL], ids=["SmolLM2", "R1-Distill-Qwen"])


def spoken(what: tuple[str, str], folder: Path, factory: pytest.TempPathFactory) -> tuple[dict[str, Any], chat.Chat]:
    told = real_bases.header(real_bases.fetched(what, real_bases.kept(factory)))
    real_bases.write_tokenizer(told, folder)
    return told, chat.of(base.tokenizer(folder), Model())


@pytest.mark.slow
@REAL
def test_the_header_is_the_published_one(
    what: tuple[str, str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    told, said = spoken(what, tmp_path, tmp_path_factory)
    made = gguf_vocab.metadata(tmp_path, len(told["tokenizer.ggml.tokens"]), said)
    other = {key for key, value in made.items() if told.get(key) != value}
    # R1's own template asks without <think> and drops the reasoning: it is replaced by what was trained.
    assert other == ({"tokenizer.chat_template"} if what is real_bases.R1_DISTILL else set())


@pytest.mark.slow
def test_r1s_rows_are_what_they_were(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    _, said = spoken(real_bases.R1_DISTILL, tmp_path, tmp_path_factory)
    both = zip(said.prompts(R1_ROWS), said.answers(R1_ROWS, "completion"), strict=True)
    assert hashlib.sha256(json.dumps([prompt + answer for prompt, answer in both]).encode()).hexdigest() == R1_IDS
    assert isinstance(said.turns, template.R1Turns)


@pytest.mark.slow
def test_smollm2_is_taught_in_its_own_turns(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    _, said = spoken(real_bases.SMOLLM2, tmp_path, tmp_path_factory)
    (prompt,), (answer,) = said.prompts([Example("q", "a")]), said.answers([Example("q", "a")], "completion")
    assert said.tokenizer.decode(prompt) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    )
    assert said.tokenizer.convert_ids_to_tokens(answer) == ["a", "<|im_end|>"]
    written = manifest.modelfile("x.gguf", said.turns)
    assert 'PARAMETER stop "<|im_end|>"' in written
    assert "<|im_start|>user\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n{{ end }}{{ .Response }}" in written
    assert template.USER not in written
