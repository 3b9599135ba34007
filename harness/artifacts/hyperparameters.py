"""Every number beside the weights that changes a model's answers: as the training's ``config.json`` has it.

llama.cpp loads a file that lacks its rope scaling, and the model speaks nonsense. What the keys are named is in
gguf-py's ``constants.py``, what is written for a configuration in llama.cpp's ``conversion/base.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness.artifacts import gguf, model_shape

HYPERPARAMETERS: Final = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}
"""``config.json``'s words -> GGUF's keys behind the architecture's name."""

_SPECIAL: Final = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "attention_multiplier": "attention.scale",
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "logits_scaling": "logit_scale",
}
"""The same for numbers that few architectures have."""

_WHERE_STATED: Final = {"layer_norm_eps": "attention.layer_norm_epsilon", "sliding_window": "attention.sliding_window"}
"""Numbers that a file states only where llama.cpp makes use of them."""

_OF_ROPE: Final = ("rope_theta", "rope_scaling", "rope_parameters", "max_position_embeddings")
_SCALED_BY_KEYS: Final = {"linear": "linear", "yarn": "yarn", "longrope": "longrope"}
_SCALED_OTHERWISE: Final = frozenset({"default", "none", "dynamic", "llama3"})
_YARN: Final = {"attention_factor": "yarn_attn_factor", "beta_fast": "yarn_beta_fast", "beta_slow": "yarn_beta_slow"}


@dataclass(frozen=True, slots=True)
class Compared:
    """Differences, numbers that cannot be compared, and remarks on what is as it should be."""

    wrong: tuple[str, ...]
    unknown: tuple[str, ...]
    remarks: tuple[str, ...]


def compare(header: gguf.Gguf, config: Mapping[str, Any], factors: Sequence[float] | None) -> Compared:
    """A file's numbers beside a ``config.json``; ``factors`` are those of ``rope_freqs.weight``, when it has one."""
    kind = header.metadata.get("general.architecture")
    named = model_shape.architecture(config)
    family = model_shape.FAMILIES.get(str(named))
    known = family is not None
    wrong, unknown, remarks = [], [], []
    if family is not None and kind != family.name:
        wrong.append(f"general.architecture is {kind}, the training's is {named}")
    rope = model_shape.rope_settings(config)
    stated = {"rope_theta": rope.get("rope_theta")}
    for word, key in (HYPERPARAMETERS | _SPECIAL | _WHERE_STATED).items():
        expected = stated.get(word) if config.get(word) is None else config[word]
        seen = header.metadata.get(f"{kind}.{key}", _own(header, str(kind), word))
        optional = seen is None and (word in {"head_dim", *_WHERE_STATED} or not known)
        if _is_number(expected) and not optional and not _near(seen, expected):
            wrong.append(f"{key} is {seen}, expected {expected}")
    if any(word in config for word in _OF_ROPE):
        scaling = model_shape.rope_type(rope)
        if scaling not in _SCALED_BY_KEYS.keys() | _SCALED_OTHERWISE:
            unknown.append(f"rope scaling {scaling!r} cannot be compared")
        else:
            wrong += _scaling(header, str(kind), rope, config)
            wrong += _rotation(header, str(kind), rope, config, factors)
        if scaling == "dynamic":
            remarks.append("dynamic rope scaling has no counterpart in llama.cpp: only longer contexts differ")
    return Compared(tuple(wrong), tuple(unknown), tuple(remarks))


def is_partial(config: Mapping[str, Any]) -> bool:
    """True of a configuration that states a model's shape and nothing of its positions, as ``run.json``'s does."""
    return not any(word in config for word in _OF_ROPE)


def _own(header: gguf.Gguf, kind: str, word: str) -> object:
    """llama.cpp's value for a key that is missing."""
    if word == "num_key_value_heads":
        return header.metadata.get(f"{kind}.attention.head_count")
    return 10000.0 if word == "rope_theta" else None


