"""The verified artifact, held until its instance is proven gone: every file open, and under a second name in ``held/``.

Whoever removes or replaces it meanwhile takes a name away and not the bytes: they get their name back. A process that
is killed leaves the second name, and the next one goes on from it. Bytes that are changed in place are changed under
both names: they are read last before the request, and by the teardown gate after it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import cast

from harness.artifacts import arrival, digest
from harness.artifacts.parts import Part
from harness.context import JobContext
from harness.core import durable, regular_file
from harness.core.errors import Refused
from harness.core.ids import Sha256
from harness.release import release as releases
from harness.release.release import Release


@dataclass(slots=True)
class HeldFile:
    """One file, at ``path``; ``link`` is its second name, which a file system may not have.

    ``aside`` is the folder where something else that has its name is kept.
    """

    path: Path
    part: Part
    link: Path
    aside: Path
    remedy: str
    file: FileIO | None = None
    read: os.stat_result | None = None
    """State of the open file when its bytes were read."""

    def require_size(self) -> None:
        """Take hold of the file; raises Refused when it is missing, or seen not to be the released one."""
        self._require(releases.size_problem(self.part, self.path, self._open()))

    def require_bytes(self) -> None:
        """Read every byte now; raises Refused when they are not those that were released, or lie there no longer."""
        self.read = self._state()
        self._require(
            releases.size_problem(self.part, self.path, self._open())
            or releases.bytes_problem(self.part, self.path, self._open())
        )
        self.require_in_place()

    def require_in_place(self) -> None:
        """Raise Refused when the path no longer leads to the bytes that were read, as far as it shows at once."""
        try:
            now = self.path.stat()
        except OSError:
            self._require(f"{self.path} does not exist")
        else:
            as_read = self.read is not None and _marks(now) == _marks(self.read)
            self._require(None if as_read else f"{self.path} was changed while it was looked at")

    def put_back(self, note: Callable[[str], None]) -> None:
        """Give the held bytes their name again when somebody took it away, as long as they are the verified ones."""
        with contextlib.ExitStack() as opened:
            file = self.file
            if self.link.exists():
                file = opened.enter_context(regular_file.opened(self.link))
            if file is None or self._leads_to(file) or digest.of_open(file).sha256 != self.part.sha256:
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            aside = arrival.make_way(self.path, self.aside)
            if self.link.exists():
                os.link(self.link, self.path)
                durable.flush_directory(self.path.parent)
            else:
                durable.copy(file, self.path)
            self.path.chmod(0o444)
        kept = f"; what had its name is kept as {aside.name}" if aside is not None else ""
        note(f"{self.path} was taken away meanwhile: its bytes were held, and are back{kept}")

    def keep(self) -> str:
        """Where the held bytes are kept when they cannot be put back: under the second name, made now at the latest."""
        with contextlib.suppress(OSError):
            if self.file is not None and not self.link.exists():
                durable.copy(self.file, self.link)
        return f"its bytes are in {self.link}" if self.link.exists() else "and nowhere else on this machine"

    def let_go(self) -> None:
        """Give up the second name."""
        if self.link.exists():
            durable.remove(self.link)
            with contextlib.suppress(OSError):
                self.path.chmod(0o444)  # Windows: one flag for both names

    def _hold(self) -> None:
        try:
            self.file = regular_file.opened(self.path)
        except (FileNotFoundError, NotADirectoryError):
            self._require(f"{self.path} does not exist")
        except OSError as error:
            self._require(f"{self.path} cannot be read: {error.strerror or error}")
        with contextlib.suppress(OSError):  # another disk, or one that knows no second names: the open file is the hold
            self.link.parent.mkdir(parents=True, exist_ok=True)
            durable.remove(self.link)
            os.link(self.path, self.link)

    def _open(self) -> FileIO:
        if self.file is None:
            self._hold()
        return cast("FileIO", self.file)

    def _state(self) -> os.stat_result:
        return os.fstat(self._open().fileno())

    def _leads_to(self, file: FileIO) -> bool:
        """True when the path leads to an open file, or to another that was verified to have its bytes."""
        with contextlib.suppress(OSError):
            if os.path.samestat(self.path.stat(), os.fstat(file.fileno())):
                return True
        return arrival.is_here(self.path, self.part.sha256)

    def _require(self, problem: str | None) -> None:
        _require(problem, self.remedy)


@dataclass(frozen=True, slots=True)
class HeldArtifact:
    """The verified artifact at its ``place``: each of its files held; a folder holds them and nothing else."""

    place: Path
    sha256: Sha256
    files: tuple[HeldFile, ...]
    remedy: str

    def require_size(self, release: Release) -> None:
        """Take hold of every file; raises Refused when one is missing, or seen not to be the released one."""
        self._require_nothing_else(release)
        for file in self.files:
            file.require_size()

    def require_bytes(self, release: Release) -> None:
        """Read every byte of every file now; raises Refused when they are not those that were released."""
        for file in self.files:
            file.require_bytes()
        self.require_in_place(release)

    def require_in_place(self, release: Release) -> None:
        """Raise Refused when what lies at the place is not what was read, as far as it shows at once."""
        self._require_nothing_else(release)
        for file in self.files:
            file.require_in_place()

    def put_back(self, note: Callable[[str], None]) -> bool:
        """Give every held file its name again, where somebody took it away; False when one cannot be put back."""
        done = True
        for file in self.files:
            try:
                file.put_back(note)
            except OSError as error:
                note(f"{file.path} was taken away, and cannot be put back ({error}): {file.keep()}")
                done = False
        return done

    def close(self) -> None:
        """Let go of the open files."""
        for file in self.files:
            if file.file is not None:
                file.file.close()

    def let_go(self) -> None:
        """Give up the second names."""
        for file in self.files:
            file.let_go()
            with contextlib.suppress(OSError):  # a folder that still holds others', or that is none
                for above in file.link.parents[: len(Path(file.part.path).parts)]:
                    above.rmdir()

    def _require_nothing_else(self, release: Release) -> None:
        named = release.sha256 == self.sha256
        problem = (
            None if named else f"it is the file with the SHA-256 {self.sha256}, the release names {release.sha256}"
        )
        _require(problem or releases.folder_problem(release, self.place), self.remedy)


def _require(problem: str | None, remedy: str) -> None:
    if problem is not None:
        raise Refused(f"the verified file no longer matches its release: {problem}", remedy=remedy)


_STILL_THERE = "The instance still has it: harness run JOB fetches and verifies it again."


@contextlib.contextmanager
def holding(context: JobContext, note: Callable[[str], None], remedy: str = _STILL_THERE) -> Iterator[HeldArtifact]:
    """The job's verified file, or files, held; let go of at the end, unless a request's outcome is not proven.

    ``remedy`` is for a file that is not as it was released. Raises Refused when none is verified.
    """
    verified, artifact = context.history.verified, context.history.artifact
    if verified is None or artifact is None:
        raise Refused("no verified file of this job is recorded")
    place, second = Path(verified.path), context.directory / "held" / verified.sha256
    # What was verified is held: an artifact that was recorded since is refused by its release.
    parts = artifact.parts if artifact.files else (Part("", verified.size, verified.sha256),)
    files = tuple(HeldFile(part.at(place), part, part.at(second), place.parent, remedy) for part in parts)
    held = HeldArtifact(place, verified.sha256, files, remedy)
    held.put_back(note)
    proven = False
    try:
        yield held
        proven = True
    finally:
        proven = held.put_back(note) and proven
        held.close()
        if proven or not context.history.destroy_intended:
            held.let_go()


def _marks(state: os.stat_result) -> tuple[int, int, int, int]:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
