"""Adapters of the field: what PEFT saves passes, what its configuration does not say is named, and who carries it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.artifacts import adapter
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.facts.finetune import Carried, Comparison
from tests.field.case import field_case
from tests.support import facts
from tests.support.peft_material import Material, State, compared, make, read_config

pytest.importorskip("peft", reason="the adapters are PEFT's own")
save_file = pytest.importorskip("safetensors.numpy").save_file
load_file = pytest.importorskip("safetensors.numpy").load_file

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KINDS: Mapping[str, dict[str, Any]] = {
    "defaults": {},
    "seven": {"target_modules": ALL},
    "all-linear": {"target_modules": "all-linear"},
    "excluded": {"target_modules": "all-linear", "exclude_modules": ["k_proj", "down_proj"]},
    "regex": {"target_modules": r".*\.[01]\..*(q|up)_proj"},
    "by-full-name": {"target_modules": ["model.layers.1.mlp.up_proj", "o_proj"]},
    "some-layers": {"target_modules": ALL, "layers_to_transform": [0, 2]},
    "layers-pattern": {"target_modules": ALL, "layers_to_transform": [1], "layers_pattern": "layers"},
    "rslora": {"use_rslora": True, "lora_alpha": 16},
    "rank-pattern": {"target_modules": ALL, "rank_pattern": {r".*\.layers\.1\..*(q_proj|k_proj)": 4, "up_proj": 16}},
    "alpha-pattern": {"target_modules": ALL, "alpha_pattern": {"layers.0.self_attn.q_proj": 64}},
    "rslora-and-patterns": {"use_rslora": True, "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"v_proj": 2}},
    "dora": {"use_dora": True, "target_modules": ALL},
    "dora-rslora": {"use_dora": True, "use_rslora": True},
    "trained-biases": {"bias": "all"},
    "lora-only-biases": {"bias": "lora_only"},
    "saved-embeddings": {"modules_to_save": ["lm_head", "embed_tokens"]},
    "saved-norms-and-mlp": {"modules_to_save": ["input_layernorm", "mlp"]},
    "trainable-tokens": {"trainable_token_indices": [1, 2, 77]},
    "trainable-tokens-by-name": {"trainable_token_indices": {"embed_tokens": [5], "lm_head": [3, 9]}},
    "adapted-embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
    "adapted-head": {"target_modules": ["lm_head", "q_proj"]},
    "gaussian": {"init_lora_weights": "gaussian"},
    "lora-bias": {"target_modules": ["q_proj", "k_proj"], "lora_bias": True},
}
SOURCES = {
    "defaults": "huggingface/peft#460",
    "rank-pattern": "axolotl-ai-cloud/axolotl#3673",
    "alpha-pattern": "axolotl-ai-cloud/axolotl#3673",
    "by-full-name": "arcee-ai/mergekit#328",
    "saved-embeddings": "huggingface/peft#2450",
    "adapted-embeddings": "huggingface/peft#1035",
}
MADE = [
    field_case(f"{architecture}-{name}-{tied}", SOURCES.get(name, "own: PEFT saves it so"), architecture, name, tied)
    for architecture, tied in (("qwen2", False), ("qwen2", True), ("llama", False))
    for name in KINDS
    if (architecture, name) != ("llama", "lora-bias")  # Llama has no biases: PEFT refuses to merge those
]
Make = Callable[..., Material]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Material of a kind, made once."""
    known: dict[tuple[str, str, bool], Material] = {}

    def get(architecture: str, name: str, *, tied: bool = False) -> Material:
        key = (architecture, name, tied)
        if key not in known:
            folder = tmp_path_factory.mktemp("peft")
            known[key] = make(folder, architecture, tied=tied, **{**KINDS, **OTHERS}[name])
        return known[key]

    return get


OTHERS: Mapping[str, dict[str, Any]] = {
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "dora-of-embeddings": {"use_dora": True, "target_modules": ["embed_tokens"]},
    "adapted-both": {"target_modules": ["embed_tokens", "lm_head"]},
}


