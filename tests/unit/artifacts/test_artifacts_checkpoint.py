"""A checkpoint's folder, question by question: what its weights are, what could not be read, what may go on from it."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.artifacts import checkpoint, checkpoint_findings
from harness.artifacts.checkpoint import ADAPTER, Checkpoint
from harness.artifacts.safetensors import INDEX
from harness.core.errors import BadInput
from harness.core.verdict import Verdict
from tests.support.checkpoint_files import ARCHIVES, archive, tensors, write_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path, 40)


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        ([ADAPTER, "adapter_config.json", "model.safetensors"], ADAPTER),
        (["config.json", "model.safetensors"], "model.safetensors"),
        (["model-00001-of-00002.safetensors", "model.safetensors.index.json"], "model.safetensors.index.json"),
        (["pytorch_model.bin"], "pytorch_model.bin"),
        (["config.json", "adapter_config.json", "optimizer.pt"], None),
        ([], None),
    ],
)
def test_where_the_weights_are(names: list[str], weights: str | None) -> None:
    assert checkpoint.weights_of(names) == weights
    files = dict.fromkeys(names, 1)
    assert Checkpoint(Path("checkpoint-1"), 1, 0.0, files, "", (), (), ()).weights == weights


def test_where_no_folder_is_there_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "nothing", tmp_path / "file", tmp_path / "file" / "below", tmp_path):
        assert checkpoint.named(place) == ()
        assert checkpoint.find(place) == ()


def test_checkpoints_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for step in (100, 9, 20):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert checkpoint.named(tmp_path) == tuple((step, tmp_path / f"checkpoint-{step}") for step in (9, 20, 100))


def test_of_a_folder_that_cannot_be_listed_nothing_else_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listdir = os.listdir

    def denied(path: str) -> list[str]:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", denied)
    unread = ("the directory cannot be read: Permission denied",)
    assert checkpoint.find(folder.parent) == (Checkpoint(folder, 40, 0.0, {}, "", (), unread, ()),)


def test_of_an_empty_folder_the_files_of_an_adapter_are_missed(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-7").mkdir()
    (seen,) = checkpoint.find(tmp_path)
    wanted = (ADAPTER, "adapter_config.json", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
    assert seen.problems == tuple(f"{name} is missing" for name in (*wanted, "training_args.bin"))
    assert (seen.step, seen.weights, seen.complete, seen.resumable) == (7, None, False, False)


@pytest.mark.parametrize("weights", ["model.safetensors", INDEX, "pytorch_model.bin"])
@pytest.mark.parametrize(("config", "complete"), [("config.json", True), ("adapter_config.json", False)])
def test_a_full_fine_tune_is_weights_and_their_configuration(
    folder: Path, weights: str, config: str, complete: bool
) -> None:
    if weights == INDEX:
        where = dict.fromkeys((f"base_model.model.q_proj.lora_{half}.weight" for half in "AB"), "model-1.safetensors")
        (folder / INDEX).write_text(json.dumps({"weight_map": where}), encoding="utf-8")
    (folder / ADAPTER).rename(folder / ("model-1.safetensors" if weights == INDEX else "model.safetensors"))
    if weights == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
        archive(folder / weights)
    (folder / "adapter_config.json").rename(folder / config)
    seen = checkpoint.inspect(folder)
    assert (seen.complete, seen.resumable, seen.weights) == (complete, False, weights)
    assert seen.problems == (() if complete else ("config.json is missing",))


@pytest.mark.parametrize("name", [*ARCHIVES, "adapter_config.json", ADAPTER])
def test_a_file_that_cannot_be_read_is_neither_whole_nor_damaged(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(path: str, *_: object) -> str | None:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied")
        return None

    for reader in ("_archive_problem", "_json_problem", "safetensors.problem"):
        monkeypatch.setattr(f"harness.artifacts.checkpoint.{reader}", refuse)
    seen = checkpoint.inspect(folder)
    assert (seen.problems, seen.unread) == ((), (f"{name} cannot be read: Permission denied",))
    assert (seen.complete, seen.resumable, seen.unfit) == (False, False, ())


def test_a_file_that_goes_away_while_it_is_looked_at_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: str, *_: object) -> str | None:
        raise FileNotFoundError(2, "No such file", path)

    monkeypatch.setattr(checkpoint, "_json_problem", gone)
    names = ("adapter_config.json", "trainer_state.json")
    assert checkpoint.inspect(folder).problems == tuple(f"{name} is missing" for name in names)


def test_a_folder_of_another_name_is_of_the_step_that_it_says(folder: Path) -> None:
    moved = folder.rename(folder.with_name("last"))
    seen = checkpoint.inspect(moved)
    assert (seen.step, seen.problems) == (0, ())
    (moved / "trainer_state.json").write_text('{"global_step": "40"}', encoding="utf-8")
    assert checkpoint.inspect(moved).problems == ('trainer_state.json is of step "40", expected a whole number',)
    named = moved.rename(folder)
    assert checkpoint.inspect(named).problems == ('trainer_state.json is of step "40", expected 40',)


def test_a_state_is_read_up_to_its_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    size = (folder / "trainer_state.json").stat().st_size
    monkeypatch.setattr(checkpoint, "MAX_JSON_BYTES", size)
    assert checkpoint.inspect(folder).problems == ()
    monkeypatch.setattr(checkpoint, "MAX_JSON_BYTES", size - 1)
    assert checkpoint.inspect(folder).problems == (f"trainer_state.json is larger than {size - 1} bytes",)


def test_an_archive_that_states_more_than_it_has_is_not_read(folder: Path) -> None:
    path = folder / "optimizer.pt"
    held = bytearray(path.read_bytes())
    for at, more in ((0, len(held)), (1, 1)):
        entry = [at for at in range(len(held)) if held[at : at + 4] == b"PK\1\2"][at]
        struct.pack_into("<I", held, entry + 24, len(held) + more)
    path.write_bytes(held)
    assert checkpoint.inspect(folder).problems == ("optimizer.pt states more bytes than it has",)


@pytest.mark.parametrize("error", [zipfile.BadZipFile, EOFError, ValueError, RuntimeError, NotImplementedError])
def test_an_archive_that_cannot_be_read_to_its_end_is_not_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(_: zipfile.ZipFile) -> None:
        raise error

    monkeypatch.setattr(zipfile.ZipFile, "testzip", fail)
    problems = checkpoint.inspect(folder).problems
    assert problems == tuple(f"{name} is not a whole archive: {error.__name__}" for name in ARCHIVES)


def _hole(folder: Path) -> None:
    data = bytearray((folder / "optimizer.pt").read_bytes())
    data[2000:6096] = bytes(4096)
    (folder / "optimizer.pt").write_bytes(data)


def _zeros(folder: Path) -> None:
    tensors(folder / ADAPTER, ("q.lora_A.weight", "F32", [2], bytes(8)), ("q.lora_B.weight", "F32", [2], bytes(8)))


def _half_zeros(folder: Path) -> None:
    numbers = ("q.lora_A.weight", "F32", [1], b"\0\0\x80\x3f"), ("q.lora_B.weight", "F32", [2], bytes(8))
    tensors(folder / ADAPTER, *numbers)


@pytest.mark.parametrize(("damage", "seen"), [(_hole, ("problems",)), (_zeros, ("unfit",)), (_half_zeros, ())])
def test_what_was_read_to_its_last_byte_before_is_not_read_again(
    folder: Path, damage: Callable[[Path], None], seen: tuple[str, ...]
) -> None:
    damage(folder)
    first = checkpoint.inspect(folder)
    again = checkpoint.inspect(folder, known={first.seal})
    assert tuple(name for name in ("problems", "unread", "unfit") if getattr(first, name)) == seen
    assert (again.problems, again.unread, again.unfit) == ((), (), ())
    assert (again.seal, again.files) == (first.seal, first.files)
    assert checkpoint.inspect(folder, known={"another"}) == first


def test_an_adapter_wherever_it_lies_is_usable_or_says_why_not(folder: Path) -> None:
    path = folder / ADAPTER
    assert checkpoint.adapter_problem(path) is None
    assert checkpoint.adapter_problem(folder / "nothing") == "cannot be read: No such file or directory"
    _half_zeros(folder)
    assert checkpoint.adapter_problem(path) is None
    _zeros(folder)
    assert checkpoint.adapter_problem(path) == "the adapter is all zeros"
    tensors(path)
    assert checkpoint.adapter_problem(path) == "holds no tensor"


@pytest.mark.parametrize(
    ("damage", "verdicts", "seen", "remedy"),
    [
        (lambda _: None, [Verdict.PASS, Verdict.PASS], "none is NaN", ""),
        (_zeros, [Verdict.PASS, Verdict.FAIL], "the adapter is all zeros", "go on from an older checkpoint, with a"),
        (_hole, [Verdict.FAIL], "optimizer.pt is damaged", "go on from an older checkpoint: files"),
        (
            lambda folder: (folder / "optimizer.pt").rename(folder / "optimizer_0"),
            [Verdict.UNKNOWN],
            "optimizer.pt lies elsewhere, in optimizer_0",
            "let the trainer that wrote it go on from it",
        ),
    ],
    ids=["whole", "zeros", "damaged", "of several processes"],
)
def test_the_findings_about_a_folder(
    folder: Path, damage: Callable[[Path], object], verdicts: list[Verdict], seen: str, remedy: str
) -> None:
    damage(folder)
    found = checkpoint_findings.judge(folder)
    names = ("checkpoint_complete", "checkpoint_weights_usable")
    assert [(one.id, one.verdict) for one in found] == list(zip(names, verdicts, strict=False))
    assert seen in found[-1].seen
    assert found[-1].remedy.startswith(remedy)
    assert bool(found[-1].remedy) is bool(remedy)


def test_a_folder_that_is_not_there_has_no_findings(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        checkpoint_findings.judge(tmp_path / "nothing")
