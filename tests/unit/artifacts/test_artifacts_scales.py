"""What of a tensor's bytes is damage, to the block: zeros, rows that may be zeros, scales that are no numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from harness.artifacts import gguf, scales
from harness.artifacts.gguf import Tensor
from tests.support.model_files import random_weights

ZEROS, NOT_FINITE = "zeros where weights should be", "a scale that is not finite"
Bytes = npt.NDArray[np.uint8]


def _whats(data: Bytes, *tensors: Tensor, **settings: Any) -> list[tuple[str, str]]:
    return [(damage.tensor, damage.what) for damage in scales.look(data, 0, tensors, **settings).damage]


def _made(name: str, kind: str = "F32", width: int = 2048, rows: int = 8) -> tuple[Bytes, Tensor]:
    """Random weights of a type, and the tensor that they are."""
    size = gguf.nbytes(kind, (width, rows))
    return random_weights(kind, size).copy(), Tensor(name, (width, rows), kind, 0, size)


# Rows of 8192 bytes: two pages, one window.
def test_zeros_in_the_vocabulary_may_be_rows_that_no_text_has() -> None:
    data, tensor = _made("token_embd.weight")
    found = [("token_embd.weight", ZEROS)]
    assert _whats(data, tensor, unused=pytest.fail) == []
    data[3 * 8192 : 5 * 8192] = 0
    assert _whats(data, tensor) == found
    for unused, damage in (({3, 4}, []), ({3}, found), ({4}, found), ({2, 5}, found), (set(range(8)), [])):
        assert _whats(data, tensor, unused=lambda unused=unused: frozenset(unused)) == damage
    assert _whats(data, tensor, zero_rows=True) == []
    data[6 * 8192 + 3] = 0x7F
    data[6 * 8192 + 2] = 0x80
    assert _whats(data, tensor, zero_rows=True) == [("token_embd.weight", NOT_FINITE)]


@pytest.mark.parametrize("name", ["token_embd.weight", "output.weight", "model.embed_tokens.weight", "lm_head.weight"])
def test_the_last_row_of_a_vocabulary_may_be_one_that_no_text_has(name: str) -> None:
    data, tensor = _made(name)
    data[-32:] = 0
    assert _whats(data, tensor) == [(name, ZEROS)]
    assert _whats(data, tensor, unused=lambda: frozenset({7})) == []
    assert _whats(data, tensor, unused=lambda: frozenset({6, 8})) == [(name, ZEROS)]
    (damage,) = scales.look(data, 0, [tensor]).damage
    assert damage.is_row
    assert str(damage) == f"{name}: {ZEROS}, near byte {8 * 8192 - 32}"


def test_zeros_in_any_other_matrix_are_damage_whatever_no_text_has() -> None:
    data, tensor = _made("blk.0.ffn_up.weight")
    data[3 * 8192 : 4 * 8192] = 0
    for settings in ({}, {"zero_rows": True}, {"unused": lambda: frozenset(range(8))}):
        assert _whats(data, tensor, **settings) == [("blk.0.ffn_up.weight", ZEROS)]
    (damage,) = scales.look(data, 0, [tensor]).damage
    assert not damage.is_row


def test_a_number_that_is_none_in_the_vocabulary_is_no_row() -> None:
    data, tensor = _made("output.weight")
    data[:4] = np.frombuffer(np.float32(np.inf).tobytes(), dtype=np.uint8)
    assert _whats(data, tensor, zero_rows=True, unused=lambda: frozenset(range(8))) == [("output.weight", NOT_FINITE)]
    (damage,) = scales.look(data, 0, [tensor]).damage
    assert (damage.is_row, damage.position) == (False, 0)


@pytest.mark.parametrize(
    ("zero", "found"),
    [("", []), ("ab", ["a", "b"]), ("a", ["a"]), ("abn", ["n", "a", "b"]), ("abc", []), ("abcn", ["n"])],
)
def test_biases_are_zero_together_or_not_at_all(zero: str, found: list[str]) -> None:
    names = {"a": "a.bias", "b": "b.bias", "c": "c.bias", "n": "norm.weight"}
    data = random_weights("F32", 4 * 4096).copy()
    tensors = [Tensor(names[key], (1024,), "F32", at * 4096, 4096) for at, key in enumerate(names)]
    for at, key in enumerate(names):
        if key in zero:
            data[at * 4096 : (at + 1) * 4096] = 0
    assert _whats(data, *tensors) == [(names[key], ZEROS) for key in found]


def test_a_bias_with_a_hole_is_damaged_whatever_the_others_are() -> None:
    data = random_weights("F32", 4 * 8192).copy()
    tensors = [Tensor(f"{at}.bias", (4096,), "F32", at * 16384, 16384) for at in range(2)]
    data[:16384] = 0
    data[16384 : 16384 + 8192] = 0
    assert _whats(data, *tensors) == [("1.bias", ZEROS), ("0.bias", ZEROS)]


@pytest.mark.parametrize(
    ("kind", "cut", "seen"),
    [
        *[("F32", 32, True), ("F32", 28, False), ("F16", 32, True), ("F16", 30, False)],
        *[("Q8_0", 34, True), ("Q8_0", 32, False), ("Q4_0", 18, True), ("Q4_0", 16, False)],
    ],
)
def test_zeros_at_the_very_end_are_what_alignment_could_have_cut(kind: str, cut: int, seen: bool) -> None:
    data, tensor = _made("blk.0.ffn_up.weight", kind)
    data[-cut:] = 0
    assert _whats(data, tensor) == ([("blk.0.ffn_up.weight", ZEROS)] if seen else [])


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_window_of_zeros_is_seen_from_the_beginning_and_at_the_end(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Two slices of a window each, and the shorter rest; all of the numbers' signs are set, so no page is of zeros."""
    monkeypatch.setattr(scales, "_SLICE", 8192)
    data, _ = _made("x", rows=3)
    data = data[: 2 * 8192 + 4000]
    tensor = Tensor("blk.0.ffn_up.weight", (data.size // 4,), "F32", 0, data.size)
    assert _whats(data, tensor) == []
    if at < 3:
        data[at * 8192 : (at + 1) * 8192] = 0
        data[at * 8192 + 3 : (at + 1) * 8192 : 4] = 0x80
        (damage,) = scales.look(data, 0, [tensor]).damage
        assert (damage.what, damage.position) == (ZEROS, at * 8192)
    else:
        data[8192 - 2000 : 8192 + 2000] = 0  # less than a window, less than a page
        assert _whats(data, tensor) == []


def test_each_kind_of_damage_is_told_once_a_tensor() -> None:
    data, tensor = _made("blk.0.ffn_up.weight")
    for row in (1, 3, 5):
        data[row * 8192 : (row + 1) * 8192] = 0
    for row in (2, 4):
        data[row * 8192 + 2 : row * 8192 + 4] = (0x80, 0x7F)
    found = scales.look(data, 0, [tensor]).damage
    assert {(one.what, one.position) for one in found} == {(ZEROS, 8192), (NOT_FINITE, 2 * 8192)}
    assert len(found) == 2


def test_of_many_damaged_tensors_the_first_are_told() -> None:
    data = np.full(25 * 32, 0xFF, dtype=np.uint8)
    tensors = [Tensor(f"blk.{at}.attn_norm.weight", (8,), "F32", at * 32, 32) for at in range(25)]
    found = scales.look(data, 0, tensors)
    assert [one.tensor for one in found.damage] == [tensor.name for tensor in tensors[:20]]
    assert found.blocks == 200


def test_blocks_are_counted_and_types_that_have_no_scale_are_named() -> None:
    data, tensor = _made("blk.0.ffn_up.weight", "Q8_0")
    whole = [Tensor(f"n{at}", (1,), kind, 0, 4) for at, kind in enumerate(("I32", "I8", "I32"))]
    found = scales.look(data, 0, [tensor, *whole])
    assert (found.blocks, found.unknown_types, found.damage) == (2048 * 8 // 32, ("I32", "I8"), ())


@pytest.mark.parametrize("start", [4095, 4096, 4094, 1, 32])
def test_a_page_of_zeros_is_seen_wherever_a_number_lies_across_its_end(start: int) -> None:
    """The data of safetensors begin behind a header of any length."""
    data = np.full(4096 * 8, 0x3F, dtype=np.uint8)
    tensor = Tensor("model.norm.weight", (2048 * 6,), "BF16", 0, 4096 * 6)
    assert scales.look(data, start, [tensor]).damage == ()
    for page in range(-(-start // 4096), (start + 4096 * 6) // 4096):
        hurt = data.copy()
        hurt[page * 4096 : (page + 1) * 4096] = 0
        (damage,) = scales.look(hurt, start, [tensor]).damage
        assert (damage.what, damage.position) == (ZEROS, page * 4096)


def test_a_file_is_looked_at_from_where_its_header_ends(tmp_path: Path) -> None:
    data, tensor = _made("token_embd.weight")
    data[3 * 8192 : 4 * 8192] = 0
    (tmp_path / "m").write_bytes(bytes(64) + data.tobytes())
    header = gguf.Gguf(64 + data.size, 32, 64, {}, (tensor,))
    (damage,) = scales.scan(tmp_path / "m", header).damage
    assert (damage.what, damage.position) == (ZEROS, 64 + 3 * 8192)
    for settings in ({"zero_rows": True}, {"unused": lambda: frozenset({3})}):
        assert scales.scan(tmp_path / "m", header, **settings).damage == ()


def test_a_header_without_tensors_has_nothing_to_be_looked_at(tmp_path: Path) -> None:
    header = gguf.Gguf(0, 32, 0, {}, ())
    assert scales.scan(tmp_path / "nothing", header) == scales.Scan(0, (), ())


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((0x0FFF, 0x0FFF, 0x0FFF, 0x0FFF), [ZEROS]),
        ((0x1000, 0, 0, 0), []),
        ((0, 0x1000, 0, 0), []),
        ((0, 0, 0x1000, 0), []),
        ((0, 0, 0, 0x1000), []),
        ((0, 0, 0, 0x8000), [ZEROS]),
        ((0xF000, 0xF000, 0xB000, 0x7000), []),
        ((0, 0, 0xC000, 0x7000), [NOT_FINITE]),
        ((0, 0, 0xC000, 0xF000), [NOT_FINITE]),
        ((0xF000, 0xF000, 0xF000, 0x6FFF), []),
    ],
)
def test_the_scale_of_iq1_m_is_of_the_upper_bits_alone(words: tuple[int, ...], found: list[str]) -> None:
    blocks = np.full((1000, 56), 7, dtype=np.uint8)
    blocks[:, 48:] = np.array(words, dtype="<u2").view(np.uint8)
    tensor = Tensor("blk.0.ffn_up.weight", (256, 1000), "IQ1_M", 0, blocks.size)
    assert [what for _, what in _whats(blocks.reshape(-1), tensor)] == found


@pytest.mark.parametrize(
    ("first", "second", "found"), [(0, 0, [ZEROS]), (1, 0, []), (0, 1, []), (1, 0x7C00, [NOT_FINITE])]
)
def test_of_two_scales_of_a_block_the_larger_counts(first: int, second: int, found: list[str]) -> None:
    blocks = np.full((1000, 20), 7, dtype=np.uint8)
    blocks[:, :4] = np.array([first, second], dtype="<u2").view(np.uint8)
    tensor = Tensor("blk.0.ffn_up.weight", (32, 1000), "Q4_1", 0, blocks.size)
    assert [what for _, what in _whats(blocks.reshape(-1), tensor)] == found


@pytest.mark.parametrize(
    ("kind", "width", "pattern", "found"),
    [
        (kind, width, pattern, found)
        for kind, width, least, largest, infinite, sign in (
            ("F64", 8, 1, (0x7FF << 52) - 1, 0x7FF << 52, 1 << 63),
            ("F32", 4, 1, (0xFF << 23) - 1, 0xFF << 23, 1 << 31),
            ("F16", 2, 1, 0x7BFF, 0x7C00, 1 << 15),
            ("BF16", 2, 1, 0x7F7F, 0x7F80, 1 << 15),
            ("Q8_0", 2, 1, 0x7BFF, 0x7C00, 1 << 15),
            ("MXFP4", 1, 1, 0xFE, 0xFF, 0),
            ("NVFP4", 1, 1, 0x7E, 0x7F, 1 << 7),
        )
        for pattern, found in (
            *[(least, []), (least | sign, []), (largest, []), (largest | sign, [])],
            *[(0, [ZEROS]), (sign, [ZEROS]), (infinite, [NOT_FINITE]), (infinite | sign, [NOT_FINITE])],
        )
    ],
)
def test_each_spelling_of_a_scale_is_read_to_the_bit(kind: str, width: int, pattern: int, found: list[str]) -> None:
    weights, size = gguf.BLOCKS[kind]
    count = 16384 // size
    blocks = np.full((count, size), 7, dtype=np.uint8)
    for place in gguf.SCALES[kind][1]:
        blocks[:, place : place + width] = np.frombuffer(pattern.to_bytes(width, "little"), dtype=np.uint8)
    tensor = Tensor("blk.0.ffn_up.weight", (weights, count), kind, 0, blocks.size)
    assert [what for _, what in _whats(blocks.reshape(-1), tensor)] == found


PLACES = {
    "F32": (0,),
    "F16": (0,),
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ2_XXS": (0,),
    "IQ2_XS": (0,),
    "IQ3_XXS": (0,),
    "IQ1_S": (0,),
    "IQ4_NL": (0,),
    "IQ3_S": (0,),
    "IQ2_S": (0,),
    "IQ4_XS": (0,),
    "F64": (0,),
    "BF16": (0,),
    "TQ1_0": (52,),
    "TQ2_0": (64,),
    "MXFP4": (0,),
    "NVFP4": (0, 1, 2, 3),
    "Q1_0": (0,),
    "Q2_0": (0,),
}
"""Where in a block each of its scales lies, by ggml-common.h."""
SPELLED = {
    "F32": (b"\0\0\x80\x3f", b"\0\0\x80\x7f"),
    "F64": (b"\0" * 6 + b"\xf0\x3f", b"\0" * 6 + b"\xf0\x7f"),
    "BF16": (b"\x80\x3f", b"\x80\x7f"),
    "MXFP4": (b"\x7f", b"\xff"),
    "NVFP4": (b"\x38", b"\x7f"),
}
"""One, and what is no number; of other types in half precision."""


@pytest.mark.parametrize("kind", PLACES)
def test_every_scale_of_a_block_is_looked_at_and_nothing_else(kind: str) -> None:
    weights, size = gguf.BLOCKS[kind]
    one, none = SPELLED.get(kind, (b"\x00\x3c", b"\x00\x7c"))
    blocks = np.full((600, size), 0xFF, dtype=np.uint8)
    for place in PLACES[kind]:
        blocks[:, place : place + len(one)] = np.frombuffer(one, dtype=np.uint8)
    tensor = Tensor("blk.0.ffn_up.weight", (weights, 600), kind, 0, blocks.size)
    assert _whats(blocks.reshape(-1), tensor) == []
    for place in PLACES[kind]:
        hurt = blocks.copy()
        hurt[500, place : place + len(none)] = np.frombuffer(none, dtype=np.uint8)
        assert [what for _, what in _whats(hurt.reshape(-1), tensor)] == [NOT_FINITE]


def test_every_type_that_has_a_scale_is_looked_at() -> None:
    assert {name for name, (spelling, _) in gguf.SCALES.items() if spelling} == {*PLACES, "IQ1_M"}
