"""A merged model's config.json is held against the planned one, field by field."""

from __future__ import annotations

from typing import Any

import pytest

from harness.artifacts.merged import other_model

PLANNED: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 300,
    "tie_word_embeddings": False,
}
OF_THE_SHAPE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
)


def test_the_planned_model_is_no_other_one() -> None:
    assert other_model(PLANNED, PLANNED) == []


@pytest.mark.parametrize("name", OF_THE_SHAPE)
def test_another_shape_is_named_and_one_that_is_not_stated_is_none(name: str) -> None:
    other = {**PLANNED, name: PLANNED[name] * 2}
    assert other_model(other, PLANNED) == [f"{name} is {PLANNED[name] * 2}, planned {PLANNED[name]}"]
    assert other_model({**PLANNED, name: None}, PLANNED) == []
    assert other_model(other, {key: value for key, value in PLANNED.items() if key != name}) == []


def test_tied_embeddings_make_another_model() -> None:
    assert other_model({**PLANNED, "tie_word_embeddings": True}, PLANNED) == [
        "tie_word_embeddings is True, planned False"
    ]
