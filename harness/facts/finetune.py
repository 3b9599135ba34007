"""The fine-tune in the artifact on the box: its own tensors against base weights and adapter there."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from harness.context import JobContext
from harness.core import canonical
from harness.core.observed import CouldNotLook
from harness.core.questions import Command
from harness.facts import finals
from harness.facts.reading import ask, needed
from harness.remote.probe import program
from harness.remote.probe.typed import typed

_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Carried:
    """One tensor: the share of the adapter's change that it carries (1: all, 0: it is the base model's).

    ``relative_error`` is its distance from the merged weights, ``change`` the size (2-norm) of the adapter's change,
    ``noise`` the standard error of ``projection``, from the quantizer's rounding.
    """

    projection: float
    relative_error: float
    change: float
    noise: float = 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every tensor that the adapter changes, ``elements`` numbers of each, in rows spread evenly over it.

    ``unknown``: what could not be compared, with the reason; ``doubt``: why the base model here may not be the one that
    the adapter was trained on, empty when nothing says so.
    """

    tensors: Mapping[str, Carried]
    unknown: Mapping[str, str]
    doubt: str
    elements: int


@dataclass(frozen=True, slots=True)
class _Told:
    tensors: Mapping[str, tuple[float, float, float, float]]
    unknown: Mapping[str, str]
    doubt: str
    elements: int


def look(context: JobContext) -> Comparison:
    """Compare on the box; raises CouldNotLook."""
    artifact = needed(context.history.artifact, "no artifact was recorded on the box")
    directory = context.job.package.remote_dir
    model = posixpath.relpath(artifact.path, directory)
    text = program.program(program.FINETUNE, {"model": model, "adapter": finals.adapter(context.job), "base": ""})
    python = context.job.package.install[0] if context.job.package.install else "python3"
    comparison = Command((python, "-c", text), directory, _TIMEOUT_S)
    ran = ask(context, comparison, timeout=_TIMEOUT_S + 30)[comparison].get()
    if ran.status != 0:
        raise CouldNotLook(f"the comparison ended with status {ran.status}: {ran.err[-300:]}")
    told = typed(canonical.parse(ran.out), _Told).get()
    tensors = {name: Carried(*numbers) for name, numbers in told.tensors.items()}
    return Comparison(tensors, told.unknown, told.doubt, told.elements)
