"""A merged model's config.json is held against the planned one, field by field; its tensors against the config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import merged, model_shape, parameters, safetensors
from harness.artifacts.expectation import Expectation
from harness.artifacts.merged import other_model
from harness.artifacts.tokenizer import read_trained
from harness.core.verdict import Verdict
from tests.support.checkpoint_files import tensors
from tests.support.model_files import TINY, write_training

PLANNED: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 300,
    "tie_word_embeddings": False,
}
OF_THE_SHAPE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
)


def test_the_planned_model_is_no_other_one() -> None:
    assert other_model(PLANNED, PLANNED) == []


@pytest.mark.parametrize("name", OF_THE_SHAPE)
def test_another_shape_is_named_and_one_that_is_not_stated_is_none(name: str) -> None:
    other = {**PLANNED, name: PLANNED[name] * 2}
    assert other_model(other, PLANNED) == [f"{name} is {PLANNED[name] * 2}, planned {PLANNED[name]}"]
    assert other_model({**PLANNED, name: None}, PLANNED) == []
    assert other_model(other, {key: value for key, value in PLANNED.items() if key != name}) == []


@pytest.mark.parametrize("named", [{"architecture": "LlamaForCausalLM"}, {"architectures": ["LlamaForCausalLM"]}])
def test_another_architecture_is_another_model(named: dict[str, Any]) -> None:
    planned = {**PLANNED, "architecture": "Qwen2ForCausalLM"}
    assert other_model(PLANNED, planned) == []
    other = {**PLANNED, **named}
    assert other_model(other, planned) == ["architecture is 'LlamaForCausalLM', planned 'Qwen2ForCausalLM'"]


def test_tied_embeddings_make_another_model() -> None:
    assert other_model({**PLANNED, "tie_word_embeddings": True}, PLANNED) == [
        "tie_word_embeddings is True, planned False"
    ]


SHAPE = model_shape.from_config({**PLANNED, "tie_word_embeddings": False})
TIED = model_shape.from_config({**PLANNED, "tie_word_embeddings": True})
HEAD, UP = "lm_head.weight", "model.layers.1.mlp.up_proj.weight"
ALL = parameters.of(SHAPE)


def _of_the_inner_class(found: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix("model."): size for name, size in found.items() if name != HEAD}


@pytest.mark.parametrize(
    ("shape", "found", "wrong", "count"),
    [
        (SHAPE, ALL, [], len(ALL)),
        (SHAPE, {**ALL, "model.layers.0.self_attn.rotary_emb.inv_freq": (8,)}, [], len(ALL)),
        (SHAPE, {name: ALL[name] for name in ALL if name != UP}, [f"{UP} is missing"], len(ALL)),
        (SHAPE, {name: ALL[name] for name in ALL if name != HEAD}, [f"{HEAD} is missing"], len(ALL)),
        (SHAPE, {**ALL, "model.extra": (1,)}, ["model.extra is not of this model"], len(ALL)),
        (SHAPE, {**ALL, UP: (128, 63)}, [f"{UP} is [128, 63], expected [128, 64]"], len(ALL)),
        (SHAPE, _of_the_inner_class(ALL), [], len(ALL) - 1),
        (TIED, ALL, [], len(ALL) - 1),
        (TIED, {name: ALL[name] for name in ALL if name != HEAD}, [], len(ALL) - 1),
        (TIED, {**ALL, HEAD: (7, 64)}, [f"{HEAD} is [7, 64], expected [300, 64]"], len(ALL) - 1),
    ],
    ids=[
        *["whole", "with frequencies", "without a matrix", "without its head", "with another tensor"],
        *["with another shape", "of the inner class", "tied, its head again", "tied", "tied, another head"],
    ],
)
def test_the_tensors_of_a_model_are_held_against_its_shape(
    shape: model_shape.ModelShape, found: Mapping[str, tuple[int, ...]], wrong: list[str], count: int
) -> None:
    assert merged.mismatches(shape, found) == (wrong, count)


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (list(ALL), []),
        (
            [f"base_model.model.{UP}", "a.lora_A.weight", "a.lora_B.weight", "a.lora_magnitude_vector", UP],
            ["a.lora_A.weight", "a.lora_B.weight", "a.lora_magnitude_vector", f"base_model.model.{UP}"],
        ),
        (
            ["a.base_layer.weight", "_orig_mod.a", "module.a", "a.module.b"],
            ["_orig_mod.a", "a.base_layer.weight", "module.a"],
        ),
    ],
)
def test_names_of_what_was_not_merged(names: list[str], left: list[str]) -> None:
    assert merged.unmerged(names) == left


def test_a_folder_is_held_against_the_plan(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "model", TINY)
    tensors(folder / "model.safetensors", ("model.norm.weight", "F32", [1], b"\0\0\x80\x3f"))

    def told(known: Expectation) -> dict[str, tuple[Verdict, str]]:
        return {one.id: (one.verdict, one.seen) for one in merged.judge_as_planned(folder, known)}

    assert set(told(Expectation())) - {one.id for one in merged.judge(folder, Expectation())} == {"config_as_planned"}
    assert told(Expectation())["config_as_planned"] == (Verdict.PASS, "all equal")
    trained = read_trained(folder)
    same = told(Expectation(config=dict(TINY), trained=trained))
    assert same["config_as_planned"] == (Verdict.PASS, "all equal")
    assert same["tokenizer_as_trained"] == (Verdict.PASS, "no difference")
    other = Expectation(
        config={**TINY, "hidden_size": 128}, trained=read_trained(write_training(tmp_path / "o", OTHER))
    )
    differing = told(other)
    assert differing["config_as_planned"] == (Verdict.FAIL, "hidden_size is 256, planned 128")
    assert differing["tokenizer_as_trained"] == (Verdict.FAIL, "tokens differ; merges differ")
    (folder / "tokenizer.json").unlink()
    assert "tokenizer_as_trained" not in told(other)


OTHER = {**TINY, "vocab_size": 310}
ONE, NAN = {2: b"\x80\x3f", 4: b"\0\0\x80\x3f", 8: b"\0" * 6 + b"\xf0\x3f"}, {4: b"\0\0\xc0\x7f"}


@pytest.mark.parametrize(
    ("held", "verdict", "seen"),
    [
        ([("F64", [2], ONE[8] * 2)], Verdict.PASS, "2 numbers looked at"),
        (
            [("F32", [2], ONE[4] * 2), ("BF16", [3], ONE[2] * 3), ("F16", [1], ONE[2])],
            Verdict.PASS,
            "6 numbers looked at",
        ),
        ([("F32", [0], b""), ("F32", [1], ONE[4])], Verdict.PASS, "1 numbers looked at"),
        ([("F32", [1], ONE[4]), ("U8", [4], b"1234")], Verdict.UNKNOWN, "tensors of type U8 cannot be judged"),
        ([("U8", [0], b""), ("I64", [1], bytes(8))], Verdict.UNKNOWN, "tensors of type I64, U8 cannot be judged"),
        (
            [("F32", [1], NAN[4]), ("U8", [4], b"1234")],
            Verdict.FAIL,
            "model.safetensors: 0: a scale that is not finite",
        ),
    ],
)
def test_numbers_of_every_type_of_weights_are_looked_at(
    tmp_path: Path, held: list[tuple[str, list[int], bytes]], verdict: Verdict, seen: str
) -> None:
    folder = write_training(tmp_path / "model", TINY)
    tensors(folder / "model.safetensors", *[(str(at), *one) for at, one in enumerate(held)])
    found = {one.id: one for one in merged.judge(folder, Expectation())}["weights_present"]
    assert (found.verdict, bool(found.remedy)) == (verdict, verdict is not Verdict.PASS)
    assert found.seen.startswith(seen)


@pytest.mark.parametrize(
    ("vocab_size", "verdict"), [(270, Verdict.PASS), (269, Verdict.FAIL), (None, Verdict.PASS), ("9", Verdict.PASS)]
)
def test_the_model_has_a_row_for_each_token(tmp_path: Path, vocab_size: object, verdict: Verdict) -> None:
    folder = write_training(tmp_path / "model", TINY)  # its last token has the id 269
    config = {**TINY, "vocab_size": vocab_size}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    found = {one.id: one for one in merged.judge(folder, Expectation())}["tokenizer_there"]
    assert (found.verdict, found.seen) == (verdict, "ids up to 269")


@pytest.mark.parametrize(
    ("index", "verdict", "seen"),
    [
        ({}, Verdict.FAIL, "has no weight_map"),
        ({"weight_map": []}, Verdict.FAIL, "has no weight_map"),
        ({"weight_map": {"0": 5}}, Verdict.FAIL, "has no weight_map"),
        ({"weight_map": {"0": "model.safetensors", "1": "model.safetensors"}}, Verdict.FAIL, "1 is not in model.safe"),
        ({"weight_map": {"0": "x.safetensors"}}, Verdict.FAIL, "x.safetensors is missing"),
        ({"weight_map": {"0": "folder.safetensors"}}, Verdict.FAIL, "folder.safetensors is missing"),
        ({"weight_map": {"0": "model.safetensors"}}, Verdict.PASS, "1 files, 1 tensors"),
        ({"weight_map": {}}, Verdict.PASS, "1 files, 1 tensors"),
        (None, Verdict.PASS, "1 files, 1 tensors"),
    ],
)
def test_an_index_names_every_file_and_tensor(tmp_path: Path, index: object, verdict: Verdict, seen: str) -> None:
    folder = write_training(tmp_path / "model", TINY)
    tensors(folder / "model.safetensors", ("0", "F32", [1], ONE[4]))
    (folder / "folder.safetensors").mkdir()
    if index is not None:
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    found = merged.judge(folder, Expectation())
    assert (found[0].id, found[0].verdict) == ("files_whole", verdict)
    assert seen in found[0].seen
    others = ("tensors_as_predicted", "weights_present") if verdict is Verdict.PASS else ()
    assert [one.id for one in found[1:]] == [*others, "tokenizer_there"]


@pytest.mark.parametrize(
    ("names", "verdict", "seen"),
    [
        ([], Verdict.FAIL, "no weights"),
        (["a.bin", "b.bin"], Verdict.UNKNOWN, "a.bin; b.bin"),
        (["a.safetensors"], Verdict.FAIL, "model.safetensors.index.json is missing, 1 files lie there"),
        (["a.safetensors", "b.bin"], Verdict.FAIL, "model.safetensors.index.json is missing, 1 files lie there"),
    ],
)
def test_a_folder_without_the_weights_that_are_read_here(
    tmp_path: Path, names: list[str], verdict: Verdict, seen: str
) -> None:
    folder = write_training(tmp_path / "model", TINY)
    for name in names:
        (folder / name).touch()
    found = merged.judge(folder, Expectation())[0]
    assert (found.id, found.verdict, found.seen) == ("files_whole", verdict, seen)


def test_weights_that_cannot_be_read_are_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    folder = write_training(tmp_path / "model", TINY)
    tensors(folder / "model.safetensors", ("0", "F32", [1], ONE[4]))
    monkeypatch.setattr(safetensors, "parse", refuse)
    (found,) = merged.judge(folder, Expectation())
    assert (found.id, found.verdict) == ("files_whole", Verdict.UNKNOWN)
    assert found.seen == "model.safetensors cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("words", "pieces", "verdict", "seen"),
    [
        (True, False, Verdict.PASS, "ids up to 269"),
        (True, True, Verdict.PASS, "ids up to 269"),
        (False, True, Verdict.PASS, "tokenizer.model"),
        (False, False, Verdict.FAIL, ""),
    ],
)
def test_a_model_has_a_tokenizer(tmp_path: Path, words: bool, pieces: bool, verdict: Verdict, seen: str) -> None:
    folder = write_training(tmp_path / "model", TINY)
    tensors(folder / "model.safetensors", ("0", "F32", [1], ONE[4]), ("1", "F32", [], ONE[4]))
    if not words:
        (folder / "tokenizer.json").unlink()
    if pieces:
        (folder / "tokenizer.model").touch()
    found = {one.id: one for one in merged.judge(folder, Expectation())}
    assert (found["tokenizer_there"].verdict, found["weights_present"].verdict) == (verdict, Verdict.PASS)
    assert found["tokenizer_there"].seen.startswith(seen)
