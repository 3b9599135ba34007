"""``harness verify`` as a person and as a machine use it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness.artifacts import digest
from harness.cli.verify import verify
from harness.core.errors import BadInput, GateHeld, GateUnknown
from tests.support.model_files import TINY, write_gguf, write_training


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    write_training(folder / "training", TINY)
    return write_gguf(folder / "model.gguf", TINY)


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(whole, tmp_path / "model.gguf"))


def call(*arguments: object) -> tuple[BaseException | None, str]:
    app = typer.Typer()
    app.command()(verify)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exception, result.output


def test_a_whole_file_ends_well(model: Path, whole: Path) -> None:
    hashed = digest.of_file(model)
    expect = f"quant=Q8_0,size={hashed.size},over=1MB"
    failure, output = call(model, "--config", whole.parent / "training", "--expect", expect, "--sha256", hashed.sha256)
    assert failure is None
    assert output.count("PASS") == 9
    assert "verified:" in output


def test_a_flipped_byte_holds_and_says_so(model: Path) -> None:
    hashed = digest.of_file(model)
    data = bytearray(model.read_bytes())
    data[-1000] ^= 1
    model.write_bytes(data)
    failure, output = call(model, "--sha256", hashed.sha256)
    assert isinstance(failure, GateHeld)
    assert "sha256" in str(failure)
    assert "keep the instance" in failure.remedy
    assert "verified:" not in output
    assert hashed.sha256 in output


def test_machines_get_json_whatever_the_verdict(model: Path) -> None:
    model.write_bytes(model.read_bytes() + b"junk")
    failure, output = call(model, "--json")
    assert isinstance(failure, GateHeld)
    (finding,) = json.loads(output)["findings"]
    assert (finding["id"], finding["verdict"]) == ("well_formed", "fail")
    assert "+4" in finding["seen"]


def test_a_model_that_cannot_be_judged_is_not_verified(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", TINY, change=lambda w: w.add_string("general.architecture", "\x1b[31mgemma"))
    failure, output = call(path)
    assert isinstance(failure, GateUnknown)
    assert "UNKNOWN" in output
    assert "\x1b" not in output


def test_words_that_cannot_be_used_are_bad_input(model: Path, tmp_path: Path) -> None:
    for arguments in (
        (tmp_path / "nowhere.gguf",),
        (model, "--expect", "quant=Q99"),
        (model, "--sha256", "12"),
        (model, "--config", tmp_path / "nowhere"),
    ):
        failure, _ = call(*arguments)
        assert isinstance(failure, BadInput)


def test_machines_are_told_kind_and_verdict_and_nothing_else(model: Path) -> None:
    failure, output = call(model, "--json")
    assert failure is None
    told = json.loads(output)
    assert list(told) == ["file", "kind", "verdict", "findings"]
    assert (told["file"], told["kind"], told["verdict"]) == (str(model), "gguf", "pass")
    assert {tuple(finding) for finding in told["findings"]} == {
        ("id", "claim", "verdict", "seen", "expected", "remedy"),
    }


@pytest.mark.parametrize(
    ("name", "text", "failure"),
    [
        ("rows.jsonl", '{"messages": [}', GateHeld),
        ("training.log", "torch.OutOfMemoryError: CUDA out of memory.", GateHeld),
        ("notes.txt", "", BadInput),
    ],
)
def test_each_kind_of_file_has_its_judge(tmp_path: Path, name: str, text: str, failure: type[Exception]) -> None:
    (tmp_path / name).write_text(text + "\n", encoding="utf-8")
    seen, output = call(tmp_path / name, "--json")
    assert isinstance(seen, failure), output
    if failure is not BadInput:
        assert json.loads(output)["kind"] == {"rows.jsonl": "dataset", "training.log": "log"}[name]
