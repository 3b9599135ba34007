"""The table of quantizations against llama.cpp's own numbers, and against what reads a type's blocks."""

from __future__ import annotations

import gguf as llama
import pytest

from harness.artifacts import gguf, quantizations, scales
from harness.artifacts.quantizations import TABLE, Quantization

TENSORS = ("token_embd.weight", "output.weight", "blk.0.attn_q.weight", "blk.0.attn_v.weight", "blk.9.ffn_down.weight")


def test_every_file_type_has_llama_cpps_number() -> None:
    numbers = {one.name.removeprefix("MOSTLY_").removeprefix("ALL_"): one.value for one in llama.LlamaFileType}
    assert {one.name: one.file_type for one in TABLE} == {one.name: numbers[one.name] for one in TABLE}


@pytest.mark.parametrize("one", TABLE, ids=lambda one: one.name)
@pytest.mark.parametrize("layers", [1, 28, 80])
@pytest.mark.parametrize("tied", [False, True])
def test_every_type_that_it_uses_can_be_measured_and_scanned(one: Quantization, layers: int, tied: bool) -> None:
    for name in TENSORS:
        kind = one.tensor_type(name, layers, tied)
        assert kind in gguf.BLOCKS
        assert kind in scales._SCALES.keys() | scales._NUMBERS.keys()


@pytest.mark.parametrize(
    ("file_type", "first", "known"),
    [(15, "Q8_0", "Q4_K_M"), (None, "Q4_K", "Q4_K_M"), (None, "Q8_0", "Q8_0"), (14, "IQ4_XS", None), ("15", "", None)],
)
def test_a_file_is_named_by_its_number_else_by_its_first_projection(
    file_type: object, first: str, known: str | None
) -> None:
    assert quantizations.stated_by(file_type, first) == known
