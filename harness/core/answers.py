"""Answers of the box, as types: files, processes, GPUs, disks, checkpoints, the training's session. Pure.

Sizes are in bytes, times in seconds since the epoch by the box's clock. ``harness.core.questions`` says which
question is answered with which type.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.core.ids import Sha256, sha256
from harness.core.text import printable


@dataclass(frozen=True, slots=True)
class Entry:
    """One match of a glob on the box."""

    path: str
    kind: str
    bytes: int
    mtime: float
    is_symlink: bool = False


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One file below a directory on the box, its path relative to that directory."""

    path: str
    kind: str
    bytes: int
    mtime: float
    sha256: Sha256 | None = None


@dataclass(frozen=True, slots=True)
class Tree:
    """Everything below a directory on the box."""

    exists: bool
    entries: tuple[TreeEntry, ...]


@dataclass(frozen=True, slots=True)
class Digest:
    """Digest of a file as the box computed it; raises ValueError on a size or a digest that is none."""

    exists: bool
    bytes: int = 0
    sha256: Sha256 | None = None

    def __post_init__(self) -> None:
        if not self.exists:
            known = self.bytes == 0 and self.sha256 is None
        else:
            known = self.bytes >= 0 and self.sha256 is not None and sha256(self.sha256) == self.sha256
        if not known:
            raise ValueError(f"{self.bytes} bytes with the SHA-256 {self.sha256!r}")


@dataclass(frozen=True, slots=True)
class Text:
    """The beginning of a text file on the box."""

    exists: bool
    bytes: int = 0
    text: str = ""
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Tail:
    """Last lines of a text file on the box, without their newlines."""

    exists: bool
    bytes: int = 0
    mtime: float = 0.0
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of a text file on the box from a byte on, without their ends; ``end`` is the byte behind the last one."""

    exists: bool
    bytes: int = 0
    end: int = 0
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Lines of a log in which a pattern was found, as many as there was room for."""

    exists: bool
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """One line of a file, numbered from 1."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Matches:
    """Lines of a file on the box in which a pattern was found; ``count`` counts all of them."""

    exists: bool
    bytes: int = 0
    count: int = 0
    matches: tuple[Match, ...] = ()


@dataclass(frozen=True, slots=True)
class JsonFile:
    """A JSON file on the box."""

    exists: bool
    bytes: int = 0
    json: Any = None


@dataclass(frozen=True, slots=True)
class BoxTime:
    """Time by the box's own clock, to compare times of files with."""

    time: float


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes of a file system."""

    total: int
    used: int
    free: int


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as nvidia-smi shows it; what the driver does not tell is None."""

    index: int
    name: str
    driver: str
    memory_total_mib: float | None = None
    memory_used_mib: float | None = None
    utilization_percent: float | None = None
    compute_cap: str = ""


@dataclass(frozen=True, slots=True)
class Gpus:
    """All GPUs that the box shows."""

    installed: bool
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True, slots=True)
class Ran:
    """A short program that ran on the box to its end."""

    status: int
    out: str = ""
    err: str = ""


@dataclass(frozen=True, slots=True)
class Packages:
    """Versions of Python packages as installed on the box; None where one is not."""

    python: str
    packages: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Terminals:
    """tmux on the box."""

    installed: bool
    sessions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the training; ``env`` holds only what distributed launchers set."""

    pid: int
    ppid: int
    state: str
    argv: tuple[str, ...]
    cwd: str = ""
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes below a directory; ``unreadable`` belong to other users."""

    processes: tuple[Process, ...]
    unreadable: int = 0

    def at_work(self) -> tuple[str, ...]:
        """Processes that may still write, as ``pid command``: none that is dead, no terminal's shell at its prompt."""
        return tuple(
            f"{process.pid} {printable(' '.join(process.argv), 200)}"
            for process in self.processes
            if process.state not in {"Z", "X"} and not _waits_for_words(process.argv)
        )


def _waits_for_words(argv: tuple[str, ...]) -> bool:
    """True for a terminal's multiplexer, and for a shell that was given neither a script nor a command."""
    program = posixpath.basename(argv[0]).lstrip("-").partition(":")[0] if argv else ""
    given = [word for word in argv[1:] if not re.fullmatch(r"-[il]+|--(?:login|norc|noprofile)", word)]
    return program in {"tmux", "screen", "SCREEN"} or (program in {"sh", "bash", "dash", "zsh", "fish"} and not given)


@dataclass(frozen=True, slots=True)
class BoxCheckpoint:
    """A directory ``checkpoint-<step>`` on the box, as ``harness.artifacts.checkpoint`` read it there.

    ``files`` in bytes; ``seal`` changes whenever one of them does; ``problems``: damage; ``unread``: what could not be
    looked at; ``unfit``: why nothing should go on from it although it is whole.
    """

    path: str
    step: int
    mtime: float
    files: Mapping[str, int]
    seal: str
    problems: tuple[str, ...]
    unread: tuple[str, ...]
    unfit: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Header as the strict parser read it on the box (bytes); tensors as name, shape, type, offset, bytes."""

    size: int
    data_start: int
    data_bytes: int
    metadata: Mapping[str, Any]
    tensors: tuple[tuple[str, tuple[int, ...], str, int, int], ...]


@dataclass(frozen=True, slots=True)
class GgufOnBox:
    """The artifact's header as it lies on the box, or what is wrong with it."""

    exists: bool
    gguf: GgufHeader | None = None
    malformed: str | None = None


@dataclass(frozen=True, slots=True)
class WeightsOnBox:
    """Safetensors of a folder on the box: ``files`` in bytes, ``tensors`` as type and shape, or what is wrong.

    ``malformed``: a file that is not whole, an index that names what is not there, a file that no index names.
    """

    exists: bool
    files: Mapping[str, int] = field(default_factory=dict)
    tensors: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    malformed: str | None = None


@dataclass(frozen=True, slots=True)
class SessionState:
    """State of the training's session. ``exit_status`` is None while it runs, and when it was killed unheard.

    ``ended_s``: seconds since it ended by the box's own clock, where it has an exit status. Raises
    ValueError when that is no time, or a number is none of a process.
    """

    started: bool
    alive: bool
    pid: int | None
    exit_status: int | None
    ended_s: float | None = None

    def __post_init__(self) -> None:
        if self.ended_s is not None and not 0 <= self.ended_s < math.inf:
            raise ValueError(f"it ended {self.ended_s} seconds ago")
        if any(number is not None and abs(number) >= 1 << 31 for number in (self.pid, self.exit_status)):
            raise ValueError(f"process {self.pid}, exit status {self.exit_status}")

    @property
    def ending(self) -> str:
        """How it ended, for a person: ``was killed``, or ``ended with status 1``."""
        return "was killed" if self.exit_status is None else f"ended with status {self.exit_status}"
