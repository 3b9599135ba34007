"""One port through which every effect of a process goes, numbered; one of them may be struck by a fault.

Effects: an event append, a provider call, a call to the box, and on the disk every open for writing, write, fsync,
rename, link, unlink, chmod and mkdir. A process that was killed does nothing more: whatever its unwinding tries
raises ``Killed`` again. Reads are no effects.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import AmbiguousCreate, HarnessError, HostUnreachable, ProviderUnavailable, StoreFailed
from tests.support.context import Killed


class How(StrEnum):
    """Fault that strikes an effect."""

    BEFORE = "killed before it"
    HALF = "killed in the middle of a write"
    AFTER = "killed after it"
    LOST = "done, and its answer lost"
    REFUSED = "not done, and an error for an answer"
    SPOILT = "the file at home is changed before it"
    """By somebody else: ``between`` does it, and the process lives."""


@dataclass(slots=True)
class FaultPort:
    """Numbers effects from 1; the one with the number ``at`` is struck. ``names`` lists them in their order."""

    at: int = 0
    how: How = How.BEFORE
    dead: bool = False
    names: list[str] = field(default_factory=list)
    synced: Callable[[int], None] = lambda _: None
    """Told of every open file that was flushed to the disk."""
    between: Callable[[int], None] = lambda _: None
    """Called before each effect with its number: whatever else happens in the world meanwhile."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def struck(self) -> bool:
        """True once the effect with the number was reached."""
        return 0 < self.at <= len(self.names)

    def effect(
        self,
        name: str,
        act: Callable[[], Any],
        error: Callable[[], Exception],
        *,
        half: Callable[[], Any] | None = None,
        drop: Callable[[Any], object] = lambda _: None,
    ) -> Any:
        """Have an effect, unless the fault strikes it; ``drop`` is given an answer that reaches nobody."""
        self.live()
        with self._lock:
            self.names.append(name)
            number = len(self.names)
        self.between(number)
        if number != self.at or self.how is How.SPOILT:
            return act()
        if self.how is How.REFUSED:
            raise error()
        if self.how is How.HALF and half is not None:
            half()
        elif self.how is not How.BEFORE:
            drop(act())
        if self.how is How.LOST:
            raise error()
        self.dead = True
        raise Killed

    def live(self) -> None:
        """Raise Killed in a process that was killed."""
        if self.dead:
            raise Killed


class Watched:
    """Something behind the port: the calls of ``methods``, or of all its methods, are effects."""

    def __init__(self, inner: Any, port: FaultPort, room: str, methods: frozenset[str] | None = None) -> None:
        self._inner, self._port, self._room, self._methods = inner, port, room, methods

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found) or name in _QUIET or (self._methods is not None and name not in self._methods):
            return found
        said = f"{self._room}.{name}"

        def call(*given: Any, **named: Any) -> Any:
            return self._port.effect(said, lambda: found(*given, **named), lambda: _error(said))

        return call


_QUIET = frozenset({"close", "gpu_names"})


def _error(said: str) -> HarnessError:
    kinds = {"provider": ProviderUnavailable, "box": HostUnreachable, "log": StoreFailed}
    kind: type[HarnessError] = AmbiguousCreate if said == "provider.create" else kinds[said.partition(".")[0]]
    return kind(f"{said}: no answer")


class MortalClock:
    """A clock whose process may be dead."""

    def __init__(self, inner: Any, port: FaultPort) -> None:
        self._inner, self._port = inner, port

    def __getattr__(self, name: str) -> Any:
        self._port.live()
        return getattr(self._inner, name)


class _Writing:
    """A file that is open for writing; nothing stays in its buffer."""

    def __init__(self, file: Any, port: FaultPort) -> None:
        self._file, self._port = file, port

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: Any) -> Any:
        def put(part: Any) -> Any:
            count = self._file.write(part)
            self._file.flush()
            return count

        half = data[: len(data) // 2]
        return self._port.effect("disk.write", lambda: put(data), _disk_error, half=lambda: put(half))

    def truncate(self, size: int | None = None) -> Any:
        return self._port.effect("disk.truncate", lambda: self._file.truncate(size), _disk_error)


def _disk_error() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO), "the disk")


_CALLS = ("replace", "rename", "link", "unlink", "remove", "rmdir", "mkdir", "chmod", "truncate")
_ON_OPEN_FILES = ("fsync", "fdatasync", "posix_fallocate")


@contextmanager
def watched_disk(port: FaultPort, root: Path) -> Iterator[None]:  # noqa: C901 - one function a kind of call
    """Have what this process does to files under ``root`` go through the port."""

    def within(given: Any, named: Any) -> bool:
        if isinstance(given, int):
            given = Path(f"/proc/self/fd/{given}").readlink()
        return named.get("dir_fd") is not None or os.fspath(given).startswith(str(root))

    def watched(name: str, real: Any) -> Any:
        def call(first: Any, *given: Any, **named: Any) -> Any:
            if not within(first, named):
                return real(first, *given, **named)

            def act() -> Any:
                result = real(first, *given, **named)
                if name in {"fsync", "fdatasync"}:
                    port.synced(first)
                return result

            return port.effect(f"disk.{name}", act, _disk_error)

        return call

    def low_open(path: Any, flags: int, *given: Any, **named: Any) -> Any:
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if not writes or not within(path, named):
            return real_low_open(path, flags, *given, **named)
        return port.effect("disk.open", lambda: real_low_open(path, flags, *given, **named), _disk_error, drop=os.close)

    def high_open(file: Any, mode: str = "r", *given: Any, **named: Any) -> Any:
        if not set(mode) & set("wax+") or not within(file, {}):
            return real_open(file, mode, *given, **named)
        if isinstance(file, int):
            return _Writing(real_open(file, mode, *given, **named), port)
        return _Writing(
            port.effect(
                "disk.open", lambda: real_open(file, mode, *given, **named), _disk_error, drop=lambda one: one.close()
            ),
            port,
        )

    real_low_open, real_open = os.open, io.open
    with pytest.MonkeyPatch.context() as patch:
        for name in (*_CALLS, *_ON_OPEN_FILES):
            patch.setattr(os, name, watched(name, getattr(os, name)))
        patch.setattr(os, "open", low_open)
        patch.setattr(io, "open", high_open)
        patch.setattr(builtins, "open", high_open)
        patch.setattr(threading, "excepthook", lambda _: None)  # a thread of a killed process says nothing
        yield
