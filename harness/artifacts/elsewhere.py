"""A second copy of the artifact at an address that fsspec reaches: ``s3://``, ``gs://``, ``hf://``, ``sftp://``, ...

Keys are the back end's own affair: none stands in an address. Nothing that lies there is replaced. What counts as there
was read back, every byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from harness.artifacts import digest
from harness.artifacts.digest import Hashed
from harness.artifacts.parts import Artifact, ArtifactFile, manifest_digest
from harness.core.errors import BadInput, MissingExtra, TransferFailed
from harness.core.text import printable

_PART: Final = ".part"


def without_keys(address: str) -> str:
    """The address; raises ValueError for one that would put a key into the job's records."""
    told = urlsplit(address)
    if told.username or told.password or told.query:
        raise ValueError("an address has no user, password or query in it: they belong to the back end's configuration")
    return address.rstrip("/")


def require(address: str) -> None:
    """Raise MissingExtra or BadInput unless a back end for this address is installed."""
    with _opened(address):
        pass


def copy(local: Path, artifact: Artifact, address: str) -> None:
    """Put every file of the artifact there that is not there yet, whole, before it gets its name.

    Raises BadInput where something else has a file's name, TransferFailed for what the back end says.
    """
    with _opened(address) as (files, root):
        for part in artifact.parts:
            target = _place(root, local.name, part)
            if files.exists(target):
                if _hashed(files, target) != Hashed(part.size, part.sha256):
                    raise BadInput(
                        f"{address}/{_name(local.name, part)} is another file, and nothing there is replaced",
                        remedy="Move it away, or name another address in artifact.second_copy_url.",
                    )
                continue
            files.makedirs(target.rpartition("/")[0], exist_ok=True)
            files.put_file(str(part.at(local)), target + _PART)
            files.mv(target + _PART, target)


def read_back(name: str, artifact: Artifact, address: str) -> Hashed:
    """Digest of what lies there under the artifact's names, every byte read now. Raises TransferFailed, BadInput."""
    found = []
    with _opened(address) as (files, root):
        for part in artifact.parts:
            read = _hashed(files, _place(root, name, part))
            found.append(ArtifactFile(part.path, read.size, read.sha256))
    if not artifact.files:
        return Hashed(found[0].size, found[0].sha256)
    return Hashed(sum(part.size for part in found), manifest_digest(found))


@contextmanager
def _opened(address: str) -> Iterator[tuple[Any, str]]:
    """The back end and its own spelling of the address."""
    try:
        import fsspec  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise MissingExtra("a second copy at an address", "push") from error
    try:
        files, root = fsspec.core.url_to_fs(address, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise BadInput(f"nothing that is installed reaches {address}: {printable(str(error), 300)}") from error
    try:
        yield files, str(root).rstrip("/")
    except (BadInput, MissingExtra):
        raise
    except Exception as error:  # each back end has errors of its own
        told = f"{type(error).__name__}: {printable(str(error), 300)}"
        raise TransferFailed(f"{address} cannot be used: {told}") from error


def _hashed(files: Any, place: str) -> Hashed:
    with files.open(place, "rb") as file:
        return digest.of_open(file)


def _name(name: str, part: ArtifactFile) -> str:
    return f"{name}/{part.path}" if part.path else name


def _place(root: str, name: str, part: ArtifactFile) -> str:
    return f"{root}/{_name(name, part)}"
