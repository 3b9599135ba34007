"""Proof that a LoRA adapter was trained: every tensor that its configuration makes in the base, and each of them moved.

``lora_B`` starts as zeros; one that is zero after training never received a gradient. An adapter file that lost its
weights on the way is a few hundred kilobytes and parses, and PEFT passes over names that it does not expect.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

from harness.artifacts import adapter_tensors, lora, model_shape, parameters, safetensors
from harness.artifacts.adapter_tensors import Shapes
from harness.artifacts.checkpoint import ADAPTER
from harness.core.errors import BadInput
from harness.core.finding import Finding
from harness.core.reading import whole

CONFIG: Final = "adapter_config.json"
PICKLED: Final = "adapter_model.bin"
_SAVE_AGAIN: Final = "save it again where it was trained: model.save_pretrained, with every process's shards gathered"
_CLAIMS: Final = {
    "adapter_config": (
        f"{CONFIG} is one of a LoRA, and its meaning is known",
        "a LoRA's configuration",
        "train again, or look with the PEFT that wrote it: this kind of adapter is not known here",
    ),
    "adapter_tensors": (
        "every tensor that its configuration makes in the base model is there, in its shape, and nothing else",
        "targets x layers, modules_to_save, trainable tokens, magnitudes and biases as configured",
        _SAVE_AGAIN,
    ),
    "adapter_numbers": (
        "every number in it is one that a training leaves",
        f"finite numbers below {safetensors.MOST}",
        "go on from an older checkpoint, with a lower learning rate if the loss became NaN",
    ),
    "adapter_trained": (
        "every matrix was trained",
        "no matrix of zeros",
        "an adapter that never moved is the base model: look at requires_grad, then train again",
    ),
}
"""Findings by their id: what is claimed, what is expected, and what to do when it does not hold."""


@dataclass(frozen=True, slots=True)
class AdapterFindings:
    """Contents of one adapter: ``problems`` of what is damaged, ``doubts`` about what could not be judged."""

    parameters: int
    rank: int
    matrices: int
    problems: tuple[str, ...]
    doubts: tuple[str, ...] = ()


@dataclass(slots=True)
class _Look:
    """One look at an adapter, filled claim by claim."""

    config: lora.Lora | None = None
    entries: tuple[safetensors.TensorEntry, ...] = ()
    problems: dict[str, list[str]] = field(default_factory=dict)
    doubts: dict[str, list[str]] = field(default_factory=dict)
    has_weights: bool = True

    def problem(self, claim: str, said: str) -> None:
        self.problems.setdefault(claim, []).append(said)

    def doubt(self, claim: str, said: str) -> None:
        self.doubts.setdefault(claim, []).append(said)

    def read(self, config: Any) -> lora.Lora:
        """Read what ``adapter_config.json`` holds; raises ValueError or RecursionError as ``lora.read``."""
        self.config = lora.read(config)
        for name in self.config.unknown:
            self.doubt("adapter_config", f"{CONFIG} uses {name}, which is not known here")
        return self.config

    def said(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Every problem, and every doubt."""
        return tuple(chain(*self.problems.values())), tuple(chain(*self.doubts.values()))


def inspect(directory: Path, base: Mapping[str, Any] | None = None, *, base_matters: bool = True) -> AdapterFindings:
    """Look into a directory with ``adapter_model.safetensors`` and ``adapter_config.json``.

    ``base`` is the base model's ``config.json``; that it is not known is no doubt where it does not matter. Raises
    BadInput when a file is not there or cannot be read; a damaged one is a problem that is reported.
    """
    look = _look(directory, base)
    if not look.has_weights:
        raise BadInput(f"{directory / ADAPTER} is not there")
    if base is None and not base_matters:
        look.doubts.pop("adapter_tensors", None)
    problems, doubts = look.said()
    return AdapterFindings(
        parameters=sum(math.prod(entry.shape) for entry in look.entries),
        rank=look.config.rank if look.config else 0,
        matrices=sum("lora_" in entry.name for entry in look.entries),
        problems=problems,
        doubts=doubts,
    )


