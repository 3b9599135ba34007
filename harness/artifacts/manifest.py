"""The package's ``MANIFEST.json``: every output by relative POSIX path, size and SHA-256.

It is written on the box, a stranger's text: paths that could leave the directory, duplicates
and odd values are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from harness.core import ids
from harness.core.errors import BadInput
from harness.core.ids import Sha256
from harness.core.text import misfits, names_device

MAX_MANIFEST_BYTES: Final = 4 << 20
MAX_FILES: Final = 20_000
MAX_PATH: Final = 1024

ARTIFACTS: Final = ("gguf", "model")
"""Kinds of outputs that come home as the artifact; an adapter comes in any case."""

TRACKER: Final = "tracker"
"""Kind of a file that a tracker wrote, as TensorBoard's events: brought home where it can be, and never required."""

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f\\:*?"<>|]')


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


_Count = Annotated[int, Field(ge=0, lt=1 << 53)]


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One output named by the package's manifest."""

    path: Annotated[str, AfterValidator(safe_path)]
    size: Annotated[_Count, Field(validation_alias="bytes")]
    sha256: Annotated[Sha256, AfterValidator(ids.sha256)]
    kind: Literal["gguf", "model", "adapter", "trainer_state", "modelfile", "run", "tracker"]


@dataclass(frozen=True, slots=True)
class OutputManifest:
    """The package's ``MANIFEST.json``: the last steps it reached and every output."""

    contract: Annotated[int, Field(ge=1, le=1)]
    steps: Mapping[str, _Count]
    files: Annotated[tuple[ManifestEntry, ...], Field(max_length=MAX_FILES)]

    def of_kind(self, kind: str) -> tuple[ManifestEntry, ...]:
        """The outputs of one kind."""
        return tuple(entry for entry in self.files if entry.kind == kind)


FOUND: Final = "found-on-the-box.json"
"""Our own list of an unmodified trainer's files, path to SHA-256, as the box computed them; it lies beside them."""


def read_found(data: bytes) -> dict[str, Sha256]:
    """Digests by path of such a list. Raises BadInput."""
    try:
        return TypeAdapter(
            dict[Annotated[str, AfterValidator(safe_path)], Annotated[Sha256, AfterValidator(ids.sha256)]]
        ).validate_json(data)
    except ValidationError as error:
        raise BadInput(f"{FOUND} does not read: {error.errors()[0]['msg']}") from error


def read_output_manifest(data: bytes | str) -> OutputManifest:
    """Parse the text of ``MANIFEST.json``. Raises BadInput naming the field that is wrong."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise BadInput(f"MANIFEST.json is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        found = TypeAdapter(OutputManifest).validate_json(data, strict=True)
    except ValidationError as error:
        raise BadInput(f"MANIFEST.json is not a manifest: {misfits(error, 'the text')[0]}") from error
    if len({entry.path.casefold() for entry in found.files}) != len(found.files):
        raise BadInput("MANIFEST.json is not a manifest: files names a path twice")
    return found
