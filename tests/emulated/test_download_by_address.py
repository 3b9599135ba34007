"""The safe download by address, with the very command lines of the PowerShell script, on a box with a real model."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.shellguard import powershell
from harness.shellguard.reading import HOLE
from tests.field.case import field_case
from tests.support.emulator_kit import Box, rented
from tests.support.model_files import TINY, write_gguf
from tests.support.warm import warm

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")
SCRIPT = Path(__file__).parents[2] / "scripts" / "download_vastai_model.ps1"
FINAL = "workspace/vastai_llm_training/models/output/final"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with rented(tmp_path) as one:
        folder = one.root / "root" / FINAL
        folder.mkdir(parents=True)
        write_gguf(folder / "forex.Q8_0.gguf", TINY)
        key = tmp_path / "home" / "ssh" / "id_ed25519"
        key.parent.mkdir(parents=True)
        key.write_bytes(one.key.read_bytes())
        key.chmod(0o600)
        yield one


def _script_line(verb: str, *values: str, splatted: tuple[str, ...] = ()) -> list[str]:
    """A command line of the script, its variables filled in; what is splatted comes last."""
    calls = powershell.read(SCRIPT.read_text(encoding="ascii")).calls
    (line,) = [call.words for call in calls if call.words[:2] == ("harness", verb)]
    fill = iter([[value] for value in values] + [list(splatted)])
    return [part for word in line[1:] for part in (next(fill) if word == HOLE else [word])]


def _download(box: Box, local: Path, pattern: str = f"{FINAL}/*.gguf", *options: str) -> list[str]:
    """The download as the script types it; the model is a tiny one, and that is said."""
    given = options or ("--over", "1MB")
    return _script_line("download", str(box.id), box.port(), "127.0.0.1", pattern, str(local), splatted=given)


def _harness(tmp_path: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HARNESS_HOME": str(tmp_path / "home"), "HOME": str(tmp_path), "SSH_AUTH_SOCK": ""}
    command = [sys.executable, "-m", "harness", *words]
    return warm().run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_scripts_lines_bring_the_model_home_and_destroy_nothing_unknown(box: Box, tmp_path: Path) -> None:
    local = tmp_path / "my models"
    words = _download(box, local)
    done = _harness(tmp_path, words)
    assert done.returncode == 0, done.stdout + done.stderr
    remote = box.root / "root" / FINAL / "forex.Q8_0.gguf"
    assert hashlib.sha256((local / remote.name).read_bytes()).digest() == hashlib.sha256(remote.read_bytes()).digest()

    refused = _harness(tmp_path, _script_line("destroy", str(box.id)))
    assert refused.returncode == 5
    assert "no job in this ledger" in refused.stderr
    assert "--job-file" in refused.stderr
    assert box.ssh("true").returncode == 0

    missing = _script_line("destroy", str(box.id), splatted=("--job-file", str(tmp_path / "none.toml")))
    unread = _harness(tmp_path, missing)
    assert (unread.returncode, "none.toml" in unread.stderr) == (2, True)
    assert box.ssh("true").returncode == 0


def test_a_damaged_model_is_neither_called_verified_nor_put_in_the_place_of_a_good_one(
    box: Box, tmp_path: Path
) -> None:
    good = tmp_path / "here" / "forex.Q8_0.gguf"
    good.parent.mkdir()
    good.write_bytes(b"last month's good model")
    good.chmod(0o444)
    remote = box.root / "root" / FINAL / "forex.Q8_0.gguf"
    whole = remote.read_bytes()
    remote.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    words = _download(box, tmp_path / "here")
    done = _harness(tmp_path, words)
    assert done.returncode == 3
    assert "verified:" not in done.stdout
    assert "Traceback" not in done.stderr
    assert good.read_bytes() == b"last month's good model"
    assert f"{good}.unverified" in "".join(done.stderr.split())

    remote.write_bytes(whole)
    done = _harness(tmp_path, words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert good.read_bytes() == whole
    (aside,) = set(good.parent.iterdir()) - {good}
    assert aside.read_bytes() == b"last month's good model"
    assert aside.name in "".join(done.stdout.split())

    done = _harness(tmp_path, words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(good.parent.iterdir()) == {good, aside}


@pytest.mark.parametrize(
    ("pattern", "code", "said"), [("nothing/*.gguf", 2, "0 files match"), (f"{FINAL}", 2, "0 files match")]
)
def test_what_is_no_model_file_is_a_clear_error(box: Box, tmp_path: Path, pattern: str, code: int, said: str) -> None:
    words = _download(box, tmp_path / "here", pattern)
    done = _harness(tmp_path, words)
    assert done.returncode == code
    assert said in done.stderr


FLOOR_CASES = [
    field_case("no floor was named", "seeds: >5GB for Q8_0", "forex.Q8_0.gguf", (), (3, "more than 5000000000")),
    field_case("of two quantizations the larger", "own: renamed by hand", "forex.F16.gguf", (), (3, "--over SIZE")),
    field_case("larger than said", "own: small base", "forex.Q8_0.gguf", ("--over", "1MB"), (0, "more than 1,000,000")),
    field_case("smaller than said", "own: small base", "forex.Q8_0.gguf", ("--over", "1GB"), (3, "--over SIZE")),
    field_case("what is no size", "own: a slip", "forex.Q8_0.gguf", ("--over", "big"), (2, "--over=big: a size such")),
]


@pytest.mark.parametrize(("name", "options", "answer"), FLOOR_CASES)
def test_a_file_below_its_floor_is_not_called_verified(
    box: Box, tmp_path: Path, name: str, options: tuple[str, ...], answer: tuple[int, str]
) -> None:
    folder = box.root / "root" / FINAL
    (folder / "forex.Q8_0.gguf").rename(folder / name)
    words = [word for word in _download(box, tmp_path / "here") if word not in {"--over", "1MB"}]
    done = _harness(tmp_path, [*words, *options])
    told, (code, said) = done.stdout + done.stderr, answer
    assert done.returncode == code, told
    assert said in told
    assert (tmp_path / "here" / name).exists() is (code == 0)
    assert ("verified:" in done.stdout) is (code == 0)


def test_an_alias_of_the_ssh_configuration_tells_host_port_user_and_key(box: Box, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "home" / "ssh")
    (tmp_path / ".ssh").mkdir()
    lines = ["Host mybox", "HostName 127.0.0.1", f"Port {box.port()}", "User root", f"IdentityFile {box.key}"]
    (tmp_path / ".ssh" / "config").write_text("\n".join(lines))
    words = ["download", "--ssh-host", "mybox", "--remote-path", f"{FINAL}/*.gguf", "--over", "1MB", "--local-path"]
    first = _harness(tmp_path, [*words, str(tmp_path / "here")])
    assert first.returncode == 0, first.stdout + first.stderr
    assert "first contact with this box" in first.stdout
    (pin,) = (tmp_path / "home" / "hosts").iterdir()
    assert f"ssh-keygen -lf {pin}" in "".join(first.stdout.split("\n"))
    again = _harness(tmp_path, [*words, str(tmp_path / "there")])
    assert (again.returncode, "first contact" in again.stdout) == (0, False)

    (tmp_path / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{box.port()} {_public(box)}")
    stranger = _harness(tmp_path, [*words, str(tmp_path / "nowhere")])
    assert stranger.returncode == 8
    assert f"ssh-keygen -R '[127.0.0.1]:{box.port()}'" in stranger.stderr
    (tmp_path / ".ssh" / "config").unlink()
    portless = _harness(tmp_path, [*words, str(tmp_path / "nowhere")])
    assert (portless.returncode, "or a Port for that host" in portless.stderr) == (2, True)


def _public(box: Box) -> str:
    """A key that is no host key of the box."""
    return box.key.with_suffix(".pub").read_text()
