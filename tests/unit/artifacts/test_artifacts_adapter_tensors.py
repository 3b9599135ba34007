"""The tensors that PEFT saves for a configuration, by hand: of a base that is known, and of one that is not."""

from __future__ import annotations

from typing import Any

import pytest

from harness.artifacts import adapter, adapter_tensors, lora

Shapes = dict[str, tuple[int, ...]]
LAYER = "model.layers.0.self_attn."
BASE: Shapes = {
    "model.embed_tokens.weight": (300, 64),
    f"{LAYER}q_proj.weight": (32, 64),
    f"{LAYER}q_proj.bias": (32,),
    f"{LAYER}k_proj.weight": (16, 64),
    f"{LAYER}k_proj.bias": (16,),
    "model.layers.0.input_layernorm.weight": (64,),
    "lm_head.weight": (300, 64),
}
PREFIX = "base_model.model."
Q, K = f"{PREFIX}{LAYER}q_proj", f"{PREFIX}{LAYER}k_proj"
EMBEDDINGS, HEAD = f"{PREFIX}model.embed_tokens", f"{PREFIX}lm_head"
PAIR: Shapes = {f"{Q}.lora_A.weight": (4, 64), f"{Q}.lora_B.weight": (32, 4)}
NORM = f"{PREFIX}model.layers.0.input_layernorm.weight"


def _lora(**settings: Any) -> lora.Lora:
    return lora.read({"r": 4, "target_modules": ["q_proj"], **settings})


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, PAIR),
        ({"rank_pattern": {"q_proj": 2}}, {f"{Q}.lora_A.weight": (2, 64), f"{Q}.lora_B.weight": (32, 2)}),
        ({"use_dora": True}, {**PAIR, f"{Q}.lora_magnitude_vector": (32,)}),
        ({"lora_bias": True}, {**PAIR, f"{Q}.lora_B.bias": (32,)}),
        ({"bias": "lora_only"}, {**PAIR, f"{Q}.base_layer.bias": (32,)}),
        ({"bias": "all"}, {**PAIR, f"{Q}.base_layer.bias": (32,), f"{K}.bias": (16,)}),
        ({"modules_to_save": ["lm_head"]}, {**PAIR, f"{HEAD}.weight": (300, 64)}),
        ({"modules_to_save": ["k_proj"]}, {**PAIR, f"{K}.weight": (16, 64), f"{K}.bias": (16,)}),
        ({"modules_to_save": ["input_layernorm"]}, {**PAIR, NORM: (64,)}),
        ({"target_modules": ["input_layernorm"]}, {}),
        (
            {"target_modules": ["embed_tokens"], "lora_bias": True},
            {f"{EMBEDDINGS}.lora_embedding_A": (4, 300), f"{EMBEDDINGS}.lora_embedding_B": (64, 4)},
        ),
        (
            {"target_modules": ["embed_tokens"], "use_dora": True},
            {
                f"{EMBEDDINGS}.lora_embedding_A": (4, 300),
                f"{EMBEDDINGS}.lora_embedding_B": (64, 4),
                f"{EMBEDDINGS}.lora_magnitude_vector": (64,),
            },
        ),
        (
            {"target_modules": ["lm_head"]},
            {f"{HEAD}.lora_A.weight": (4, 64), f"{HEAD}.lora_B.weight": (300, 4)},
        ),
        (
            {"trainable_token_indices": [1, 2]},
            {**PAIR, f"{EMBEDDINGS}.token_adapter.trainable_tokens_delta": (2, 64)},
        ),
    ],
)
def test_the_tensors_of_a_base_that_is_known(settings: dict[str, Any], wanted: Shapes) -> None:
    vocabulary = [f"{module}{kind}" for module in (EMBEDDINGS, HEAD) for kind in (".base_layer.weight", ".weight")]
    assert adapter_tensors.expected(_lora(**settings), BASE) == (wanted, dict.fromkeys(vocabulary, (-1, 64)))


EMBEDDED: Shapes = {f"{EMBEDDINGS}.lora_embedding_A": (4, 300), f"{EMBEDDINGS}.lora_embedding_B": (64, 4)}