def verdict(comparison: Any, quantization: str = "Q8_0") -> facts.Judged:
    """Verdict of the gate about an answer of the box."""
    tensors = {name: Carried(*numbers) for name, numbers in json.loads(json.dumps(comparison["tensors"])).items()}
    told = Comparison(tensors, comparison["unknown"], comparison["doubt"], comparison["elements"])
    job = facts.sound_job(artifact={"quantization": quantization})
    judged = facts.judge(Stage.POSTTRAIN, facts.changed(facts.posttrain(), {"carried": told}), job)
    return judged["gguf_carries_the_finetune"]


# --- what PEFT saves -------------------------------------------------------------------------------


@pytest.mark.parametrize(("architecture", "name", "tied"), MADE)
def test_what_peft_saves_is_what_its_configuration_says(made: Make, architecture: str, name: str, tied: bool) -> None:
    material = made(architecture, name, tied=tied)
    found = adapter.inspect(material.folder / "adapter", material.config)
    assert (found.problems, found.doubts) == ((), ())
    assert {one.verdict for one in adapter.judge(material.folder / "adapter", material.config)} == {Verdict.PASS}


@pytest.mark.parametrize(("architecture", "name", "tied"), MADE)
def test_without_the_base_nothing_whole_is_called_damaged(made: Make, architecture: str, name: str, tied: bool) -> None:
    for base in (None, {"architectures": ["Gemma3ForCausalLM"], "hidden_size": 64}):
        findings = adapter.judge(made(architecture, name, tied=tied).folder / "adapter", base)
        told = {one.id: one for one in findings if one.verdict is not Verdict.PASS}
        assert {name: one.verdict for name, one in told.items()} == {"adapter_tensors": Verdict.UNKNOWN}
        assert "--config" in told["adapter_tensors"].remedy


@pytest.mark.parametrize(("architecture", "name", "tied"), MADE)
def test_the_merged_model_carries_it_and_the_base_does_not(
    made: Make, architecture: str, name: str, tied: bool
) -> None:
    material = made(architecture, name, tied=tied)
    assert material.merged is not None
    carries = compared(material, material.merged)
    assert verdict(carries).verdict is Verdict.PASS, verdict(carries)
    assert carries["tensors"]
    assert not carries["unknown"]
    without = verdict(compared(material, material.base))
    assert without.verdict is Verdict.FAIL
    assert f"{len(carries['tensors'])} of {len(carries['tensors'])}" in without.message


# --- damaged adapters ------------------------------------------------------------------------------


@dataclass
class Open:
    """An adapter's two files, to be changed."""

    config: dict[str, Any]
    tensors: dict[str, Any]
    raw: dict[str, bytes] = field(default_factory=dict)

    def like(self, part: str) -> Iterator[str]:
        return iter([name for name in self.tensors if part in name])


Change = Callable[[Open], object]


def drop(part: str, one: Open) -> None:
    for name in one.like(part):
        del one.tensors[name]


def keep(part: str, one: Open) -> None:
    for name in set(one.tensors) - set(one.like(part)):
        del one.tensors[name]


def rename(old: str, new: str, one: Open) -> None:
    one.tensors = {name.replace(old, new): values for name, values in one.tensors.items()}


def fill(part: str, value: float, one: Open) -> None:
    for name in one.like(part):
        one.tensors[name] = np.full_like(one.tensors[name], value)


def first(part: str, change: Callable[[Any], Any], one: Open) -> None:
    name = next(one.like(part))
    one.tensors[name] = np.ascontiguousarray(change(one.tensors[name]))


def nan_at_the_end(values: Any) -> Any:
    values = values.copy()
    values[-1, -1] = np.nan
    return values


def lost_page(values: Any) -> Any:
    flat = values.copy().reshape(-1)
    flat[100:356] = 0
    return flat.reshape(values.shape)


def setting(name: str, value: Any, one: Open) -> None:
    one.config[name] = value


def without_setting(name: str, one: Open) -> None:
    del one.config[name]


def twice(one: Open) -> None:
    """Merged in from a checkpoint of two more layers."""
    one.tensors |= {name.replace("layers.2", "layers.3"): one.tensors[name] for name in one.like("layers.2")}


