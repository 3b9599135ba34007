"""The course of a training, judged from its logged steps: each question answers with the problem, or None. Pure.

A single value may be sound in a training that does nothing. With fewer steps than ``judged_from_steps`` nothing is
said of the course: what is too short to be judged is no problem yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby, pairwise
from operator import mul
from statistics import fmean, median
from typing import ClassVar, Final

from harness.core.observed import CouldNotLook
from harness.log.grammar import DPO, EpochsAnnounced, Schedule, StageComplete, Step
from harness.log.summary import LogSummary, TrainerLog

LN_2: Final = math.log(2)
"""DPO's loss (nats) while the policy is its reference: minus the log of sigmoid(0)."""

_FEW: Final = 4
"""Logged values that a statement on a course needs, however many steps lie between them."""

_NO_GAIN: Final = 0.5
_SURE: Final = 2.8
_SURE_OF_FEW: Final = 10.0
"""Standard errors of a gain that is none, and of one that is no noise: more for few steps, whose noise is less known.

In simulated runs, noise alone is sure in fewer than 1 of 100, and a slow gain that shows at all is none in fewer.
"""

_FIRST_ABOVE: Final = 0.1
"""Nats above ln 2 that the mean of DPO's first few losses cannot reach while the policy is near its reference."""

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
    """Nats by which DPO's losses come to lie below ln 2, at least; more where they are noisy."""
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
        if long and math.isfinite(loss) and not (run[0].trainer == DPO and loss == round(LN_2, _ROUNDED)):
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
    base = max(lowest, LN_2) if said.steps[0].trainer == DPO else lowest
    most = base * limits.max_rise_factor + limits.max_rise_nats
    if newest > most:
        return f"the median loss of the newest {width} steps is {newest:.4g}; it was {lowest:.4g} before"
    return None


def rate_problem(said: TrainerLog, limits: CourseLimits) -> str | None:
    """A learning rate that is no number, that is 0 for many steps, or that leaves the announced schedule.

    Raises CouldNotLook for one of which too few digits are printed.
    """
    steps = said.steps
    odd = next((step for step in steps if not math.isfinite(step.lr) or step.lr < 0), None)
    if odd is not None:
        return f"the learning rate of step {odd.step} is {odd.lr}"
    idle, unit = [step for step in steps if step.lr == 0], _rate_unit(steps)
    if unit and len(idle) == len(steps):
        raise CouldNotLook(f"every learning rate is printed as {steps[0].lr:.{steps[0].lr_digits}f}, too short to tell")
    # The first step of a warm-up and the last one of a decay are at 0; a third one belongs to neither.
    if not unit and len(idle) > max(2, limits.zero_lr_share * len(steps)):
        return f"the learning rate is logged as 0 at {len(idle)} of {len(steps)} steps, which train nothing"
    if said.schedule is None or (share := _SHARES.get(said.schedule.kind)) is None:
        return None
    for step in steps:
        # Older versions of transformers log the rate that the next step will have.
        both = [said.schedule.peak * share(number, said.schedule, step.total) for number in (step.step - 1, step.step)]
        slack = limits.lr_tolerance_share * said.schedule.peak + unit / 2
        if not min(both) - slack <= step.lr <= max(both) + slack:
            return (
                f"the learning rate of step {step.step} is {step.lr:g}; the announced schedule, {said.schedule.kind} "
                f"to {said.schedule.peak:g} after {said.schedule.warmup_steps} steps, has {both[1]:.3g} there"
            )
    return None


def _rate_unit(steps: Sequence[Step]) -> float:
    """Unit of the last digit of rates that are all printed to as many digits (``%.4f``); 0 for exact ones.

    A rate of exactly 0 is printed as 0 or 0.0 where digits are not counted.
    """
    digits = {step.lr_digits for step in steps}
    counted = next(iter(digits)) if len(digits) == 1 else None
    return 10.0**-counted if counted is not None and counted > 1 else 0.0


def preference_problem(said: TrainerLog, first_loss: float | None, limits: CourseLimits) -> str | None:
    """DPO that began at another reference than its own start, or that ended without having learned anything.

    Raises CouldNotLook when what it learned may be noise.
    """
    if first_loss is None and said.steps and said.steps[0].step == 1:
        first_loss = said.steps[0].loss
    if first_loss is not None and not abs(first_loss - LN_2) <= limits.dpo_start_nats:
        return f"the first loss is {first_loss:g}, not ln 2 = {LN_2:.4f}: the reference is not where the policy began"
    if said.last is None or too_short(said, limits) or not (said.complete or said.last.step >= said.last.total):
        return None
    return unlearned([LN_2 - step.loss for step in said.steps], "the loss lies", limits)


