"""The training package as the box runs it: importing this makes its own directory a root of imports."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "training_pkg"
sys.path.insert(0, str(PACKAGE))


def prepared(folder: Path) -> Path:
    """A copy in ``folder`` with the data files built; raises RuntimeError with the package's own words."""
    copy = shutil.copytree(
        PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", "data", "models")
    )
    command = [sys.executable, "train_deepseek_forex.py", "--stage", "prepare"]
    ended = subprocess.run(command, cwd=copy, check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        raise RuntimeError(f"the data could not be built: {(ended.stdout + ended.stderr)[-500:]}")
    return copy
