"""Run as a program: brings a file home in processes that are killed before every effect on the disk, one after another.

Prints a line of JSON for each death: what it left beside the file, and what the next process left.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.artifacts.parts import Artifact
from harness.core import durable
from harness.core.clock import SystemClock
from harness.core.ids import Sha256
from harness.core.observed import CouldNotLook
from harness.core.ports import OnProgress, RemoteFile
from harness.remote.transfer import download
from harness.remote.transfer.attempt import RemoteDigests
from harness.remote.transfer.streams import Range, RangeStream
from harness.runner import postdownload
from tests.support.context import Telling

CONTENT = bytes(range(256)) * 4096 * 3
REMOTE = RemoteFile("/box/model.gguf", len(CONTENT), Sha256(hashlib.sha256(CONTENT).hexdigest()))
EFFECTS = frozenset({"open", "os.rename", "os.remove", "os.link", "os.chmod", "os.mkdir", "fcntl.flock"})
"""Audit events of Python that touch a file."""


class Bytes(RangeStream):
    """A stream that has every range at hand."""

    def __init__(self, part: Path) -> None:
        self._file = part.open("r+b", buffering=0)

    def ask(self, wanted: Range) -> None:
        """Nothing has to be asked."""

    def receive(self, wanted: Range, arrived: Callable[[int], None]) -> str:
        self._file.seek(wanted.offset)
        arrived(self._file.write(CONTENT[wanted.offset : wanted.offset + wanted.length]))
        return "same"

    def interrupt(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        self._file.close()


class Source:
    """A box that has the file."""

    def connections(self, size: int) -> int:
        return 1 if size else 0

    def open(self, remote: RemoteFile, part: Path, give_up: Callable[[], bool]) -> RangeStream:
        del remote, give_up
        return Bytes(part)

    def digests(self, remote: RemoteFile, chunk: int) -> RemoteDigests:
        raise AssertionError(remote, chunk)


class Host:
    """The box, asked for nothing but the file."""

    def fetch(self, remote: RemoteFile, local: Path, on_progress: OnProgress | None = None) -> None:
        download.fetch(remote, local, Source(), SystemClock(), on_progress=on_progress)

    def probe(self, *_: object) -> Any:
        raise CouldNotLook("it has no companions")


@dataclass
class Context:
    """What the download asks of a job."""

    directory: Path

    def __post_init__(self) -> None:
        self.destination = self.directory / "home"
        self.clock = SystemClock()
        self.history = SimpleNamespace(artifact=Artifact(REMOTE.path, REMOTE.size, REMOTE.sha256), fetched=None)
        copies = self.directory / "copies"
        artifact = SimpleNamespace(second_copy=copies, second_copy_url=None, kind="gguf", remote_dir="final")
        package = SimpleNamespace(remote_dir="/box")
        self.job = SimpleNamespace(artifact=artifact, package=package, unmodified=False)

    def host(self) -> Host:
        return Host()

    def record(self, event: object) -> None:
        """Nobody reads it."""


def bring_home(directory: Path) -> None:
    """The act of the postdownload stage."""
    postdownload.download(Context(directory), Telling())  # type: ignore[arg-type]  # all that it asks for


def in_a_process(directory: Path, dies_at: int | None) -> bool:
    """Run the act in a process of its own; True when it came to its end."""
    child = os.fork()
    if child == 0:
        left = [dies_at]

        def count(event: str, given: tuple[Any, ...]) -> None:
            if left[0] is None or event not in EFFECTS or not any(str(directory) in str(one) for one in given):
                return
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

        sys.addaudithook(count)
        try:
            bring_home(directory)
        except BaseException as error:  # noqa: BLE001 - the status is all that the parent sees
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    if os.WEXITSTATUS(status):
        raise SystemExit(f"the act failed after a death at effect {dies_at}")
    return True


def beside(directory: Path) -> list[str]:
    """Everything that lies where the file or its copy is to lie, and is neither."""
    places = (directory / "home", directory / "copies")
    return sorted(path.name for place in places for path in place.glob("*") if path.name != "model.gguf")


def main(scratch: Path) -> None:
    """Kill before one effect after another until none is left to be killed at."""
    number = 0
    while True:
        directory = scratch / str(number)
        lived = in_a_process(directory, number)
        left = beside(directory)
        in_a_process(directory, None)
        whole = all((directory / place / "model.gguf").read_bytes() == CONTENT for place in ("home", "copies"))
        unfinished = [path.name for path in durable.unfinished(directory / "home" / "model.gguf")]
        sys.stdout.write(
            json.dumps({"left": left, "then": beside(directory), "unfinished": unfinished, "whole": whole})
        )
        sys.stdout.write("\n")
        if lived:
            return
        number += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
