"""Split GGUFs, merged models and adapters, real ones, before the real checks: on the box, and on this machine."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.core.lifecycle import Stage
from harness.core.observed import Observed, unseen
from harness.core.questions import Command
from harness.core.verdict import Verdict
from harness.facts import postdownload, posttrain
from harness.gates import plan
from tests.support import artifact_material as material
from tests.support.artifact_material import ADAPTER, BASE, FINAL
from tests.support.context import World, make_world
from tests.support.facts import Judged, judge

KINDS = ("split", "merged", "adapter")
FAIL, UNKNOWN = Verdict.FAIL, Verdict.UNKNOWN
EXISTS, FORMED, SIZE = "final_model_exists", "remote_model_well_formed", "remote_model_size_as_predicted"
DIGEST, CARRIES, NAMES_BASE = "remote_sha256_recorded", "model_carries_the_finetune", "adapter_base_is_as_planned"
OF_THE_RUN = {"completion_logged", "all_steps_done", "adapters_are_trained"}
"""Checks of what a scripted training does not leave."""

Change = Callable[[Path], object]


def _world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, **tables: Any) -> World:
    made = material.of(kind)
    both = {name: {**made.tables.get(name, {}), **tables.get(name, {})} for name in {*made.tables, *tables}}
    world = make_world(tmp_path, monkeypatch, fast=True, **both)
    world.box.leaves = dict(made.files)
    world.box.on_command = _on_the_box
    shutil.copytree(made.base, world.box.root / BASE, ignore=lambda _, names: [one for one in names if "gguf" in one])
    return world


def _on_the_box(question: Command) -> dict[str, Any]:
    """The comparison with the base model, run for real in the package's directory."""
    if question.argv[1:2] != ("-c",):
        return {"status": 0, "out": "", "err": ""}
    ran = subprocess.run([sys.executable, *question.argv[1:]], cwd=question.cwd, capture_output=True, check=False)
    return {"status": ran.returncode, "out": ran.stdout.decode(), "err": ran.stderr.decode()}


def _place(world: World) -> Path:
    return world.box.root / world.job.artifact.remote_dir


def _home(world: World) -> Path:
    assert world.history.fetched is not None
    return Path(world.history.fetched.path)


def _on_box(world: World) -> dict[str, Judged]:
    judged = judge(Stage.POSTTRAIN, posttrain.look(world.context()), world.job)
    return {name: said for name, said in judged.items() if name not in OF_THE_RUN}


def _at_home(world: World) -> dict[str, Judged]:
    return judge(Stage.POSTDOWNLOAD, postdownload.look(world.context()), world.job)


def _shut(judged: Mapping[str, Judged]) -> dict[str, tuple[Verdict, str]]:
    return {name: (said.verdict, said.message) for name, said in judged.items() if said.verdict is not Verdict.PASS}


