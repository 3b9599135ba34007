"""The shim: a vastai that asks the command guard, then becomes the real one, with nothing lost on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.errors import BadInput
from harness.shellguard import shim

posix = pytest.mark.skipif(os.name == "nt", reason="runs the shim for sh")

# Writes down how it was called, copies its input, and ends with a telling code.
REAL = """#!/bin/sh
for word in "$@"; do printf '<%s>' "$word"; done
cat
echo to-stderr >&2
exit 42
"""


@pytest.fixture
def real(tmp_path: Path) -> Path:
    folder = tmp_path / "real bin"
    folder.mkdir()
    (folder / "vastai").write_text(REAL, encoding="utf-8")
    (folder / "vastai").chmod(0o755)
    return folder


def _vastai(*args: str, path: list[Path]) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "PATH": os.pathsep.join([*map(str, path), "/usr/bin", "/bin"])}
    return subprocess.run(["vastai", *args], env=env, input=b"input", capture_output=True, check=False, timeout=60)


@posix
def test_a_harmless_command_reaches_the_real_one_whole(tmp_path: Path, real: Path) -> None:
    shims = tmp_path / "it's $HOME"
    shim.install(shims)
    done = _vastai("show", "instances", "", "a b", "*", "$(x)", "'", '"', path=[shims, real])
    assert done.stdout == b"<show><instances><><a b><*><$(x)><'><\">input"
    assert (done.returncode, done.stderr) == (42, b"to-stderr\n")


@posix
def test_a_guarded_command_never_reaches_the_real_one(tmp_path: Path, real: Path) -> None:
    shim.install(tmp_path / "shims")
    done = _vastai("--raw", "destroy", "instance", "5", path=[tmp_path / "shims", real])
    assert (done.returncode, done.stdout) == (5, b"")
    assert b"harness destroy" in done.stderr


@posix
def test_a_command_worth_a_look_runs_with_a_warning(tmp_path: Path, real: Path) -> None:
    shim.install(tmp_path / "shims")
    done = _vastai("stop", "instance", "5", path=[tmp_path / "shims", real])
    assert done.returncode == 42
    assert b"Look twice" in done.stderr


@posix
def test_a_script_an_alias_or_a_variable_does_not_get_past_it(tmp_path: Path, real: Path) -> None:
    shim.install(tmp_path / "shims")
    script = tmp_path / "teardown.sh"
    script.write_text('a=destroy\nvastai "$a" instance 5\n', encoding="utf-8")
    env = {**os.environ, "PATH": os.pathsep.join([str(tmp_path / "shims"), str(real), "/usr/bin", "/bin"])}
    done = subprocess.run(["sh", str(script)], env=env, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (5, b"")


@posix
def test_the_shim_never_starts_itself(tmp_path: Path) -> None:
    shim.install(tmp_path / "one")
    shim.install(tmp_path / "two")
    done = _vastai("show", "user", path=[tmp_path / "one", tmp_path / "two", tmp_path / "one"])
    assert done.returncode == shim.NOT_FOUND
    assert b"no vastai on PATH" in done.stderr


@posix
def test_a_package_named_harness_in_the_working_directory_is_not_the_guard(tmp_path: Path, real: Path) -> None:
    shim.install(tmp_path / "shims")
    (tmp_path / "harness" / "shellguard").mkdir(parents=True)
    for name in ("__init__.py", "shellguard/__init__.py", "shellguard/shim.py"):
        (tmp_path / "harness" / name).write_text("raise SystemExit(0)\n", encoding="utf-8")
    env = {**os.environ, "PATH": os.pathsep.join([str(tmp_path / "shims"), str(real), "/usr/bin", "/bin"])}
    command = ["vastai", "destroy", "instance", "5"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, check=False, timeout=60)
    assert done.returncode == 5


def test_install_never_overwrites_what_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "vastai").write_text("#!/bin/sh\necho mine\n", encoding="utf-8")
    with pytest.raises(BadInput, match="not the harness's shim"):
        shim.install(tmp_path, windows=False)
    assert (tmp_path / "vastai").read_text(encoding="utf-8") == "#!/bin/sh\necho mine\n"


def test_install_again_is_harmless_and_uninstall_takes_only_the_shim(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    assert shim.install(tmp_path, windows=False) == shim.install(tmp_path, windows=False)
    assert shim.uninstall(tmp_path) == (tmp_path / "vastai",)
    (tmp_path / "vastai").write_text("echo mine\n", encoding="utf-8")
    assert shim.uninstall(tmp_path) == ()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "vastai"]


def test_a_directory_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be written"):
        shim.install(tmp_path / "file" / "shims", windows=False)


def test_windows_gets_a_cmd_and_a_ps1(tmp_path: Path) -> None:
    python = r"C:\Users\O'Neil %x%\python.exe"
    written = shim.install(tmp_path, python=python, windows=True)
    assert [path.name for path in written] == ["vastai.cmd", "vastai.ps1"]
    cmd, ps1 = (path.read_bytes().decode() for path in written)
    assert '@"C:\\Users\\O\'Neil %%x%%\\python.exe" -P -m harness.cli.judging --shim %*\r\n' in cmd
    assert "& 'C:\\Users\\O''Neil %x%\\python.exe' -P -m harness.cli.judging --shim @args\r\n" in ps1
    assert "exit $LASTEXITCODE" in ps1
    assert len(shim.uninstall(tmp_path)) == 2


def test_the_windows_shim_reads_as_powershell(tmp_path: Path) -> None:
    from harness.shellguard import powershell

    _, ps1 = shim.install(tmp_path, python=sys.executable, windows=True)
    reading = powershell.read(ps1.read_text(encoding="utf-8"))
    assert reading.doubts == ()
    assert reading.calls[0].words[:5] == (sys.executable, "-P", "-m", "harness.cli.judging", "--shim")