DAMAGED = [
    field_case(
        "one-of-seven-targets",
        "own: saved while six were frozen",
        "seven",
        partial(keep, "q_proj"),
        "adapter_tensors",
        "36 of 42 tensors are missing",
    ),
    field_case(
        "half-the-layers",
        "own: pipeline ranks saved apart",
        "seven",
        partial(drop, "layers.2."),
        "adapter_tensors",
        "14 of 42",
    ),
    field_case(
        "one-tensor-missing",
        "own: a name filter that is too narrow",
        "seven",
        partial(drop, "layers.1.mlp.up_proj.lora_B"),
        "adapter_tensors",
        "1 of 42",
    ),
    field_case(
        "compiled-names",
        "own: torch.compile leaves its mark, PEFT loads nothing",
        "defaults",
        partial(rename, "model.model.", "model._orig_mod.model."),
        "adapter_tensors",
        "_orig_mod",
    ),
    field_case(
        "adapter-name-in-names",
        "own: model.state_dict() saved as it is",
        "defaults",
        partial(rename, ".weight", ".default.weight"),
        "adapter_tensors",
        "passes over 12",
    ),
    field_case(
        "names-without-prefix",
        "own: the inner model was saved",
        "defaults",
        partial(rename, "base_model.model.", ""),
        "adapter_tensors",
        "passes over 12",
    ),
    field_case(
        "an-extra-layer", "own: the adapter of a deeper base", "defaults", twice, "adapter_tensors", "passes over 4"
    ),
    field_case(
        "target-that-is-not-configured",
        "own: configuration and file of two trainings",
        "seven",
        partial(setting, "target_modules", ["q_proj"]),
        "adapter_tensors",
        "passes over 36",
    ),
    field_case(
        "another-rank",
        "own: configuration and file of two trainings",
        "defaults",
        partial(setting, "r", 16),
        "adapter_tensors",
        "8 x 64, expected 16 x 64",
    ),
    field_case(
        "a-pattern-that-was-not-applied",
        "axolotl-ai-cloud/axolotl#3673",
        "defaults",
        partial(setting, "rank_pattern", {"v_proj": 4}),
        "adapter_tensors",
        "expected 4 x 64",
    ),
    field_case(
        "transposed",
        "own: an export from another framework",
        "defaults",
        partial(first, "lora_A", np.transpose),
        "adapter_tensors",
        "64 x 8, expected 8 x 64",
    ),
    field_case(
        "kv-heads-of-another-base",
        "own: grouped heads were repeated",
        "defaults",
        partial(first, "v_proj.lora_B", lambda values: np.concatenate([values, values])),
        "adapter_tensors",
        "64 x 8, expected 32 x 8",
    ),
    field_case(
        "size-0",
        "huggingface/peft#2500",
        "defaults",
        partial(first, "lora_B", lambda values: values[:0].reshape(0)),
        "adapter_tensors",
        "is empty",
    ),
    field_case(
        "one-dimension",
        "zjunlp/KnowUnDo#3",
        "defaults",
        partial(first, "lora_A", lambda values: values.reshape(-1)),
        "adapter_tensors",
        "512, expected 8 x 64",
    ),
    field_case(
        "whole-numbers",
        "own: cast by a quantizer",
        "defaults",
        partial(first, "lora_A", lambda values: (values * 100).astype(np.int8)),
        "adapter_tensors",
        "I8, not of floating point",
    ),
    field_case(
        "saved-module-missing",
        "huggingface/peft#2450",
        "saved-embeddings",
        partial(drop, "lm_head"),
        "adapter_tensors",
        "lm_head.weight",
    ),
    field_case(
        "saved-module-empty",
        "huggingface/peft#2450",
        "saved-embeddings",
        partial(first, "embed_tokens", lambda values: values[:0, 0]),
        "adapter_tensors",
        "embed_tokens.weight is empty",
    ),
    field_case(
        "saved-module-zeros",
        "own: gathered on the wrong process",
        "saved-embeddings",
        partial(fill, "lm_head", 0.0),
        "adapter_numbers",
        "lm_head.weight is all zeros",
    ),
    field_case(
        "saved-part-missing",
        "own: one of three matrices of a block",
        "saved-norms-and-mlp",
        partial(drop, "layers.0.mlp.up_proj"),
        "adapter_tensors",
        "layers.0.mlp.up_proj",
    ),
    field_case(
        "tokens-missing",
        "own: older PEFT does not save them",
        "trainable-tokens",
        partial(drop, "token_adapter"),
        "adapter_tensors",
        "trainable_tokens_delta",
    ),
    field_case(
        "tokens-of-another-count",
        "own: the list was edited",
        "trainable-tokens",
        partial(setting, "trainable_token_indices", [1, 2]),
        "adapter_tensors",
        "3 x 64, expected 2 x 64",
    ),
    field_case(
        "magnitudes-zero",
        "own: never gathered",
        "dora",
        partial(fill, "magnitude", 0.0),
        "adapter_numbers",
        "magnitude_vector is all zeros",
    ),
    field_case(
        "magnitudes-missing",
        "own: saved as plain LoRA",
        "dora",
        partial(drop, "magnitude"),
        "adapter_tensors",
        "21 of 63",
    ),
    field_case(
        "magnitudes-of-a-plain-lora",
        "own: use_dora was lost",
        "dora",
        partial(setting, "use_dora", False),
        "adapter_tensors",
        "passes over 21",
    ),
    field_case(
        "bias-missing",
        "own: lora_bias set afterwards",
        "lora-bias",
        partial(drop, "lora_B.bias"),
        "adapter_tensors",
        "lora_B.bias",
    ),
    field_case(
        "trained-bias-missing",
        "own: bias=all, saved without",
        "trained-biases",
        partial(drop, "base_layer.bias"),
        "adapter_tensors",
        "base_layer.bias",
    ),
    field_case(
        "a-zeros",
        "own: a low-rank product that is nothing",
        "defaults",
        partial(fill, "lora_A", 0.0),
        "adapter_numbers",
        "lora_A.weight is all zeros",
    ),
    field_case(
        "b-zeros",
        "locuslab/open-unlearning#178",
        "defaults",
        partial(fill, "layers.1.self_attn.v_proj.lora_B", 0.0),
        "adapter_trained",
        "never received a gradient",
    ),
    field_case(
        "embedding-a-zeros",
        "own: of embeddings it is A that begins as zeros",
        "adapted-embeddings",
        partial(fill, "lora_embedding_A", 0.0),
        "adapter_trained",
        "never received a gradient",
    ),
    field_case(
        "absurd",
        "own: 1e30",
        "defaults",
        partial(fill, "layers.0.self_attn.q_proj.lora_B", 1e30),
        "adapter_numbers",
        "131072",
    ),
    field_case(
        "one-nan", "own: one is enough", "defaults", partial(first, "lora_B", nan_at_the_end), "adapter_numbers", "NaN"
    ),
    field_case(
        "infinite-half",
        "own: float16 overflow",
        "defaults",
        partial(first, "lora_A", lambda values: np.full_like(values, np.inf, dtype=np.float16)),
        "adapter_numbers",
        "infinity",
    ),
    field_case(
        "a-lost-page",
        "2U1/Gemma3-Finetune#3",
        "adapted-head",
        partial(first, "q_proj.lora_A", lost_page),
        "adapter_numbers",
        "run of zeros",
    ),
    field_case("no-tensor", "huggingface/peft#2892", "defaults", partial(drop, ""), "adapter_tensors", "no tensor"),
    field_case(
        "config-without-rank",
        "own: edited by hand",
        "defaults",
        partial(without_setting, "r"),
        "adapter_config",
        "r is None",
    ),
    field_case(
        "config-rank-0", "own: edited by hand", "defaults", partial(setting, "r", 0), "adapter_config", "r is 0"
    ),
    field_case(
        "config-rank-true",
        "own: Python takes true for 1",
        "defaults",
        partial(setting, "r", True),
        "adapter_config",
        "r is True",
    ),
    field_case(
        "config-alpha-0",
        "own: nothing would be added",
        "defaults",
        partial(setting, "lora_alpha", 0),
        "adapter_config",
        "lora_alpha is 0",
    ),
    field_case(
        "config-regex-open",
        "own: cut in an editor",
        "defaults",
        partial(setting, "target_modules", "(q_proj"),
        "adapter_config",
        "regular expression",
    ),
    field_case(
        "config-pattern-open",
        "own: cut in an editor",
        "defaults",
        partial(setting, "rank_pattern", {"[q": 4}),
        "adapter_config",
        "regular expression",
    ),
    field_case(
        "config-targets-a-number",
        "own: edited by hand",
        "defaults",
        partial(setting, "target_modules", 7),
        "adapter_config",
        "target_modules is 7",
    ),
    field_case(
        "config-pattern-a-list",
        "own: edited by hand",
        "defaults",
        partial(setting, "alpha_pattern", ["q_proj"]),
        "adapter_config",
        "alpha_pattern",
    ),
    field_case(
        "config-layers-a-word",
        "own: edited by hand",
        "defaults",
        partial(setting, "layers_to_transform", "all"),
        "adapter_config",
        "layers_to_transform",
    ),
    field_case(
        "config-tokens-a-number",
        "own",
        "defaults",
        partial(setting, "trainable_token_indices", 5),
        "adapter_config",
        "trainable_token_indices",
    ),
]
UNKNOWN = [
    field_case("another-method", "own: PEFT has forty", "defaults", partial(setting, "peft_type", "IA3"), "IA3"),
    field_case(
        "target-parameters",
        "own: experts of a mixture",
        "defaults",
        partial(setting, "target_parameters", ["experts.gate_up_proj"]),
        "target_parameters",
    ),
    field_case(
        "layer-replication",
        "own: layers used twice",
        "defaults",
        partial(setting, "layer_replication", [[0, 2], [1, 3]]),
        "layer_replication",
    ),
    field_case(
        "block-diagonal",
        "own: PEFT's BD-LoRA",
        "defaults",
        partial(setting, "use_bdlora", {"nblocks": 2}),
        "use_bdlora",
    ),
]


