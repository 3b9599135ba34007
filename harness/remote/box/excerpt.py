"""The lines of a log that matter, however large it is: both ends in full, its middle without what is plenty.

A progress bar redraws itself with carriage returns, so they end lines too; what follows the
last line break may be half a line, and is left out.
"""

# The box may have Python 3.8: typing's old names; and os.path throughout, as strings are what crosses the wire.
# ruff: noqa: PTH123
from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from harness.remote.box.files import BLOCK, expand

LINE_BYTES = 16384
SCANNED = 64 << 20
"""Bytes of a file that are looked through; of a larger one its two ends."""

DRAWN = re.compile(rb"\|[^|]*\|")
"""The drawn part of a progress bar."""

ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


def excerpt(path: str, pattern: str, plenty: str, limit: int, fleeting: str = "") -> Any:
    """``{exists, bytes, lines, left_out}``: the lines in which ``pattern`` is found, without terminal escapes.

    ``limit`` bounds the bytes that they take as JSON. When they would take more, lines of the
    middle are left out, and counted: first of all those in which ``plenty`` is found. Of lines in a row
    in which ``fleeting`` is found, states of a progress bar, the first and the last are told, without the bar itself.
    """
    wanted, common = re.compile(pattern.encode()).search, re.compile(plenty.encode()).search
    kept = _Kept(limit)
    try:
        with open(expand(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            clean = (ESCAPES.sub(b"", line) if b"\x1b" in line else line for line in _lines(file, size))
            for found in _thinned(filter(wanted, clean), fleeting):
                kept.add(found.decode("utf-8", "replace"), bool(common(found)))
    except FileNotFoundError:
        return {"exists": False}
    return {"exists": True, "bytes": size, **kept.all()}


def _thinned(lines: Iterator[bytes], fleeting: str) -> Iterator[bytes]:
    """Lines without those in the midst of a row of fleeting ones, each of these without its drawing."""
    if not fleeting:
        yield from lines
        return
    passes = re.compile(fleeting.encode()).search
    for fleets, row in groupby(lines, lambda line: passes(line) is not None):
        if not fleets:
            yield from row
            continue
        last = None
        for at, line in enumerate(row):
            if at == 0:
                yield DRAWN.sub(b"||", line, count=1)
            else:
                last = line
        if last is not None:
            yield DRAWN.sub(b"||", last, count=1)


def _lines(file: Any, size: int) -> Iterator[bytes]:
    """Whole lines, cut at ``LINE_BYTES``, of the file's ``size`` bytes or of as much at both ends as is scanned."""
    if size <= SCANNED:
        yield from _split(file, size)
        return
    yield from _split(file, SCANNED // 2)
    file.seek(size - SCANNED // 2)
    tail = _split(file, SCANNED // 2)
    next(tail, None)  # it begins anywhere in a line
    yield from tail


def _split(file: Any, left: int) -> Iterator[bytes]:
    rest = b""
    while left:
        data = file.read(min(left, BLOCK))
        if not data:
            return
        left -= len(data)
        *whole, rest = (rest[:LINE_BYTES] + data).replace(b"\r", b"\n").split(b"\n")
        for line in whole:
            yield line[:LINE_BYTES]


class _Kept:
    """Lines within a budget of bytes of JSON: two parts of five for each end, one for what is rare between them."""

    def __init__(self, limit: int) -> None:
        self.head: Any = []
        self.rare: Any = []
        self.tail: Any = deque()
        self.room = {"head": limit * 2 // 5, "rare": limit // 5, "tail": limit * 2 // 5}
        self.left_out = 0

    def add(self, line: str, common: bool) -> None:
        size = len(json.dumps(line)) + 2
        if self.room["head"] >= size:
            self.room["head"] -= size
            self.head.append(line)
            return
        self.room["head"] = 0  # what follows comes after it
        self.tail.append((line, size, common))
        self.room["tail"] -= size
        while self.room["tail"] < 0:
            self._retire(*self.tail.popleft())

    def _retire(self, line: str, size: int, common: bool) -> None:
        self.room["tail"] += size
        if common or self.room["rare"] < size:
            self.left_out += 1
        else:
            self.room["rare"] -= size
            self.rare.append(line)

    def all(self) -> Any:
        """In their order in the log."""
        return {"lines": [*self.head, *self.rare, *(line for line, _, _ in self.tail)], "left_out": self.left_out}
