"""Brings the newest complete adapter home while the training goes on: a box may die, an adapter here does not."""

from __future__ import annotations

import posixpath

from harness.artifacts import manifest
from harness.errors import HarnessError
from harness.facts.box import BoxCheckpoint, Digest
from harness.facts.checkpoints import problems
from harness.facts.reading import typed
from harness.facts.training import TrainingFacts
from harness.observed import CouldNotLook
from harness.ports import Question, RemoteFile
from harness.runner.desk import RunnerDesk
from harness.runner.narrator import Narrator
from harness.text import printable

_FILES = ("adapter_config.json", "trainer_state.json", "adapter_model.safetensors")
"""The adapter itself comes last: while it is not there, the mirrored checkpoint does not count."""


def mirror_newest(desk: RunnerDesk, seen: TrainingFacts, narrator: Narrator) -> None:
    """Mirror the newest complete checkpoint that is not here yet; a failure is told and tried at the next look."""
    newest = _newest(seen)
    if newest is None:
        return
    trainer, checkpoint = newest
    folder = desk.directory / "mirror" / trainer / f"checkpoint-{checkpoint.step}"
    if (folder / _FILES[-1]).exists():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for remote in _digests(desk, checkpoint):
            name = manifest.safe_path(posixpath.basename(remote.path))
            desk.host().fetch(remote, folder / name)
    except (HarnessError, CouldNotLook, OSError, ValueError) as error:
        narrator.note(f"the adapter of {trainer} step {checkpoint.step} could not be mirrored: {printable(str(error))}")
        return
    desk.record("mirrored", {"trainer": trainer, "step": checkpoint.step})
    narrator.note(f"the adapter of {trainer} step {checkpoint.step} is mirrored here")


def _newest(seen: TrainingFacts) -> tuple[str, BoxCheckpoint] | None:
    for trainer, looked in (("dpo", seen.dpo_checkpoints), ("sft", seen.sft_checkpoints)):
        complete = [checkpoint for checkpoint in looked.value or () if not problems(checkpoint)]
        if complete:
            return trainer, max(complete, key=lambda checkpoint: checkpoint.step)
    return None


def _digests(desk: RunnerDesk, checkpoint: BoxCheckpoint) -> list[RemoteFile]:
    questions = [Question(name, "sha256", {"path": posixpath.join(checkpoint.path, name)}) for name in _FILES]
    answers = desk.host().probe(questions)
    found = []
    for question in questions:
        digest = typed(answers.get(question.id), Digest).get()
        if digest.sha256 is None:
            raise CouldNotLook(f"{question.id} is no longer there")
        found.append(RemoteFile(posixpath.join(checkpoint.path, question.id), digest.bytes, digest.sha256))
    return found