@pytest.fixture
def changed(made: Make, tmp_path: Path) -> Callable[[str, Change], tuple[Path, dict[str, Any]]]:
    """A folder with a changed adapter of a kind on Qwen2, and the base's configuration."""

    def get(name: str, change: Change) -> tuple[Path, dict[str, Any]]:
        material = made("qwen2", name)
        folder = tmp_path / "adapter"
        shutil.copytree(material.folder / "adapter", folder)
        opened = Open(read_config(folder), load_file(folder / "adapter_model.safetensors"))
        change(opened)
        (folder / "adapter_config.json").write_text(json.dumps(opened.config), encoding="utf-8")
        save_file(opened.tensors, folder / "adapter_model.safetensors")
        return folder, material.config

    return get


Changed = Callable[[str, Change], tuple[Path, dict[str, Any]]]


@pytest.mark.parametrize(("name", "change", "finding", "words"), DAMAGED)
def test_a_damaged_adapter_is_named(changed: Changed, name: str, change: Change, finding: str, words: str) -> None:
    folder, base = changed(name, change)
    failed = {one.id: one for one in adapter.judge(folder, base) if one.verdict is Verdict.FAIL}
    assert words in failed[finding].seen, failed
    assert failed[finding].remedy
    assert any(words in one for one in adapter.inspect(folder, base).problems)


