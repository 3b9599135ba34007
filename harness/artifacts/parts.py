"""An artifact: the file that a training leaves, or the files of a folder, and the digest that names all of it.

One file is named by its own SHA-256. Several are named by that of their manifest: the canonical JSON (RFC 8785) of the
list of ``{"bytes", "path", "sha256"}``, sorted by path. Paths are relative to the artifact's place, POSIX style.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.artifacts import digest
from harness.artifacts.digest import Hashed
from harness.artifacts.manifest import safe_path
from harness.core.errors import BadInput
from harness.core.ids import Sha256, sha256

MOST: Final = 512
"""Files of one artifact; the largest published models come in some 200, and each is held open before a destruction."""

_LONGEST: Final = 200


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """One file of an artifact. ``path`` is empty for an artifact that is this file."""

    path: str
    size: int
    sha256: Sha256

    def at(self, place: Path) -> Path:
        """The file, of an artifact that lies at a place."""
        return place / self.path


@dataclass(frozen=True, slots=True)
class Artifact:
    """The artifact on the box as it was recorded there: its place, the bytes of all files, the digest that names it.

    ``files`` are those of a folder, by path; an artifact that is one file has none.
    """

    path: str
    size: int
    sha256: Sha256
    files: tuple[ArtifactFile, ...] = ()

    @property
    def parts(self) -> tuple[ArtifactFile, ...]:
        """Every file: the artifact itself when it is one."""
        return self.files or (ArtifactFile("", self.size, self.sha256),)


def of_files(place: str, files: Iterable[ArtifactFile]) -> Artifact:
    """The artifact that these files of a folder are. Raises BadInput for names that cannot be brought home."""
    ordered = tuple(sorted(files, key=lambda part: part.path))
    if (odd := names_problem([part.path for part in ordered])) is not None:
        raise BadInput(odd)
    return Artifact(place, sum(part.size for part in ordered), manifest_digest(ordered), ordered)


def recorded(place: str, size: int, named: Sha256, files: Sequence[Mapping[str, Any]] | None) -> Artifact:
    """The artifact that an event or a release tells of. Raises ValueError when its files are not what its digest says.

    ``files`` are the entries of its manifest; None for one file.
    """
    if files is None:
        return Artifact(place, size, named)
    try:
        found = of_files(place, (ArtifactFile(one["path"], one["bytes"], sha256(str(one["sha256"]))) for one in files))
    except (KeyError, TypeError, BadInput) as error:
        raise ValueError(f"the artifact's files do not read: {error}") from error
    if (found.size, found.sha256) != (size, named):
        raise ValueError(f"the artifact's {len(found.files)} files are not those that its digest {named} names")
    return found


def entries(files: Iterable[ArtifactFile]) -> tuple[dict[str, Any], ...]:
    """The manifest's entries."""
    return tuple({"path": part.path, "bytes": part.size, "sha256": part.sha256} for part in files)


def manifest_digest(files: Iterable[ArtifactFile]) -> Sha256:
    """The SHA-256 of the manifest of files that are in order."""
    import rfc8785  # noqa: PLC0415 - few commands look into a folder

    return Sha256(hashlib.sha256(rfc8785.dumps(list(entries(files)))).hexdigest())


def names_problem(paths: Sequence[str]) -> str | None:
    """Reason why a folder with these names cannot lie on every operating system; None when it can."""
    if not 0 < len(paths) <= MOST:
        return f"it has {len(paths)} files: an artifact has 1 to {MOST}"
    seen: dict[str, str] = {}
    for path in paths:
        if len(path) > _LONGEST:
            return f"{path[:80]!r}... has {len(path)} characters: a path that Windows takes has {_LONGEST} at most"
        try:
            safe_path(path)
        except ValueError as error:
            return str(error)
        folded = unicodedata.normalize("NFC", path.casefold())
        if (twin := seen.setdefault(folded, path)) != path or paths.count(path) > 1:
            return f"{path!r} and {twin!r} are one name on Windows and macOS"
    for folded, path in seen.items():
        above = folded.split("/")[:-1]
        if any("/".join(above[: at + 1]) in seen for at in range(len(above))):
            return f"{path!r} lies in what is a file on Windows and macOS"
    return None


def here(place: Path) -> tuple[Hashed, tuple[ArtifactFile, ...]]:
    """Size and digest of what lies at a place of this machine, every byte read now, and its files.

    Raises BadInput when something cannot be read, or is no file and no folder of files.
    """
    if not place.is_dir():
        hashed = digest.of_file(place)
        return hashed, (ArtifactFile("", hashed.size, hashed.sha256),)
    found = [_read(place, path) for path in listed(place)]
    files = tuple(sorted(found, key=lambda part: part.path))
    return Hashed(sum(part.size for part in files), manifest_digest(files)), files


def listed(folder: Path) -> tuple[str, ...]:
    """Paths of everything in a folder that is no folder, by name. Raises BadInput for one that cannot be read."""
    return tuple(sorted(_walked(folder)))


def links(folder: Path) -> tuple[str, ...]:
    """Paths in a folder at which a link lies, or a pipe, and no file."""
    return tuple(path for path in listed(folder) if (file := folder / path).is_symlink() or not file.is_file())


def _walked(folder: Path) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise BadInput(f"{error.filename} cannot be read: {error.strerror or error}") from error

    for where, folders, names in os.walk(folder, onerror=refuse):
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]  # noqa: PTH114, PTH118 - strings
        for name in (*names, *links):
            yield Path(where, name).relative_to(folder).as_posix()


def _read(folder: Path, path: str) -> ArtifactFile:
    file = folder / path
    if file.is_symlink():
        raise BadInput(f"{file} is a link, and not the file itself")
    hashed = digest.of_file(file)
    return ArtifactFile(path, hashed.size, hashed.sha256)


def differences(found: Iterable[ArtifactFile], named: Iterable[ArtifactFile]) -> tuple[str, ...]:
    """How the files that were found differ from those of the artifact, one sentence each, by name."""
    there, due = {part.path: part for part in found}, {part.path: part for part in named}
    told = [f"{path or 'the file'} is missing" for path in sorted(due.keys() - there.keys())]
    told += [f"{path or 'the file'} is not of the artifact" for path in sorted(there.keys() - due.keys())]
    for path in sorted(there.keys() & due.keys()):
        one, other = there[path], due[path]
        if one.size != other.size:
            told.append(f"{path or 'the file'} has {one.size} bytes, recorded are {other.size}")
        elif one.sha256 != other.sha256:
            told.append(f"{path or 'the file'} has the SHA-256 {one.sha256}, recorded is {other.sha256}")
    return tuple(told)
