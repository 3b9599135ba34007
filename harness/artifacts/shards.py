"""A model in one GGUF or in several: llama.cpp splits large ones into ``NAME-00001-of-00003.gguf`` and so on.

The first file has the metadata; each says its number, their count and the count of all tensors (``split.*``, written by
llama.cpp's ``gguf-split``). One of them alone parses, and is no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.artifacts import gguf

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
        return Whole({path: header}, header, 1, tuple(_miscounted(header, len(header.tensors))))
    names = siblings(path)
    problems = []
    if len(names) != count:
        problems.append(f"{path.name} is one of {count} files, and its name does not say which")
    there = [name for name in names if name.is_file()]
    if missing := [name.name for name in names if name not in there]:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        problems.append(f"{path.name} is one of {count} files: {', '.join(missing[:_NAMED])}{more} not there")
    parts = {name: header if name == path else _parsed(name) for name in there}
    for number, name in enumerate(names if len(names) == count else ()):
        stated = [parts[name].metadata.get(key) for key in ("split.no", "split.count")] if name in parts else [number]
        if stated not in ([number], [number, count]):
            problems.append(f"{name.name} states number {stated[0]} of {stated[1]}, expected {number} of {count}")
    tensors = tuple(tensor for part in parts.values() for tensor in part.tensors)
    twice = len(tensors) - len({tensor.name for tensor in tensors})
    if twice:
        problems.append(f"{twice} tensors are in several files")
    if not problems:
        problems += _miscounted(header, len(tensors))
    first = parts[there[0]]
    return Whole(parts, first._replace(tensors=tensors), count, tuple(problems))


def _parsed(path: Path) -> gguf.Gguf:
    try:
        return gguf.parse(path)
    except gguf.GgufError as error:
        raise type(error)(f"{path.name}, {error.where}", error.what) from error


def _miscounted(header: gguf.Gguf, count: int) -> Iterator[str]:
    stated = header.metadata.get("split.tensors.count")
    if stated is not None and stated != count:
        yield f"split.tensors.count is {stated}, there are {count} tensors"