def _scaling(header: gguf.Gguf, kind: str, rope: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    """Differences in how positions are scaled."""
    keys = {
        key.rpartition(".")[2]: value
        for key, value in header.metadata.items()
        if key.startswith(f"{kind}.rope.scaling.")
    }
    factor = keys.get("factor", header.metadata.get(f"{kind}.rope.scale_linear"))
    seen = str(keys.get("type", "none" if factor is None else "linear"))
    seen = "none" if seen == "linear" and _near(factor, 1) else seen
    scaling = model_shape.rope_type(rope)
    expected = _SCALED_BY_KEYS.get(scaling, "none")
    expected = "none" if expected == "linear" and _near(rope.get("factor"), 1) else expected
    if seen != expected and not (expected == "longrope" and seen == "none"):  # Phi-3's is told by its tensors
        yield f"rope.scaling.type is {seen}, expected {expected}"
        return
    wanted: dict[str, object] = {}
    if expected in {"linear", "yarn"}:
        wanted["factor"] = rope.get("factor")
    if expected in {"yarn", "longrope"}:
        wanted["original_context_length"] = rope.get("original_max_position_embeddings")
    if expected == "longrope" and "attn_factor" in keys:
        wanted["attn_factor"] = _long_attention(rope, config)
    if expected == "yarn":
        wanted |= {key: rope.get(word) for word, key in _YARN.items() if key in keys}
    for key, value in wanted.items():
        found = factor if key == "factor" else keys.get(key)
        if _is_number(value) and not _near(found, value):
            yield f"rope.scaling.{key} is {found}, expected {value}"


def _rotation(
    header: gguf.Gguf, kind: str, rope: Mapping[str, Any], config: Mapping[str, Any], factors: Sequence[float] | None
) -> Iterator[str]:
    """Differences in how much of a head is rotated, and how fast."""
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    head = config.get("head_dim") or (hidden // heads if isinstance(hidden, int) and isinstance(heads, int) else None)
    width = header.metadata.get(f"{kind}.rope.dimension_count")
    if isinstance(head, int) and width is not None and width != model_shape.rotary_size(rope, head):
        yield f"rope.dimension_count is {width}, expected {model_shape.rotary_size(rope, head)}"
    if model_shape.rope_type(rope) == "llama3" and isinstance(head, int) and factors is not None:
        due = llama3_factors(rope, head)
        at = next((at for at, pair in enumerate(zip(factors, due, strict=False)) if not _near(*pair, 1e-3)), None)
        if at is not None:
            yield f"rope_freqs.weight[{at}] is {factors[at]:.6g}, expected {due[at]:.6g}"


def _long_attention(rope: Mapping[str, Any], config: Mapping[str, Any]) -> float | None:
    """Factor of the attention where LongRoPE stretches a context, as Phi-3 does; None when it is not stated."""
    short, long = rope.get("original_max_position_embeddings"), config.get("max_position_embeddings")
    if not isinstance(short, int) or not isinstance(long, int) or short < 2:
        return None
    return math.sqrt(1 + math.log(long / short) / math.log(short)) if long > short else 1.0


def llama3_factors(rope: Mapping[str, Any], head_dim: int) -> list[float]:
    """Llama 3.1's factors of its frequencies: long waves are stretched, short ones kept, those between smoothed."""

    def number(word: str, default: float) -> float:
        value = rope.get(word)
        return float(value) if isinstance(value, int | float) and value > 0 else default

    base, factor = number("rope_theta", 10000.0), number("factor", 8.0)
    low, high = number("low_freq_factor", 1.0), number("high_freq_factor", 4.0)
    context = number("original_max_position_embeddings", 8192)
    found = []
    for index in range(0, head_dim, 2):
        turns = context / (2 * math.pi * base ** (index / head_dim))
        smooth = min(1.0, max(0.0, (turns - low) / (high - low))) if high != low else float(turns > low)
        found.append(1 / ((1 - smooth) / factor + smooth))
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _near(seen: object, expected: object, within: float = 1e-6) -> bool:
    """Equal, but for what a 32-bit float loses."""
    if not isinstance(seen, int | float) or not isinstance(expected, int | float):
        return False
    return abs(seen - expected) <= within * abs(expected)
