"""MANIFEST.json, written last: every output file with its size and SHA-256; and Ollama's Modelfile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import durable
from .chat import Turns

CONTRACT = 1


def entry(path: Path, kind: str) -> dict[str, Any]:
    """One file as the manifest lists it, hashed from the disk now."""
    return {"path": path.as_posix(), "bytes": path.stat().st_size, "sha256": durable.sha256_of(path), "kind": kind}


def write(path: Path, *, steps: dict[str, int], files: list[dict[str, Any]]) -> None:
    """Replace the manifest."""
    durable.write_json(path, {"contract": CONTRACT, "steps": steps, "files": files})


def holds(path: Path, ggufs: list[Path]) -> bool:
    """True when the manifest is there, lists exactly these GGUFs, and every file it lists has its size and digest."""
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        listed = sorted(file["path"] for file in files if file["kind"] == "gguf")
        return listed == sorted(gguf.as_posix() for gguf in ggufs) and all(
            entry(Path(file["path"]), file["kind"]) == file for file in files
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def modelfile(gguf_name: str, turns: Turns) -> str:
    """Ollama's way of running the model (https://docs.ollama.com/modelfile): the same turns as in training."""
    return f'FROM ./{gguf_name}\nTEMPLATE """{turns.ollama}"""\nPARAMETER temperature 0\nPARAMETER stop "{turns.end}"\n'
