"""The base model is fetched before anything is installed, by the machine's own client or one that comes along."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from forex import config, hub
from forex.config import Model, Shape
from forex.errors import BadConfig

PACKAGE = Path(hub.__file__).resolve().parents[1]
STUB = """
from pathlib import Path
def snapshot_download(name, allow_patterns):
    if name == "no/where":
        raise OSError("no such model")
    folder = Path("cache") / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"x" * 9 * any("safetensors" in one for one in allow_patterns))
    assert not any(one.endswith(".bin") for one in allow_patterns)
    return str(folder)
"""
ERRORS = "class HfHubHTTPError(OSError): pass\nHFValidationError = LocalEntryNotFoundError = HfHubHTTPError\n"


def _client(folder: Path) -> None:
    (folder / "huggingface_hub").mkdir(parents=True)
    (folder / "huggingface_hub" / "__init__.py").write_text(STUB)
    (folder / "huggingface_hub" / "errors.py").write_text(ERRORS)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine without the hub's client, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    for name in _imported():
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if not (Path(one) / "huggingface_hub").is_dir()])
    yield tmp_path
    for name in _imported():
        del sys.modules[name]


def _imported() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]


def _pip(monkeypatch: pytest.MonkeyPatch, status: int) -> list[Sequence[str]]:
    asked: list[Sequence[str]] = []

    def runs(argv: Sequence[str], *, check: bool) -> Any:
        del check
        asked.append(argv)
        if status == 0:
            _client(Path(argv[argv.index("--target") + 1]))
        return subprocess.CompletedProcess(argv, status)

    monkeypatch.setattr(subprocess, "run", runs)
    return asked


def test_without_a_client_pip_brings_one_to_a_folder_of_its_own(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Apart from what the installation beside it changes: a client that is replaced in mid-download would break."""
    asked = _pip(monkeypatch, 0)
    hub.fetch(Model(name="some/base"))
    assert [one[:4] for one in asked] == [[sys.executable, "-m", "pip", "install"]]
    assert (bare / "models" / ".hub" / "huggingface_hub").is_dir()
    assert (bare / "cache/some/base/model.safetensors").stat().st_size == 9
    assert "the base model is here: some/base, 9 bytes of weights" in capsys.readouterr().out


def test_the_client_of_the_machine_is_taken_where_there_is_one(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _pip(monkeypatch, 0)
    _client(bare / "site")
    sys.path.insert(0, str(bare / "site"))
    hub.fetch(Model(name="some/base"))
    assert asked == []


def test_a_pip_that_fails_is_said(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del bare
    _pip(monkeypatch, 7)
    with pytest.raises(BadConfig, match=r"pip cannot bring the hub's client \(status 7\)"):
        hub.fetch(Model(name="some/base"))


def test_a_base_that_is_nowhere_is_said(bare: Path) -> None:
    _client(bare / "site")
    sys.path.insert(0, str(bare / "site"))
    with pytest.raises(BadConfig, match="cannot fetch the base model no/where: no such model"):
        hub.fetch(Model(name="no/where"))


@pytest.mark.parametrize("model", [Model(name="models/base", built=Shape()), Model(name=".")])
def test_a_model_that_is_built_or_lies_here_needs_nobody(
    bare: Path, monkeypatch: pytest.MonkeyPatch, model: Model
) -> None:
    del bare
    asked = _pip(monkeypatch, 1)
    hub.fetch(model)
    assert asked == []


def test_of_a_base_that_another_is_built_like_no_weights_come(bare: Path) -> None:
    _client(bare / "site")
    sys.path.insert(0, str(bare / "site"))
    hub.fetch(Model(name="models/base", built=Shape(like="some/base")))
    assert (bare / "cache/some/base/model.safetensors").stat().st_size == 0


def test_the_command_needs_nothing_installed(tmp_path: Path) -> None:
    """Without site-packages there is neither torch nor numpy nor filelock: what the box's image may lack."""
    for name in ("forex", "configs", "train_deepseek_forex.py"):
        source = PACKAGE / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    words = ["train_deepseek_forex.py", "--stage", "ready", "--config", "configs/tiny.toml", "--fetch-only"]
    ran = subprocess.run([sys.executable, "-S", *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert config.load(PACKAGE / "configs" / "tiny.toml", batch_size=32).model.built is not None
