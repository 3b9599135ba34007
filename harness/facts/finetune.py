"""The fine-tune in the artifact on the box: its own tensors against base weights and adapter there."""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass
from importlib import resources

from harness.context import JobContext
from harness.core import canonical
from harness.core.observed import CouldNotLook
from harness.core.questions import Command
from harness.facts.reading import ask, needed
from harness.remote.probe.typed import typed

_PROJECTIONS = {"ffn_gate": "mlp.gate_proj", "attn_output": "self_attn.o_proj"}
"""Projections that the converter leaves in place (it permutes Llama's q and k) and Q4_K_M stores as Q4_K."""
_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Carried:
    """One sampled tensor: the share of the adapter's change that it carries (1: all, 0: it is the base model's).

    ``relative_error`` is its distance from the merged weights, ``change`` the size (2-norm) of the adapter's change.
    """

    projection: float
    relative_error: float
    change: float


def look(
    context: JobContext, tensors: tuple[tuple[str, tuple[int, ...], str, int, int], ...], data_start: int
) -> dict[str, Carried]:
    """Compare tensors of the first and the last layer, on the box; raises CouldNotLook."""
    artifact = needed(context.history.artifact, "no artifact was recorded on the box")
    directory = context.job.package.remote_dir
    request = {
        "gguf": posixpath.relpath(artifact.path, directory),
        "adapter": "models/output/adapter",
        "base": "",
        "tensors": _sampled(context.job.model.num_hidden_layers, tensors, data_start),
    }
    program = (resources.files("harness.remote.box") / "finetune.py").read_text(encoding="utf-8")
    python = context.job.package.install[0] if context.job.package.install else "python3"
    comparison = Command((python, "-c", program, json.dumps(request)), directory, _TIMEOUT_S)
    ran = ask(context, comparison, timeout=_TIMEOUT_S + 30)[comparison].get()
    if ran.status != 0:
        raise CouldNotLook(f"the comparison ended with status {ran.status}: {ran.err[-300:]}")
    return typed(canonical.parse(ran.out), dict[str, Carried]).get()


def _sampled(
    layers: int, tensors: tuple[tuple[str, tuple[int, ...], str, int, int], ...], data_start: int
) -> list[dict[str, object]]:
    wanted = {
        f"blk.{layer}.{name}.weight": f"model.layers.{layer}.{module}"
        for layer in sorted({0, layers - 1})
        for name, module in _PROJECTIONS.items()
    }
    found: list[dict[str, object]] = [
        {"module": wanted[name], "shape": list(shape), "type": kind, "offset": data_start + offset}
        for name, shape, kind, offset, _ in tensors
        if name in wanted
    ]
    if len(found) != len(wanted):
        raise CouldNotLook(f"the file lacks {', '.join(sorted(wanted)[:3])}")
    return found
