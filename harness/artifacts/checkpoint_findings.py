"""Findings about a trainer's checkpoint folder, for whoever has one and no job."""

from __future__ import annotations

from pathlib import Path

from harness.artifacts.checkpoint import inspect
from harness.core.finding import Finding
from harness.core.reading import readable


def judge(folder: Path) -> tuple[Finding, ...]:
    """One finding for each thing that going on from the folder needs. Raises BadInput when it cannot be looked into.

    A folder that is not named ``checkpoint-N`` is of whatever step its state says.
    """
    with readable(folder):
        seen = inspect(folder)
    complete = False if seen.problems else None if seen.unread else True
    said = "; ".join((*seen.problems, *seen.unread))
    findings = [
        Finding.of(
            "checkpoint_complete",
            "every file that going on needs is there and whole",
            complete,
            said or f"{len(seen.files)} files, every checksum right",
            "weights and their configuration, optimizer, scheduler, random state, trainer state, arguments",
            remedy="go on from an older checkpoint: files that are missing or damaged cannot be made again"
            if complete is False
            else "let the trainer that wrote it go on from it, or look with its own tools: its form is not read here",
        )
    ]
    if complete:
        unfit = "; ".join(seen.unfit)
        findings.append(
            Finding.of(
                "checkpoint_weights_usable",
                "its weights are numbers that a training can go on from",
                not unfit,
                unfit or "none is NaN, infinite or absurd, and not all are zeros",
                "finite numbers",
                remedy="go on from an older checkpoint, with a lower learning rate if the loss became NaN",
            )
        )
    return tuple(findings)
