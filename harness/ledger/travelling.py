"""Small files of a job that travel with its log: what a gate was judged by, a release, the package as it was staged.

The log names each by its SHA-256, and a store on a server keeps the bytes under that digest, before the event that
names them is written. Another machine, which has the URL and nothing else, finds them there when it opens the job.
What is larger stays where it is: a model and its checkpoints are fetched from the box again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from harness.artifacts import digest, manifest
from harness.core import durable
from harness.core.errors import LogDamaged, StoreFailed
from harness.core.ids import JobName, Sha256
from harness.core.lifecycle import Stage
from harness.core.text import printable
from harness.gates.facts_file import name_of
from harness.ledger.events import GateJudged, Released, Staged
from harness.ledger.history import History
from harness.ledger.kinds import JobEvent
from harness.ledger.store import EventStore

LARGEST: Final = 8 << 20
"""Bytes of a file that travels, at most."""
_PACKAGE_IS_NEEDED: Final = frozenset({Stage.PREFLIGHT, Stage.PROVISION, Stage.UPLOAD, Stage.INSTALL, Stage.LAUNCH})


def keep(store: EventStore, event: JobEvent, directory: Path) -> None:
    """Have the store keep the files of a job's folder that an event is about to name. Raises StoreFailed."""
    for name, sha256 in _named(event):
        path = directory / name
        if not store.shared or not path.is_file() or path.stat().st_size > LARGEST:
            continue
        data = path.read_bytes()
        if digest.of_bytes(data) == sha256:
            store.keep(sha256, data)


def bring(store: EventStore, job: JobName, history: History, directory: Path) -> None:
    """Write the files that the log names and the job's folder lacks. Raises StoreFailed, LogDamaged for other bytes.

    One that the store has not kept stays away: whoever needs it says so.
    """
    for name, sha256 in _wanted(history) if store.shared else ():
        try:
            path = directory / manifest.safe_path(name)
            if path.exists() or (data := store.kept(sha256)) is None:
                continue
            if digest.of_bytes(data) != sha256:
                raise LogDamaged(f"{name} of job {job} in the event store is not the file that the log names")
            path.parent.mkdir(parents=True, exist_ok=True)
            durable.write(path, data)
        except ValueError as error:
            raise LogDamaged(
                f"the log of job {job} names a file that cannot lie in its folder here: {error}"
            ) from error
        except OSError as error:
            raise StoreFailed(f"cannot bring {printable(name, 200)} of job {job} to {directory}: {error}") from error


def _named(event: JobEvent) -> Iterator[tuple[str, Sha256]]:
    """Files that an event names, by their place in the job's folder."""
    match event:
        case GateJudged():
            yield f"evidence/{name_of(event.facts_path)}", Sha256(event.facts_sha256)
        case Released():
            yield name_of(event.path), Sha256(event.sha256)
        case Staged():
            yield from ((f"package/{name}", Sha256(told)) for name, told in event.files.items())


def _wanted(history: History) -> Iterator[tuple[str, Sha256]]:
    """Files that the job may still need of its folder."""
    for gate in history.gates.values():
        yield from _named(gate)
    if history.release_path is not None and history.release_sha256 is not None:
        yield from _named(Released(history.release_path, Sha256(history.release_sha256)))
    if history.staged is not None and history.stage in _PACKAGE_IS_NEEDED:
        yield from _named(history.staged)
