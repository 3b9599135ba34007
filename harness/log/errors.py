"""Lines of a log that speak of an error, by kind, apart from their look-alikes. Pure.

Each row has a cue, which is found in every such line, and often the form that the whole line must have: the
words of an error stand in settings, hints, counts and rows of data as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class ErrorKind(StrEnum):
    """Kind of trouble that a line speaks of."""

    TRACEBACK = "traceback"
    OUT_OF_MEMORY = "out_of_memory"
    NO_SPACE = "no_space"
    STORAGE = "storage"
    NCCL = "nccl"
    XID = "xid"
    CUDA = "cuda"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """A line that speaks of an error, in any part of the log."""

    kind: ErrorKind
    text: str


@dataclass(frozen=True, slots=True)
class _Row:
    """``cue`` is ASCII, and each alternative begins with one letter, rare in text: so a large log is searched fast."""

    kind: ErrorKind
    cue: str
    form: re.Pattern[str] = re.compile("")


_BAR: Final = r".*\[\d+:\d\d(?::\d\d)?<[^\]]*\]\s*"
"""A progress bar of tqdm, behind which the next message stands on the same line."""

_SIGNALS: Final = "Killed|Segmentation fault|Bus error|Aborted|Illegal instruction|Floating point exception"

_SHELL: Final = (
    rf"^(?:{_BAR})?(?:\S+: )?(?:line \d+: +\d+ |\[\d+\][+-]? +(?:\d+ +)?)?(?:{_SIGNALS}|(?<=zsh: )killed)"
    r"(?:: \d+)?(?:\s+\(core dumped\)(?: .*)?|\s{2,}\S.*)?\s*$"
)
"""A shell's report on a child that a signal ended: the name alone, or with the job, the core and the command."""

