"""Each check of a model's folder goes red, alone, when what it guards is broken: a merged model, and an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness.artifacts import adapter_tensors, lora, model_shape, parameters, parts
from harness.artifacts.digest import Hashed
from harness.core.answers import Entry, JsonFile, WeightsOnBox
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.facts.finals import base_config
from harness.job.model import Job
from tests.support.facts import (
    BOX,
    NOW,
    OTHER_SHA,
    SHA,
    Judged,
    assert_only,
    changed,
    judge,
    postdownload,
    posttrain,
    run_json,
    sound_job,
)

FAIL, UNKNOWN, PASS = Verdict.FAIL, Verdict.UNKNOWN, Verdict.PASS
EXISTS, FORMED, SIZE = "final_model_exists", "remote_model_well_formed", "remote_model_size_as_predicted"
FLOOR, DIGEST, BASE = "remote_model_over_floor", "remote_sha256_recorded", "adapter_base_is_as_planned"
CARRIES = "model_carries_the_finetune"
SMALL = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2}
BYTES = 20_000
ADAPTER = {
    "peft_type": "LORA",
    "r": 64,
    "lora_alpha": 128,
    "target_modules": ["q_proj", "v_proj"],
    "base_model_name_or_path": "somebody/base",
    "revision": "abc",
}
WEIGHTS = {"merged": "model.safetensors", "adapter": "adapter_model.safetensors"}
CONFIG = {"merged": "config.json", "adapter": "adapter_config.json"}
KINDS = ("merged", "adapter")


def job(kind: str, floor: int = BYTES, **artifact: Any) -> Job:
    model = {**SMALL, "intermediate_size": 128, "vocab_size": 512, "base": "somebody/base"}
    own = {"kind": kind, "remote_dir": f"models/output/{kind}", "floor": floor, **artifact}
    return sound_job(model=model, artifact=own)


def settings(kind: str) -> dict[str, Any]:
    return ADAPTER if kind == "adapter" else base_config(job(kind), run_json(job(kind)))


def shapes(kind: str) -> dict[str, tuple[int, ...]]:
    of_base = parameters.of(model_shape.from_config(base_config(job(kind), run_json(job(kind)))))
    return adapter_tensors.expected(lora.read(ADAPTER), of_base)[0] if kind == "adapter" else of_base


def folder(kind: str) -> str:
    return f"{BOX}/models/output/{kind}"


def recorded(kind: str, weights: int = BYTES) -> parts.Artifact:
    files = ((CONFIG[kind], 900), (WEIGHTS[kind], weights), ("README.md", 7))
    return parts.of_files(folder(kind), [parts.ArtifactFile(name, size, SHA) for name, size in files])


def entry(kind: str, name: str, size: int, what: str = "file") -> Entry:
    return Entry(f"{folder(kind)}/{name}", what, size, NOW)


def found(kind: str, **sizes: int) -> tuple[Entry, ...]:
    """The files of the folder as they are found; a size of -1 leaves one out."""
    told = {part.path: part.size for part in recorded(kind).parts} | sizes
    return tuple(entry(kind, name, size) for name, size in sorted(told.items()) if size >= 0)


def listed(kind: str, *more: str, **digests: str) -> JsonFile:
    """The manifest of the run, which lists these files."""
    names = [part.path for part in recorded(kind).parts]
    files = [{"path": f"models/output/{kind}/{name}", "sha256": digests.get(name, SHA)} for name in names]
    return JsonFile(exists=True, json={"files": [*files, *({"path": path, "sha256": SHA} for path in more), "odd"]})


def on_box(kind: str, changes: Mapping[str, Any] | None = None, own: Job | None = None) -> dict[str, Judged]:
    tensors = {name: ("F32", shape) for name, shape in shapes(kind).items()}
    sound = {
        "finals": found(kind),
        "manifest": listed(kind),
        "recorded": recorded(kind),
        "weights": WeightsOnBox(exists=True, files={WEIGHTS[kind]: BYTES}, tensors=tensors),
        "config": JsonFile(exists=True, json=settings(kind)),
        "run": JsonFile(exists=True, json=run_json(job(kind))),
    }
    return judge(Stage.POSTTRAIN, changed(posttrain(), {**sound, **(changes or {})}), own or job(kind))


def weights(kind: str, **fields: Any) -> dict[str, Any]:
    tensors = {name: ("F32", shape) for name, shape in shapes(kind).items()}
    told = {"exists": True, "files": {WEIGHTS[kind]: BYTES}, "tensors": tensors, **fields}
    return {"weights": WeightsOnBox(**told)}


def config(kind: str, **fields: Any) -> dict[str, Any]:
    return {"config": JsonFile(exists=True, json={**settings(kind), **fields})}


def tensors(kind: str, more: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    return weights(kind, tensors={name: ("F32", shape) for name, shape in {**shapes(kind), **more}.items()})


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_folder_opens_the_gate(kind: str) -> None:
    judged = on_box(kind)
    assert_only(judged, FAIL, {})
    assert judged[EXISTS].wanted["files"].startswith("README.md=7")
    assert judged[SIZE].saw["bytes of tensors"] == str(4 * sum(_numbers(shape) for shape in shapes(kind).values()))
    assert (CARRIES in judged, BASE in judged) == (kind == "merged", kind == "adapter")


def _numbers(shape: tuple[int, ...]) -> int:
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
Case = tuple[str, str, Mapping[str, Any], Verdict, Mapping[str, str]]
BROKEN: list[Case] = [
    (
        "being written",
        "merged",
        {"unfinished": tuple(entry("merged", f"{n}.partial", 1) for n in "abcd")},
        FAIL,
        {EXISTS: "c.partial"},
    ),
    ("a file has grown", "merged", {"finals": found("merged", **{"README.md": 8})}, FAIL, {EXISTS: "README.md"}),
    ("a file has gone", "adapter", {"finals": found("adapter", **{"README.md": -1})}, FAIL, {EXISTS: "README.md"}),
    ("a file has come", "adapter", {"finals": found("adapter", late=3)}, FAIL, {EXISTS: "no longer as recorded: late"}),
    ("no configuration", "merged", {"finals": found("merged", **{"config.json": -1})}, FAIL, {EXISTS: "lacks config"}),
    ("no folder", "merged", weights("merged", exists=False), FAIL, {FORMED: "no longer there"}),
    ("a shard is cut", "adapter", weights("adapter", malformed="x ends early"), FAIL, {FORMED: "x ends early"}),
    (
        "other weights",
        "merged",
        weights("merged", files={"model.safetensors": BYTES - 1}),
        FAIL,
        {FORMED: f"no longer as recorded: model.safetensors has {BYTES - 1} bytes"},
    ),
    (
        "another digest is stated",
        "merged",
        {"manifest": listed("merged", **{"README.md": OTHER_SHA})},
        FAIL,
        {DIGEST: f"states ['{OTHER_SHA}'] for models/output/merged/README.md"},
    ),
    (
        "more is listed than was recorded",
        "adapter",
        {"manifest": listed("adapter", "models/output/adapter/gone.bin")},
        FAIL,
        {DIGEST: "lists models/output/adapter/gone.bin, which was not there"},
    ),
    ("another model", "merged", config("merged", num_hidden_layers=9), FAIL, {SIZE: "num_hidden_layers is 9"}),
    ("one tensor more", "merged", tensors("merged", {"more": (2, 3)}), FAIL, {SIZE: "more is not of this model"}),
    (
        "an adapter that was not merged",
        "merged",
        tensors("merged", {"model.lora_A.weight": (2, 3)}),
        FAIL,
        {SIZE: "model.lora_A.weight is of an adapter that was not merged"},
    ),
    ("another rank", "adapter", config("adapter", r=8), FAIL, {SIZE: "expected 8 x"}),
    ("one shape is another", "adapter", tensors("adapter", {Q: (64, 3)}), FAIL, {SIZE: "is 64 x 3"}),
    ("an unknown kind", "adapter", config("adapter", peft_type="IA3"), UNKNOWN, {SIZE: "peft_type"}),
    ("an unknown model", "merged", config("merged", num_attention_heads=0), FAIL, {SIZE: "num_attention_heads is 0"}),
    (
        "a model whose shape is not told",
        "merged",
        {"config": JsonFile(exists=True, json={**settings("merged"), "intermediate_size": None})},
        UNKNOWN,
        {SIZE: "intermediate_size"},
    ),
    ("another base", "adapter", config("adapter", base_model_name_or_path="x/y"), FAIL, {BASE: "it names x/y"}),
    ("no base", "adapter", config("adapter", base_model_name_or_path=None), FAIL, {BASE: "it names no base model"}),
]


@pytest.mark.parametrize(
    ("kind", "changes", "verdict", "expected"), [one[1:] for one in BROKEN], ids=[one[0] for one in BROKEN]
)
def test_what_is_broken_is_named(
    kind: str, changes: Mapping[str, Any], verdict: Verdict, expected: Mapping[str, str]
) -> None:
    assert_only(on_box(kind, changes), verdict, expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (weights("adapter", tensors={}), "it holds no tensor"),
        ({"config": JsonFile(exists=False)}, "there is no configuration"),
        ({"config": JsonFile(exists=True, json=[1])}, "the configuration is no JSON object"),
    ],
)
def test_what_nothing_can_be_read_of_is_malformed_and_its_size_unknown(changes: Mapping[str, Any], words: str) -> None:
    judged = on_box("adapter", changes)
    assert (judged[FORMED].verdict, judged[SIZE].verdict) == (FAIL, UNKNOWN)
    assert words in judged[FORMED].message
    assert "see remote_model_well_formed" in judged[SIZE].message
    unread = "config" in changes
    assert judged[BASE].verdict is (UNKNOWN if unread else PASS)
    assert ("see remote_model_well_formed" in judged[BASE].message) == unread


@pytest.mark.parametrize(("floor", "verdict"), [(BYTES + 907, FAIL), (BYTES + 906, PASS)])
@pytest.mark.parametrize("kind", KINDS)
def test_all_files_together_are_larger_than_the_floor(kind: str, floor: int, verdict: Verdict) -> None:
    assert on_box(kind, own=job(kind, floor))[FLOOR].verdict is verdict


@pytest.mark.parametrize(
    ("demanded", "named", "verdict"),
    [("abc", "abc", PASS), ("abc", "abd", FAIL), ("abc", None, FAIL), (None, "abd", PASS)],
)
def test_the_revision_of_the_base_is_judged_where_it_is_demanded(
    demanded: str | None, named: str | None, verdict: Verdict
) -> None:
    said = on_box("adapter", config("adapter", revision=named), job("adapter", base_revision=demanded))[BASE]
    assert (said.verdict, said.wanted.get("revision")) == (verdict, demanded)


@pytest.mark.parametrize(("error", "verdict"), [(0.0005, PASS), (0.02, FAIL)])
def test_a_merged_model_is_held_to_the_rounding_of_its_own_type(error: float, verdict: Verdict) -> None:
    """A quantizer's error would be that of another model."""
    sound = posttrain().carried.get()
    tensors = {name: replace(one, relative_error=error) for name, one in sound.tensors.items()}
    carried = {"carried": replace(sound, tensors=tensors)}
    assert on_box("merged", carried)[CARRIES].verdict is verdict


@pytest.mark.parametrize("kind", ["gguf", *KINDS])
def test_files_that_differ_are_named_where_there_are_several(kind: str) -> None:
    """Of one file there is nothing to name but itself."""
    of_one = kind == "gguf"
    own = sound_job() if of_one else job(kind)
    told = ("a has other bytes", "b is missing", "c is more", "d, too")
    changes: dict[str, Any] = {"differences": told}
    if not of_one:
        changes["remote"] = recorded(kind)
    changes["hashed"] = Hashed(1, OTHER_SHA)
    judged = judge(Stage.POSTDOWNLOAD, changed(postdownload(), changes), own)
    for check in ("local_size_equals_remote", "local_sha256_equals_remote"):
        assert judged[check].verdict is FAIL
        assert judged[check].message.endswith("c is more") != of_one
        assert (told[0] in judged[check].message) != of_one
