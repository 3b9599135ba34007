"""The wheel of this repository, and virtual environments that see what it depends on: neither needs a network."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IGNORED = [line.strip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()]
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
OFFLINE = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_IGNORE_INSTALLED": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
"""Settings by which ``pip install WHEEL`` takes what is here for what the wheel depends on."""


def called(*command: str | Path, cwd: Path) -> str:
    """The last line that a command printed; it must end well."""
    ran = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout.splitlines()[-1]


def clone(folder: Path) -> Path:
    """The repository's files, copied."""
    shutil.copytree(ROOT, folder / "clone", ignore=shutil.ignore_patterns(".git", *IGNORED))
    return folder / "clone"


def wheel(source: Path, folder: Path) -> Path:
    """The wheel that is built from a source tree."""
    return folder / called(sys.executable, "-c", BUILD, "build_wheel", folder, cwd=source)


def environment(folder: Path) -> Path:
    """A virtual environment that sees what is installed here; the folder of its packages."""
    venv.create(folder / "venv")
    (packages,) = folder.glob("venv/lib/python3*/site-packages")
    borrowed = [place for place in sys.path if place.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(borrowed), encoding="utf-8")
    return packages