_ROWS: Final[tuple[_Row, ...]] = (
    _Row(
        ErrorKind.TRACEBACK,
        r"Traceback \(most recent call last\)",
        re.compile(r"(?:^|[\])>:|─-]\s*)Traceback \(most recent call last\):?[\s─╮-]*$"),  # rich draws a box around it
    ),
    _Row(
        ErrorKind.OUT_OF_MEMORY,
        r"f memory|MemoryError|OOMKilled|kill(?:er| event|:)|Cannot allocate memory|DefaultCPUAllocator|bad_alloc"
        r"|CUBLAS_STATUS_ALLOC_FAILED",
        re.compile(
            r"(?:^|[:\]] ?)(?:(?:CUDA|HIP|XPU) |Memory cgroup |MPS backend )?[Oo]ut of memory(?:[.:]| \(| alloc|\s*$)"
            r"|(?:^|[\s.:\]])\w*MemoryError(?:: |\s*$)|Cannot allocate memory(?:\s*$|[:(\[])"
            r"|DefaultCPUAllocator: |std::bad_alloc|CUBLAS_STATUS_ALLOC_FAILED|OOMKilled(?!\W{0,3}[Ff]alse)"
            r"|oom[-_]kill(?: event|:constraint)|invoked oom-killer"
        ),
    ),
    _Row(
        ErrorKind.NO_SPACE,
        r"No space left on device|Disk quota exceeded|ENOSPC|StorageFull|k is full|fail at inline_container",
        re.compile(
            r"(?:^|[^'\"`])(?:No space left|Disk quota|ENOSPC:|kind: StorageFull|database or disk is full|enforce fail)"
        ),
    ),
    _Row(
        ErrorKind.STORAGE,
        r"Read-only file system|Input/output error|Stale file handle|Transport endpoint is not connected",
        re.compile(r"\[Errno \d+\] |: (?:Read-only|Input/output|Stale|Transport)[\w /]+$"),
    ),
    _Row(
        ErrorKind.NCCL,
        r"NCCL (?:WARN|[Ee]rror|operations have failed|communicator)|Watchdog |watchdog |nccl[A-Z]\w*Error"
        r"|beat monitor timed out|DistBackendError",
        re.compile(
            r"^(?!.*NCCL INFO).*?(?:NCCL WARN (?!.*iommu)|NCCL [Ee]rror\b|nccl[A-Z]\w*Error\b"
            r"|[Ww]atchdog (?:caught collective operation timeout|thread terminated with exception|got stuck for)"
            r"|\(either an error or timeout\) detected by watchdog|NCCL operations have failed or timed out"
            r"|NCCL communicator (?:was aborted|encountered)|[Hh]eartbeat monitor timed out|DistBackendError: )"
        ),
    ),
    _Row(
        ErrorKind.XID,
        r"NVRM: Xid|fallen off the bus|uncorrectable ECC error encountered|Unable to determine the device handle",
    ),
    _Row(
        ErrorKind.CUDA,
        r"CUDA (?:[Ee]rror|failure|driver error)|CU(?:DNN|BLAS|SOLVER|SPARSE|FFT)_STATUS_|HIP error"
        r"|vice-side assert|gal memory access",
        # A plan that cuDNN does not support is a warning of torch's, which takes another one.
        re.compile(
            r"^(?!.*Warning: ).*?(?:(?:CUDA|HIP) (?:[Ee]rror|driver error)(?: \([^)]*\))?: ?(?!0\b|none\b|no error)\S"
            r"|CUDA failure\b|device-side assert triggered|illegal memory access was encountered"
            r"|CU(?:DNN|BLAS|SOLVER|SPARSE|FFT)_STATUS_(?!SUCCESS)[A-Z])"
        ),
    ),
    _Row(
        ErrorKind.KILLED,
        rf"{_SIGNALS}|killed|Fatal Python error|minate called|bi: terminating|free(?: or|\(\))|pted (?:size|double)"
        r"|malloc\(\)|k\(\): invalid|k smashing|Process received|SIG|fault at|Segfault|Unexpected bus|DataLoader worker"
        r"|bruptly died|pool was terminated|xit(?:code|s with| code| status)|by signal|Signal \d",
        re.compile(
            rf"{_SHELL}|(?:^|[\])>:|-]\s*)Fatal Python error: |\bterminate called (?:after|without|recursively)"
            r"|libc\+\+abi: terminating|^(?:double free or corruption|free\(\): |\w+\(\): (?:invalid|corrupted)"
            r"|corrupted (?:size|double)|malloc\(\): )|\*\*\* (?:stack smashing|Process received|SIG\w+ received)"
            r"|\bsegfault at [0-9a-f]+ ip |Segfault encountered|Unexpected bus error encountered in worker"
            r"|DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (?:is killed by signal|exited unexpectedly)"
            r"|subprocesses has abruptly died during|process pool was terminated abruptly"
            r"|return code = -\d|exitcode: -\d|[Ee]xit (?:code|status):? 13[479]\b"
            r"|(?:terminated|interrupted) by signal \d|Signal \d+ \(SIG\w+\) received by PID|code=killed, status="
        ),
    ),
)

CUES: Final = "|".join(row.cue for row in _ROWS)
"""Found in every line that ``error_line`` knows, and in few others."""

_ANY_CUE: Final = re.compile(CUES)
_CUES: Final = tuple((re.compile(row.cue), row) for row in _ROWS)
_DATA: Final = re.compile(r"\s*(?:\[\s*)?\{\s*[\"'](?!.*[\"'](?:level|levelname|severity)[\"'])")
"""A row of data, as JSON or as Python writes it, whatever its texts tell; a record of a logger is none."""


def error_line(line: str) -> ErrorLine | None:
    """The error of which a clean line speaks; None when it speaks of none."""
    if _ANY_CUE.search(line) is None or _DATA.match(line):
        return None
    kind = next((row.kind for cue, row in _CUES if cue.search(line) and row.form.search(line)), None)
    return ErrorLine(kind, line) if kind is not None else None
