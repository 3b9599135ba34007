"""Damaged checkpoints of the field: the reader on the box, the one at home and the package give one answer."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.artifacts import checkpoint as reader
from harness.artifacts.checkpoint_findings import judge
from harness.core.questions import CheckpointsIn
from harness.core.verdict import Verdict
from harness.facts.checkpoints import of_job, problems
from tests.field.case import field_case
from tests.support.checkpoint_files import archive, tensors, write_checkpoint
from tests.support.facts import sound_job
from tests.support.local_box import LocalBox

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training_pkg"))

STEP = 40
ADAPTER = "adapter_model.safetensors"
Damage = Callable[[Path], object]


def on(name: str, change: Callable[[Path], object]) -> Damage:
    """Do something to one file of the folder."""
    return lambda folder: change(folder / name)


def say(name: str, text: str | bytes) -> Damage:
    """Other contents of one file."""
    return on(name, lambda path: path.write_bytes(text.encode() if isinstance(text, str) else text))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def hole(path: Path) -> None:
    """Zeros in the middle, as a lost page leaves them; the size is right, and the zip's directory whole."""
    data = bytearray(path.read_bytes())
    data[2000:6096] = bytes(4096)
    path.write_bytes(data)


def weights(kind: str, raw: bytes, shape: list[int] | None = None) -> Damage:
    """An adapter of one pair, with these numbers in both."""
    size = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1}[kind]
    shape = [len(raw) // size] if shape is None else shape
    return on(
        ADAPTER,
        lambda path: tensors(path, ("q.lora_A.weight", kind, shape, raw), ("q.lora_B.weight", kind, shape, raw)),
    )


def header(text: str, data: int = 8) -> Damage:
    """An adapter with this very header."""
    return say(ADAPTER, len(text).to_bytes(8, "little") + text.encode() + b"\x3f" * data)


def state(value: str) -> Damage:
    return say("trainer_state.json", f'{{"global_step": {value}, "log_history": []}}')


def link(name: str, target: str) -> Damage:
    def make(folder: Path) -> None:
        (folder / name).rename(folder.parent / f"elsewhere-{name}")
        (folder / name).symlink_to(target)

    return make


def folder_instead(path: Path, name: str) -> None:
    path.unlink()
    path.with_name(name).mkdir()


def without_pickle(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("archive/version", b"3\n" * 100)


def pickle_on_top(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("data.pkl", b"\x80\x02}." * 100)


def deflated(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("archive/data.pkl", b"x" * 10_000)


def encrypted(path: Path) -> None:
    """With the bit of encryption set in both headers, as a zip program's password leaves it."""
    held = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = held.find(mark)
        while at >= 0:
            held[at + flags] |= 1
            at = held.find(mark, at + 4)
    path.write_bytes(held)


def legacy(path: Path) -> None:
    """The beginning of what torch.save wrote before 1.6: a pickle of its magic number, no zip."""
    path.write_bytes(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03." + b"x" * 500)


def whole_model(folder: Path) -> None:
    """What a full fine-tune leaves in the place of an adapter."""
    (folder / ADAPTER).rename(folder / "model.safetensors")
    (folder / "adapter_config.json").rename(folder / "config.json")


def sharded_model(folder: Path, *, lost: bool = False) -> None:
    whole_model(folder)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    tensors(folder / "model-00002-of-00002.safetensors", ("w", "F32", [1], b"\0\0\x80\x3f"))
    names = [f"base_model.model.q_proj.lora_{half}.weight" for half in "AB"]
    where = dict.fromkeys(names, "model-00001-of-00002.safetensors") | {"w": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    if lost:
        (folder / "model-00002-of-00002.safetensors").unlink()


def several_processes(folder: Path) -> None:
    (folder / "rng_state.pth").rename(folder / "rng_state_0.pth")
    archive(folder / "rng_state_1.pth")


def deepspeed(folder: Path) -> None:
    (folder / "optimizer.pt").unlink()
    (folder / f"global_step{STEP}").mkdir()


NAN32, ONE32 = b"\0\0\xc0\x7f", b"\0\0\x80\x3f"


def entry(name: str, count: int, start: int, end: int) -> str:
    return f'"{name}": {{"dtype": "F32", "shape": [{count}], "data_offsets": [{start}, {end}]}}'


TWO = entry("a", 2, 0, 8)

DAMAGED = [
    field_case(
        "adapter-without-tensors", "huggingface/trl#4416", say(ADAPTER, b"\x02" + bytes(7) + b"{}"), "holds no tensor"
    ),
    field_case(
        "adapter-40-bytes-of-metadata",
        "huggingface/peft#2892",
        header('{"__metadata__": {"format": "pt"}}', 0),
        "holds no tensor",
    ),
    field_case("adapter-missing", "huggingface/peft#309", on(ADAPTER, Path.unlink), "is missing"),
    field_case("adapter-empty-file", "own: the disk was full when it was created", say(ADAPTER, b""), "is empty"),
    field_case("adapter-cut", "own: killed while it was written", on(ADAPTER, cut), "does not parse"),
    field_case(
        "adapter-trailing-bytes",
        "own: written over a longer file",
        on(ADAPTER, lambda path: path.write_bytes(path.read_bytes() + bytes(64))),
        "does not parse",
    ),
    field_case(
        "adapter-tensors-overlap",
        "own: an offset from another shard",
        header(f"{{{TWO}, {entry('b', 1, 4, 8)}}}"),
        "does not parse",
    ),
    field_case(
        "adapter-tensor-overruns",
        "own: a header of a longer file",
        header(f"{{{entry('a', 4, 0, 16)}}}"),
        "does not parse",
    ),
    field_case(
        "adapter-name-twice",
        "own: JSON readers silently take the last",
        header(f"{{{TWO}, {TWO}}}"),
        "does not parse",
    ),
    field_case(
        "adapter-gap",
        "own: a tensor was cut out of the header",
        header(f"{{{entry('a', 1, 4, 8)}}}"),
        "does not parse",
    ),
    field_case(
        "adapter-three-offsets",
        "own: written by hand",
        header('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}', 4),
        "does not parse",
    ),
    field_case(
        "adapter-header-of-gigabytes",
        "own: the first eight bytes are text",
        say(ADAPTER, b"not a safetensors file at all"),
        "does not parse",
    ),
    field_case(
        "adapter-is-a-git-lfs-pointer",
        "own: a clone without git-lfs",
        say(ADAPTER, "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 9\n"),
        "does not parse",
    ),
    field_case(
        "adapter-config-missing",
        "own: the file that a reader forgot to ask for",
        on("adapter_config.json", Path.unlink),
        "is missing",
    ),
    field_case(
        "adapter-config-cut", "own: killed while it was written", on("adapter_config.json", cut), "does not parse"
    ),
    field_case(
        "adapter-config-list",
        "own: a list in the place of an object",
        say("adapter_config.json", "[]"),
        "not a JSON object",
    ),
    field_case("adapter-config-empty", "own: the disk was full", say("adapter_config.json", ""), "is empty"),
    field_case(
        "optimizer-missing", "own: Transformers goes on with a fresh one", on("optimizer.pt", Path.unlink), "is missing"
    ),
    field_case("optimizer-cut", "sml2h3/dddd_trainer#36", on("optimizer.pt", cut), "not a whole archive"),
    field_case("optimizer-hole-of-zeros", "2U1/Gemma3-Finetune#3", on("optimizer.pt", hole), "fails its checksum"),
    field_case(
        "optimizer-without-pickle",
        "own: only the zip's own directory is right",
        on("optimizer.pt", without_pickle),
        "no data.pkl",
    ),
    field_case(
        "optimizer-pickle-on-top", "own: torch wants its folder", on("optimizer.pt", pickle_on_top), "no data.pkl"
    ),
    field_case(
        "optimizer-encrypted", "own: zipped again with a password", on("optimizer.pt", encrypted), "not a whole"
    ),
    field_case("optimizer-deflated", "own: zipped again by hand", on("optimizer.pt", deflated), "compressed"),
    field_case(
        "optimizer-legacy", "own: torch.save before 1.6 has no checksum", on("optimizer.pt", legacy), "not a zip"
    ),
    field_case(
        "optimizer-text", "own: an error page in its place", say("optimizer.pt", "<html>503</html>" * 40), "not a zip"
    ),
    field_case(
        "optimizer-is-a-folder",
        "own: mkdir for a file",
        on("optimizer.pt", lambda path: folder_instead(path, "optimizer.pt")),
        "no file",
    ),
    field_case("scheduler-empty", "own: the disk was full", say("scheduler.pt", b""), "is empty"),
    field_case("scheduler-missing", "own: saved by hand, without it", on("scheduler.pt", Path.unlink), "is missing"),
    field_case("rng-missing", "huggingface/transformers#17829", on("rng_state.pth", Path.unlink), "is missing"),
    field_case(
        "arguments-missing", "own: killed between two files", on("training_args.bin", Path.unlink), "is missing"
    ),
    field_case("arguments-cut", "open-mmlab/mmdetection#4835", on("training_args.bin", cut), "not a whole archive"),
    field_case("state-missing", "own: it is written last", on("trainer_state.json", Path.unlink), "is missing"),
    field_case(
        "state-cut", "own: killed while it was written", say("trainer_state.json", '{"global_step": '), "does not parse"
    ),
    field_case(
        "state-byte-order-mark",
        "own: edited on Windows; Transformers cannot read it",
        say("trainer_state.json", b'\xef\xbb\xbf{"global_step": 40}'),
        "does not parse",
    ),
    field_case(
        "state-utf-16",
        "own: PowerShell's redirection",
        say("trainer_state.json", '{"global_step": 40}'.encode("utf-16")),
        "does not parse",
    ),
    field_case(
        "state-nested-deeply",
        "own: a reader must not fall over it",
        say("trainer_state.json", "[" * 100_000),
        "does not parse",
    ),
    field_case("step-4.0", "own: a float in JSON", state("40.0"), "is of step"),
    field_case("step-text", "own: a text in JSON", state('"40"'), "is of step"),
    field_case("step-true", "own: Python takes true for 1", state("true"), "is of step"),
    field_case("step-null", "own: a state that was never filled", state("null"), "is of step"),
    field_case("step-of-another", "own: a folder renamed by hand", state("39"), "is of step 39"),
    field_case(
        "link-dangling",
        "own: the target was on a disk that is gone",
        link("optimizer.pt", "/nowhere/optimizer.pt"),
        "is a link",
    ),
    field_case(
        "link-leaves-the-folder",
        "own: it would not come home with the folder",
        link("optimizer.pt", "../elsewhere-optimizer.pt"),
        "is a link",
    ),
]
"""Not complete, and the reason says these words."""

UNFIT = [
    field_case("all-nan", "own: a loss of NaN was stepped on", weights("F32", NAN32 * 8), "NaN"),
    field_case("one-nan", "own: one is enough for a model that says nothing", weights("F32", ONE32 * 7 + NAN32), "NaN"),
    field_case("infinite", "own: float16 overflow", weights("F16", b"\x00\x7c" * 8), "NaN"),
    field_case("bfloat16-nan", "own: a loss of NaN in bfloat16", weights("BF16", b"\xc0\x7f" * 8), "NaN"),
    field_case("absurd", "own: 1e30", weights("F32", b"\xca\xf2\x49\x71" * 8), "131072"),
    field_case("all-zeros", "own: saved before it was gathered", weights("F32", bytes(32)), "zeros"),
    field_case("all-minus-zeros", "own: a zero with a sign", weights("F32", b"\0\0\0\x80" * 8), "zeros"),
    field_case("fp8-zeros", "own: cast by hand", weights("F8_E4M3", bytes(8)), "zeros"),
    field_case("size-0", "huggingface/peft#2500", weights("F32", b"", [0]), "empty"),
    field_case("size-0-of-two", "deepspeedai/DeepSpeed#4295", weights("F32", b"", [0, 8]), "empty"),
]
"""Whole as files, and none to go on from."""

UNKNOWN = [
    field_case("rng-of-several-processes", "huggingface/transformers#17852", several_processes, "rng_state_0.pth"),
    field_case("optimizer-of-deepspeed", "huggingface/peft#453", deepspeed, f"global_step{STEP}"),
    field_case(
        "optimizer-of-fsdp",
        "own: accelerate's folder",
        on("optimizer.pt", lambda path: folder_instead(path, "optimizer_0")),
        "optimizer_0",
    ),
    field_case(
        "adapter-of-older-peft",
        "huggingface/peft#309",
        on(ADAPTER, lambda path: path.rename(path.with_name("adapter_model.bin"))),
        "adapter_model.bin",
    ),
]
"""Written in a form that is not read here: neither whole nor damaged."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The damaged one, with whole ones around it."""
    for step in (STEP - 10, STEP + 10):
        write_checkpoint(tmp_path / "sft", step)
    return write_checkpoint(tmp_path / "sft", STEP)


def told(folder: Path) -> reader.Checkpoint:
    """The one answer of home and box for a folder, which the package shares; its neighbours are whole for all."""
    from forex import checkpoints as package

    home = {one.step: one for one in reader.find(folder.parent)}
    box = {one.step: one for one in LocalBox(folder.parents[1]).ask(CheckpointsIn("sft")).get()}
    assert set(home) == set(box) == {STEP - 10, STEP, STEP + 10}
    for step in (STEP - 10, STEP + 10):
        whole = package.Checkpoint(folder.with_name(f"checkpoint-{step}"), step)
        assert (home[step].resumable, problems(box[step]), package.defect(whole)) == (True, (), None)
    mine, there = home[STEP], box[STEP]
    assert (mine.problems, mine.unread, mine.unfit) == (there.problems, there.unread, there.unfit)
    defect = package.defect(package.Checkpoint(folder, STEP))
    (of_an_adapter,) = of_job(sound_job(), [there])
    assert mine.resumable is (problems(of_an_adapter) == ()) is (defect is None), defect
    return mine


linux = pytest.mark.skipif(sys.platform != "linux", reason="the box is Linux")


@linux
@pytest.mark.parametrize(("damage", "words"), DAMAGED)
def test_a_damaged_checkpoint_is_complete_for_nobody(folder: Path, damage: Damage, words: str) -> None:
    damage(folder)
    home = told(folder)
    assert home.problems
    assert not home.unfit
    assert not home.resumable
    assert any(words in one for one in home.problems), home.problems


@linux
@pytest.mark.parametrize(("damage", "words"), UNFIT)
def test_weights_that_are_none_are_whole_and_never_gone_on_from(folder: Path, damage: Damage, words: str) -> None:
    damage(folder)
    home = told(folder)
    assert home.complete
    assert not home.resumable
    assert words in home.unfit[0]
    assert reader.adapter_problem(folder / ADAPTER) == home.unfit[0]


@linux
@pytest.mark.parametrize(("damage", "words"), UNKNOWN)
def test_a_form_that_is_not_read_here_is_not_called_damaged(folder: Path, damage: Damage, words: str) -> None:
    damage(folder)
    home = told(folder)
    assert not home.problems
    assert not home.resumable
    assert words in home.unread[0]
    assert {one.verdict for one in judge(folder)} == {Verdict.UNKNOWN}


@linux
@pytest.mark.parametrize(
    ("change", "complete"),
    [
        field_case("one-file", "own: model.safetensors", whole_model, True),
        field_case("in-shards", "own: an index and two shards", sharded_model, True),
        field_case(
            "a-shard-is-lost", "own: one of two was not copied", lambda folder: sharded_model(folder, lost=True), False
        ),
    ],
)
def test_a_full_fine_tune_is_a_checkpoint_that_no_adapter_goes_on_from(
    folder: Path, change: Damage, complete: bool
) -> None:
    change(folder)
    home = told(folder)
    assert home.complete is complete
    assert not home.resumable
    assert all(one.verdict is Verdict.PASS for one in judge(folder)) is complete


@pytest.mark.parametrize(
    "name", ["checkpoint-0040x", "checkpoint-", "checkpoint-40.tmp", "tmp-checkpoint-40", "Checkpoint-40"]
)
def test_only_a_name_with_a_step_is_a_checkpoint(folder: Path, name: str) -> None:
    shutil.copytree(folder, folder.with_name(name), dirs_exist_ok=True)
    assert [one.step for one in reader.find(folder.parent)] == [STEP - 10, STEP, STEP + 10]


def test_a_link_in_the_place_of_a_checkpoint_hides_no_other(folder: Path) -> None:
    folder.with_name("checkpoint-5").symlink_to("nowhere")
    folder.with_name("checkpoint-6").write_text("a file")
    assert [one.step for one in reader.find(folder.parent)] == [STEP - 10, STEP, STEP + 10]


def test_a_file_that_is_gone_since_the_listing_hides_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface/transformers#20988: checkpoints are rotated while they are looked at."""
    (folder / "notes.txt").symlink_to("nowhere")
    real = os.lstat

    def rotating(path: str, **where: int) -> os.stat_result:
        if path == str(folder / "optimizer.pt"):
            shutil.rmtree(folder)
        return real(path, **where)

    monkeypatch.setattr("harness.artifacts.checkpoint.os.lstat", rotating)
    assert [one.step for one in reader.find(folder.parent)] == [STEP - 10, STEP + 10]


def test_a_folder_that_cannot_be_listed_hides_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.listdir

    def denied(path: str) -> list[str]:
        if os.fspath(path) == str(folder):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("harness.artifacts.checkpoint.os.listdir", denied)
    before, mine, after = reader.find(folder.parent)
    assert before.resumable
    assert after.resumable
    assert mine.unread == ("the directory cannot be read: Permission denied",)
    assert not mine.complete
    assert not mine.problems


@pytest.mark.parametrize(("damage", "words"), DAMAGED)
def test_the_judge_of_a_folder_names_the_damage(folder: Path, damage: Damage, words: str) -> None:
    damage(folder)
    failed = [one for one in judge(folder) if one.verdict is Verdict.FAIL]
    assert any(words in one.seen and one.remedy for one in failed), failed


def test_a_whole_checkpoint_has_only_findings_that_pass(folder: Path) -> None:
    assert {one.verdict for one in judge(folder)} == {Verdict.PASS}
    moved = folder.rename(folder.with_name("my-checkpoint"))
    assert {one.verdict for one in judge(moved)} == {Verdict.PASS}
