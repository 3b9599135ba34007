"""A job in one file, to be judged on another machine: its event log, its gates' evidence, its releases, small files.

A ZIP archive whose names are those of the job's folder, with the log as ``log.json``. Nothing in it is believed for
being there: evidence counts by the digest that the log names, and the log by its chain.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from harness.core import canonical, durable
from harness.core.errors import BadInput
from harness.core.ids import JobName, job_name
from harness.core.text import printable
from harness.gates.facts_file import digest, name_of
from harness.ledger import chain
from harness.ledger.chain import Record
from harness.ledger.history import History

FORMAT: Final = 1
LARGEST: Final = 64 << 20
"""Bytes of a file that is packed, at most: a tokenizer is, an adapter's weights are not."""

LOG: Final = "log.json"
_MOST: Final = 1 << 30
_FOLDERS: Final = ("evidence", "companions")
_RELEASE: Final = "release-"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A job's records as a bundle tells them, and the names of the files that were too large for it."""

    records: tuple[Record, ...]
    left_out: tuple[str, ...] = ()

    @property
    def job(self) -> JobName:
        """Name of the job."""
        return self.records[0].job


def write(path: Path, history: History, directory: Path) -> tuple[str, ...]:
    """Write a job's bundle; the answer names the files that were too large for it. Equal jobs have equal bytes."""
    files = {file.relative_to(directory).as_posix(): file for file in _files(history, directory)}
    left_out = tuple(name for name, file in files.items() if file.stat().st_size > LARGEST)
    records = [dataclasses.asdict(record) for record in history.records]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_entry(LOG), json.dumps({"format": FORMAT, "records": records, "left_out": left_out}))
        for name, file in files.items():
            if name not in left_out:
                archive.writestr(_entry(name), file.read_bytes())
    durable.write(path, packed.getvalue())
    return left_out


def read(path: Path, folder: Path) -> Bundle:
    """A bundle, unpacked into a folder, its log too; raises BadInput for what is none, or was changed."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > _MOST:
                raise BadInput(f"{path} is larger than a bundle can be ({_MOST} bytes, unpacked)")
            told = _whole(path, archive.read(LOG))
            for info in archive.infolist():
                top, *below = PurePosixPath(info.filename).parts
                if top in _FOLDERS if below else top == LOG or top.startswith(_RELEASE):
                    archive.extract(info, folder)  # it keeps every name below the folder
    except OSError as error:
        raise BadInput(f"cannot read the bundle {path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise BadInput(f"{path} is not a bundle: {printable(str(error), 300)}") from error
    return told


def unpacked(folder: Path) -> Bundle:
    """Bundle that ``read`` has unpacked into a folder, its log verified anew; raises BadInput."""
    try:
        return _whole(folder, (folder / LOG).read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read {folder / LOG}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder / LOG} is not the log of a bundle: {printable(str(error), 300)}") from error


def changed(history: History, directory: Path) -> tuple[str, ...]:
    """Names of the evidence in a job's folder that is not what its gates were judged by."""
    named = {directory / "evidence" / name_of(gate.facts_path): gate.facts_sha256 for gate in history.gates.values()}
    found = (path for path, told in named.items() if path.is_file() and digest(path.read_bytes()) != told)
    return tuple(sorted(path.name for path in found))


def _files(history: History, directory: Path) -> Iterator[Path]:
    """Files of the job's folder that its log names, and those that came with the model."""
    named = [directory / "evidence" / name_of(gate.facts_path) for gate in history.gates.values()]
    if history.release_path is not None:
        release = directory / name_of(history.release_path)
        named += [release, release.with_suffix(".dsse.json")]
    beside = [file for file in sorted((directory / "companions").rglob("*")) if not file.is_symlink()]
    return (file for file in dict.fromkeys([*sorted(named), *beside]) if file.is_file())


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry without the time of its making."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _whole(path: Path, data: bytes) -> Bundle:
    told: Any = canonical.parse(data)
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise ValueError(f"{LOG}: not of format {FORMAT}")
    listed: Sequence[Any] = told["records"]
    records = tuple(Record(**{**one, "job": job_name(one["job"])}) for one in listed)
    found = [*chain.problems(records, chain.head_of(records)), *([] if records else ["it is empty"])]
    if len({record.job for record in records}) > 1:
        found.append("it has events of several jobs")
    if found:
        said = printable("; ".join(found), 500).replace("\n", " ")
        raise BadInput(f"the log in {path} is not whole: {said}")
    return Bundle(records, tuple(map(str, told.get("left_out", ()))))