@pytest.mark.parametrize(
    ("settings", "there", "wanted", "allowed"),
    [
        ({}, PAIR, PAIR, {}),
        ({}, {f"{Q}.lora_A.weight": (4, 64)}, {**PAIR, f"{Q}.lora_B.weight": (-1, 4)}, {}),
        ({}, {f"{Q}.lora_B.weight": (32, 4)}, {**PAIR, f"{Q}.lora_A.weight": (4, -1)}, {}),
        ({}, {f"{Q}.lora_A.weight": (8, 64), f"{Q}.lora_B.weight": (32, 8)}, PAIR, {}),
        ({"use_dora": True}, PAIR, {**PAIR, f"{Q}.lora_magnitude_vector": (32,)}, {}),
        ({}, {**PAIR, NORM: (64,)}, PAIR, {NORM: (64,)}),
        ({}, {NORM: (64,)}, {"lora_A and lora_B": ()}, {NORM: (64,)}),
        ({}, {}, {"lora_A and lora_B": ()}, {}),
        ({}, {f"{K}.lora_A.weight": (4, 64)}, {}, {}),
        ({}, {name.removeprefix(PREFIX): shape for name, shape in PAIR.items()}, {}, {}),
        ({"target_modules": ["embed_tokens"]}, EMBEDDED, {}, EMBEDDED),
        (
            {},
            {f"{Q}.lora_A.weight": (), f"{Q}.lora_B.weight": ()},
            {f"{Q}.lora_A.weight": (4, -1), f"{Q}.lora_B.weight": (-1, 4)},
            {},
        ),
    ],
)
def test_the_tensors_that_go_with_others_where_the_base_is_not_known(
    settings: dict[str, Any], there: Shapes, wanted: Shapes, allowed: Shapes
) -> None:
    assert adapter_tensors.consistent(_lora(**settings), there) == (wanted, allowed)


CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 48,
    "vocab_size": 300,
}
WHOLE: dict[str, tuple[str, tuple[int, ...]]] = {
    f"{Q}.lora_A.weight": ("F32", (4, 64)),
    f"{Q}.lora_B.weight": ("F32", (64, 4)),
}


@pytest.mark.parametrize(
    ("settings", "base", "tensors", "problems", "doubts"),
    [
        ({}, CONFIG, WHOLE, [], []),
        ({}, CONFIG, {}, ["2 of 2 tensors are missing"], []),
        ({}, CONFIG, {**WHOLE, f"{K}.lora_A.weight": ("F32", (4, 64))}, ["PEFT passes over 1 tensors"], []),
        ({}, CONFIG, {**WHOLE, f"{Q}.lora_A.weight": ("F32", (4, 63))}, ["is 4 x 63, expected 4 x 64"], []),
        ({}, CONFIG, {**WHOLE, f"{Q}.lora_A.weight": ("F32", (4,))}, ["is 4, expected 4 x 64"], []),
        ({}, CONFIG, {**WHOLE, f"{EMBEDDINGS}.weight": ("F32", (310, 64))}, [], []),
        ({}, CONFIG, {**WHOLE, f"{EMBEDDINGS}.weight": ("F32", (310, 63))}, ["is 310 x 63, expected -1 x 64"], []),
        ({}, {"architectures": ["Other"]}, WHOLE, [], ["the base model's modules cannot be told"]),
        ({"target_parameters": ["x"]}, CONFIG, {}, [], ["uses target_parameters"]),
        ({"r": 0}, CONFIG, WHOLE, [], ["adapter_config.json: r is 0"]),
        ({"peft_type": "IA3"}, CONFIG, WHOLE, [], ["adapter_config.json: peft_type is 'IA3'"]),
    ],
)
def test_how_tensors_differ_from_those_of_a_configuration(
    settings: dict[str, Any],
    base: dict[str, Any],
    tensors: dict[str, tuple[str, tuple[int, ...]]],
    problems: list[str],
    doubts: list[str],
) -> None:
    told = adapter.mismatches({"r": 4, "target_modules": ["q_proj"], **settings}, base, tensors)
    for said, words in zip(told, (problems, doubts), strict=True):
        assert len(said) == len(words), said
        assert all(word in one for word, one in zip(words, said, strict=True)), said
