"""A base model's files from the hub, as a local directory. Needs nothing installed: what is missing comes along."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import runlog
from .config import Model
from .errors import BadConfig

_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "merges.txt", "vocab.txt")
"""Files of a causal language model; pickled weights (*.bin) are never fetched."""

_CLIENT = Path("models/.hub")
"""The hub's client, where the machine has none: apart from what pip installs at the same time."""


def found(name: str, *, weights: bool = True) -> Path:
    """A base's directory, fetched unless it is one. Raises BadConfig."""
    if Path(name).is_dir():
        return Path(name)
    if os.sep in name and name.count("/") != 1:
        raise BadConfig(f"the base model's directory {name} does not exist")
    hub = importlib.import_module("huggingface_hub")
    errors = importlib.import_module("huggingface_hub.errors")
    wanted = [pattern for pattern in _FILES if weights or "safetensors" not in pattern]
    try:
        return Path(hub.snapshot_download(name, allow_patterns=wanted))
    except (errors.HfHubHTTPError, errors.HFValidationError, errors.LocalEntryNotFoundError, OSError) as error:
        raise BadConfig(f"cannot fetch the base model {name}: {str(error)[:300]}") from error


def fetch(model: Model) -> None:
    """Bring a model to this machine before anything of this package is installed, unless it is built here."""
    name = model.built.like if model.built is not None else model.name
    if not name:
        return
    if not Path(name).is_dir():
        _have_client()
    path = found(name, weights=model.built is None)
    size = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    runlog.say(runlog.NOTE, stage="ready", text=f"the base model is here: {name}, {size} bytes of weights")


def _have_client() -> Any:
    """The hub's client as it is installed, else from a folder of its own, put there by pip."""
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        ran = subprocess.run([*pip, "--target", str(_CLIENT), "huggingface-hub>=1.0"], check=False)
    if ran.returncode != 0:
        raise BadConfig(f"pip cannot bring the hub's client (status {ran.returncode})")
    sys.path.insert(0, str(_CLIENT.resolve()))
    importlib.invalidate_caches()
    return importlib.import_module("huggingface_hub")
