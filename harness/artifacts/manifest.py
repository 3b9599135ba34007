"""The package's ``MANIFEST.json``: every output by relative POSIX path, size and SHA-256.

It is written on the box, a stranger's text: paths that could leave the directory, duplicates
and odd values are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from harness.core.errors import BadInput
from harness.core.ids import Sha256, sha256
from harness.core.text import names_device

MAX_MANIFEST_BYTES: Final = 4 << 20
MAX_FILES: Final = 20_000
MAX_PATH: Final = 1024
KINDS: Final = frozenset({"gguf", "adapter", "trainer_state", "modelfile", "run"})

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f\\:*?"<>|]')


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One output named by the package's manifest."""

    path: str
    size: int
    sha256: Sha256
    kind: str


@dataclass(frozen=True, slots=True)
class OutputManifest:
    """The package's ``MANIFEST.json``: the last steps it reached and every output."""

    steps: Mapping[str, int]
    files: tuple[ManifestEntry, ...]

    def of_kind(self, kind: str) -> tuple[ManifestEntry, ...]:
        """The outputs of one kind."""
        return tuple(entry for entry in self.files if entry.kind == kind)


def safe_path(text: object) -> str:
    """A relative POSIX path that stays inside its directory on Linux, macOS and Windows.

    Raises ValueError: absolute, ``..``, empty parts, a backslash, a colon, control characters,
    names that Windows keeps for devices or would trim.
    """
    if not isinstance(text, str) or not text or len(text) > MAX_PATH or _FORBIDDEN.search(text):
        raise ValueError(f"not a safe relative path: {str(text)[:120]!r}")
    for part in text.split("/"):
        if part in {"", ".", ".."} or part != part.rstrip(" .") or names_device(part):
            raise ValueError(f"not a safe relative path: {text[:120]!r}")
    return text


def read_output_manifest(data: bytes | str) -> OutputManifest:
    """Parse the text of ``MANIFEST.json``. Raises BadInput naming the field that is wrong."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise BadInput(f"MANIFEST.json is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        return _output_manifest(json.loads(data))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise BadInput(f"MANIFEST.json is not a manifest: {reason}") from error


def _output_manifest(body: Any) -> OutputManifest:
    if not isinstance(body, dict):
        raise TypeError("not an object")
    if type(body["contract"]) is not int or body["contract"] != 1:
        raise ValueError(f"contract {body['contract']!r}, expected 1")
    if not isinstance(body["steps"], dict) or not isinstance(body["files"], list) or len(body["files"]) > MAX_FILES:
        raise TypeError("steps must be an object and files a list")
    steps = {name: _count(body["steps"][name], f"steps.{name}") for name in ("sft", "dpo") if name in body["steps"]}
    entries = tuple(_entry(index, row) for index, row in enumerate(body["files"]))
    spellings = {entry.path.casefold() for entry in entries}
    if len(spellings) != len(entries):
        raise ValueError("files names a path twice")
    return OutputManifest(steps, entries)


def _entry(index: int, row: Any) -> ManifestEntry:
    if not isinstance(row, dict):
        raise TypeError(f"files[{index}] is not an object")
    if row["kind"] not in KINDS:
        raise ValueError(f"files[{index}].kind is {str(row['kind'])[:40]!r}")
    if not isinstance(row["sha256"], str):
        raise TypeError(f"files[{index}].sha256 is not text")
    size = _count(row["bytes"], f"files[{index}].bytes")
    return ManifestEntry(safe_path(row["path"]), size, sha256(row["sha256"]), row["kind"])


def _count(value: object, where: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError(f"{where} is {str(value)[:40]!r}, expected a whole number")
    return value
