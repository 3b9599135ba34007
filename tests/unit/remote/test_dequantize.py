"""Numbers of quantized rows are those of ggml's own Python."""

from __future__ import annotations

import numpy as np
import pytest

from harness.remote.box import dequantize

gguf = pytest.importorskip("gguf")
SCALES = {"Q8_0": (0,), "Q5_0": (0,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
"""Where a block's half-precision scales stand."""


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q5_0", "Q4_K", "Q5_K", "Q6_K"])
def test_rows_are_those_of_the_reference(kind: str) -> None:
    weights, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    random = np.random.default_rng(7)
    data = random.integers(0, 256, (5, 512 // weights, size), dtype=np.uint8)
    for at in SCALES.get(kind, ()):
        data[:, :, at : at + 2] = random.normal(0, 1, (5, 512 // weights, 1)).astype("<f2").view(np.uint8)
    if kind in {"F32", "F16"}:
        data = random.normal(0, 1, (5, 512)).astype("<f4" if kind == "F32" else "<f2").view(np.uint8)
    rows = data.reshape(5, -1)
    with np.errstate(invalid="ignore"):
        expected = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[kind])
        found = dequantize.rows(rows, kind)
    assert found.shape == (5, 512)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_a_type_that_is_not_known_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        dequantize.rows(np.zeros((1, 18), np.uint8), "Q4_0")