@pytest.mark.parametrize(("name", "change", "words"), UNKNOWN)
def test_a_kind_that_is_not_known_here_is_not_called_damaged(
    changed: Changed, name: str, change: Change, words: str
) -> None:
    folder, base = changed(name, change)
    findings = adapter.judge(folder, base)
    assert Verdict.FAIL not in {one.verdict for one in findings}
    assert words in findings[0].seen
    assert findings[0].verdict is Verdict.UNKNOWN
    assert words in adapter.inspect(folder, base).doubts[0]


@pytest.mark.parametrize(
    "damage",
    [
        field_case("rank", "own: shapes that agree with nothing", partial(setting, "r", 16)),
        field_case("b-missing", "own: half of a pair", partial(drop, "layers.1.self_attn.q_proj.lora_B")),
        field_case("strange", "own: PEFT loads nothing", partial(rename, "base_model.model.", "")),
        field_case("targets", "own: of two trainings", partial(setting, "target_modules", ["o_proj"])),
    ],
)
def test_what_does_not_agree_with_itself_is_damaged_whatever_the_base(changed: Changed, damage: Change) -> None:
    folder, _ = changed("defaults", damage)
    assert {one.id for one in adapter.judge(folder, None) if one.verdict is Verdict.FAIL} == {"adapter_tensors"}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\ufeff{}"])
