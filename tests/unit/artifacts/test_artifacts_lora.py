"""Meaning of an adapter's configuration: what each setting says, what is refused, and which modules it is about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from harness.artifacts import lora
from harness.artifacts.lora import Lora

DEFAULTS: Mapping[str, Any] = {
    "rank": 8,
    "alpha": 8.0,
    "rslora": False,
    "dora": False,
    "lora_bias": False,
    "bias": "none",
    "targets": ("q_proj", "v_proj"),
    "excluded": [],
    "saved": [],
    "layers": [],
    "layers_pattern": [],
    "ranks": {},
    "alphas": {},
    "tokens": {},
    "init": True,
    "unknown": [],
}


def read(**settings: Any) -> Lora:
    return lora.read({"peft_type": "LORA", "r": 8, **settings})


@pytest.mark.parametrize(
    ("setting", "value", "field", "meaning"),
    [
        ("r", 1, "rank", 1),
        ("r", 64, "rank", 64),
        ("lora_alpha", 16, "alpha", 16.0),
        ("lora_alpha", 0.5, "alpha", 0.5),
        ("use_rslora", True, "rslora", True),
        ("use_rslora", None, "rslora", False),
        ("use_dora", True, "dora", True),
        ("lora_bias", True, "lora_bias", True),
        ("bias", "all", "bias", "all"),
        ("bias", None, "bias", "none"),
        ("target_modules", None, "targets", ("q_proj", "v_proj")),
        ("target_modules", [], "targets", []),
        ("target_modules", ["k_proj"], "targets", ["k_proj"]),
        ("target_modules", "all-linear", "targets", "all-linear"),
        ("exclude_modules", "k_proj", "excluded", "k_proj"),
        ("exclude_modules", ["k_proj"], "excluded", ["k_proj"]),
        ("modules_to_save", "lm_head", "saved", ["lm_head"]),
        ("modules_to_save", ["lm_head"], "saved", ["lm_head"]),
        ("layers_to_transform", 0, "layers", [0]),
        ("layers_to_transform", [1, 2], "layers", [1, 2]),
        ("layers_pattern", "h", "layers_pattern", ["h"]),
        ("layers_pattern", ["h"], "layers_pattern", ["h"]),
        ("rank_pattern", {"q_proj": 4}, "ranks", {"q_proj": 4}),
        ("rank_pattern", None, "ranks", {}),
        ("alpha_pattern", {"q_proj": 4}, "alphas", {"q_proj": 4.0}),
        ("trainable_token_indices", [5], "tokens", {"embed_tokens": [5]}),
        ("trainable_token_indices", {"lm_head": [5]}, "tokens", {"lm_head": [5]}),
        ("init_lora_weights", "pissa", "init", "pissa"),
        ("target_parameters", ["experts.up"], "unknown", ["target_parameters"]),
        ("layer_replication", None, "unknown", []),
    ],
)
def test_what_a_setting_says(setting: str, value: Any, field: str, meaning: Any) -> None:
    assert read(**{setting: value})._asdict() == {**DEFAULTS, field: meaning}


def test_a_configuration_without_a_kind_is_that_of_a_lora() -> None:
    assert lora.read({"r": 8})._asdict() == DEFAULTS


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *[("r", value) for value in (None, 0, -1, True, 8.0, "8")],
        *[("lora_alpha", value) for value in (None, 0, -1, True, "8", 1e9, math.nan, math.inf)],
        *[("rank_pattern", value) for value in (["q_proj"], "q_proj", {"q_proj": 0}, {"q_proj": True}, {"(": 4})],
        *[("alpha_pattern", value) for value in (["q_proj"], {"q_proj": 0}, {"q_proj": True}, {"(": 4})],
        *[("target_modules", value) for value in (7, [7], ["q_proj", None], {"q_proj": 1}, "(")],
        *[("exclude_modules", value) for value in (7, [7], "(")],
        *[("modules_to_save", value) for value in (7, [7], ["("])],
        *[("layers_to_transform", value) for value in ("all", [True], [1.0], True, {"0": 1})],
        *[("layers_pattern", value) for value in (7, [7], ["h", "("])],
        *[("trainable_token_indices", value) for value in (5, "5", {"lm_head": 5})],
        *[("peft_type", value) for value in ("IA3", None)],
    ],
)
def test_a_setting_that_means_nothing_is_refused(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{setting}|^\w+_proj is|a pattern is no regular expression"):
        read(**{setting: value})


@pytest.mark.parametrize("config", [None, [], "LORA", 8])
def test_what_is_no_object_is_refused(config: Any) -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        lora.read(config)


Q, UP = "model.layers.1.self_attn.q_proj", "model.layers.1.mlp.up_proj"


@pytest.mark.parametrize(
    ("settings", "module", "adapted"),
    [
        ({"target_modules": ["q_proj"]}, Q, True),
        ({"target_modules": ["q_proj"]}, "q_proj", True),
        ({"target_modules": ["q_proj"]}, UP, False),
        ({"target_modules": ["proj"]}, Q, False),
        ({"target_modules": ["self_attn.q_proj"]}, Q, True),
        ({"target_modules": [Q]}, Q, True),
        ({"target_modules": "all-linear"}, Q, True),
        ({"target_modules": "ALL-LINEAR"}, Q, True),
        ({"target_modules": "all-linear"}, "lm_head", False),
        ({"target_modules": "all-linear"}, "model.embed_tokens", False),
        ({"target_modules": r".*\.[01]\..*q_proj"}, Q, True),
        ({"target_modules": r".*\.[02]\..*q_proj"}, Q, False),
        ({"target_modules": "q_proj"}, Q, False),
        ({"target_modules": ["q_proj"], "exclude_modules": ["q_proj"]}, Q, False),
        ({"target_modules": ["q_proj"], "exclude_modules": ["up_proj"]}, Q, True),
        ({"target_modules": "all-linear", "exclude_modules": r".*\.1\..*"}, Q, False),
        ({"target_modules": "all-linear", "exclude_modules": r"\.1\."}, Q, True),
        ({"target_modules": ["up_proj"], "modules_to_save": ["mlp"]}, UP, False),
        ({"target_modules": ["up_proj"], "modules_to_save": ["up_proj"]}, UP, False),
        ({"target_modules": ["up_proj"], "modules_to_save": ["lp"]}, UP, True),
        ({"target_modules": ["up_proj"], "modules_to_save": ["self_attn"]}, UP, True),
        ({"target_modules": ["q_proj"], "layers_to_transform": [1]}, Q, True),
        ({"target_modules": ["q_proj"], "layers_to_transform": 0}, Q, False),
        ({"target_modules": ["q_proj"], "layers_to_transform": [0, 2]}, Q, False),
        ({"target_modules": [Q], "layers_to_transform": [0]}, Q, True),
        ({"target_modules": ["lm_head"], "layers_to_transform": [1]}, "model.lm_head", False),
        ({"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": "layers"}, Q, True),
        ({"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": "h"}, Q, False),
        ({"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": ["h", "layers"]}, Q, True),
        ({"target_modules": ["c"], "layers_to_transform": [3], "layers_pattern": "h"}, "h.3.c", True),
    ],
)
def test_which_modules_are_adapted(settings: dict[str, Any], module: str, adapted: bool) -> None:
    assert read(**settings).adapts(module) is adapted


@pytest.mark.parametrize(
    ("saved", "parameter", "whole"),
    [
        (["lm_head"], "lm_head.weight", True),
        (["mlp"], f"{UP}.weight", True),
        (["up_proj"], f"{UP}.weight", True),
        (["q_proj"], f"{UP}.weight", False),
        (["weight"], f"{UP}.weight", False),
        ([], f"{UP}.weight", False),
    ],
)
def test_which_parameters_are_saved_whole(saved: list[str], parameter: str, whole: bool) -> None:
    assert read(modules_to_save=saved).saves(parameter) is whole


@pytest.mark.parametrize(
    ("settings", "rank", "scale"),
    [
        ({}, 8, 2),
        ({"use_rslora": True}, 8, 16 / math.sqrt(8)),
        ({"rank_pattern": {"q_proj": 4}}, 4, 4),
        ({"rank_pattern": {"q_proj": 4}, "use_rslora": True}, 4, 8),
        ({"rank_pattern": {"proj": 4, "up_proj": 4}}, 8, 2),
        ({"rank_pattern": {r"layers\.1\..*": 2, "q_proj": 4}}, 2, 8),
        ({"alpha_pattern": {"self_attn.q_proj": 4}}, 8, 0.5),
        ({"alpha_pattern": {"layers.2.self_attn.q_proj": 4}}, 8, 2),
    ],
)
def test_the_rank_and_the_scale_of_a_module(settings: dict[str, Any], rank: int, scale: float) -> None:
    read_so = read(lora_alpha=16, **settings)
    assert read_so.rank_of(Q) == rank
    assert read_so.scale_of(Q) == pytest.approx(scale)


@pytest.mark.parametrize(
    ("init", "changes"),
    [
        *[(init, False) for init in (True, False, None, "gaussian", "eva", "orthogonal")],
        *[(init, True) for init in ("pissa", "pissa_niter_4", "olora", "loftq", "corda")],
    ],
)
def test_which_beginnings_change_the_base(init: Any, changes: bool) -> None:
    assert read(init_lora_weights=init).changes_base is changes


@pytest.mark.parametrize(
    "setting",
    [
        *["alora_invocation_tokens", "arrow_config", "kasa_config", "layer_replication", "megatron_config"],
        *["monteclora_config", "target_parameters", "use_bdlora", "use_qalora", "velora_config"],
    ],
)
def test_settings_whose_meaning_is_not_known_here_are_named(setting: str) -> None:
    assert read(**{setting: {"in": "use"}}).unknown == [setting]
    assert read(**{setting: None}).unknown == []