def margin_problem(said: TrainerLog, margins: Sequence[float], limits: CourseLimits) -> str | None:
    """DPO by the margins that a trainer logs by itself, whatever its kind of loss, once it has ended.

    Raises CouldNotLook when what it learned may be noise, and when its first losses fit no sigmoid loss.
    """
    # Near its start, the sigmoid loss goes down by half of what the margin goes up.
    problem = None
    if said.complete is not None and not too_short(said, limits):
        problem = unlearned([margin / 2 for margin in margins], "half the margin is", limits)
    if problem is None and said.steps and (first := said.steps[0].loss) > LN_2 + _FIRST_ABOVE:
        raise CouldNotLook(f"the first loss is {first:g}: another kind of loss than sigmoid, or another reference")
    return problem


def flat_rewards(said: TrainerLog, flat: int) -> str | None:
    """GRPO and its kin, whose loss tells no course, by the logged steps at which all answers got the same reward."""
    alike = f"all answers of a prompt get the same reward at {flat} of {len(said.steps)} steps"
    return alike if flat * 2 > len(said.steps) else None


def unlearned(gains: Sequence[float], what: str, limits: CourseLimits) -> str | None:
    """Gains over DPO's start, step by step, that are none, or are gone at the end; None where they are beyond doubt.

    They are weighted by their place, for what is learned grows, and held against their own noise. Raises CouldNotLook
    for gains that noise alone may be.
    """
    count = len(gains)
    if count < _FEW:
        raise CouldNotLook(f"{what} logged {count} times")
    weights = range(1, count + 1)
    gain = sum(map(mul, gains, weights)) / sum(weights)
    noise = fmean((after - before) ** 2 for before, after in pairwise(gains)) / 2
    error = math.sqrt(noise * sum(map(mul, weights, weights))) / sum(weights)
    end = fmean(gains[-max(_FEW, count // 4) :])
    seen = f"{what} {gain:.4f} (+-{error:.4f}) better than at its start, {end:.4f} at the end of {count} logged steps"
    if not (gain >= max(limits.dpo_gain_nats, _NO_GAIN * error) and end >= limits.dpo_gain_nats):
        return f"{seen}: chosen and rejected are told apart no better than before"
    if gain < (_SURE + _SURE_OF_FEW / (count - 1)) * error:
        raise CouldNotLook(f"{seen}, which may be noise alone")
    return None


def changed_announcements(log: LogSummary) -> Iterator[str]:
    """Announced totals, batch size, adapter or dtype that became others while the run went on."""
    plans = (*log.earlier_plans, *([log.plan] if log.plan else []))
    for name in _LASTING:
        told = list(dict.fromkeys(_shown(getattr(plan, name)) for plan in plans))
        if len(told) > 1:
            yield f"{name} was announced as {', then as '.join(told)}"
    for trainer, said in log.trainers.items():
        for one in said.other_epochs:
            yield f"{trainer} announced {_of_rows(one)}, then {_of_rows(said.epochs)}"
        numbered: list[Step | StageComplete] = [*said.steps, *([said.complete] if said.complete else [])]
        if plans:
            announced = plans[-1].steps.get(trainer)
            other = next((one for one in numbered if one.total != announced), None)
            before = f"announced {announced or 'no'} steps"
        else:
            pair = next(((old, new) for old, new in pairwise(numbered) if old.total != new.total), None)
            other, before = (pair[1], f"counted to {pair[0].total}") if pair else (None, "")
        if other is not None:
            yield f"{trainer} {before}, and step {other.step} counts to {other.total}"


_LASTING: Final = ("steps", "batch_size", "lora_r", "lora_alpha", "dtype")
"""Fields of a plan that a run keeps whatever box it goes on on."""


def _of_rows(announced: EpochsAnnounced | None) -> str:
    return f"{announced.rows_a_step} rows a step of {announced.rows}" if announced is not None else "nothing"


def _shown(value: object) -> str:
    return ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, Mapping) else str(value)


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