def test_a_configuration_that_is_none_is_damage(changed: Changed, text: str) -> None:
    folder, base = changed("defaults", lambda _: None)
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    found = adapter.inspect(folder, base)
    assert found.problems[0].startswith("adapter_config.json")


def test_a_trained_adapter_in_fp8_is_read_and_its_zeros_are_seen(tmp_path: Path, made: Make) -> None:
    import torch
    from safetensors.torch import load_file as load
    from safetensors.torch import save_file as save

    shutil.copytree((material := made("qwen2", "defaults")).folder / "adapter", tmp_path / "a")
    file = tmp_path / "a" / "adapter_model.safetensors"
    small = {name: values.to(torch.float8_e4m3fn) for name, values in load(file).items()}
    save(small, file)
    assert adapter.inspect(tmp_path / "a", material.config).problems == ()
    save({name: torch.zeros_like(values) if "lora_B" in name else values for name, values in small.items()}, file)
    assert "never received a gradient" in adapter.inspect(tmp_path / "a", material.config).problems[0]


# --- the fine-tune in the GGUF ---------------------------------------------------------------------


def mixed(material: Material, unmerged: Callable[[str], bool]) -> State:
    assert material.merged is not None
    return {name: material.base[name] if unmerged(name) else values for name, values in material.merged.items()}


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
@pytest.mark.parametrize("target", ALL)
def test_a_projection_that_was_merged_in_no_layer_is_seen(made: Make, architecture: str, target: str) -> None:
    material = made(architecture, "seven")
    said = verdict(compared(material, mixed(material, lambda name: target in name)))
    assert said.verdict is Verdict.FAIL
    assert "3 of 21 tensors" in said.message
    assert target in said.message


def test_a_head_that_was_trained_apart_is_lost_where_the_file_ties_it(made: Make) -> None:
    """PEFT unties what it saves apart; an export that still ties the two drops what the head learned."""
    material = made("qwen2", "saved-embeddings", tied=True)
    assert material.merged is not None
    assert verdict(compared(material, material.merged)).verdict is Verdict.PASS
    said = verdict(compared(material, {k: v for k, v in material.merged.items() if k != "lm_head.weight"}))
    assert said.verdict is Verdict.FAIL
    assert "lm_head.weight carries" in said.message


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_layer_that_was_not_merged_is_seen(made: Make, layer: int) -> None:
    material = made("qwen2", "seven")
    said = verdict(compared(material, mixed(material, lambda name: f"layers.{layer}." in name)))
    assert said.verdict is Verdict.FAIL
    assert "7 of 21 tensors" in said.message


@pytest.mark.parametrize(
    ("name", "left"),
    [
        field_case("bias-of-lora", "own: only the matrices were merged", "lora-bias", "q_proj.bias"),
        field_case("trained-bias", "own: bias=all", "trained-biases", "k_proj.bias"),
        field_case("saved-head", "huggingface/peft#2450", "saved-embeddings", "lm_head"),
        field_case(
            "saved-norm",
            "own: modules_to_save are not merged by hand-written scripts",
            "saved-norms-and-mlp",
            "input_layernorm",
        ),
        field_case("tokens", "own: trainable tokens were left out", "trainable-tokens", "embed_tokens"),
        field_case("adapted-embedding", "huggingface/peft#1035", "adapted-embeddings", "embed_tokens"),
    ],
)
def test_whatever_else_was_trained_must_be_in_the_file(made: Make, name: str, left: str) -> None:
    material = made("qwen2", name)
    said = verdict(compared(material, mixed(material, lambda parameter: left in parameter)))
    assert said.verdict is Verdict.FAIL
    assert left in said.message


