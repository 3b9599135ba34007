"""Turns in DeepSeek-R1's format: the reasoning survives, one BOS, one EOS, only the answer is learned."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path
from typing import Any

import pytest
from forex import base, chat, smoke, template
from forex.config import Config, Model, Shape
from forex.errors import BadConfig, DataDefect
from forex.rows import Example
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("base") / "model"
    texts = ["Where will EURUSD stand, compared with today? End with a direction. +0.33%, RSI 20.2"] * 3
    made = base.directory(Model(name=str(folder), built=Shape(vocab_size=400)), texts, 1)
    return base.tokenizer(made)


def prompts(tokenizer: Any, *asked: str, system: str = "") -> list[list[int]]:
    return chat.Chat(tokenizer, template.R1Turns(tokenizer)).prompts([Example(one, "", system) for one in asked])


@pytest.mark.parametrize(
    ("completion", "rest"),
    [
        ("<think>\nwhy\n</think>\n\nUP", "why\n</think>\n\nUP"),
        ("why\n</think>\n\nUP", "why\n</think>\n\nUP"),
        ("UP", "\n</think>\n\nUP"),
    ],
)
def test_the_answer_goes_on_where_the_prompt_ends(completion: str, rest: str) -> None:
    assert template.completion_text(completion) == rest
    assert template.prompt_text("q").endswith("<think>\n")


def test_one_bos_one_eos_and_marks_are_single_tokens(tokenizer: Any) -> None:
    (prompt,) = prompts(tokenizer, "Where will EURUSD stand?")
    rows = [Example("Where will EURUSD stand?", "<think>\nwhy\n</think>\n\nUP")]
    (answer,) = chat.of(tokenizer, Model()).answers(rows, "completion")
    ids = prompt + answer
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.eos_token_id) == 1
    assert ids[-1] == tokenizer.eos_token_id
    for mark in (template.USER, template.ASSISTANT, template.THINK, template.END_THINK):
        assert ids.count(tokenizer.convert_tokens_to_ids(mark)) == 1
    assert tokenizer.decode(ids[1:-1]) == (
        "<｜User｜>Where will EURUSD stand?<｜Assistant｜><think>\nwhy\n</think>\n\nUP"  # noqa: RUF001
    )


def test_the_published_template_asks_as_the_training_does(tokenizer: Any) -> None:
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "q"}], add_generation_prompt=True, tokenize=False
    )
    assert asked == template.BOS + template.prompt_text("q")
    assert template.R1Turns(tokenizer).published == template.CHAT_TEMPLATE
    tokenizer.chat_template = "{{ messages[0].content }}"
    assert template.R1Turns(tokenizer).published == template.CHAT_TEMPLATE


def test_token_ids_survive_saving(tokenizer: Any, tmp_path: Path) -> None:
    before = prompts(tokenizer, "Where will EURUSD stand? +0.33%", system="s")
    tokenizer.save_pretrained(tmp_path)
    again = base.tokenizer(tmp_path)
    assert prompts(again, "Where will EURUSD stand? +0.33%", system="s") == before
    assert len(again) == len(tokenizer)


def test_a_tokenizer_without_padding_pads_with_its_end_of_sentence(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    del settings["pad_token"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    assert base.tokenizer(tmp_path).pad_token_id == tokenizer.eos_token_id
    del settings["eos_token"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(BadConfig, match="names no end of sentence"):
        base.tokenizer(tmp_path)


def _room(tokenizer: Any, *asked: str, limit: int) -> None:
    rows = [Example(prompt, "UP") for prompt in asked]
    chat.Chat(tokenizer, template.R1Turns(tokenizer)).refuse(Path("x.jsonl"), rows, limit)


def test_a_prompt_that_leaves_no_room_is_named_by_file_and_line(tokenizer: Any) -> None:
    two = "EURUSD", "Where will EURUSD stand, compared with today?"
    tokens = max(map(len, prompts(tokenizer, *two)))
    _room(tokenizer, *two, limit=tokens + 1)
    with pytest.raises(
        DataDefect, match=rf"x\.jsonl, line 2: the prompt has {tokens} tokens and max_length is {tokens}"
    ):
        _room(tokenizer, *two, limit=tokens)


@given(
    st.lists(st.text(st.characters(codec="utf-8"), max_size=60), min_size=1, max_size=4),
    st.integers(min_value=5, max_value=300),
)
def test_what_fits_by_its_bytes_is_not_tokenised_and_the_answer_is_the_same(
    tokenizer: Any, asked: list[str], limit: int
) -> None:
    counts = list(map(len, prompts(tokenizer, *asked)))
    full = next((number for number, count in enumerate(counts, start=1) if count >= limit), None)
    if full is None:
        _room(tokenizer, *asked, limit=limit)
    else:
        with pytest.raises(DataDefect, match=f"line {full}: "):
            _room(tokenizer, *asked, limit=limit)


def test_letters_that_a_tokenizer_takes_apart_are_counted_and_not_estimated() -> None:
    class Apart:
        """Makes ninety tokens of one letter, as NFKD with bytes for tokens may make eighteen of three bytes."""

        def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
            return {"input_ids": [[0] + [1] * 90 * text.count("\ufdfa") for text in texts]}

    _room(Apart(), "a" * 40, limit=91)
    with pytest.raises(DataDefect, match="has 91 tokens"):
        _room(Apart(), "\ufdfa", limit=91)


def test_a_row_that_fits_the_real_vocabulary_fits_the_rehearsals(tmp_path: Path) -> None:
    chance = random.Random(5)
    words = ["".join(chance.choices(string.ascii_lowercase, k=chance.randint(2, 10))) for _ in range(20_000)]
    learned = base.tokenizer(base.directory(Model(name=str(tmp_path / "base"), built=Shape()), words, 1))
    # Six hundred words: some eight hundred tokens of a vocabulary of 150,000.
    (ids,) = prompts(learned, " ".join(words[:600]))
    rehearsal = smoke.settings(Config(32), tmp_path)
    assert len(ids) > Config(32).model.max_length
    _room(learned, " ".join(words[:600]), limit=rehearsal.model.max_length)
