"""Series for the report's plots, out of the log and the looks that a job recorded. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Final

from harness.core.answers import Gpu, Gpus
from harness.log.grammar import Step, Trainer
from harness.log.summary import LogSummary
from harness.report.model import Along, Curve, Line, Point

MOST: Final = 600
"""Points of a line in a report, at most: more than a plot has room for."""

_LARGEST: Final = 1e100
"""A measure beyond it is no number: sums and differences of two stay finite."""

_GIB: Final = 1024.0
"""MiB in a GiB."""


def thin(points: Sequence[Point], most: int = MOST) -> tuple[Point, ...]:
    """About ``most`` of the points: the lowest, the highest and the first that is no number of each stretch.

    The stretches are of equal length; the first and the last point stay, and so does the order.
    """
    if len(points) <= most:
        return tuple(points)
    length = math.ceil(len(points) / max(1, most // 2 - 1))
    kept = {0, len(points) - 1}
    for start in range(0, len(points), length):
        stretch = range(start, min(start + length, len(points)))
        numbers = [(y, index) for index in stretch if (y := points[index][1]) is not None]
        if numbers:
            kept |= {min(numbers)[1], max(numbers)[1]}
        if len(numbers) < len(stretch):
            kept.add(next(index for index in stretch if points[index][1] is None))
    return tuple(points[index] for index in sorted(kept))


def of_log(trainers: Sequence[Trainer], log: LogSummary | None, missing: str) -> tuple[Curve, ...]:
    """Loss, learning rate and step time of each trainer; ``missing`` says why there is no log."""
    return tuple(
        _curve(
            f"{trainer.upper()} {title}",
            unit,
            Along.STEP,
            {trainer: [(step.step, getattr(step, name)) for step in _steps(log, trainer)]},
            missing or f"no step of {trainer.upper()} is in the log",
        )
        for trainer in trainers
        for title, unit, name in _MEASURES
    )


def of_gpus(looks: Sequence[tuple[float, Gpus]], missing: str) -> tuple[Curve, ...]:
    """Use and memory of the GPUs over time, from looks at epoch seconds; ``missing`` says why there are none."""
    use: dict[str, list[tuple[float, float]]] = {"mean of all GPUs": [], "least used GPU": []}
    memory: dict[str, list[tuple[float, float]]] = {"fullest GPU": [], "its memory": []}
    for at, seen in looks:
        if busy := [gpu.utilization_percent for gpu in seen.gpus if gpu.utilization_percent is not None]:
            use["mean of all GPUs"].append((at, fmean(busy)))
            use["least used GPU"].append((at, min(busy)))
        if (fullest := max(seen.gpus, key=_used, default=None)) is not None and _used(fullest) >= 0:
            memory["fullest GPU"].append((at, _used(fullest) / _GIB))
            memory["its memory"].append((at, (fullest.memory_total_mib or 0) / _GIB))
    none = missing or "the looks at the box told nothing of its GPUs"
    if all(len(seen.gpus) <= 1 for _, seen in looks):
        use.pop("least used GPU")
    return (_curve("GPU use", "%", Along.TIME, use, none), _curve("GPU memory", "GiB", Along.TIME, memory, none))


def evenly(count: int, most: int) -> list[int]:
    """Numbers from 0 to ``count`` - 1, at most ``most`` of them, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})


_MEASURES: Final = (("loss", "nats", "loss"), ("learning rate", "", "lr"), ("step time", "s", "s_per_step"))
"""Title, unit and field of a step for each measure that a training logs."""


def _steps(log: LogSummary | None, trainer: Trainer) -> Sequence[Step]:
    return () if log is None else log.of(trainer).steps


def _used(gpu: Gpu) -> float:
    return -1.0 if gpu.memory_used_mib is None else gpu.memory_used_mib


def _curve(title: str, unit: str, along: Along, lines: dict[str, list[tuple[float, float]]], missing: str) -> Curve:
    drawn = tuple(
        Line(name, thin([(float(x), y if abs(y) < _LARGEST else None) for x, y in points]))
        for name, points in lines.items()
        if points
    )
    return Curve(title, unit, along, drawn, "" if drawn else missing)
