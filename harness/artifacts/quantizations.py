"""The quantizations that the harness knows, a row each: what a row says is all that is to be known of one.

The mixtures of types are those of ``llama_tensor_get_type`` in llama.cpp's ``src/llama-quant.cpp``, the numbers of
file types those of its ``enum llama_ftype``. A new type of blocks is a row of ``gguf.TYPES`` and of ``scales`` as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

TensorType = Callable[[str, int, bool], str]
"""(a matrix's name, layers of the model, whether its embeddings are tied) -> the matrix's ggml type."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """``error``: how far a matrix may be from the weights it was made of, as a share of their norm.

    None where no artifact of a job is written so.
    """

    name: str
    file_type: int
    tensor_type: TensorType
    error: float | None = None


def _all(kind: str) -> TensorType:
    return lambda _name, _layers, _tied: kind


def _q4_k_m(name: str, layers: int, tied: bool) -> str:
    if name == "output.weight" or (name == "token_embd.weight" and tied):
        return "Q6_K"
    parts = name.split(".")
    if len(parts) == 4 and parts[2] in {"attn_v", "ffn_down"}:
        if _gets_more_bits(int(parts[1]), layers):
            return "Q6_K"
        if parts[2] == "attn_v" and layers == 80:  # 70B models share keys and values among 8 heads: cheap to keep
            return "Q5_K"
    return "Q4_K"


def _gets_more_bits(layer: int, layers: int) -> bool:
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


TABLE: Final = (
    Quantization("F32", 0, _all("F32")),
    Quantization("F16", 1, _all("F16"), error=0.01),
    Quantization("BF16", 32, _all("BF16")),
    Quantization("Q8_0", 7, _all("Q8_0"), error=0.02),
    Quantization("Q4_K_M", 15, _q4_k_m, error=0.2),
)
BY_NAME: Final = {one.name: one for one in TABLE}
ERRORS: Final = {one.name: one.error for one in TABLE if one.error is not None}
"""The quantizations that a job's artifact may have, with the error that each may bring."""


def stated_by(file_type: object, first_projection: str) -> str | None:
    """The quantization of a file by its number, else by the type of its first projection; None when unknown."""
    by_number = (one.name for one in TABLE if one.file_type == file_type)
    by_type = (one.name for one in TABLE if one.tensor_type("blk.0.attn_q.weight", 1, False) == first_projection)
    return next(by_number, None) or next(by_type, None)
