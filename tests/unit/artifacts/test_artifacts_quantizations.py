"""The tables of types and of quantizations against llama.cpp's own numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf as llama
import pytest

from harness.artifacts import gguf, scales
from harness.artifacts.quantizations import BY_FILE_TYPE, BY_NAME, TABLE, Model, Quantization

NEWER = {"Q2_0": (42, 64, 18, 41)}
"""Types that llama.cpp has and this gguf-py has not: number, weights and bytes of a block (ggml.h), file type."""

PASSING = {"Q8_1", "Q8_K"}
"""Types that only live in memory while two matrices are multiplied."""


def test_every_type_has_ggmls_number_and_block() -> None:
    ours = {name: (number, weights, size) for number, (name, weights, size, *_) in gguf.TYPES.items()}
    ggmls = {one.name: (one.value, *llama.GGML_QUANT_SIZES[one]) for one in llama.GGMLQuantizationType}
    ggmls |= {name: known[:3] for name, known in NEWER.items()}
    assert ours == {name: known for name, known in ggmls.items() if name not in PASSING}


def test_every_file_type_has_llama_cpps_number() -> None:
    numbers = {one.name.partition("_")[2]: one.value for one in llama.LlamaFileType if one.name != "GUESSED"}
    numbers |= {name: known[3] for name, known in NEWER.items()}
    assert {one.name: one.file_type for one in TABLE} == numbers
    assert len(BY_NAME) == len(BY_FILE_TYPE) == len(TABLE)


METADATA = {
    "UINT8": (0, 255),
    "INT8": (-128, 127),
    "UINT16": (256, 65535),
    "INT16": (-32768, 32767),
    "UINT32": (65536, 2**32 - 1),
    "INT32": (-(2**31), 2**31 - 1),
    "FLOAT32": (-0.5, 2.0**100),
    "BOOL": (False, True),
    "UINT64": (2**32, 2**64 - 1),
    "INT64": (-(2**63), 2**63 - 1),
    "FLOAT64": (0.1, 1e300),
}


@pytest.mark.parametrize(("name", "values"), METADATA.items())
def test_every_type_of_metadata_is_read_as_it_was_written(tmp_path: Path, name: str, values: tuple[Any, ...]) -> None:
    path = tmp_path / "a.gguf"
    kind = llama.GGUFValueType[name]
    written = llama.GGUFWriter(path, "any")
    for number, value in enumerate(values):
        written.add_key_value(f"x.{number}", value, kind)
    written.add_key_value("x.all", list(values), llama.GGUFValueType.ARRAY, sub_type=kind)
    written.write_header_to_file()
    written.write_kv_data_to_file()
    written.write_tensors_to_file()
    written.close()
    seen = gguf.parse(path).metadata
    assert (seen["x.0"], seen["x.1"]) == values
    array = seen["x.all"]
    assert isinstance(array, gguf.Array)
    assert array.item_type == name.lower()
    assert gguf.read_array(path, array) == list(values)


def test_every_scale_lies_within_its_block() -> None:
    for name, (spelling, places) in gguf.SCALES.items():
        width = scales._layout(name)["s0"].itemsize if spelling else 0
        assert all(0 <= place <= gguf.BLOCKS[name][1] - width for place in places)
        assert bool(spelling) is not name.startswith("I") or name.startswith("IQ")


@pytest.mark.parametrize("one", TABLE, ids=lambda one: one.name)
@pytest.mark.parametrize(
    "model", [Model(1), Model(28, tied=True), Model(80, heads_per_key=8), Model(28, importance=True)]
)
def test_every_type_that_it_uses_can_be_measured_and_scanned(one: Quantization, model: Model) -> None:
    parts = ("attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    names = [
        "token_embd.weight",
        "output.weight",
        *(f"blk.{layer}.{part}.weight" for layer in (0, 9) for part in parts),
    ]
    for name in names:
        for width in (4096, 576, 50):
            kind = one.stored(name, (width, 7), model)
            assert gguf.SCALES[kind][0]
            assert width % gguf.BLOCKS[kind][0] == 0


RULES = [
    ("Q4_0", "blk.0.ffn_down.weight", Model(32), "Q4_0"),
    ("Q4_0", "blk.0.ffn_down.weight", Model(32, importance=True), "Q4_1"),
    ("Q5_0", "blk.4.ffn_down.weight", Model(32, importance=True), "Q5_0"),
    ("IQ4_XS", "blk.0.ffn_down.weight", Model(32, importance=True), "IQ4_XS"),
    ("IQ3_XXS", "blk.0.attn_v.weight", Model(32), "IQ3_S"),
    ("IQ3_XXS", "blk.0.attn_v.weight", Model(32, importance=True), "IQ3_XXS"),
    ("IQ3_XXS", "blk.0.ffn_down.weight", Model(32), "Q4_K"),
    ("IQ3_XXS", "blk.9.ffn_down.weight", Model(32), "Q3_K"),
    ("IQ3_XXS", "blk.9.attn_q.weight", Model(32), "IQ2_S"),
    ("IQ2_XXS", "token_embd.weight", Model(32), "Q2_K"),
    ("IQ2_XXS", "output.weight", Model(32), "Q5_K"),
    ("IQ2_XS", "blk.9.attn_v.weight", Model(32, heads_per_key=4), "Q4_K"),
    ("IQ2_S", "blk.0.ffn_down.weight", Model(32), "IQ3_S"),
    ("IQ2_S", "blk.9.ffn_down.weight", Model(32), "IQ2_XS"),
    ("IQ2_M", "blk.9.attn_output.weight", Model(32), "IQ3_S"),
    ("IQ1_S", "blk.9.attn_output.weight", Model(32), "IQ2_XXS"),
    ("IQ1_M", "blk.9.ffn_up.weight", Model(32), "IQ1_M"),
    ("Q2_K_S", "blk.0.ffn_down.weight", Model(32), "Q4_K"),
    ("Q2_K_S", "blk.9.attn_v.weight", Model(32, heads_per_key=8), "Q4_K"),
    ("Q2_0", "token_embd.weight", Model(32), "Q4_K"),
    ("Q1_0", "output.weight", Model(32), "Q6_K"),
    ("MXFP4_MOE", "blk.9.ffn_up.weight", Model(32), "Q8_0"),
]
"""What only an importance matrix makes, or a later llama.cpp: read from src/llama-quant.cpp, not run."""


@pytest.mark.parametrize(("name", "tensor", "model", "kind"), RULES)
def test_the_mixtures_that_need_an_importance_matrix(name: str, tensor: str, model: Model, kind: str) -> None:
    assert BY_NAME[name].stored(tensor, (4096, 8), model) == kind
