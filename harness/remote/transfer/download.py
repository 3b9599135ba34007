"""Brings one file home: ranges over several connections into a preallocated file, verified from the local disk.

The order: a chunk's bytes are written, the disk has them, the journal notes the chunk, the whole file is hashed
from the disk behind the last noted chunk, and only when the digest equals the recorded one the file gets its name.
When it does not, the box's own list of chunk digests tells which chunks to fetch again. A cut loses nothing that
was received: the rest of the range is asked for on a new connection.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from harness.core import durable
from harness.core.errors import BadInput, RemoteChanged, TransferFailed
from harness.core.ports import Clock, OnProgress, RemoteFile
from harness.remote.path_safety import REMEDY, refused
from harness.remote.transfer.attempt import DEFAULT_LIMITS, DownloadAttempt, RemoteDigests, Source, TransferLimits
from harness.remote.transfer.journal import Journal, disk_errors_translated

ROUNDS = 4
"""Attempts, each at the chunks that are missing or wrong, before the transfer is given up."""


def fetch(
    remote: RemoteFile,
    destination: Path,
    source: Source,
    clock: Clock,
    *,
    on_progress: OnProgress | None = None,
    limits: TransferLimits = DEFAULT_LIMITS,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Fetch ``remote`` to ``destination``; see ``ports.Host.fetch``. Raises Cancelled once ``cancelled`` says so."""
    told = refused(remote.path)
    if told is not None:
        raise BadInput(told, remedy=REMEDY)
    if remote.size < 0:
        raise TransferFailed(f"the remote file {remote.path[:200]!r} is refused: its size is negative")

    def attempt(journal: Journal) -> str:
        return DownloadAttempt(journal, source, clock, limits).run(on_progress or (lambda _: None), cancelled)

    with disk_errors_translated(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        with durable.sole_writer(destination) as alone:
            if not alone:
                raise TransferFailed(
                    f"another process is fetching {destination}",
                    remedy="Let it finish, or end it; then run the command again.",
                )
            _fetch(Journal(remote, destination), source, attempt)
        durable.sweep(destination)


def _fetch(journal: Journal, source: Source, attempt: Callable[[Journal], str]) -> None:
    remote = journal.remote
    if is_whole(journal.destination, remote):
        journal.end()
        return
    journal.open()
    for _ in range(ROUNDS):
        try:
            digest = attempt(journal)
        except RemoteChanged:
            _unchanged(journal, source)  # touched or replaced by the same bytes: go on
            continue
        if digest == remote.sha256:
            journal.publish()
            return
        journal.forget(_wrong_chunks(journal, _unchanged(journal, source)))
    raise TransferFailed(
        f"{remote.path} does not arrive as recorded in {ROUNDS} attempts: it is touched or damaged anew each time"
    )


def is_whole(destination: Path, remote: RemoteFile) -> bool:
    """True when the local file has the remote one's size and digest. Raises TransferFailed when it cannot be read."""
    try:
        if destination.stat().st_size != remote.size:
            return False
        with destination.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == remote.sha256
    except FileNotFoundError:
        return False
    except OSError as error:
        raise TransferFailed(f"{destination} cannot be read: {error.strerror or error}") from error


def _unchanged(journal: Journal, source: Source) -> RemoteDigests:
    """Digests on the box, where the file must still be the recorded one: else drop what came, raise RemoteChanged."""
    now = source.digests(journal.remote, journal.chunk)
    if now.whole != journal.remote.sha256 or len(now.chunks) != journal.count:
        journal.discard()
        raise RemoteChanged(
            f"{journal.remote.path} on the box has the SHA-256 {now.whole}; recorded was {journal.remote.sha256}"
        )
    return now


def _wrong_chunks(journal: Journal, now: RemoteDigests) -> list[int]:
    """Chunks of the local file that differ from the box's. Raises TransferFailed when none does."""
    with disk_errors_translated(journal.part), journal.part.open("rb") as file:
        found = [hashlib.sha256(file.read(journal.span(index)[1])).hexdigest() for index in range(journal.count)]
    wrong = [index for index in range(journal.count) if found[index] != now.chunks[index]]
    if not wrong:
        raise TransferFailed(
            f"the box contradicts itself about {journal.remote.path}: every chunk is as it says, the whole is not",
            remedy="Do not trust this box's digests; look at the file there before anything is destroyed.",
        )
    return wrong
