"""``trainer_state.json`` of a checkpoint, in which transformers keeps the records of its steps: the log's own witness.

A log that was put in the place of another one, or that another run wrote on in, tells other losses. Pure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.observed import CouldNotLook
from harness.log.summary import TrainerLog

_ROUNDED = 1e-3
"""Share of a loss by which it may be off: transformers prints four digits of it, version 4 four behind the point."""
_LEAST = 1e-4


@dataclass(frozen=True, slots=True)
class TrainerState:
    """The newest checkpoint's own account: its step, of how many, and the logged losses by step."""

    step: int
    max_steps: int
    losses: Mapping[int, float]
    epochs: float | None = None
    """Times that the trainer has gone through its rows; facts files of earlier versions do not tell."""


def read(data: bytes) -> TrainerState:
    """Parse the file; raises CouldNotLook for one that is not what transformers writes."""
    try:
        told: Any = json.loads(data)
        history = [one for one in told["log_history"] if isinstance(one.get("loss"), int | float)]
        losses = {int(one["step"]): float(one["loss"]) for one in history}
        epochs = None if told.get("epoch") is None else float(told["epoch"])
        return TrainerState(int(told["global_step"]), int(told["max_steps"]), losses, epochs)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CouldNotLook(f"trainer_state.json does not read: {type(error).__name__}") from error


def contradiction(said: TrainerLog, state: TrainerState) -> str | None:
    """The first step of which a log tells another loss than the checkpoint; None when all that both tell agree.

    Raises CouldNotLook where nothing is told by both.
    """
    steps, told = said.steps, state.losses
    if not said.numbered:  # both in their order
        if state.step >= state.max_steps and len(steps) != len(told):
            return f"the log has {len(steps)} records of steps, the checkpoint of step {state.step} has {len(told)}"
        pairs = [(at, one.loss, loss) for one, (at, loss) in zip(steps, told.items(), strict=False)]
    else:
        strange = [step.step for step in steps if step.step <= state.step and step.step not in told]
        if strange:
            return f"the log tells of step {strange[0]}, the checkpoint of step {state.step} has no record of it"
        pairs = [(step.step, step.loss, told[step.step]) for step in steps if step.step in told]
    for at, logged, kept in pairs:
        if not (
            math.isclose(logged, kept, rel_tol=_ROUNDED, abs_tol=_LEAST) or (math.isnan(logged) and math.isnan(kept))
        ):
            return (
                f"the loss of step {at} is {logged:g} in the log, and {kept:g} in the checkpoint of step {state.step}"
            )
    if not pairs:
        raise CouldNotLook("log and checkpoint have no record of a step in common")
    return None
