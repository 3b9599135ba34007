"""The verified file, held until its instance is proven gone: open, and under a second name in the job's folder.

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
from harness.context import JobContext
from harness.core import durable, regular_file
from harness.core.errors import Refused
from harness.core.ids import Sha256
from harness.release import release as releases
from harness.release.release import Release


@dataclass(slots=True)
class HeldFile:
    """The file at ``path``, as ``sha256`` names it; ``link`` is its second name, which a file system may not have."""

    path: Path
    sha256: Sha256
    link: Path
    remedy: str
    file: FileIO | None = None
    read: os.stat_result | None = None
    """State of the open file when its bytes were read."""

    def require_size(self, release: Release) -> None:
        """Take hold of the file; raises Refused when it is missing, or seen not to be the released one."""
        self._require(releases.size_problem(release, self.path, self._open()))

    def require_bytes(self, release: Release) -> None:
        """Read every byte now; raises Refused when they are not those that were released, or lie there no longer."""
        self.read = self._state()
        self._require(
            releases.size_problem(release, self.path, self._open())
            or releases.bytes_problem(release, self.path, self._open())
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
            if file is None or self._leads_to(file) or digest.of_open(file).sha256 != self.sha256:
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            aside = arrival.make_way(self.path)
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
        return arrival.is_here(self.path, self.sha256)

    def _require(self, problem: str | None) -> None:
        if problem is not None:
            raise Refused(f"the verified file no longer matches its release: {problem}", remedy=self.remedy)


_STILL_THERE = "The instance still has it: harness run JOB fetches and verifies it again."


@contextlib.contextmanager
def holding(context: JobContext, note: Callable[[str], None], remedy: str = _STILL_THERE) -> Iterator[HeldFile]:
    """The job's verified file, to be held; let go of at the end, unless a request is left whose outcome is not proven.

    ``remedy`` is for a file that is not as it was released. Raises Refused when none is verified.
    """
    verified = context.history.verified
    if verified is None:
        raise Refused("no verified file of this job is recorded")
    held = HeldFile(Path(verified.path), verified.sha256, context.directory / "held" / verified.sha256, remedy)
    held.put_back(note)
    proven = False
    try:
        yield held
        proven = True
    finally:
        try:
            held.put_back(note)
        except OSError as error:
            note(f"{held.path} was taken away, and cannot be put back ({error}): {held.keep()}")
            proven = False
        if held.file is not None:
            held.file.close()
        if proven or not context.history.destroy_intended:
            held.let_go()


def _marks(state: os.stat_result) -> tuple[int, int, int, int]:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
