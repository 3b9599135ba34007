"""Proof that a strategy of several processes trains as one process does, judged from what each process saw. Pure.

Nothing here trusts a setting: the wrapped model, gradients, weights, losses and a resumed run are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

WRAPPED = {"single": "PeftModel", "ddp": "DistributedDataParallel"}
"""What ``type(trainer.model_wrapped).__name__`` begins with, by strategy."""

FALLBACK = 'the job trains as the operating rules demand: one process, device_map="auto"'


@dataclass(frozen=True)
class Witness:
    """One process's account of a training: ``grads`` and ``moved`` by lora_B, ``weights`` a SHA-256."""

    rank: int
    world: int
    wrapped: str
    losses: Sequence[float]
    grads: Mapping[str, bool]
    moved: Mapping[str, bool]
    weights: str
    step_s: float
    accelerator: str = "cpu"
    gpu: str = ""


@dataclass(frozen=True)
class Proof:
    """Verdict on a strategy: ``problems`` by name, none when it is proven. ``speedup`` is over the single process."""

    strategy: str
    ranks: int
    problems: Mapping[str, str]
    speedup: float
    losses: Mapping[str, Sequence[float]] = field(default_factory=dict)
    gpus: Sequence[str] = ()
    """GPU of each rank; empty on a CPU."""

    @property
    def proven(self) -> bool:
        """True when the strategy may be used."""
        return not self.problems

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        if self.proven:
            return f"PROVEN: {self.strategy} on {self.ranks} processes, {self.speedup:.2f} times one process"
        told = "; ".join(f"{name}: {why}" for name, why in self.problems.items())
        return f"NOT PROVEN: {self.strategy} on {self.ranks} processes: {told}; {FALLBACK}"


def least_speedup(ranks: int) -> float:
    """Throughput that several GPUs must reach, over one: 3 times on eight, 0.8 of linear otherwise."""
    return 3.0 if ranks == 8 else 0.8 * ranks


def judge(
    strategy: str,
    alone: Witness,
    ranks: Sequence[Witness],
    resumed: Sequence[Witness],
    *,
    tolerance: float,
    demanded: int,
) -> Proof:
    """The verdict on a strategy from a single process, the ranks of a whole run, and those of a resumed one.

    ``tolerance`` is the relative difference of two losses that the dtype explains, ``demanded`` the number of ranks.
    """
    problems: dict[str, str] = {}
    if sorted(one.rank for one in ranks) != list(range(demanded)) or {one.world for one in ranks} - {demanded}:
        problems["ranks_missing"] = f"{len(ranks)} of {demanded} processes told how they trained"
    if not ranks:
        return Proof(strategy, demanded, problems, 0.0)
    _look_at_adapters(problems, ranks)
    other = sorted({one.wrapped for one in ranks if not one.wrapped.startswith(WRAPPED[strategy])})
    if other:
        problems["wrapped_otherwise"] = f"type(trainer.model_wrapped) is {', '.join(other)}, not {WRAPPED[strategy]}"
    if len({one.weights for one in ranks}) > 1:
        problems["ranks_disagree"] = "the adapters of the ranks differ after training"
    for one in ranks:
        if off := _furthest(alone.losses, one.losses, tolerance):
            problems["losses_differ"] = f"rank {one.rank}, {off} in the single process"
            break
    drifted = {one.weights for one in resumed} != {one.weights for one in ranks}
    if drifted or len(resumed) != len(ranks):
        problems["resume_drifts"] = "a run resumed from its checkpoint ends with other weights, or did not end"
    slowest = max(one.step_s for one in ranks)
    speedup = alone.step_s / slowest if slowest > 0 else 0.0
    on_gpus = all(one.accelerator != "cpu" for one in ranks)
    gpus = [one.gpu for one in ranks if one.gpu]
    if len(set(gpus)) < len(gpus):
        problems["gpu_shared"] = f"{len(gpus)} ranks train on {len(set(gpus))} GPUs"
    if strategy != "single" and on_gpus and not speedup >= least_speedup(demanded):
        problems["too_slow"] = (
            f"{speedup:.2f} times the single process, at least {least_speedup(demanded):.1f} is asked"
        )
    losses = {"alone": alone.losses, **{f"rank {one.rank}": one.losses for one in ranks}}
    return Proof(strategy, demanded, problems, speedup, losses, gpus)


def _look_at_adapters(problems: dict[str, str], ranks: Sequence[Witness]) -> None:
    """Every lora_B of every rank has had a gradient, and has moved; an adapter without any is no adapter."""
    for one in ranks:
        without = [name for name, had in one.grads.items() if not had]
        still = [name for name, went in one.moved.items() if not went]
        if without or not one.grads:
            problems.setdefault("lora_b_without_gradient", f"rank {one.rank}: {', '.join(without[:2]) or 'no lora_B'}")
        if still:
            problems.setdefault("lora_b_did_not_move", f"rank {one.rank}: {', '.join(still[:2])}")


def _furthest(alone: Sequence[float], losses: Sequence[float], tolerance: float) -> str:
    """The first loss that is not the single process's within the tolerance; empty when all are, in number too."""
    if len(alone) != len(losses) or not alone:
        return f"{len(losses)} losses, {len(alone)}"
    for step, (wanted, found) in enumerate(zip(alone, losses, strict=True), start=1):
        if not (math.isfinite(found) and abs(found - wanted) <= tolerance * abs(wanted)):
            return f"step {step}: {found:.6g}, {wanted:.6g}"
    return ""
