"""llama.cpp's quantizations, a row each: its number in ``general.file_type``, and the type that every matrix gets.

The mixtures are those of ``llama_tensor_get_type`` in llama.cpp's ``src/llama-quant.cpp`` for dense models, the numbers
those of its ``enum llama_ftype``. A new type of blocks is a row of ``gguf.TYPES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from harness.artifacts import gguf


@dataclass(frozen=True, slots=True)
class Model:
    """A model as llama.cpp looks at it when it chooses a matrix's type: its layers and heads, and the call.

    ``tied`` is the absence of an output matrix of its own, ``importance`` the use of an importance matrix.
    """

    layers: int
    tied: bool = False
    heads_per_key: int = 1
    importance: bool = False


When = Callable[[int, Model], bool]
"""(layer, model) -> the rule holds there."""


def _always(_layer: int, _model: Model) -> bool:
    return True


def _more_bits(layer: int, model: Model) -> bool:
    eighth = model.layers // 8
    return layer < eighth or layer >= 7 * model.layers // 8 or (layer - eighth) % 3 == 2


def _middle(layer: int, model: Model) -> bool:
    return model.layers // 8 <= layer < 7 * model.layers // 8


def _shared(_layer: int, model: Model) -> bool:
    return model.heads_per_key >= 4


def _plain(_layer: int, model: Model) -> bool:
    return not model.importance


def _first(part: int) -> When:
    """The first of ``part`` equal parts of the layers."""
    return lambda layer, model: layer < model.layers // part


def _below(count: int) -> When:
    return lambda layer, _model: layer < count


def _both(one: When, other: When) -> When:
    return lambda layer, model: one(layer, model) and other(layer, model)


def _guarded(layer: int, model: Model) -> bool:
    return model.importance and layer < model.layers // 8


Rules = tuple[tuple[When, str], ...]


@dataclass(frozen=True, slots=True)
class Quantization:
    """``base`` is the type of a matrix without a rule; of a matrix's rules the first that holds decides.

    ``error`` is how far a matrix may be from the weights it was made of, as a share of their norm; None where no
    artifact of a job is written so.
    """

    name: str
    file_type: int
    base: str
    rules: Mapping[str, Rules | str] = field(default_factory=dict)
    output: str = "Q6_K"
    error: float | None = None

    def tensor_type(self, name: str, model: Model) -> str:
        """Type of a matrix by its name in the GGUF, before its width is looked at."""
        kind = name.removesuffix(".weight")
        if kind == "output" or (kind == "token_embd" and model.tied):
            return self.output
        layer, _, part = kind.removeprefix("blk.").partition(".")
        number, part = (int(layer), part.replace("attn_qkv", "attn_v")) if layer.isdigit() else (0, kind)
        rules = self.rules.get(part, ())
        rules = ((_always, rules),) if isinstance(rules, str) else rules
        chosen = next((kind for when, kind in rules if when(number, model)), self.base)
        if part == "attn_v" and model.layers == 80 and chosen in {"Q3_K", "Q4_K"}:
            return "Q5_K"  # 70B models share keys and values among 8 heads: cheap to keep
        return chosen

    def stored(self, name: str, shape: tuple[int, ...], model: Model) -> str:
        """Type under which a tensor lies in the file: numbers as they are, and no row that is not whole blocks."""
        if len(shape) == 1:
            return "F32"
        wanted = self.tensor_type(name, model)
        if name in {"output.weight", "token_embd.weight"} and wanted == self.output != self.base:
            wanted = wanted if shape[0] % gguf.BLOCKS[self.base][0] == 0 else "Q8_0"
        for kind in (wanted, _FALLBACK.get(wanted, "F16")):
            if shape[0] % gguf.BLOCKS[kind][0] == 0:
                return kind
        return "F16"

    def may_be(self, seen: str, name: str, shape: tuple[int, ...], model: Model) -> bool:
        """True for the type that llama.cpp stores, or stored before its version of April 2025, for narrow rows."""
        wanted = self.stored(name, shape, model)
        return seen == wanted or (wanted == "Q4_0" != self.base and seen == "IQ4_NL")


_FALLBACK: Final = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_0", "Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
"""llama.cpp's choice for rows that are not whole blocks."""


def _small(embeddings: str, low: str, attention: str | None) -> Mapping[str, Rules | str]:
    """The rules of the mixtures of one and two bits."""
    rules: dict[str, Rules | str] = {
        "token_embd": embeddings,
        "attn_v": ((_shared, "Q4_K"), (_always, low)),
        "ffn_down": ((_first(8), low),),
    }
    return rules if attention is None else rules | {"attn_output": attention}


def _all(name: str, file_type: int, error: float | None = None) -> Quantization:
    return Quantization(name, file_type, name, output=name, error=error)


_BITS: Final[Rules] = ((_more_bits, "Q6_K"),)
_IQ4: Final[Mapping[str, Rules | str]] = {
    "attn_v": ((_shared, "Q5_K"),),
    "ffn_down": ((_both(_plain, _first(8)), "Q5_K"),),
}
_SHARED_Q4: Final[Rules] = ((_shared, "Q4_K"),)

