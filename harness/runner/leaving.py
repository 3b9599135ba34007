"""Teardown: a release for the verified file, the operator's word, and the guard."""

from __future__ import annotations

from pathlib import Path

from harness import durable, guard
from harness import release as releases
from harness.artifacts import digest
from harness.errors import HarnessError
from harness.guard import Confirm
from harness.runner.desk import RunnerDesk
from harness.runner.narrator import Narrator


def teardown(desk: RunnerDesk, narrator: Narrator, confirm: Confirm) -> None:
    """Release the instance and have the guard destroy it; raises Refused or NotProven, as the guard does."""

    def release() -> None:
        if not _has_valid_release(desk):
            _release(desk)

    guard.destroy(desk, confirm, narrator.note, release)


def _has_valid_release(desk: RunnerDesk) -> bool:
    path = desk.history.release_path
    if path is None:
        return False
    try:
        release = releases.read(Path(path))
    except HarnessError:
        return False
    return not releases.problems(release, desk.history, desk.clock.now())


def _release(desk: RunnerDesk) -> None:
    release = releases.statement(desk.history, desk.provider().name, desk.clock.now())
    data = releases.to_json(release)
    path = desk.directory / f"release-{len(desk.history.events)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write(path, data)
    desk.record("released", {"path": str(path), "sha256": digest.of_bytes(data)})