def mismatches(
    config: Any, base: Mapping[str, Any], tensors: Mapping[str, tuple[str, tuple[int, ...]]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """How tensors, by type and shape, differ from those that a configuration makes in the base; and doubts about that.

    ``config`` is what ``adapter_config.json`` holds.
    """
    look = _Look(entries=tuple(safetensors.TensorEntry(name, *one, 0, 0) for name, one in tensors.items()))
    try:
        read = look.read(config)
    except (ValueError, RecursionError) as error:
        return (), (f"{CONFIG}: {str(error) or type(error).__name__}",)
    _judge_names(look, read, base)
    return look.said()


def base_of(config: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Base model that an ``adapter_config.json`` names, and its revision; the hub's cache has both in its paths."""
    named, revision = (config.get(key) for key in ("base_model_name_or_path", "revision"))
    named = named.rstrip("/\\") if isinstance(named, str) and named else None
    revision = revision if isinstance(revision, str) and revision else None
    cached = _CACHED.search(named or "")
    return (cached[1].replace("--", "/"), revision or cached[2]) if cached else (named, revision)


_CACHED: Final = re.compile(r"(?:^|[/\\])models--([^/\\]+)[/\\]snapshots[/\\]([^/\\]+)$")


def judge(folder: Path, base_config: Mapping[str, Any] | None) -> tuple[Finding, ...]:
    """Findings about an adapter's folder, that of its configuration first, weights that are missing among them.

    Raises BadInput when a file cannot be read.
    """
    look = _look(folder, base_config)
    found = []
    for name, (claim, expected, remedy) in _CLAIMS.items():
        problems, doubts = look.problems.get(name, []), look.doubts.get(name, [])
        unread = name != "adapter_config" and not look.entries and not problems
        holds = False if problems else None if doubts or unread else True
        seen = "; ".join((problems or doubts)[:3]) or ("see above" if unread else f"{len(look.entries)} tensors")
        unknown = "name the base model's directory with --config" if name == "adapter_tensors" else remedy
        found.append(Finding.of(name, claim, holds, seen, expected, remedy=remedy if holds is False else unknown))
    return tuple(found)


def _look(directory: Path, base: Mapping[str, Any] | None) -> _Look:
    look = _Look()
    path = directory / CONFIG
    try:
        config = look.read(json.loads(whole(path, model_shape.MAX_CONFIG_BYTES).decode("utf-8")))
    except (ValueError, RecursionError) as error:
        kind = look.doubt if "peft_type" in str(error) else look.problem
        kind("adapter_config", f"{CONFIG}: {str(error) or type(error).__name__}")
        return look
    file = directory / ADAPTER
    try:
        look.entries = safetensors.parse(file)
        if not look.entries:
            look.problem("adapter_tensors", f"{ADAPTER} holds no tensor")
            return look
        _judge_numbers(look, file)
    except FileNotFoundError:
        look.has_weights = False
        if (directory / PICKLED).is_file():
            look.doubt("adapter_tensors", f"{PICKLED} is a pickle, which is not read here: save it as {ADAPTER}")
        else:
            look.problem("adapter_tensors", f"{ADAPTER} is not there")
        return look
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror or error}") from error
    except safetensors.SafetensorsError as error:
        look.problem("adapter_tensors", f"{ADAPTER}: {error}")
        return look
    _judge_names(look, config, base)
    return look


def _judge_numbers(look: _Look, file: Path) -> None:
    for entry, values in safetensors.scan(file):
        name = entry.name[:160]
        if entry.dtype not in safetensors.FLOATS:
            look.problem("adapter_tensors", f"{name} is {entry.dtype}, not of floating point")
        elif 0 in entry.shape:
            look.problem("adapter_tensors", f"{name} is empty")
        elif values.odd:
            look.problem("adapter_numbers", f"{name} holds NaN, infinity or numbers of {safetensors.MOST} and more")
        elif values.zero and name.endswith((".lora_B.weight", ".lora_embedding_A")):
            look.problem("adapter_trained", f"{name} is all zeros: it never received a gradient")
        elif values.zero and not name.endswith(".bias"):
            look.problem("adapter_numbers", f"{name} is all zeros")
        elif values.hole and name.endswith(".lora_A.weight"):
            look.problem("adapter_numbers", f"{name} has a run of zeros in it: bytes are lost")


def _judge_names(look: _Look, config: lora.Lora, base: Mapping[str, Any] | None) -> None:
    """Hold the file's names and shapes against those that the configuration makes in the base model."""
    there = {entry.name: entry.shape for entry in look.entries}
    if config.unknown:
        return
    wanted, allowed = _expected(look, config, base, there)
    missing = sorted(wanted.keys() - there.keys())
    strange = sorted(there.keys() - wanted.keys() - allowed.keys())
    if missing:
        look.problem("adapter_tensors", f"{len(missing)} of {len(wanted)} tensors are missing, {missing[0]}")
    if strange:
        look.problem("adapter_tensors", f"PEFT passes over {len(strange)} tensors, {strange[0][:160]}")
    for name, shape in there.items():
        right = wanted.get(name) or allowed.get(name) or shape
        # The number of tokens may have been changed; -1 stands for it.
        if len(shape) != len(right) or any(one not in (-1, given) for one, given in zip(right, shape, strict=True)):
            stated, due = " x ".join(map(str, shape)) or "a lone number", " x ".join(map(str, right))
            look.problem("adapter_tensors", f"{name[:160]} is {stated}, expected {due}")


def _expected(look: _Look, config: lora.Lora, base: Mapping[str, Any] | None, there: Shapes) -> tuple[Shapes, Shapes]:
    """Tensors that must be there and those that may, as far as the base model is known."""
    try:
        if base is not None:
            return adapter_tensors.expected(config, parameters.of(model_shape.from_config(base)))
        look.doubt("adapter_tensors", "the base model is not known, so no module of it can be missed")
    except BadInput as error:
        look.doubt("adapter_tensors", f"the base model's modules cannot be told: {error}")
    return adapter_tensors.consistent(config, there)