TABLE: Final = (
    _all("F32", 0),
    _all("F16", 1, error=0.01),
    _all("BF16", 32),
    _all("Q8_0", 7, error=0.02),
    Quantization("Q4_0", 2, "Q4_0", {"ffn_down": ((_guarded, "Q4_1"),)}),
    Quantization("Q4_1", 3, "Q4_1"),
    Quantization("Q5_0", 8, "Q5_0", {"ffn_down": ((_guarded, "Q5_1"),)}),
    Quantization("Q5_1", 9, "Q5_1"),
    Quantization(
        "Q2_K",
        10,
        "Q2_K",
        {"attn_v": ((_shared, "Q4_K"), (_always, "Q3_K")), "ffn_down": "Q3_K", "attn_output": "Q3_K"},
    ),
    Quantization("Q2_K_S", 21, "Q2_K", {"attn_v": _SHARED_Q4, "ffn_down": ((_first(8), "Q4_K"),)}),
    Quantization("Q3_K_S", 11, "Q3_K"),
    Quantization(
        "Q3_K_M",
        12,
        "Q3_K",
        {
            "attn_v": ((_below(2), "Q5_K"), (_always, "Q4_K")),
            "ffn_down": ((_first(16), "Q5_K"), (_always, "Q4_K")),
            "attn_output": "Q4_K",
        },
    ),
    Quantization("Q3_K_L", 13, "Q3_K", {"attn_v": "Q5_K", "ffn_down": "Q5_K", "attn_output": "Q5_K"}),
    Quantization("Q4_K_S", 14, "Q4_K", {"attn_v": ((_below(4), "Q5_K"),), "ffn_down": ((_first(8), "Q5_K"),)}),
    Quantization("Q4_K_M", 15, "Q4_K", dict.fromkeys(("attn_v", "ffn_down"), _BITS), error=0.2),
    Quantization("Q5_K_S", 16, "Q5_K"),
    Quantization("Q5_K_M", 17, "Q5_K", dict.fromkeys(("attn_v", "ffn_down"), _BITS)),
    Quantization("Q6_K", 18, "Q6_K"),
    Quantization("IQ2_XXS", 19, "IQ2_XXS", _small("Q2_K", "Q2_K", None), output="Q5_K"),
    Quantization("IQ2_XS", 20, "IQ2_XS", _small("Q2_K", "Q2_K", None), output="Q5_K"),
    Quantization("IQ2_S", 28, "IQ2_XS", _small("IQ3_S", "IQ3_S", "IQ3_S"), output="Q5_K"),
    Quantization("IQ2_M", 29, "IQ2_S", _small("IQ3_S", "IQ3_S", "IQ3_S"), output="Q5_K"),
    Quantization("IQ1_S", 24, "IQ1_S", _small("Q2_K", "Q2_K", "IQ2_XXS"), output="Q5_K"),
    Quantization("IQ1_M", 31, "IQ1_M", _small("Q2_K", "Q2_K", "IQ2_XXS"), output="Q5_K"),
    Quantization(
        "IQ3_XXS",
        23,
        "IQ3_XXS",
        {
            "token_embd": "IQ3_S",
            "attn_v": ((_shared, "Q4_K"), (_plain, "IQ3_S")),
            "attn_k": "IQ2_S",
            "attn_q": "IQ2_S",
            "ffn_down": ((_both(_plain, _first(8)), "Q4_K"), (_plain, "Q3_K")),
            "attn_output": "IQ3_S",
        },
        output="Q5_K",
    ),
    Quantization(
        "IQ3_XS",
        22,
        "IQ3_S",
        {
            "attn_v": _SHARED_Q4,
            "attn_k": "IQ3_XXS",
            "attn_q": "IQ3_XXS",
            "ffn_gate": ((_middle, "IQ3_XXS"),),
            "ffn_up": ((_middle, "IQ3_XXS"),),
        },
    ),
    Quantization("IQ3_S", 26, "IQ3_S", {"attn_v": _SHARED_Q4}),
    Quantization("IQ3_M", 27, "IQ3_S", {"attn_v": "Q4_K", "ffn_down": ((_first(8), "Q4_K"),), "attn_output": "Q4_K"}),
    Quantization("IQ4_NL", 25, "IQ4_NL", _IQ4),
    Quantization("IQ4_XS", 30, "IQ4_XS", _IQ4),
    Quantization("TQ1_0", 36, "TQ1_0", {"token_embd": "Q4_K"}),
    Quantization("TQ2_0", 37, "TQ2_0", {"token_embd": "Q4_K"}),
    Quantization("MXFP4_MOE", 38, "Q8_0", output="Q8_0"),  # experts alone are MXFP4
    Quantization("NVFP4", 39, "NVFP4"),
    Quantization("Q1_0", 40, "Q1_0"),
    Quantization("Q2_0", 41, "Q2_0", {"token_embd": "Q4_K"}),
)
BY_NAME: Final = {one.name: one for one in TABLE}
BY_FILE_TYPE: Final = {one.file_type: one for one in TABLE}
ERRORS: Final = {one.name: one.error for one in TABLE if one.error is not None}
"""The quantizations that a job's artifact may have, with the error that each may bring."""
