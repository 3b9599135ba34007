"""Every number beside the weights that changes a model's answers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf as writer
import pytest

from harness.artifacts import expectation, gguf, hyperparameters
from harness.artifacts.verify import verify_file
from harness.core.verdict import Verdict
from tests.field.case import field_case
from tests.field.findings import FAIL, PASS, UNKNOWN, verdicts
from tests.support.model_files import TINY, write_gguf, write_training

LLAMA = {**TINY, "architectures": ["LlamaForCausalLM"]}


def _nothing(_: object) -> None:
    return


LINEAR = {"rope_type": "linear", "factor": 8.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def _linear(factor: float) -> Callable[[writer.GGUFWriter], None]:
    def change(w: writer.GGUFWriter) -> None:
        w.add_rope_scaling_type(writer.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(factor)

    return change


def _yarn(factor: float, original: int = 256, **more: float) -> Callable[[writer.GGUFWriter], None]:
    def change(w: writer.GGUFWriter) -> None:
        w.add_rope_scaling_type(writer.RopeScalingType.YARN)
        w.add_rope_scaling_factor(factor)
        w.add_rope_scaling_orig_ctx_len(original)
        for key, value in more.items():
            w.add_float32(f"qwen2.rope.scaling.{key}", value)

    return change


POSITIONS = [
    field_case("linear, and the file has none", "ggml-org/llama.cpp#2772", {"rope_scaling": LINEAR}, _nothing, FAIL),
    field_case("linear, in the file too", "ggml-org/llama.cpp#2772", {"rope_scaling": LINEAR}, _linear(8), PASS),
    field_case(
        "linear, its old word",
        "own: Transformers before 4.43",
        {"rope_scaling": {"type": "linear", "factor": 2}},
        _linear(2),
        PASS,
    ),
    field_case("linear, another factor", "own: a base of another length", {"rope_scaling": LINEAR}, _linear(4), FAIL),
    field_case(
        "linear, GGUF's old key",
        "own: rope.scale_linear of 2023",
        {"rope_scaling": LINEAR},
        lambda w: w.add_float32("qwen2.rope.scale_linear", 8.0),
        PASS,
    ),
    field_case("linear by one is none", "own: what some writers state", {}, _linear(1), PASS),
    field_case("none, and the file has linear", "own: another base's header", {"rope_scaling": None}, _linear(8), FAIL),
    field_case("yarn, and the file has none", "ggml-org/llama.cpp#13322", {"rope_scaling": YARN}, _nothing, FAIL),
    field_case(
        "yarn, in the file too", "ggml-org/llama.cpp conversion/base.py, run", {"rope_scaling": YARN}, _yarn(4), PASS
    ),
    field_case(
        "yarn, as Transformers 5 writes it", "own", {"rope_parameters": {**YARN, "rope_theta": 1e4}}, _yarn(4), PASS
    ),
    field_case("yarn, another length", "own: the stretched length twice", {"rope_scaling": YARN}, _yarn(4, 1024), FAIL),
    field_case("yarn, another factor", "own", {"rope_scaling": YARN}, _yarn(2), FAIL),
    field_case(
        "yarn, its attention",
        "own",
        {"rope_scaling": {**YARN, "attention_factor": 1.2}},
        _yarn(4, yarn_attn_factor=1.0),
        FAIL,
    ),
    field_case(
        "yarn, and the file has linear",
        "own: the nearest that a converter knew",
        {"rope_scaling": YARN},
        _linear(4),
        FAIL,
    ),
    field_case(
        "dynamic",
        "ggml-org/llama.cpp conversion/base.py, run",
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
        _nothing,
        PASS,
    ),
    field_case(
        "a kind that is not known",
        "ggml-org/llama.cpp#21403",
        {"rope_scaling": {"rope_type": "proportional"}},
        _nothing,
        UNKNOWN,
    ),
    field_case(
        "by kind of attention",
        "own: Transformers 5 keeps two for models with a sliding window",
        {
            "rope_parameters": {
                "full_attention": {**LINEAR, "rope_theta": 1e4},
                "sliding_attention": {"rope_theta": 1e4},
            }
        },
        _nothing,
        FAIL,
    ),
    field_case(
        "part of a head",
        "ggml-org/llama.cpp#12957",
        {"partial_rotary_factor": 0.5},
        lambda w: w.add_rope_dimension_count(64),
        FAIL,
    ),
    field_case("the whole head", "own", {}, lambda w: w.add_rope_dimension_count(64), PASS),
    field_case(
        "a soft cap that is lost",
        "own: Gemma 2 without it speaks worse",
        {"final_logit_softcapping": 30.0},
        _nothing,
        FAIL,
    ),
    field_case(
        "a soft cap", "own", {"final_logit_softcapping": 30.0}, lambda w: w.add_final_logit_softcapping(30.0), PASS
    ),
    field_case("the embeddings' factor is lost", "own: Granite", {"embedding_multiplier": 12.0}, _nothing, FAIL),
    field_case(
        "a window that llama.cpp has no use for", "own: Mistral 7B v0.1", {"sliding_window": 4096}, _nothing, PASS
    ),
    field_case("another window", "own", {"sliding_window": 4096}, lambda w: w.add_sliding_window(512), FAIL),
    field_case(
        "as many keys as queries, by default",
        "own: llama.cpp's default",
        {"num_key_value_heads": 4},
        lambda w: w.kv_data[0].pop("qwen2.attention.head_count_kv"),
        PASS,
    ),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("settings", "change", "verdict"), POSITIONS)
def test_every_number_that_changes_the_answers_is_compared(
    tmp_path: Path, settings: Mapping[str, Any], change: Callable[[writer.GGUFWriter], None], verdict: Verdict
) -> None:
    config = {**TINY, **settings}
    path = write_gguf(tmp_path / "m.gguf", config, change=change)
    found = verify_file(path, expectation.of(write_training(tmp_path / "training", config)))
    assert verdicts(found) == ({} if verdict is PASS else {"hyperparameters": verdict})


FREQUENCIES = [
    field_case("as stated", "ggml-org/llama.cpp conversion/llama.py, run", LLAMA3, {}, {}),
    field_case("the tensor is missing", "ggml-org/llama.cpp#8808", LLAMA3, None, {"tensors_as_predicted": FAIL}),
    field_case("of another factor", "own: Llama 3.2 has 32", {**LLAMA3, "factor": 32.0}, {}, {"hyperparameters": FAIL}),
    field_case("and none is stated", "own: another base's header", None, {}, {"tensors_as_predicted": FAIL}),
]


@pytest.mark.parametrize(("stated", "written", "verdict"), FREQUENCIES)
def test_llama_3s_frequencies_are_those_of_its_configuration(
    tmp_path: Path, stated: Mapping[str, Any] | None, written: object, verdict: Mapping[str, Verdict]
) -> None:
    config = {**LLAMA, "rope_theta": 500000.0, "rope_scaling": LLAMA3 if written is not None else None}
    path = write_gguf(tmp_path / "m.gguf", config)
    if written is not None:
        header = gguf.parse(path)
        tensor = next(each for each in header.tensors if each.name == "rope_freqs.weight")
        factors = hyperparameters.llama3_factors({**LLAMA3, "rope_theta": 500000.0}, 64)
        assert (factors[0], factors[-1]) == (1.0, 8.0)
        with path.open("r+b") as file:
            file.seek(header.data_start + tensor.offset)
            file.write(struct.pack("<32f", *factors))
    training = write_training(tmp_path / "training", {**config, "rope_scaling": stated})
    assert verdicts(verify_file(path, expectation.of(training))) == verdict


def test_factors_are_those_that_transformers_computes() -> None:
    torch = pytest.importorskip("torch")
    rope = pytest.importorskip("transformers.modeling_rope_utils")
    config = pytest.importorskip("transformers").LlamaConfig(
        hidden_size=256, num_attention_heads=4, rope_parameters={**LLAMA3, "rope_theta": 500000.0}
    )
    frequencies, _ = rope.ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1 / 500000.0 ** (torch.arange(0, 64, 2) / 64)
    ours = hyperparameters.llama3_factors({**LLAMA3, "rope_theta": 500000.0}, 64)
    assert torch.allclose(plain / frequencies, torch.tensor(ours), rtol=1e-4)
