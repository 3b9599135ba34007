"""Brings a directory's files home while the training runs, so that they survive the box.

One connection, low priority on the box, stopped at once when it is cancelled. The files are first written to
``<name>.incoming``, which gets its name when all of them are verified: a directory without that suffix is whole.
The caller chooses the files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from harness.core import durable
from harness.core.answers import Digest
from harness.core.errors import TransferFailed
from harness.core.observed import Observed
from harness.core.ports import RemoteFile
from harness.core.questions import Answers, DigestOf
from harness.remote.path_safety import safe_relative
from harness.remote.transfer.attempt import Cancelled
from harness.remote.transfer.journal import disk_errors_translated

INCOMING = ".incoming"

Probe = Callable[[list[DigestOf]], Answers]
Fetch = Callable[[RemoteFile, Path], None]


def mirror(
    probe: Probe, fetch: Fetch, files: Mapping[str, str], destination: Path, cancelled: Callable[[], bool]
) -> None:
    """Make ``destination`` the directory that holds ``files``; see ``ports.Host.mirror``."""
    if destination.is_dir():
        return
    if len({name.casefold() for name in files}) < len(files):
        raise TransferFailed(f"two files for {destination.name} are one on a disk that does not tell a from A")
    incoming = destination.with_name(destination.name + INCOMING)
    local = {name: incoming.joinpath(*safe_relative(name).parts) for name in sorted(files)}
    digests = {name: DigestOf(files[name]) for name in local}
    answers = probe([*digests.values()])
    for name, path in local.items():
        if cancelled():
            raise Cancelled(f"the mirror of {destination.name} was cancelled")
        remote = _recorded(files[name], answers[digests[name]])
        fetch(remote, path)
    with disk_errors_translated(destination):
        for stray in {path for path in incoming.rglob("*") if path.is_file()} - set(local.values()):
            durable.remove(stray)  # of an attempt at other files of the same name
        durable.publish(incoming, destination)


def _recorded(path: str, seen: Observed[Digest]) -> RemoteFile:
    """Size and digest of a file as the box has it now. Raises TransferFailed."""
    if seen.value is None or seen.value.sha256 is None:
        raise TransferFailed(f"{path} cannot be recorded: {seen.problem or 'it is gone'}")
    return RemoteFile(path, seen.value.bytes, seen.value.sha256)
