"""The stages of a job's life, in order. Pure.

A stage is entered only when the gate of the one before it has opened.
"""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """A stage of a job's life; each has a gate made of the checks in ``checks/<stage>/``."""

    PREFLIGHT = "preflight"
    PROVISION = "provision"
    UPLOAD = "upload"
    INSTALL = "install"
    LAUNCH = "launch"
    TRAINING = "training"
    POSTTRAIN = "posttrain"
    POSTDOWNLOAD = "postdownload"
    TEARDOWN = "teardown"


ORDER: tuple[Stage, ...] = tuple(Stage)
"""The stages in the order in which a job passes them."""

ADOPTED: tuple[Stage, ...] = (Stage.POSTTRAIN, Stage.POSTDOWNLOAD, Stage.TEARDOWN)
"""Those of a job that took over an instance whose training somebody else has run."""


def following(stage: Stage) -> Stage | None:
    """The stage after this one, or None after the last."""
    position = ORDER.index(stage) + 1
    return ORDER[position] if position < len(ORDER) else None
