"""The training package's directory is the root of its imports, as on the box."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training_pkg"))
