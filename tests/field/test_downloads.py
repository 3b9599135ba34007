"""Names and files of the field for the download: what matches, what is refused, and what is looked at again."""

# ruff: noqa: E501 - a case stays one line
from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.cli import transfer
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, GateHeld, HarnessError
from harness.core.ids import InstanceId, JobName, Sha256
from harness.ledger.events import Reopened
from harness.ledger.sql import open_store
from harness.wiring import open_context
from tests.field.case import field_case
from tests.support.emulator_kit import Box, rented
from tests.support.job_histories import Log, events_of, job
from tests.support.model_files import TINY, write_gguf

FINAL = "workspace/final"
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with rented(tmp_path_factory.mktemp("box")) as one:
        yield one


@pytest.fixture
def put(box: Box) -> Callable[..., Path]:
    """Lays a model under each name into the folder of finished files, and nothing else."""

    def laid(*names: str) -> Path:
        folder = box.root / "root" / FINAL
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for name in names:
            write_gguf(folder / "model", TINY)
            (folder / "model").rename(folder / name)
        return folder

    return laid


@pytest.fixture
def download(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Downloads by address; the names that came home."""
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))

    def typed(pattern: str) -> list[str]:
        here = tmp_path / "here"
        transfer.download(
            None, InstanceId(box.id), int(box.port()), "127.0.0.1", pattern, here, "root", box.key, "1", plain=True
        )
        return sorted(path.name for path in here.iterdir())

    return typed


@posix_only
@pytest.mark.parametrize(
    ("names", "pattern", "home"),
    [
        field_case("brackets in the name", "own: a version in brackets", ["model[v3].gguf"], "model[v3].gguf", "model[v3].gguf"),
        field_case("brackets beside a star", "own: a version in brackets", ["model[v3].gguf"], "*[v3]*.gguf", "model[v3].gguf"),
        field_case("brackets are no class", "own: the help names * and ?", ["model[v3].gguf", "model3.gguf"], "model[v3].gguf", "model[v3].gguf"),
        field_case("open bracket", "own: half a pair", ["a[b.gguf"], "a[?.gguf", "a[b.gguf"),
        field_case("exclamation", "own: fnmatch's other sign", ["[!a].gguf", "b.gguf"], "[!a].gguf", "[!a].gguf"),
        field_case("question mark", "own: the help names * and ?", ["m1.gguf", "m10.gguf"], "m?.gguf", "m1.gguf"),
        field_case("blanks", "own: a folder from Windows", ["my model (1).gguf"], "my model*.gguf", "my model (1).gguf"),
        field_case("letters beyond ASCII", "own: a name in Hebrew", ["מודל.gguf"], "*.gguf", "מודל.gguf"),
        field_case("hidden is not matched", "own: a download that was cut off", [".model.gguf", "m.gguf"], "*.gguf", "m.gguf"),
        field_case("braces", "own: braces are no pattern", ["{a,b}.gguf"], "{a,b}.gguf", "{a,b}.gguf"),
    ],
)  # fmt: skip
def test_only_star_and_question_mark_match(
    put: Callable[..., Path], download: Callable[[str], list[str]], names: list[str], pattern: str, home: str
) -> None:
    put(*names)
    assert download(f"{FINAL}/{pattern}") == [home]


@posix_only
@pytest.mark.parametrize(
    ("names", "pattern", "told"),
    [
        field_case("leading dash", "own: scp takes it for an option", ["-rf.gguf"], "*.gguf", "rename"),
        field_case("leading dash by name", "own: scp takes it for an option", ["-rf.gguf"], "-rf.gguf", "rename"),
        field_case("dollar", "own: a variable that was never filled in", ["model-$STEP.gguf"], "*.gguf", "rename"),
        field_case("dollar by name", "own: quoted too well", ["model-$STEP.gguf"], "model-$STEP.gguf", "rename"),
        field_case("newline", "own: a name out of a program's output", ["model\nv3.gguf"], "*.gguf", "rename"),
        field_case("newline by name", "own: a name out of a program's output", ["model\nv3.gguf"], "model\nv3.gguf", "rename"),
        field_case("backtick", "own: a name out of a shell", ["model-`date`.gguf"], "*.gguf", "rename"),
        field_case("colon", "own: a time in the name, to a machine with Windows", ["model-12:30.gguf"], "*.gguf", "rename"),
        field_case("device", "own: Windows keeps the name", ["nul.gguf"], "*.gguf", "rename"),
        field_case("direction", "own: a name that reads otherwise", ["model\u202efgg.gguf"], "*.gguf", "rename"),
        field_case("two files", "own: Q8_0 and Q4_K_M side by side", ["a.Q8_0.gguf", "a.Q4_K_M.gguf"], "*.gguf", "a.Q8_0.gguf"),
        field_case("no file", "own: another quantization", ["a.Q8_0.gguf"], "*.Q4_K_M.gguf", "0 files match"),
    ],
)  # fmt: skip
def test_what_cannot_come_home_is_refused_the_same_way_everywhere(
    put: Callable[..., Path], download: Callable[[str], list[str]], names: list[str], pattern: str, told: str
) -> None:
    put(*names)
    with pytest.raises(BadInput) as refused:
        download(f"{FINAL}/{pattern}")
    said = f"{refused.value} {refused.value.remedy}"
    assert told in said
    assert "network" not in said
    assert str(refused.value).isprintable()


# --- by job: the log is not the file ------------------------------------------------------------------


def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HARNESS_HOME", str(home))
    store = open_store(home / "state.db", SystemClock())
    for event in events_of(log.records):
        store.append(JobName(log.job.name), event)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "forex-r1-v3.Q8_0.gguf"
    path.parent.mkdir()
    path.write_bytes(b"the model")
    return path


def _given(model: Path) -> dict[str, object]:
    return {
        "path": str(model),
        "size": model.stat().st_size,
        "sha256": Sha256(hashlib.sha256(model.read_bytes()).hexdigest()),
    }


def _gone(path: Path) -> None:
    path.unlink()


def _changed(path: Path) -> None:
    path.write_bytes(b"the mod l")


def _cut(path: Path) -> None:
    path.write_bytes(b"the")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


SPOILT = [
    field_case("gone", "own: cleaned up", _gone),
    field_case("changed", "own: same size, other bytes", _changed),
    field_case("cut", "own: a copy over it that broke off", _cut),
    field_case("a folder", "own: unpacked in its place", _folder),
]


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_verified_file_that_is_spoilt_comes_home_again(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
) -> None:
    _home(tmp_path, monkeypatch, Log().verified(**_given(model)))  # type: ignore[arg-type]
    ran: list[object] = []
    monkeypatch.setattr(transfer, "run_job", lambda *_args, **more: ran.append(more["until"]))
    transfer._of_job("night", plain=True)
    assert not ran
    spoil(model)
    transfer._of_job("night", plain=True)
    with open_context("night") as context:
        assert context.history.all(Reopened)
        assert not context.history.passed(ran[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("spoil", SPOILT)
def test_with_the_instance_gone_it_says_where_another_copy_may_be(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
) -> None:
    closed = Log()
    monkeypatch.setattr(closed, "verified", lambda: Log.verified(closed, **_given(model)))  # type: ignore[arg-type]
    _home(tmp_path, monkeypatch, closed.closed())
    transfer._of_job("night", plain=True)
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    spoil(model)
    with pytest.raises(GateHeld) as held:
        transfer._of_job("night", plain=True)
    said = f"{held.value} {held.value.remedy}"
    assert str(model) in said
    assert digest in said
    assert "backup" in said
    assert "harness download night" in said


def test_a_second_copy_is_named(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = job()
    kept = kept.model_copy(update={"artifact": kept.artifact.model_copy(update={"second_copy": tmp_path / "second"})})
    log = Log(kept)
    monkeypatch.setattr(log, "verified", lambda: Log.verified(log, **_given(model)))  # type: ignore[arg-type]
    _home(tmp_path, monkeypatch, log.closed())
    model.unlink()
    with pytest.raises(HarnessError) as held:
        transfer._of_job("night", plain=True)
    assert str(tmp_path / "second" / model.name) in held.value.remedy