def scaled(material: Material, factor: float) -> State:
    assert material.merged is not None
    return {
        name: material.base[name] + factor * (values - material.base[name]) for name, values in material.merged.items()
    }


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        field_case("merged-twice", "own: merge_and_unload, and merged again at the export", "seven", 2.0),
        field_case("scale-forgotten", "own: alpha / r was left out", "seven", 8.0),
        field_case("root-forgotten", "own: rsLoRA merged with alpha / r", "rslora", 8**-0.5),
        field_case("subtracted", "own: the unmerge after the export", "seven", -1.0),
    ],
)
def test_a_wrong_scale_is_seen(made: Make, name: str, factor: float) -> None:
    material = made("qwen2", name)
    assert verdict(compared(material, scaled(material, factor))).verdict is Verdict.FAIL


def test_heads_that_the_converter_did_not_turn_are_seen(made: Make) -> None:
    """Llama's q and k have their rows in another order in a GGUF; left as they were, the model speaks nonsense."""
    material = made("llama", "seven")
    assert material.merged is not None
    turned = {
        name: values.reshape(heads, -1, 2, 64).swapaxes(1, 2).reshape(values.shape)
        if (heads := 4 if "q_proj" in name else 2 if "k_proj" in name else 0)
        else values
        for name, values in material.merged.items()
    }
    said = verdict(compared(material, turned))
    assert said.verdict is Verdict.FAIL
    assert "6 of 21" in said.message


@pytest.mark.parametrize("quantization", ["F16", "BF16", "Q5_0"])
def test_other_types_carry_it_as_well(made: Make, quantization: str) -> None:
    material = made("llama", "seven")
    assert material.merged is not None
    found = compared(material, material.merged, quantization)
    assert len(found["tensors"]) == 21
    assert all(abs(one[0] - 1) < 3 * one[3] + 0.01 for one in found["tensors"].values())


@pytest.mark.parametrize(
    ("name", "tied", "words"),
    [
        field_case("pissa", "own: the base is not the one that was trained on", "pissa", False, "path_initial_model"),
        field_case("olora", "own: the base is not the one that was trained on", "olora", False, "path_initial_model"),
        field_case("dora-of-embeddings", "own: no formula here", "dora-of-embeddings", False, "embed_tokens"),
        field_case("one-tensor-twice", "huggingface/peft#1035", "adapted-both", True, "one tensor with another"),
    ],
)
def test_what_cannot_be_computed_is_unknown_with_a_remedy(made: Make, name: str, tied: bool, words: str) -> None:
    material = made("qwen2", name, tied=tied)
    assert material.merged is not None
    said = verdict(compared(material, material.merged))
    assert said.verdict is Verdict.UNKNOWN
    assert words in said.message


def test_a_pissa_beside_the_base_that_it_was_trained_on_is_compared(made: Make, tmp_path: Path) -> None:
    """PEFT's documentation has the residual base saved beside such an adapter; there the plain formula holds."""
    material = made("qwen2", "pissa")
    assert material.merged is not None
    pair = load_file(material.folder / "adapter" / "adapter_model.safetensors")
    residual = {name: values.copy() for name, values in material.merged.items()}
    for name, down in pair.items():
        if name.endswith("lora_A.weight"):
            stem = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            residual[f"{stem}.weight"] -= pair[name.replace("lora_A", "lora_B")] @ down
    shutil.copytree(material.folder, tmp_path / "copy")
    save_file(residual, tmp_path / "copy" / "base" / "model.safetensors")
    there = Material(tmp_path / "copy", "qwen2", False, residual, material.merged)
    assert verdict(compared(there, material.merged)).verdict is Verdict.PASS
    assert verdict(compared(there, residual)).verdict is not Verdict.PASS


def test_a_type_or_a_base_that_is_not_read_here_is_unknown(made: Make, tmp_path: Path) -> None:
    material = made("qwen2", "defaults")
    assert material.merged is not None
    said = verdict(compared(material, material.merged, "Q4_1"))
    assert said.verdict is Verdict.UNKNOWN
    assert "Q4_1" in said.message
    shutil.copytree(material.folder, tmp_path / "copy")
    save_file({"model.norm.weight": np.ones(64, np.float32)}, tmp_path / "copy" / "base" / "model.safetensors")
    said = verdict(compared(Material(tmp_path / "copy", "qwen2", False, {}, None), material.merged))
    assert said.verdict is Verdict.UNKNOWN
    assert "not in the base model's directory" in said.message
