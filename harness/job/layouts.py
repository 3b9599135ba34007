"""Layouts: how a training lies on GPUs under each strategy, how fast that is beside one GPU, what it rests on. Pure.

A time that was measured under one layout becomes that of another by the two speeds and the GPUs' peaks: no model of
memory, of attention or of a line between GPUs. Where both are the same, nothing is reckoned at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.core.gpu_names import same_model
from harness.job.model import Job


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to use the GPUs of one machine: ``share`` of each one's work is of use, up to that of ``most`` GPUs.

    ``holds_all``: each GPU holds the whole model.
    """

    name: str
    share: float
    most: float
    holds_all: bool
    risk: str

    def speed(self, gpus: int) -> float:
        """Work that is done in the time in which one GPU does 1."""
        return max(1.0, min(self.most, self.share * gpus))


SEEDS = Strategy("seeds", 1.0, 2.5, False, "none of its own, and it needs no proof")
"""The layers spread over the GPUs, in turns: "2.5x faster than single GPU" on eight, by the seeds' own word."""

_PROOF = "needs the proof on the box before the training; what is not proven trains as the seeds' configuration does"
SINGLE = Strategy("single", 1.0, 1.0, True, f"{_PROOF}, which on one GPU is no slower")
DDP = Strategy("ddp", 0.8, 3.0, True, f"{_PROOF}, at that one's time and price on the same machine")
"""A copy of the model on each GPU; at the speed below which its proof fails, not at what it may reach."""

STRATEGIES: Mapping[str, Strategy] = {one.name: one for one in (SEEDS, SINGLE, DDP)}

_PEAKS = {"H200 SXM": 989, "H200 NVL": 835, "H100 SXM": 989, "H100 PCIE": 756, "H100 NVL": 835, "A100": 312}
"""Dense bfloat16 TFLOP/s (NVIDIA's data sheets, sparsity left out); a name without its form is the first one's."""
_ONE = ("H100", "H200")
"""GPUs of which one alone is looked for beside what the job file asks for."""
_ROOM = 0.8
"""Share of a GPU's memory that weights, adapter and optimizer may take where each holds all: the rest is for rows."""


@dataclass(frozen=True, slots=True)
class GpuLayout:
    """A strategy on a number of GPUs of one name."""

    strategy: Strategy
    gpu: str
    gpus: int

    def __str__(self) -> str:
        """The layout in words."""
        return f"{self.strategy.name} on {self.gpus}x {self.gpu}"

    def like(self, other: GpuLayout) -> bool:
        """True for the same strategy on as many GPUs."""
        return (self.strategy, self.gpus) == (other.strategy, other.gpus)

    def same(self, other: GpuLayout) -> bool:
        """True for what needs no reckoning: the same on GPUs of one model."""
        return self.like(other) and same_model(self.gpu, other.gpu)

    def slower(self, than: GpuLayout) -> float | None:
        """Time of this layout for what another one does in 1; None for GPUs that are not known beside each other."""
        ours, theirs = _peak(self.gpu), _peak(than.gpu)
        if same_model(self.gpu, than.gpu):
            ours = theirs = 1.0
        if ours is None or theirs is None:
            return None
        return than.strategy.speed(than.gpus) * theirs / (self.strategy.speed(self.gpus) * ours)


def _peak(gpu: str) -> float | None:
    return next((peak for name, peak in _PEAKS.items() if same_model(name, gpu)), None)


def of(job: Job) -> Strategy:
    """The strategy that a job file asks for: the seeds' when it says nothing."""
    return STRATEGIES[job.training.strategy]


def layout(job: Job, gpu: str = "", *, used: str | None = None) -> GpuLayout:
    """GpuLayout of a job's training on an offer's GPUs by the strategy ``used``; where not given, the job file's."""
    return GpuLayout(of(job) if used is None else STRATEGIES[used], gpu or job.machine.gpu, job.machine.gpus)


def fits(job: Job, needed: float, gpu_ram_mb: float) -> bool:
    """True where a GPU has room for the bytes that each must hold; and where nobody tells its memory."""
    return not of(job).holds_all or not gpu_ram_mb or needed <= gpu_ram_mb * 1e6 * _ROOM


def ways(job: Job) -> tuple[Job, ...]:
    """The job as its file asks for it, and beside it what else its training could be rented for."""
    if not job.is_billed or job.training.accelerator != "cuda":
        return (job,)
    machine, own = job.machine, layout(job)
    names = (*_ONE, *([] if any(same_model(name, machine.gpu) for name in _ONE) else [machine.gpu]))
    all_gpus = [(strategy, machine.gpu, machine.gpus) for strategy in (SEEDS, DDP) if machine.gpus > 1]
    others = [_laid_out(job, GpuLayout(*each)) for each in (*all_gpus, *((SINGLE, gpu, 1) for gpu in names))]
    known = [other for other in others if layout(other).slower(own) is not None]
    return (job, *(other for other in known if not layout(other).same(own)))


def _laid_out(job: Job, wanted: GpuLayout) -> Job:
    machine = job.machine.model_copy(update={"gpu": wanted.gpu, "gpus": wanted.gpus})
    training = job.training.model_copy(update={"strategy": wanted.strategy.name})
    return job.model_copy(update={"machine": machine, "training": training})