def _says(shut: Mapping[str, tuple[Verdict, str]], expected: Mapping[str, tuple[Verdict, str]]) -> None:
    assert {name: said[0] for name, said in shut.items()} == {name: said[0] for name, said in expected.items()}, shut
    for name, (_, words) in expected.items():
        assert words in shut[name][1], shut[name][1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_artifact_passes_at_both_ends(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = _world(
        tmp_path, monkeypatch, kind, artifact={"second_copy": str(tmp_path / "copy")}, gates={"generate": False}
    )
    world.run(until=Stage.POSTDOWNLOAD)
    # No llama.cpp and no llama were trained here: what the split holds is not the merge of anything.
    assert set(_shut(_on_box(world))) == ({"gguf_carries_the_finetune"} if kind == "split" else set())
    assert _shut(_at_home(world)) == {}


def _flip(name: str) -> Change:
    def act(folder: Path) -> None:
        path = folder / name
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(bytes(data))

    return act


def _remove(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def _add(name: str, data: bytes = b"?") -> Change:
    def act(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    return act


def _link(name: str) -> Change:
    def act(folder: Path) -> None:
        target = (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(target)

    return act


def _setting(name: str, **values: Any) -> Change:
    def act(folder: Path) -> None:
        body = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**body, **values}), encoding="utf-8")

    return act


def _other_runs(kind: str, name: str) -> Change:
    place = ADAPTER if kind == "adapter" else FINAL
    return lambda folder: (folder / name).write_bytes(material.of_another_run(kind).files[f"{place}/{name}"])


LOCAL_SIZE = "local_size_equals_remote"
SECOND = "tiny.Q8_0-00002-of-00003.gguf"
SHARD, ADAPTED = "model-00002-of-00004.safetensors", "adapter_model.safetensors"
INDEX = "model.safetensors.index.json"
LEFT: list[Any] = [
    pytest.param(kind, change, expected, id=f"{kind}: {name}")
    for kind, name, change, expected in [
        (
            "merged",
            "a shard is missing",
            _remove(SHARD),
            {FORMED: (FAIL, f"names {SHARD}, which is missing"), CARRIES: (FAIL, "of 21 tensors")},
        ),
        ("merged", "the index is missing", _remove(INDEX), {FORMED: (FAIL, f"{INDEX} is missing")}),
        (
            "merged",
            "the index names another shard",
            _setting(INDEX, weight_map={"model.norm.weight": "model-00009-of-00004.safetensors"}),
            {FORMED: (FAIL, "names model-00009-of-00004.safetensors, which is missing")},
        ),
        (
            "merged",
            "the index leads out of the folder",
            _setting(INDEX, weight_map={"model.norm.weight": "../../x.safetensors"}),
            {FORMED: (FAIL, "names no file, or one of another folder")},
        ),
        (
            "merged",
            "a shard of another run lies there, too",
            _add("model-00001-of-00002.safetensors", b"\x02\0\0\0\0\0\0\0{}"),
            {FORMED: (FAIL, "model-00001-of-00002.safetensors holds no tensor")},
        ),
        ("merged", "a shard is cut short", lambda folder: (folder / SHARD).write_bytes(b"?"), {FORMED: (FAIL, SHARD)}),
        (
            "merged",
            "a shard of another run",
            _other_runs("merged", SHARD),
            {CARRIES: (FAIL, "tensors")},
        ),
        (
            "merged",
            "another model's configuration",
            _setting("config.json", num_hidden_layers=9),
            {SIZE: (FAIL, "num_hidden_layers is 9, planned 3")},
        ),
        ("merged", "no configuration", _remove("config.json"), {EXISTS: (FAIL, "lacks config.json")}),
        (
            "merged",
            "a configuration that is a list",
            lambda folder: (folder / "config.json").write_text("[1]"),
            {FORMED: (FAIL, "the configuration is no JSON object")},
        ),
        ("adapter", "no weights", _remove(ADAPTED), {EXISTS: (FAIL, f"lacks {ADAPTED}")}),
        (
            "adapter",
            "another base",
            _setting("adapter_config.json", base_model_name_or_path="somebody/else"),
            {NAMES_BASE: (FAIL, "it names somebody/else")},
        ),
        (
            "adapter",
            "no base",
            _setting("adapter_config.json", base_model_name_or_path=None),
            {NAMES_BASE: (FAIL, "it names no base model")},
        ),
        (
            "adapter",
            "other targets",
            _setting("adapter_config.json", target_modules=["q_proj", "v_proj"]),
            {SIZE: (FAIL, "PEFT passes over")},
        ),
        ("adapter", "another rank", _setting("adapter_config.json", r=4), {SIZE: (FAIL, "expected 4 x")}),
        (
            "adapter",
            "a kind that is not known here",
            _setting("adapter_config.json", peft_type="IA3"),
            {SIZE: (UNKNOWN, "peft_type")},
        ),
        (
            "adapter",
            "a file that is cut",
            lambda folder: (folder / ADAPTED).write_bytes(b"?"),
            {FORMED: (FAIL, ADAPTED), "remote_model_over_floor": (FAIL, "bytes")},
        ),
    ]
]


@pytest.mark.parametrize(("kind", "change", "expected"), LEFT)
def test_what_a_training_left_wrong_is_named(
    kind: str,
    change: Change,
    expected: Mapping[str, tuple[Verdict, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The training itself leaves it so, and lists it in its manifest."""
    world = _world(tmp_path, monkeypatch, kind)
    finish = type(world.box).finish

    def finishes(box: Any) -> None:
        finish(box)
        change(_place(world))
        box.list_outputs()

    monkeypatch.setattr(type(world.box), "finish", finishes)
    world.run(until=Stage.POSTTRAIN)
    shut = _shut(_on_box(world))
    for name, (verdict, words) in expected.items():
        assert shut[name][0] is verdict, shut
        assert words in shut[name][1], shut
    assert all(verdict is UNKNOWN for name, (verdict, _) in shut.items() if name not in expected), shut


def test_a_file_that_the_manifest_lists_and_that_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _world(tmp_path, monkeypatch, "adapter")
    finish = type(world.box).finish

    def finishes(box: Any) -> None:
        finish(box)
        _remove("chat_template.jinja")(_place(world))

    monkeypatch.setattr(type(world.box), "finish", finishes)
    world.run(until=Stage.POSTTRAIN)
    verdict, words = _shut(_on_box(world))[DIGEST]
    assert (verdict, "lists models/output/adapter/chat_" in words) == (FAIL, True), words


CHANGED = [
    pytest.param(kind, change, expected, id=f"{kind}: {name}")
    for kind, name, change, expected in [
        ("merged", "one byte", _flip(SHARD), {}),
        ("merged", "a file goes", _remove("generation_config.json"), {EXISTS: "generation_config.json"}),
        ("merged", "one comes", _add("late.safetensors.bin"), {EXISTS: "late.safetensors.bin"}),
        ("merged", "one is being written", _add("x.partial"), {EXISTS: "still being written"}),
        ("merged", "a link", _link("config.json"), {EXISTS: "config.json is a link"}),
        ("adapter", "a file goes", _remove("chat_template.jinja"), {EXISTS: "chat_template.jinja"}),
        ("adapter", "one comes", _add("more/of.it"), {EXISTS: "more/of.it"}),
        (
            "split",
            "one goes",
            _remove("tiny.Q8_0-00002-of-00003.gguf"),
            {"final_gguf_exists": "00002-of-00003.gguf not there"},
        ),
        (
            "split",
            "one of another",
            _add("other-00001-of-00002.gguf"),
            {"final_gguf_exists": "other-00001-of-00002.gguf is one of 2 files"},
        ),
        ("split", "one more", _add("z.gguf"), {"final_gguf_exists": "z.gguf is not of its split"}),
    ]
]


@pytest.mark.parametrize(("kind", "change", "expected"), CHANGED)
def test_what_changes_on_the_box_after_it_was_recorded_is_named(
    kind: str, change: Change, expected: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One byte changes no size: the download holds it against what was recorded, as its own test shows."""
    world = _world(tmp_path, monkeypatch, kind)
    world.run(until=Stage.POSTTRAIN)
    change(_place(world))
    shut = _shut(_on_box(world))
    for name, words in expected.items():
        assert shut[name][0] is FAIL, shut
        assert words in shut[name][1], shut


def _first(kind: str) -> str:
    return {"split": SECOND, "merged": SHARD, "adapter": ADAPTED}[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("spoil", "checks", "words"),
    [
        (_flip, {"local_sha256_equals_remote"}, "has the SHA-256"),
        (_remove, {"local_size_equals_remote", "local_sha256_equals_remote"}, "is missing"),
        (
            lambda _: _add("notes.txt"),
            {"local_size_equals_remote", "local_sha256_equals_remote"},
            "notes.txt is not of",
        ),
    ],
    ids=["one byte", "one file missing", "one file more"],
)
def test_what_is_wrong_at_home_is_named(  # noqa: PLR0917 - three of them are the case
    kind: str,
    spoil: Callable[[str], Change],
    checks: set[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = _world(tmp_path, monkeypatch, kind, gates={"generate": False})
    world.run(until=Stage.POSTDOWNLOAD)
    spoil(_first(kind))(_home(world))
    shut = _shut(_at_home(world))
    assert checks <= set(shut), shut
    for check in checks:
        assert shut[check][0] is FAIL
        assert words in shut[check][1], shut


@pytest.mark.parametrize("kind", ["merged", "adapter"])
def test_another_runs_file_at_home_is_named(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = _world(tmp_path, monkeypatch, kind)
    world.run(until=Stage.POSTDOWNLOAD)
    name = _first(kind)
    (_home(world) / name).chmod(0o644)
    _other_runs(kind, name)(_home(world))
    _says(_shut(_at_home(world)), {"local_sha256_equals_remote": (FAIL, f"{name} has the SHA-256")})


def test_a_link_at_home_is_not_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = _world(tmp_path, monkeypatch, "adapter")
    world.run(until=Stage.POSTDOWNLOAD)
    _link(ADAPTED)(_home(world))
    assert _shut(_at_home(world))["local_file_exists"][0] is FAIL


def test_an_architecture_that_is_not_known_leaves_a_way_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """UNKNOWN and never FAIL, with a remedy that the plan keeps: what cannot be predicted is left out by it."""
    world = _world(tmp_path, monkeypatch, "adapter")
    world.box.leaves[f"{ADAPTER}/adapter_config.json"] = world.box.leaves[f"{ADAPTER}/adapter_config.json"].replace(
        b'"peft_type": "LORA"', b'"peft_type": "VERA"'
    )
    world.run(until=Stage.POSTDOWNLOAD)
    assert _shut(_on_box(world))[SIZE][0] is UNKNOWN
    at_home = _at_home(world)["local_model_well_formed"]
    assert at_home.verdict is UNKNOWN
    world.change(artifact={"predict": False})
    assert _shut(_on_box(world)) == {}


def test_the_revision_of_the_base_is_judged_where_it_is_demanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _world(tmp_path, monkeypatch, "adapter", artifact={"base_revision": "abc"})
    world.run(until=Stage.POSTTRAIN)
    _says(_shut(_on_box(world)), {NAMES_BASE: (FAIL, "the revision None")})
    cached = f"/root/.cache/huggingface/hub/models--{BASE.replace('/', '--')}/snapshots/abc"
    _setting("adapter_config.json", base_model_name_or_path=cached)(_place(world))
    world.box.list_outputs()
    assert NAMES_BASE not in _shut(_on_box(world))


@pytest.mark.parametrize("kind", ["merged", "adapter"])
def test_no_check_of_a_folder_passes_blindly(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fact that could not be seen is UNKNOWN to every check that rests on it, and each check rests on some."""
    world = _world(tmp_path, monkeypatch, kind)
    world.run(until=Stage.POSTDOWNLOAD)
    looks: dict[Stage, Any] = {
        Stage.POSTTRAIN: posttrain.look(world.context()),
        Stage.POSTDOWNLOAD: postdownload.look(world.context()),
    }
    unseen_by = set()
    for stage, facts in looks.items():
        for field in dataclasses.fields(facts):
            if not isinstance(getattr(facts, field.name), Observed):
                continue
            judged = judge(stage, dataclasses.replace(facts, **{field.name: unseen("the line was cut")}), world.job)
            cut = {name for name, said in judged.items() if "the line was cut" in said.message}
            assert {judged[name].verdict for name in cut} <= {UNKNOWN}
            assert {name for name in plan.OF_FOLDERS & judged.keys() if judged[name].verdict is FAIL} == set()
            unseen_by |= cut
    due = {check for stage in looks for check in plan.declared(stage, world.job)}
    assert plan.OF_FOLDERS & due <= unseen_by
