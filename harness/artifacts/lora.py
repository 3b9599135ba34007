"""Meaning of an ``adapter_config.json``: modules that are adapted, with which rank and scale, and what else is trained.

As PEFT 0.21 reads it (``tuners_utils.check_target_module_exists``, ``other.get_pattern_key``, ``lora/layer.py``).
Pure, standard library only, runs on Python 3.8: the source is also sent to the rented box. Modules have the names of
the base model (``model.layers.0.self_attn.q_proj``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

PREFIX = "base_model.model."
"""Begins the name of every tensor in an adapter's file."""

_DEFAULT_TARGETS = ("q_proj", "v_proj")
"""PEFT's targets for Llama, Mistral and Qwen2 when none are named."""

_OWN_BASE = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of ``init_lora_weights`` that leave the base model as it is."""

_UNKNOWN = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "megatron_config",
    "monteclora_config",
    "target_parameters",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)
"""Settings that change tensors or formula in a way that is not known here."""


class Lora(NamedTuple):
    """One adapter's configuration. ``unknown``: settings in use whose meaning is not known here."""

    rank: int
    alpha: float
    rslora: bool
    dora: bool
    lora_bias: bool
    bias: str
    targets: Any
    excluded: Any
    saved: Sequence[str]
    layers: Sequence[int]
    layers_pattern: Sequence[str]
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    tokens: Mapping[str, Sequence[int]]
    init: Any
    unknown: Sequence[str]

    @property
    def changes_base(self) -> bool:
        """True when the training began from other base weights than the base model's own (PiSSA, OLoRA, LoftQ ...)."""
        return self.init not in _OWN_BASE

    def adapts(self, module: str) -> bool:
        """True for a linear or embedding module that PEFT puts a LoRA on."""
        if self.excluded and _named(self.excluded, module):
            return False
        if any(re.match(rf"(^|.*\.){name}($|\..*)", module) for name in self.saved):
            return False
        if isinstance(self.targets, str):
            if self.targets.lower() == "all-linear":
                return not module.endswith(("lm_head", "embed_tokens"))
            return re.fullmatch(self.targets, module) is not None
        if module in self.targets:
            return True
        return _named(self.targets, module) and (not self.layers or self._layer(module) in self.layers)

    def saves(self, parameter: str) -> bool:
        """True for a parameter of a module that is trained and saved as a whole."""
        parts = parameter.split(".")
        modules = (".".join(parts[:end]) for end in range(1, len(parts)))
        return any(module.endswith(name) for module in modules for name in self.saved)

    def rank_of(self, module: str) -> int:
        """Rank of a module's matrices."""
        return int(_patterned(self.ranks, module, self.rank))

    def scale_of(self, module: str) -> float:
        """Factor of B A in the merged weights."""
        rank = self.rank_of(module)
        return float(_patterned(self.alphas, module, self.alpha)) / (rank**0.5 if self.rslora else rank)

    def _layer(self, module: str) -> int | None:
        # An empty pattern means any, as in PEFT.
        patterns = [rf"(?:^|.*?\.){one}\." for one in self.layers_pattern] or [r".*?\.[^.]*\."]
        found = next(filter(None, (re.match(rf"{one}(\d+)\.", module) for one in patterns)), None)
        return int(found[1]) if found else None


def read(config: Any) -> Lora:
    """Configuration of a LoRA; raises ValueError naming the field that cannot be used."""
    if not isinstance(config, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - as all else that is wrong in it
    if config.get("peft_type", "LORA") != "LORA":
        raise ValueError(f"peft_type is {str(config['peft_type'])[:40]!r}: only LORA is known here")
    tokens = config.get("trainable_token_indices") or {}
    if isinstance(tokens, list):
        tokens = {"embed_tokens": tokens}
    targets = config.get("target_modules")
    lora = Lora(
        rank=_whole(config, "r"),
        alpha=_number("lora_alpha", config.get("lora_alpha", 8)),
        rslora=bool(config.get("use_rslora")),
        dora=bool(config.get("use_dora")),
        lora_bias=bool(config.get("lora_bias")),
        bias=str(config.get("bias") or "none"),
        targets=_DEFAULT_TARGETS if targets is None else _names("target_modules", targets, text=True),
        excluded=_names("exclude_modules", config.get("exclude_modules"), text=True),
        saved=_names("modules_to_save", config.get("modules_to_save")),
        layers=_layers(config.get("layers_to_transform")),
        layers_pattern=_names("layers_pattern", config.get("layers_pattern")),
        ranks={key: _whole({key: rank}, key) for key, rank in _pattern(config, "rank_pattern")},
        alphas={key: _number(key, alpha) for key, alpha in _pattern(config, "alpha_pattern")},
        tokens=tokens,
        init=config.get("init_lora_weights", True),
        unknown=[name for name in _UNKNOWN if config.get(name)],
    )
    _require_patterns(lora)
    return lora


def _named(names: Any, module: str) -> bool:
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return any(module == name or module.endswith("." + name) for name in names)


def _patterned(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), default)


def _whole(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if type(value) is not int or value < 1:
        raise ValueError(f"{name[:80]} is {str(value)[:40]}, expected a whole number above zero")
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise ValueError(f"{name[:80]} is {str(value)[:40]}, expected a number above zero")
    return float(value)


def _names(field: str, value: Any, *, text: bool = False) -> Any:
    if isinstance(value, str):
        return value if text else [value]
    if value is not None and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        raise ValueError(f"{field} is {str(value)[:40]}, expected names")
    return value or []


def _layers(value: Any) -> Sequence[int]:
    found = [value] if type(value) is int else value or []
    if not isinstance(found, list) or any(type(one) is not int for one in found):
        raise ValueError(f"layers_to_transform is {str(value)[:40]}, expected numbers of layers")
    return found


def _pattern(config: Mapping[str, Any], name: str) -> Any:
    value = config.get(name) or {}
    if not isinstance(value, dict):
        raise ValueError(  # noqa: TRY004 - as above
            f"{name} is {str(value)[:40]}, expected an object"
        )
    return value.items()


def _require_patterns(lora: Lora) -> None:
    if not isinstance(lora.tokens, dict) or not all(isinstance(one, list) for one in lora.tokens.values()):
        raise ValueError("trainable_token_indices is neither a list nor an object of lists")
    try:
        lora.adapts("model.layers.0.self_attn.q_proj")
        for pattern in (*lora.ranks, *lora.alphas, *lora.layers_pattern):
            re.compile(pattern)
    except re.error as error:
        raise ValueError(f"a pattern is no regular expression: {error}") from error
