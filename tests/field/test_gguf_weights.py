"""What lies in the blocks of every type: scales that are no numbers, pages of zeros."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.artifacts import gguf, scales
from harness.artifacts.expectation import Expectation
from harness.artifacts.verify import verify_file
from harness.core.verdict import Verdict
from tests.field.case import field_case
from tests.field.findings import FAIL, PASS, by_id
from tests.support.model_files import TINY, random_weights, write_gguf


@pytest.mark.parametrize(
    ("name", "offset", "pattern"),
    [
        field_case(name, source, name, offset, pattern)
        for name, source, offset, pattern in (
            ("IQ4_NL", "ggml-org/llama.cpp#7311", 0, b"\x00\x7e"),
            ("Q4_K", "ggml-org/llama.cpp#8661", 2, b"\x00\x7c"),
            ("Q5_K", "ggml-org/llama.cpp#11764", 0, b"\x00\xfe"),
            ("Q2_K", "ggml-org/llama.cpp#11764", 82, b"\x00\x7c"),
            ("Q3_K", "own: the scale is the block's end", 108, b"\x01\x7c"),
            ("Q6_K", "own: the scale is the block's end", 208, b"\x00\xfc"),
            ("Q4_0", "paiml/aprender#2187", 0, b"\x00\x7c"),
            ("Q4_1", "own: the minimum is a scale too", 2, b"\x00\x7e"),
            ("Q5_0", "own: like Q4_0", 0, b"\x00\x7c"),
            ("Q5_1", "own: the minimum is a scale too", 2, b"\xff\xff"),
            ("Q8_0", "ggml-org/llama.cpp#6884", 0, b"\x00\x7e"),
            ("IQ1_S", "own: ggml-common.h", 0, b"\x00\x7c"),
            ("IQ2_XXS", "own: ggml-common.h", 0, b"\x00\x7c"),
            ("IQ2_XS", "own: ggml-common.h", 0, b"\x00\x7c"),
            ("IQ2_S", "own: ggml-common.h", 0, b"\x00\x7e"),
            ("IQ3_XXS", "own: ggml-common.h", 0, b"\x00\x7c"),
            ("IQ3_S", "own: ggml-common.h", 0, b"\x00\x7c"),
            ("IQ4_XS", "own: ggml-common.h", 0, b"\x00\x7c"),
            ("TQ1_0", "own: the scale is the block's end", 52, b"\x00\x7c"),
            ("TQ2_0", "own: the scale is the block's end", 64, b"\x00\x7c"),
            ("MXFP4", "own: ggml_validate_row_data refuses an exponent of 255", 0, b"\xff"),
            ("NVFP4", "own: 127 is no number in E4M3", 3, b"\x7f"),
            ("Q1_0", "own: ggml-common.h", 0, b"\x00\x7c"),
            ("Q2_0", "own: ggml-common.h", 0, b"\x00\x7c"),
            ("F32", "ggml-org/llama.cpp#6884", 0, b"\x00\x00\x80\x7f"),
            ("BF16", "ggml-org/llama.cpp#6884", 0, b"\x80\x7f"),
        )
    ],
)
def test_a_scale_that_is_no_number_is_seen_in_every_type(name: str, offset: int, pattern: bytes) -> None:
    weights, size = gguf.BLOCKS[name]
    blocks = 999
    data = random_weights(name, blocks * size)
    tensor = gguf.Tensor("blk.0.attn_q.weight", (weights * 9, 111), name, 0, data.nbytes)
    assert scales.look(data, 0, [tensor]).damage == ()
    data[500 * size + offset : 500 * size + offset + len(pattern)] = np.frombuffer(pattern, dtype=np.uint8)
    (damage,) = scales.look(data, 0, [tensor]).damage
    assert damage.what == "a scale that is not finite"


def test_the_scale_of_iq1_m_is_put_together_from_four_words() -> None:
    data = random_weights("IQ1_M", 56 * 999)
    tensor = gguf.Tensor("blk.0.attn_q.weight", (256 * 9, 111), "IQ1_M", 0, data.nbytes)
    words = data[56 * 700 + 48 : 56 * 700 + 56].view("<u2")
    words[:] = 0x0FFF  # bits of the scales alone
    assert not scales.look(data, 0, [tensor]).damage
    words[2], words[3] = 0xC000, 0x7000  # 0x7C00, infinity
    assert [damage.what for damage in scales.look(data, 0, [tensor]).damage] == ["a scale that is not finite"]


HOLES = [
    field_case(f"{length} bytes in {name}", "own: a write that was lost leaves whole pages of zeros", name, length)
    for name in ("Q8_0", "Q6_K", "Q4_K", "Q4_0", "IQ4_XS", "F16", "F32", "MXFP4")
    for length in (4096, 8192, 12288)
]


@pytest.mark.parametrize(("name", "length"), HOLES)
def test_a_page_of_zeros_is_seen_wherever_the_tensor_begins(name: str, length: int) -> None:
    weights, size = gguf.BLOCKS[name]
    start = 1_000_032  # as a tensor begins behind others: on no page's border
    count = 40_000 * 34 // size // 9 * 9
    data = np.zeros(((start + count * size) // 4096 + 2) * 4096, dtype=np.uint8)
    data[start : start + count * size] = random_weights(name, count * size)
    tensor = gguf.Tensor("blk.0.ffn_up.weight", (weights * 9, count // 9), name, 0, count * size)
    assert not scales.look(data, start, [tensor]).damage
    for page in (start // 4096 + 1, start // 4096 + 77, (start + count * size) // 4096 - length // 4096):
        hurt = data.copy()
        hurt[page * 4096 : page * 4096 + length] = 0
        (damage,) = scales.look(hurt, start, [tensor]).damage
        assert damage.what == "zeros where weights should be"
        assert abs(damage.position - page * 4096) < 8192


def test_a_few_weights_that_are_zero_are_no_hole() -> None:
    data = random_weights("F16", 1 << 20)
    tensor = gguf.Tensor("blk.0.ffn_up.weight", (512, 1024), "F16", 0, data.nbytes)
    data[40_000:44_000] = 0  # less than a page
    data[::4096] = data[1::4096] = 0
    assert not scales.look(data, 0, [tensor]).damage


@pytest.mark.parametrize(
    ("row", "kind", "verdict"),
    [
        field_case("the padding token's row", "own: nn.Embedding keeps the row of padding_idx at zero", 0, 3, PASS),
        field_case("a row of padding", "own: vocabularies are padded to a multiple of 64", 299, 5, PASS),
        field_case("the row of a word", "own: a hole that fits a row", 77, 1, FAIL),
    ],
)
def test_rows_of_zeros_of_tokens_that_no_text_has(tmp_path: Path, row: int, kind: int, verdict: Verdict) -> None:
    config = {**TINY, "hidden_size": 4096, "num_attention_heads": 64, "num_key_value_heads": 1, "num_hidden_layers": 1}
    types = [3, 3, 3, *[1] * 297]
    types[row] = kind
    path = write_gguf(tmp_path / "m.gguf", config, "F16", change=lambda w: w.add_token_types(types))
    header = gguf.parse(path)
    tensor = next(each for each in header.tensors if each.name == "token_embd.weight")
    with path.open("r+b") as file:
        file.seek(header.data_start + tensor.offset + row * 8192)
        file.write(bytes(8192))
    found = by_id(verify_file(path, Expectation()))["weights_present"]
    assert found.verdict is verdict
    assert ("zero_rows=yes" in found.remedy) is (verdict is FAIL)
