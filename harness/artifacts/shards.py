"""A model in one GGUF or in several: llama.cpp splits large ones into ``NAME-00001-of-00003.gguf`` and so on.

The first file has the metadata; each says its number, their count and the count of all tensors (``split.*``, written by
llama.cpp's ``gguf-split``). One of them alone parses, and is no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.artifacts import gguf
from harness.core.answers import GgufHeader, GgufOnBox

_NAME: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_MOST: Final = 4096
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Whole:
    """A model as it lies in its files: ``header`` has the first's metadata and the tensors of all.

    ``problems`` is why the files are not one model.
    """

    parts: Mapping[Path, gguf.Gguf]
    header: gguf.Gguf
    count: int
    problems: tuple[str, ...]

    @property
    def first(self) -> Path:
        """The file whose metadata counts, and whose arrays ``header`` points into."""
        return next(iter(self.parts))

    def data(self, name: str) -> bytes:
        """Bytes of a tensor; none when it is not there. Raises OSError."""
        for path, header in self.parts.items():
            for tensor in header.tensors:
                if tensor.name == name:
                    with path.open("rb") as file:
                        file.seek(header.data_start + tensor.offset)
                        return file.read(tensor.nbytes)
        return b""


def siblings(path: Path) -> tuple[Path, ...]:
    """The files of the split that a file's name says it is one of, there or not; itself alone when it says none."""
    match = _NAME.fullmatch(path.name)
    if match is None or not 1 < int(match[3]) <= _MOST:
        return (path,)
    count = int(match[3])
    return tuple(path.with_name(f"{match[1]}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1))


def parse(path: Path) -> Whole:
    """Parse a file, and the others of its split when it is of one. Raises GgufError and OSError as ``gguf.parse``."""
    header = gguf.parse(path)
    count = header.metadata.get("split.count")
    if not isinstance(count, int) or count < 2:
        return Whole({path: header}, header, 1, tuple(_miscounted(header.metadata, len(header.tensors))))
    names = siblings(path)
    problems = []
    if len(names) != count:
        problems.append(f"{path.name} is one of {count} files, and its name does not say which")
    there = [name for name in names if name.is_file()]
    if missing := [name.name for name in names if name not in there]:
        problems.append(f"{path.name} is one of {count} files: {named(missing)} not there")
    parts = {name: header if name == path else _parsed(name) for name in there}
    headers = {name.name: parts[name].metadata if name in parts else None for name in names}
    tensors = tuple(tensor for part in parts.values() for tensor in part.tensors)
    if len(names) == count:
        problems += misplaced(headers)
    problems += _repeated([tensor.name for tensor in tensors])
    if not problems:
        problems += _miscounted(header.metadata, len(tensors))
    first = parts[there[0]]
    return Whole(parts, first._replace(tensors=tensors), count, tuple(problems))


def named(names: Sequence[str]) -> str:
    """The first of several files, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def misplaced(headers: Mapping[str, Mapping[str, object] | None]) -> list[str]:
    """Files of a split that say they are another one of it, by the metadata of each, in order; None is not there."""
    found = []
    for number, (name, metadata) in enumerate(headers.items()):
        stated = [number] if metadata is None else [metadata.get(key) for key in ("split.no", "split.count")]
        if stated not in ([number], [number, len(headers)]):
            found.append(f"{name} states number {stated[0]} of {stated[1]}, expected {number} of {len(headers)}")
    return found


def one(headers: Mapping[str, GgufOnBox]) -> GgufOnBox:
    """The header of a split on the box, as that of one file: sizes and tensors of all, the first one's metadata."""
    missing = [name for name, told in headers.items() if not told.exists]
    broken = [f"{name}: {told.malformed or 'the parser says nothing about it'}" for name, told in headers.items()]
    read = {name: told.gguf for name, told in headers.items() if told.gguf is not None}
    if missing or len(read) < len(headers):
        told = next((line for line, name in zip(broken, headers, strict=True) if name not in read), None)
        return GgufOnBox(exists=not missing, malformed=None if missing else told)
    tensors = tuple(tensor for header in read.values() for tensor in header.tensors)
    first = next(iter(read.values()))
    wrong = misplaced({name: header.metadata for name, header in read.items()})
    wrong += _repeated([tensor[0] for tensor in tensors])
    wrong += _miscounted(first.metadata, len(tensors))
    size, data = (sum(getattr(header, key) for header in read.values()) for key in ("size", "data_bytes"))
    whole = GgufHeader(size, first.data_start, data, first.metadata, tensors)
    return GgufOnBox(exists=True, gguf=whole, malformed="; ".join(wrong[:_NAMED]) or None)


def _repeated(names: list[str]) -> Iterator[str]:
    if twice := len(names) - len(set(names)):
        yield f"{twice} tensors are in several files"


def _parsed(path: Path) -> gguf.Gguf:
    try:
        return gguf.parse(path)
    except gguf.GgufError as error:
        raise type(error)(f"{path.name}, {error.where}", error.what) from error


def _miscounted(metadata: Mapping[str, object], count: int) -> Iterator[str]:
    stated = metadata.get("split.tensors.count")
    if stated is not None and stated != count:
        yield f"split.tensors.count is {stated}, there are {count} tensors"
