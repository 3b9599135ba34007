"""Sends a package: only what differs, resumable, hashed from the box's disk, verified as a whole at the end."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import BadInput, HostUnreachable, TransferFailed
from harness.core.ids import Sha256
from harness.core.ports import Json, OnProgress, Progress
from harness.core.questions import Answers, TreeOf
from harness.core.reading import readable
from harness.remote.box.outputs import OURS, is_written_there
from harness.remote.path_safety import problem_of_remote, safe_relative
from harness.remote.ssh.pipe import CommandPipe

BLOCK = 256 << 10
LINE_LIMIT = 16 << 20
ATTEMPTS = 3
"""Connections that may be cut, one after the other, without the box having kept a single byte more."""


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    local: Path
    size: int
    sha256: Sha256


def send(
    source: Path,
    remote_dir: str,
    files: Mapping[str, Sha256],
    *,
    elsewhere: Mapping[str, Path],
    connect: Callable[[dict[str, Json]], CommandPipe],
    probe: Callable[[TreeOf], Answers],
    on_progress: OnProgress | None = None,
    written: Sequence[str] = (),
) -> None:
    """Make ``remote_dir`` hold exactly ``files``; see ``ports.Host.send``.

    Raises BadInput when a local file is not what the list says, TransferFailed, HostUnreachable.
    """
    odd = problem_of_remote(remote_dir)
    if odd is not None:
        raise BadInput(f"the remote directory {remote_dir[:200]!r} is refused: {odd}")
    wanted = [
        _local(elsewhere.get(path) or source.joinpath(*safe_relative(path).parts), path, digest)
        for path, digest in sorted(files.items())
    ]
    sender = _Sender(remote_dir, wanted, written, on_progress)
    idle = 0
    while True:
        before = sender.kept
        try:
            sender.attempt(connect)
            break
        except HostUnreachable:
            idle = 0 if sender.kept > before else idle + 1
            if idle >= ATTEMPTS:
                raise
    _verify(remote_dir, files, written, probe)


def _local(local: Path, path: str, digest: Sha256) -> _File:
    safe_relative(path)
    with readable(local), local.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        size = os.fstat(file.fileno()).st_size
    if found != digest:
        raise BadInput(f"{local} changed since its digest was taken", remedy="Build the package's manifest again.")
    return _File(path, local, size, digest)


class _Sender:
    """Sends the files that the box lacks; state that outlives a cut connection."""

    def __init__(
        self, remote_dir: str, wanted: list[_File], written: Sequence[str], on_progress: OnProgress | None
    ) -> None:
        self._written = list(written)
        self._remote_dir = remote_dir
        self._wanted = wanted
        self._on_progress = on_progress
        self._total = sum(file.size for file in wanted)
        self._there = 0
        self.kept = 0
        """Most bytes that the box was seen to hold when a connection began."""

    def attempt(self, connect: Callable[[dict[str, Json]], CommandPipe]) -> None:
        files: dict[str, Json] = {file.path: file.sha256 for file in self._wanted}
        pipe = connect({"directory": self._remote_dir, "files": files, "written": list(self._written)})
        try:
            there = _answer(pipe)
            present, staged = there.get("present"), there.get("staged")
            if not isinstance(present, dict) or not isinstance(staged, dict):
                raise TransferFailed("the box answers oddly about what it holds")
            missing = [file for file in self._wanted if present.get(file.path) != file.sha256]
            begun = {file.sha256: _begun(staged.get(file.sha256), file) for file in missing}
            self._there = self._total - sum(file.size for file in missing)
            self.kept = max(self.kept, self._there + sum(begun.values()))
            for file in missing:
                try:
                    self._one(pipe, file, begun.pop(file.sha256, 0))  # of twins, the first uses it up
                except HostUnreachable:
                    pipe.close()
                    _answer(pipe)  # a box that cannot take it has said why before it ended
                    raise
                _answer(pipe)
                self._there += file.size
            self._tell(self._there)
        finally:
            pipe.close()

    def _one(self, pipe: CommandPipe, file: _File, offset: int) -> None:
        header = {
            "path": file.path,
            "bytes": file.size,
            "sha256": file.sha256,
            "offset": offset,
            "executable": os.access(file.local, os.X_OK) and os.name == "posix",
        }
        pipe.write(json.dumps(header).encode() + b"\n")
        with file.local.open("rb") as opened:
            opened.seek(offset)
            left = file.size - offset
            while left:
                data = opened.read(min(left, BLOCK))
                if not data:
                    raise BadInput(f"{file.local} became shorter while it was sent")
                pipe.write(data)
                left -= len(data)
                self._tell(self._there + file.size - left)

    def _tell(self, done: int) -> None:
        if self._on_progress is not None:
            self._on_progress(Progress(done, self._total))


def _begun(staged: object, file: _File) -> int:
    """Bytes of the file that the box says it has."""
    return staged if type(staged) is int and 0 <= staged <= file.size else 0


def _answer(pipe: CommandPipe) -> dict[str, Any]:
    """The next answer. Raises TransferFailed when it tells of a problem or is odd, HostUnreachable without one."""
    line = pipe.read_line(LINE_LIMIT)
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TransferFailed(f"the box answers the upload oddly: {line[:200]!r}") from error
    if not isinstance(answer, dict) or "problem" in answer:
        told = answer.get("problem") if isinstance(answer, dict) else answer
        raise TransferFailed(f"the box cannot take the upload: {str(told)[:500]}")
    return answer


def _verify(
    remote_dir: str, files: Mapping[str, Sha256], written: Sequence[str], probe: Callable[[TreeOf], Answers]
) -> None:
    """Look at the whole directory anew: every file with its digest, and nothing else but what is written there."""
    question = TreeOf(remote_dir, digests=tuple(sorted(files)), without=OURS)
    seen = probe(question)[question]
    if seen.value is None:
        raise TransferFailed(f"what was sent cannot be looked at: {seen.problem}")
    there = {entry.path: entry.sha256 for entry in seen.value.entries}
    found = {path: digest for path, digest in there.items() if path in files or not is_written_there(path, written)}
    if found != dict(files):
        wrong = sorted({path for path, _ in found.items() ^ files.items()})
        raise TransferFailed(f"{remote_dir} does not hold what was sent: {len(wrong)} files differ, first {wrong[:5]}")
