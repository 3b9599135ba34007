"""The tensor table of a GGUF, row by row: what is named, what is counted, and what is held against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness.artifacts import gguf, model_shape, quantizations, tensors
from harness.artifacts.expectation import Expectation
from harness.artifacts.gguf import Gguf, Tensor
from harness.core.finding import Finding
from harness.core.verdict import Verdict
from tests.support.model_files import TINY

METADATA: Mapping[str, Any] = {
    "general.architecture": "qwen2",
    "general.file_type": 7,
    "tokenizer.ggml.tokens": gguf.Array("string", 300, 0, 0),
    "qwen2.block_count": 2,
    "qwen2.context_length": 1024,
    "qwen2.embedding_length": 256,
    "qwen2.feed_forward_length": 512,
    "qwen2.attention.head_count": 4,
    "qwen2.attention.head_count_kv": 2,
}
UP = "blk.0.ffn_up.weight"
MATRICES = [f"blk.{layer}.{part}.weight" for layer in (0, 1) for part in ("attn_q", "attn_k", "ffn_gate")]
NOTHING = Expectation()
PASS, FAIL, UNKNOWN = Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN


def _tensor(name: str, kind: str, *shape: int) -> Tensor:
    return Tensor(name, shape, kind, 0, gguf.nbytes(kind, shape))


WHOLE = {
    one.name: _tensor(one.name, one.type, *one.shape)
    for one in model_shape.predict(model_shape.from_config(TINY), "Q8_0")
}


def _header(table: Mapping[str, Tensor] = WHOLE, **metadata: Any) -> Gguf:
    stated = {**METADATA, **{key.replace("__", "."): value for key, value in metadata.items()}}
    return Gguf(0, 32, 0, {key: value for key, value in stated.items() if value is not None}, tuple(table.values()))


def _of(kind: str, *names: str) -> dict[str, Tensor]:
    """The table with some of its tensors of another type."""
    return {**WHOLE, **{name: _tensor(name, kind, *WHOLE[name].shape) for name in names}}


def _and(name: str, kind: str, *shape: int) -> dict[str, Tensor]:
    return {**WHOLE, name: _tensor(name, kind, *shape)}


def _without(*names: str) -> dict[str, Tensor]:
    return {name: one for name, one in WHOLE.items() if name not in names}


def _judge(table: Mapping[str, Tensor], known: Expectation = NOTHING, **metadata: Any) -> Finding:
    return tensors.judge(_header(table, **metadata), known)


def test_whose_word_the_table_is_held_against_is_said() -> None:
    of_itself, of_training = _judge(WHOLE), _judge(WHOLE, Expectation(config=TINY))
    assert of_itself.claim == "every tensor is there with the shape and type that its own metadata predicts"
    assert of_training.claim.endswith("that the training's config.json predicts")
    size = sum(one.nbytes for one in WHOLE.values())
    for found in (of_itself, of_training):
        assert (found.verdict, found.seen) == (PASS, f"27 tensors, {size} bytes as Q8_0")
        assert found.expected == "27 tensors, each of a type of weights"
    demanded = _judge(WHOLE, Expectation(config=TINY, quantization="Q8_0"))
    assert (demanded.verdict, demanded.expected) == (PASS, f"27 tensors, {size} bytes as Q8_0")


@pytest.mark.parametrize(
    ("table", "verdict", "seen"),
    [
        (_without(UP), FAIL, f"{UP} is missing"),
        (_and("blk.0.extra.weight", "F32", 8), FAIL, "blk.0.extra.weight is not of this model"),
        (_and("blk.0.ffn_up.scale", "F32", 1), PASS, "28 tensors"),
        (_and("blk.0.ffn_up.input_scale", "F32", 1), PASS, "28 tensors"),
        (_and("blk.0.extra.scale", "F32", 1), FAIL, "blk.0.extra.scale is not of this model"),
        (_and("blk.0.ffn_up.bias", "F32", 512), FAIL, "blk.0.ffn_up.bias is not of this model"),
        (_and(UP, "Q8_0", 512, 256), FAIL, f"{UP} is 512x256 Q8_0, expected 256x512"),
        (_of("I8", UP), FAIL, f"{UP} is 256x512 I8: no weights"),
        (_of("F16", "blk.0.attn_norm.weight"), PASS, ""),
        (_of("BF16", "blk.0.attn_norm.weight"), PASS, ""),
        (_of("Q8_0", "blk.0.attn_norm.weight"), FAIL, "blk.0.attn_norm.weight is 256 Q8_0: no weights"),
        ({}, FAIL, "no tensor: a vocabulary alone"),
    ],
)
def test_a_table_is_held_against_the_model(table: Mapping[str, Tensor], verdict: Verdict, seen: str) -> None:
    for known in (Expectation(), Expectation(config=TINY)):
        found = _judge(table, known)
        assert (found.verdict, bool(found.remedy)) == (verdict, verdict is not PASS)
        assert found.seen.startswith(seen)


@pytest.mark.parametrize(
    ("kind", "count", "file_type", "mixture"),
    [
        ("F16", 0, None, "Q8_0"),
        ("F16", 0, 2, "Q8_0 (general.file_type: Q4_0)"),
        ("F16", 0, "7", "Q8_0"),
        ("F16", 1, 7, f"a mixture: Q8_0 but for {MATRICES[0]} F16"),
        ("F16", 4, 7, "a mixture: Q8_0 but for " + ", ".join(f"{name} F16" for name in sorted(MATRICES[:4]))),
        ("F16", 5, 7, "a mixture: 11 Q8_0, 5 F16"),
        ("F16", 4, None, "a mixture: 12 Q8_0, 4 F16"),
        ("F16", 4, 2, "a mixture: 12 Q8_0, 4 F16"),
    ],
)
def test_a_mixture_has_a_name_or_is_counted(kind: str, count: int, file_type: object, mixture: str) -> None:
    found = _judge(_of(kind, *MATRICES[:count]), general__file_type=file_type)
    assert (found.verdict, found.seen.partition(" bytes as ")[2]) == (PASS, mixture)


def test_a_mixture_that_was_demanded_is_held_against_each_tensor() -> None:
    known = Expectation(config=TINY, quantization="Q8_0")
    found = _judge(_of("F16", UP), known)
    assert (found.verdict, found.seen) == (FAIL, f"{UP} is 256x512 F16, expected 256x512 Q8_0")
    found = _judge({**_of("F16", UP), "x": _tensor("x", "F32", 1)}, known)
    assert found.seen == f"{UP} is 256x512 F16, expected 256x512 Q8_0; x is not of this model"


@pytest.mark.parametrize("made_with", [True, False])
@pytest.mark.parametrize("says_so", [True, False])
def test_an_importance_matrix_makes_another_mixture(made_with: bool, says_so: bool) -> None:
    config = {**TINY, "num_hidden_layers": 8}
    shape = model_shape.from_config(config)
    model = replace(model_shape.quantized(shape), importance=made_with)
    chosen = quantizations.BY_NAME["Q4_0"]
    table = {
        name: _tensor(name, chosen.stored(name, dims, model), *dims) for name, dims in model_shape.shapes(shape).items()
    }
    assert table["blk.0.ffn_down.weight"].type == ("Q4_1" if made_with else "Q4_0")
    metadata = {"quantize__imatrix__file": "words.dat"} if says_so else {}
    found = _judge(table, Expectation(config=config, quantization="Q4_0"), **metadata)
    assert found.verdict is (PASS if made_with is says_so else FAIL)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [("", ""), ("a", "a"), ("abc", "a; b; c"), ("abcd", "a; b; c; and 1 more"), ("abcdefg", "a; b; c; and 4 more")],
)
def test_of_several_defects_the_first_are_told(wrong: str, words: str) -> None:
    assert tensors.few(list(wrong)) == words


@pytest.mark.parametrize("tied", [True, False, None])
@pytest.mark.parametrize("written", [True, False])
def test_the_output_is_of_the_model_or_tied_to_its_embeddings(tied: bool | None, written: bool) -> None:
    table = WHOLE if written else _without("output.weight")
    found = _judge(table, Expectation(config={**TINY, "tie_word_embeddings": tied}))
    assert found.verdict is (PASS if written or tied else FAIL)
    assert _judge(table).verdict is PASS  # of itself it cannot tell


ROPE = {"rope_freqs.weight": _tensor("rope_freqs.weight", "F32", 32)}
LLAMA = {key.replace("qwen2.", "llama."): value for key, value in METADATA.items()}
LLAMA_CONFIG = {**TINY, "architectures": ["LlamaForCausalLM"]}
PARTIAL = {key: value for key, value in LLAMA_CONFIG.items() if key not in {"rope_theta", "max_position_embeddings"}}
SCALED = {**LLAMA_CONFIG, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}


@pytest.mark.parametrize(
    ("config", "scaled", "verdict"),
    [
        (None, True, PASS),
        (None, False, PASS),
        (PARTIAL, True, PASS),
        (PARTIAL, False, PASS),
        (LLAMA_CONFIG, True, FAIL),
        (LLAMA_CONFIG, False, PASS),
        (SCALED, True, PASS),
        (SCALED, False, FAIL),
    ],
    ids=[f"{config}, {file}" for config in ("no", "a partial", "a plain", "a scaled") for file in ("scaled", "plain")],
)
def test_factors_of_the_rope_are_the_configurations_unless_it_says_nothing_of_it(
    config: Mapping[str, Any] | None, scaled: bool, verdict: Verdict
) -> None:
    table = _without(*[name for name in WHOLE if name.endswith(".bias")])
    header = _header({**table, **(ROPE if scaled else {})})._replace(
        metadata={**LLAMA, "general.architecture": "llama"}
    )
    found = tensors.judge(header, Expectation(config=config))
    assert found.verdict is verdict, found


GEMMA = {**TINY, "architectures": ["Gemma3ForCausalLM"], "head_dim": 64, "tie_word_embeddings": None}


@pytest.mark.parametrize(
    ("config", "rows", "tokens", "verdict"),
    [
        (GEMMA, 300, 300, PASS),
        (GEMMA, 290, 290, PASS),
        (GEMMA, 290, 300, FAIL),
        (GEMMA, 300, 310, PASS),
        (GEMMA, 310, 310, FAIL),
        ({**TINY, "tie_word_embeddings": True}, 300, 290, PASS),
        ({**TINY, "tie_word_embeddings": True}, 290, 290, FAIL),
    ],
)
def test_only_some_leave_out_the_rows_that_no_token_has(
    config: Mapping[str, Any], rows: int, tokens: int, verdict: Verdict
) -> None:
    shapes = model_shape.shapes(model_shape.from_config({**config, "vocab_size": rows}))
    table = {name: _tensor(name, "F32", *shape) for name, shape in shapes.items()}
    header = _header(table, tokenizer__ggml__tokens=gguf.Array("string", tokens, 0, 0))
    found = tensors.judge(header, Expectation(config=config))
    assert found.verdict is verdict, found


OTHER: dict[str, Any] = {"general__architecture": "other", "other__block_count": 2}


@pytest.mark.parametrize(
    ("table", "metadata", "verdict", "seen"),
    [
        (WHOLE, OTHER, UNKNOWN, "other: 27 tensors in 2 layers"),
        (_without(*[name for name in WHOLE if "blk.1." in name]), OTHER, FAIL, "blk.1 is missing"),
        (WHOLE, {**OTHER, "other__block_count": 3}, FAIL, "blk.2 is missing"),
        (WHOLE, {**OTHER, "other__block_count": 3, "other__nextn_predict_layers": 1}, UNKNOWN, "other: 27"),
        (WHOLE, {**OTHER, "other__block_count": 3, "other__nextn_predict_layers": "1"}, FAIL, "blk.2 is missing"),
        (WHOLE, {**OTHER, "other__block_count": "9"}, UNKNOWN, "other: 27 tensors in 2 layers"),
        (WHOLE, {**OTHER, "other__block_count": None}, UNKNOWN, "other: 27 tensors in 2 layers"),
        (WHOLE, {**OTHER, "other__block_count": 1 << 60}, FAIL, "blk.2 is missing; blk.3 is missing; blk.4 is missing"),
        (
            {"token_embd.weight": WHOLE["token_embd.weight"]},
            OTHER,
            UNKNOWN,
            "other: 1 tensors in 0 layers",
        ),
        (WHOLE, {"general__type": "adapter"}, UNKNOWN, "general.type is adapter: not a model"),
        (WHOLE, {"general__type": "model"}, PASS, "27 tensors"),
        (WHOLE, {"qwen2__expert_count": 8}, UNKNOWN, "qwen2: 27 tensors in 2 layers"),
        (WHOLE, {"qwen2__expert_count": 1}, PASS, "27 tensors"),
    ],
)
def test_of_a_model_that_is_not_known_here_no_layer_may_be_missing(
    table: Mapping[str, Tensor], metadata: dict[str, Any], verdict: Verdict, seen: str
) -> None:
    found = _judge(table, **metadata)
    assert (found.verdict, bool(found.remedy)) == (verdict, verdict is not PASS)
    assert found.seen.startswith(seen)


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (lambda config: config.update(architectures=["Other"]), tensors.BY_USE),
        (lambda config: config.pop("hidden_size"), "Correct the input named above and run the command again."),
    ],
    ids=["another architecture", "a known one without its width"],
)
def test_a_configuration_that_predicts_nothing_is_to_be_corrected_or_the_model_tried(
    change: Callable[[dict[str, Any]], object], remedy: str
) -> None:
    config = dict(TINY)
    change(config)
    found = _judge(WHOLE, Expectation(config=config))
    assert (found.verdict, found.remedy) == (UNKNOWN, remedy)
