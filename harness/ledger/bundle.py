"""A job in one file, to be judged on another machine: its event log, its gates' evidence, its releases, small files.

A ZIP archive whose names are those of the job's folder, with the log as ``log.json``. Nothing in it is believed for
being there: evidence counts by the digest that the log names, and the log by its chain.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from harness.core import canonical, durable
from harness.core.errors import BadInput
from harness.core.ids import job_name
from harness.core.text import printable
from harness.gates.facts_file import name_of
from harness.ledger import chain
from harness.ledger.chain import Record
from harness.ledger.history import History

FORMAT: Final = 1
LARGEST: Final = 64 << 20
"""Bytes of a file that is packed, at most: a tokenizer is, an adapter's weights are not."""

_LOG: Final = "log.json"
_MOST: Final = 1 << 30
_FOLDERS: Final = ("evidence", "companions")


def write(path: Path, history: History, directory: Path) -> tuple[str, ...]:
    """Write a job's bundle; the answer names the files that were too large for it. Equal jobs have equal bytes."""
    told = {"format": FORMAT, "records": [dataclasses.asdict(record) for record in history.records]}
    packed, left_out = io.BytesIO(), []
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_entry(_LOG), json.dumps(told))
        for file in _files(history, directory):
            name = file.relative_to(directory).as_posix()
            if file.stat().st_size > LARGEST:
                left_out.append(name)
            else:
                archive.writestr(_entry(name), file.read_bytes())
    durable.write(path, packed.getvalue())
    return tuple(left_out)


def read(path: Path, folder: Path) -> tuple[Record, ...]:
    """The job's records, its files unpacked into a folder; raises BadInput for what is no bundle, or was changed."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > _MOST:
                raise BadInput(f"{path} is larger than a bundle can be ({_MOST} bytes, unpacked)")
            records = _records(archive.read(_LOG))
            for info in archive.infolist():
                if PurePosixPath(info.filename).parts[0] in _FOLDERS and not info.is_dir():
                    archive.extract(info, folder)  # it keeps every name below the folder
    except OSError as error:
        raise BadInput(f"cannot read the bundle {path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise BadInput(f"{path} is not a bundle: {printable(str(error), 300)}") from error
    found = chain.problems(records, chain.head_of(records))
    if found or not records:
        raise BadInput(f"the log in {path} is not whole: {'; '.join(found) or 'it is empty'}")
    return records


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


def _records(data: bytes) -> tuple[Record, ...]:
    told: Any = canonical.parse(data)
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise ValueError(f"{_LOG}: not of format {FORMAT}")
    records: Sequence[Any] = told["records"]
    return tuple(Record(**{**one, "job": job_name(one["job"])}) for one in records)
