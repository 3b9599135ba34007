"""What the probe answers, as types: files, processes, GPUs, disks, checkpoints on the box."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.core.ids import Sha256


@dataclass(frozen=True, slots=True)
class FileStat:
    """A path on the box; sizes in bytes, times in seconds since the epoch by the box's clock."""

    exists: bool
    kind: str = "none"
    bytes: int = 0
    mtime: float = 0.0
    is_symlink: bool = False


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
    """A file's SHA-256 as the box computed it."""

    exists: bool
    bytes: int = 0
    mtime: float = 0.0
    sha256: Sha256 | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """The beginning of a text file on the box."""

    exists: bool
    bytes: int = 0
    text: str = ""
    truncated: bool = False


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
class Growth:
    """A file's size in bytes before and after a moment of waiting."""

    exists: bool
    before: int = 0
    after: int = 0


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


@dataclass(frozen=True, slots=True)
class Attempt:
    """One of several looks inside one answer: a value, why the file is damaged, or why it could not be read."""

    value: Any = None
    malformed: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class BoxCheckpoint:
    """A directory ``checkpoint-<step>`` on the box: its files (bytes) and which of them parse."""

    path: str
    step: int
    mtime: float
    files: Mapping[str, int]
    parsed: Mapping[str, Attempt]
    global_step: Attempt
