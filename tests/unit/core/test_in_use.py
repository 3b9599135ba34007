"""A file that processes hold until they end, however they end."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core import in_use

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="flock is POSIX")
HOLD = """
import sys
from pathlib import Path
from harness.core import in_use
in_use.hold(Path(sys.argv[1]))
in_use.hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""
NOBODY = (
    "import sys; from pathlib import Path; from harness.core import in_use; print(in_use.nobody(Path(sys.argv[1])))"
)


def _holder(file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(file)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def _nobody(file: Path) -> bool:
    done = subprocess.run([sys.executable, "-c", NOBODY, str(file)], capture_output=True, text=True, check=True)
    return done.stdout == "True\n"


def test_it_is_used_until_the_last_one_ends(tmp_path: Path) -> None:
    file = tmp_path / "in-use"
    assert _nobody(file)
    one, other = _holder(file), _holder(file)
    assert not _nobody(file)
    one.kill()
    one.communicate()
    assert not _nobody(file)
    other.communicate("")
    assert _nobody(file)


def test_a_program_that_is_started_does_not_go_on_holding(tmp_path: Path) -> None:
    file = tmp_path / "in-use"
    command = [
        sys.executable,
        "-c",
        HOLD.replace("print(", "import subprocess; subprocess.Popen(['sleep', '5']); print("),
    ]
    with subprocess.Popen([*command, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.kill()
        process.wait()
        assert _nobody(file)


def test_a_folder_that_is_gone_is_used_by_nobody(tmp_path: Path) -> None:
    assert in_use.nobody(tmp_path / "none" / "in-use")


def test_without_locks_it_counts_as_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    before = set(Path("/proc/self/fd").iterdir()) if Path("/proc/self/fd").exists() else set()
    in_use.hold(tmp_path / "in-use")
    assert not in_use.nobody(tmp_path / "in-use")
    after = set(Path("/proc/self/fd").iterdir()) if before else set()
    assert len(after) == len(before)
