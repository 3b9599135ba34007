"""The course of a training, judged from its logged steps: each question answers with the problem, or None. Pure.

A single value may be sound in a training that does nothing. With fewer steps than ``judged_from_steps`` nothing is
said of the course: what is too short to be judged is no problem yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby, pairwise
from statistics import fmean, median, stdev
from typing import ClassVar, Final

from harness.log.grammar import Schedule, StageComplete, Step, Trainer
from harness.log.summary import LogSummary, TrainerLog

LN_2: Final = math.log(2)
"""DPO's loss (nats) while the policy is its reference: minus the log of sigmoid(0)."""

_FEW: Final = 4
"""Logged values that a statement on a course needs, however many steps lie between them."""

_ROUNDED: Final = 4
"""Digits to which transformers rounds a loss that it logs."""


@dataclass(frozen=True, slots=True)
class CourseLimits:
    """Limits of a course; the defaults hold for any language model, a job may set its own."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    judged_from_steps: int = 20
    """Steps of a trainer that say enough of its course; also the stretch over which a loss must move."""
    max_rise_factor: float = 2.0
    max_rise_nats: float = 0.5
    """The median loss of the newest steps is at most the lowest before it times the factor, and this many nats more."""
    min_loss_nats: float = 1e-5
    """A median loss under it is no learning any more: the labels are masked, or told in the prompt."""
    dpo_start_nats: float = 0.02
    """Distance of DPO's first loss from ln 2 that rounding in bfloat16 explains."""
    dpo_gain_nats: float = 0.001
    """Nats by which the mean of DPO's last losses lies below ln 2, at least; more where those are noisy."""
    lr_tolerance_share: float = 0.02
    """Distance of a logged learning rate from the announced schedule, as a share of its peak."""
    zero_lr_share: float = 0.05
    """Share of a trainer's steps that may be at a learning rate of 0: a warm-up begins there, a decay ends there."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"{field.name} is more than 0")


def too_short(said: TrainerLog, limits: CourseLimits) -> bool:
    """True when the steps that are logged say too little of a course."""
    return said.last is None or len(said.steps) < _FEW or said.last.step < limits.judged_from_steps


def standstill(said: TrainerLog, limits: CourseLimits) -> str | None:
    """A loss that is the same to the last digit over many steps, or that has come down to nothing."""
    if too_short(said, limits):
        return None
    for loss, same in groupby(said.steps, key=lambda step: step.loss):
        run = list(same)
        long = run[-1].step - run[0].step + 1 >= limits.judged_from_steps and len(run) >= _FEW
        if long and math.isfinite(loss) and not (run[0].trainer is Trainer.DPO and loss == round(LN_2, _ROUNDED)):
            return f"the loss is {loss:g}, to the last digit, from step {run[0].step} to step {run[-1].step}"
    newest = median(step.loss for step in _newest(said.steps, limits))
    if newest < limits.min_loss_nats:
        return f"the loss has come down to {newest:.3g}: nothing is left to learn from, or nothing ever was"
    return None


def divergence(said: TrainerLog, limits: CourseLimits) -> str | None:
    """A loss that has gone up for good: single losses are noisy, so medians of many are compared."""
    width = _width(limits)
    losses = [step.loss for step in said.steps if math.isfinite(step.loss)]
    if len(losses) < 2 * width:
        return None
    newest = median(losses[-width:])
    lowest = min(median(losses[end - width : end]) for end in range(len(losses) - width, width - 1, -width))
    # DPO's loss may come close to 0, and a run that falls back to where it began has lost what it learned, not itself.
    base = max(lowest, LN_2) if said.steps[0].trainer is Trainer.DPO else lowest
    most = base * limits.max_rise_factor + limits.max_rise_nats
    if newest > most:
        return f"the median loss of the newest {width} steps is {newest:.4g}; it was {lowest:.4g} before"
    return None


def rate_problem(said: TrainerLog, limits: CourseLimits) -> str | None:
    """A learning rate that is no number, that is 0 for many steps, or that leaves the announced schedule."""
    steps = said.steps
    odd = next((step for step in steps if not math.isfinite(step.lr) or step.lr < 0), None)
    if odd is not None:
        return f"the learning rate of step {odd.step} is {odd.lr}"
    idle = [step for step in steps if step.lr == 0]
    # The first step of a warm-up and the last one of a decay are at 0; a third one belongs to neither.
    if len(idle) > max(2, limits.zero_lr_share * len(steps)):
        return f"the learning rate is logged as 0 at {len(idle)} of {len(steps)} steps, which train nothing"
    if said.schedule is None or (share := _SHARES.get(said.schedule.kind)) is None:
        return None
    for step in steps:
        # Older versions of transformers log the rate that the next step will have.
        both = [said.schedule.peak * share(number, said.schedule, step.total) for number in (step.step - 1, step.step)]
        slack = limits.lr_tolerance_share * said.schedule.peak
        if not min(both) - slack <= step.lr <= max(both) + slack:
            return (
                f"the learning rate of step {step.step} is {step.lr:g}; the announced schedule, {said.schedule.kind} "
                f"to {said.schedule.peak:g} after {said.schedule.warmup_steps} steps, has {both[1]:.3g} there"
            )
    return None


def preference_problem(said: TrainerLog, first_loss: float | None, limits: CourseLimits) -> str | None:
    """DPO that began at another reference than its own start, or that ended without having learned anything."""
    if first_loss is None and said.steps and said.steps[0].step == 1:
        first_loss = said.steps[0].loss
    if first_loss is not None and not abs(first_loss - LN_2) <= limits.dpo_start_nats:
        return f"the first loss is {first_loss:g}, not ln 2 = {LN_2:.4f}: the reference is not where the policy began"
    if said.last is None or too_short(said, limits) or not (said.complete or said.last.step >= said.last.total):
        return None
    late = [step.loss for step in said.steps[-max(_FEW, len(said.steps) // 4) :]]
    noise = stdev(late) / math.sqrt(len(late))
    if not LN_2 - fmean(late) >= max(limits.dpo_gain_nats, noise):
        return (
            f"the loss ends at {fmean(late):.4f} (+-{noise:.4f}), the mean of the last {len(late)} logged steps, "
            f"and began at ln 2 = {LN_2:.4f}: chosen and rejected are told apart no better than before"
        )
    return None


def changed_announcements(log: LogSummary) -> Iterator[str]:
    """Announced totals, batch size, adapter or dtype that became others while the run went on."""
    plans = (*log.earlier_plans, *([log.plan] if log.plan else []))
    for name in _LASTING:
        told = list(dict.fromkeys(getattr(plan, name) for plan in plans))
        if len(told) > 1:
            yield f"{name} was announced as {', then as '.join(map(str, told))}"
    for trainer, said in log.trainers.items():
        numbered: list[Step | StageComplete] = [*said.steps, *([said.complete] if said.complete else [])]
        if plans:
            announced = plans[-1].sft_steps if trainer is Trainer.SFT else plans[-1].dpo_steps
            other = next((one for one in numbered if one.total != announced), None)
            before = f"announced {announced} steps"
        else:
            pair = next(((old, new) for old, new in pairwise(numbered) if old.total != new.total), None)
            other, before = (pair[1], f"counted to {pair[0].total}") if pair else (None, "")
        if other is not None:
            yield f"{trainer} {before}, and step {other.step} counts to {other.total}"


_LASTING: Final = ("sft_steps", "dpo_steps", "batch_size", "lora_r", "lora_alpha", "dtype")
"""Fields of a plan that a run keeps whatever box it goes on on."""


def _width(limits: CourseLimits) -> int:
    return max(_FEW, limits.judged_from_steps // 2)


def _newest(steps: Sequence[Step], limits: CourseLimits) -> Sequence[Step]:
    return steps[-_width(limits) :]


def _rise(number: int, schedule: Schedule) -> float:
    return min(1.0, number / schedule.warmup_steps) if schedule.warmup_steps else 1.0


def _gone(number: int, schedule: Schedule, total: int) -> float:
    """The share of the decay that lies behind a step."""
    return min(1.0, max(0.0, (number - schedule.warmup_steps) / max(1, total - schedule.warmup_steps)))


_SHARES: Final[Mapping[str, Callable[[int, Schedule, int], float]]] = {
    "constant": lambda *_: 1.0,
    "constant_with_warmup": lambda number, schedule, _: _rise(number, schedule),
    "linear": lambda number, schedule, total: _rise(number, schedule) * (1 - _gone(number, schedule, total)),
    "cosine": lambda number, schedule, total: (
        _rise(number, schedule) * (1 + math.cos(math.pi * _gone(number, schedule, total))) / 2
    ),
}
"""Share of the peak at a step, by the name that transformers gives the schedule; others are not judged."""
