"""Rows of a GGUF tensor as numbers. Runs where numpy is.

Block layouts: https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def rows(data: Any, kind: str) -> Any:
    """Raw bytes, a row a line, as float32; raises KeyError for a type that is not known here."""
    decode = _DECODERS[kind]
    size = _BLOCK_BYTES.get(kind)
    if size is None:
        return decode(np.ascontiguousarray(data))
    return decode(data.reshape(-1, size)).reshape(len(data), -1)


def bfloat16(data: Any) -> Any:
    """Numbers of numpy's ``<u2`` that are bfloat16."""
    return (data.astype(np.uint32) << 16).view(np.float32)


def _half(blocks: Any, at: int) -> Any:
    return blocks[:, at : at + 2].copy().view("<f2").astype(np.float32)


def _q8_0(blocks: Any) -> Any:
    return _half(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _q5_0(blocks: Any) -> Any:
    high = np.unpackbits(blocks[:, 2:6], axis=1, bitorder="little")
    nibbles = np.concatenate([blocks[:, 6:] & 15, blocks[:, 6:] >> 4], axis=1)
    return _half(blocks, 0) * ((nibbles | high << 4).astype(np.float32) - 16)


def _scales(packed: Any) -> Any:
    """Eight scales and eight minima of six bits each, in twelve bytes."""
    low, middle, high = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([low & 63, (high & 15) | ((low >> 6) << 4)], axis=1)
    minima = np.concatenate([middle & 63, (high >> 4) | ((middle >> 6) << 4)], axis=1)
    return scales.astype(np.float32), minima.astype(np.float32)


def _q4_k(blocks: Any) -> Any:
    return _k(blocks, _nibbles(blocks[:, 16:144]))


def _q5_k(blocks: Any) -> Any:
    high = (blocks[:, 16:48, None] >> np.arange(8, dtype=np.uint8) & 1).transpose(0, 2, 1)
    return _k(blocks, _nibbles(blocks[:, 48:176]) | high << 4)


def _nibbles(data: Any) -> Any:
    pairs = data.reshape(-1, 4, 32)
    return np.stack([pairs & 15, pairs >> 4], axis=2).reshape(-1, 8, 32)


def _k(blocks: Any, values: Any) -> Any:
    scales, minima = _scales(blocks[:, 4:16])
    factors, offsets = _half(blocks, 0) * scales, _half(blocks, 2) * minima
    return factors[:, :, None] * values.astype(np.float32) - offsets[:, :, None]


def _q6_k(blocks: Any) -> Any:
    low, high = blocks[:, :128].reshape(-1, 2, 2, 32), blocks[:, 128:192].reshape(-1, 2, 1, 32)
    nibbles = np.concatenate([low & 15, low >> 4], axis=2)
    top = high >> np.array([0, 2, 4, 6], dtype=np.uint8).reshape(1, 1, 4, 1) & 3
    values = (nibbles | top << 4).astype(np.float32) - 32
    scales = _half(blocks, 208) * blocks[:, 192:208].view(np.int8).astype(np.float32)
    return scales[:, :, None] * values.reshape(-1, 16, 16)


_DECODERS = {
    "F32": lambda data: data.view("<f4"),
    "F16": lambda data: data.view("<f2").astype(np.float32),
    "BF16": lambda data: bfloat16(data.view("<u2")),
    "Q8_0": _q8_0,
    "Q5_0": _q5_0,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
_BLOCK_BYTES = {"Q8_0": 34, "Q5_0": 22, "Q4_K": 144, "Q5_K": 176, "Q6_K": 210}
