"""``harness verify`` on whatever lies at a path: told what it is, judged by its own judge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.artifacts import expectation, judging
from harness.artifacts.expectation import Expectation
from harness.core.errors import BadInput
from tests.field.case import field_case
from tests.field.findings import UNKNOWN, by_id
from tests.support.model_files import TINY, write_gguf, write_training


def _model(folder: Path) -> Path:
    write_training(folder, TINY)
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def _files(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text("{}", encoding="utf-8")
    return folder


def _shards(folder: Path) -> Path:
    folder.mkdir()
    for number in (1, 2):
        (folder / f"m-0000{number}-of-00002.gguf").write_bytes(b"GGUF")
    return folder


KINDS = [
    field_case("a GGUF", "own", lambda f: write_gguf(f / "m.gguf", TINY), "gguf"),
    field_case(
        "a GGUF under another name",
        "own: Ollama keeps blobs by their digest",
        lambda f: write_gguf(f / "sha256-12", TINY),
        "gguf",
    ),
    field_case(
        "a .gguf that is none",
        "own: a page of an error that was saved",
        lambda f: _files(f, "m.gguf") / "m.gguf",
        "gguf",
    ),
    field_case("the folder of a GGUF", "own", lambda f: write_gguf(f / "m.gguf", TINY).parent, "gguf"),
    field_case("the folder of a split GGUF", "ggml-org/llama.cpp#6187", lambda f: _shards(f / "x"), "gguf"),
    field_case(
        "a GGUF beside its config.json",
        "own: repositories of GGUFs keep it",
        lambda f: _files(write_gguf(f / "m.gguf", TINY).parent, "config.json"),
        "gguf",
    ),
    field_case("a model", "own", lambda f: _model(f / "m"), "model"),
    field_case(
        "a model and its GGUF",
        "own: converted in place",
        lambda f: write_gguf(_model(f / "m") / "m.gguf", TINY).parent,
        "model",
    ),
    field_case(
        "a folder with config.json alone",
        "own: the weights were never written",
        lambda f: _files(f / "m", "config.json"),
        "model",
    ),
    field_case("an adapter", "own", lambda f: _files(f / "a", "adapter_config.json", "tokenizer.json"), "adapter"),
    field_case(
        "a checkpoint",
        "own",
        lambda f: _files(f / "checkpoint-3", "trainer_state.json", "adapter_config.json"),
        "checkpoint",
    ),
    field_case(
        "a checkpoint of a whole model",
        "own",
        lambda f: _files(f / "checkpoint-3", "trainer_state.json", "config.json"),
        "checkpoint",
    ),
    field_case("a dataset", "own", lambda f: _files(f, "rows.JSONL") / "rows.JSONL", "dataset"),
    field_case("a log", "own", lambda f: _files(f, "training.log") / "training.log", "log"),
    field_case("a file of no kind", "own", lambda f: _files(f, "notes.txt") / "notes.txt", None),
    field_case("an empty folder", "own", lambda f: _files(f / "x"), None),
    field_case("nothing", "own", lambda f: f / "nowhere", None),
    field_case("a device", "own", lambda _: Path("/dev/null"), None),
]


@pytest.mark.parametrize(("make", "kind"), KINDS)
def test_what_lies_there_is_told_by_its_mark(tmp_path: Path, make: Callable[[Path], Path], kind: str | None) -> None:
    path = make(tmp_path)
    seen = next((each.name for each in judging.KINDS if each.is_one(path)), None)
    assert seen == kind
    if kind is None:
        with pytest.raises(BadInput) as refused:
            judging.judge(path, Expectation())
        assert ("trainer_state.json" in refused.value.remedy) is path.exists()


def test_a_folder_of_several_models_asks_which(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        write_gguf(tmp_path / name, TINY)
    with pytest.raises(BadInput, match="holds 2 models") as refused:
        judging.judge(tmp_path, Expectation())
    assert "a.gguf" in refused.value.remedy


def test_the_folder_of_one_model_is_judged_as_it(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", TINY)
    judged = judging.judge(tmp_path, expectation.of(None, "quant=Q8_0"))
    assert by_id(judged.findings)["tensors_as_predicted"].seen.endswith("as Q8_0")


@pytest.mark.parametrize("expect", ["quant=Q8_0", "over=1MB", "size=5"])
def test_what_is_expected_of_a_gguf_is_refused_elsewhere(tmp_path: Path, expect: str) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(BadInput, match="of a GGUF alone"):
        judging.judge(tmp_path / "rows.jsonl", expectation.of(None, expect))


def test_a_digest_is_of_one_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="digest of one"):
        judging.judge(_shards(tmp_path / "x"), expectation.of(None, "", "ab" * 32))


def test_a_file_that_cannot_be_read_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "m.gguf", TINY)

    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("harness.artifacts.gguf.parse", refuse)
    (finding,) = judging.judge(path, Expectation()).findings
    assert finding.verdict is UNKNOWN
    assert "Permission denied" in finding.seen
    assert "readable" in finding.remedy
