"""DPO that learned nothing does not pass by chance, and one that learns slowly is not called idle: both simulated."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable

import pytest

from harness.core.observed import CouldNotLook
from harness.log.course import LN_2, CourseLimits, unlearned

LIMITS = CourseLimits()
Growth = Callable[[float], float]


def verdict(gains: list[float]) -> str:
    try:
        return "idle" if unlearned(gains, "the loss lies", LIMITS) else "learned"
    except CouldNotLook:
        return "unsure"


def simulated(rng: random.Random, steps: int, every: int, noise: float, growth: Growth = lambda _: 0.0) -> list[float]:
    """Gains of a run, each the mean of ``every`` steps and rounded as transformers does; its noise is a bit skewed."""
    losses = []
    for step in range(1, steps + 1):
        drawn = rng.gauss(0, noise)
        losses.append(LN_2 - growth(step / steps) + drawn + 0.1 * (drawn * drawn / noise - noise))
    means = [math.fsum(losses[at : at + every]) / every for at in range(0, steps, every)]
    return [LN_2 - round(mean, 4) for mean in means]


def counted(seed: int, runs: int, *run: object, **more: object) -> Counter[str]:
    rng = random.Random(seed)
    return Counter(verdict(simulated(rng, *run, **more)) for _ in range(runs))  # type: ignore[arg-type]  # passed on


@pytest.mark.parametrize(("steps", "every"), [(80, 1), (80, 10), (80, 20), (24, 1), (20, 5), (330, 1)])
@pytest.mark.parametrize("noise", [0.003, 0.05])
def test_noise_alone_passes_in_fewer_than_one_of_a_hundred_runs(steps: int, every: int, noise: float) -> None:
    runs = 1500 if steps < 100 else 500
    found = counted(steps + every, runs, steps, every, noise)
    assert found["learned"] < 0.01 * runs, found
    assert found["idle"] > found["unsure"]


@pytest.mark.parametrize(
    "growth",
    [
        lambda share: 0.03 * share,
        lambda share: 0.03 * min(1.0, 5 * share),
        lambda share: 0.03 * max(0.0, 2 * share - 1),
        lambda share: 0.03 / (1 + math.exp(-10 * (share - 0.5))),
    ],
    ids=["evenly", "early", "late", "in between"],
)
@pytest.mark.parametrize(("steps", "every"), [(80, 1), (80, 10), (330, 1)])
def test_a_run_that_learns_slowly_is_called_idle_in_fewer_than_one_of_a_hundred(
    steps: int, every: int, growth: Growth
) -> None:
    runs = 1000 if steps < 100 else 300
    found = counted(steps + every, runs, steps, every, 0.02, growth)
    assert found["idle"] < 0.01 * runs, found
    assert found["learned"] > found["unsure"]


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([0.0] * 40, "idle"),
        ([0.0005] * 40, "idle"),
        ([0.002] * 40, "learned"),
        ([0.0, 0.1, 0.2, 0.3, 0.3, 0.2, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0], "idle"),
        ([-0.1 * step for step in range(40)], "idle"),
        ([0.1] * 39 + [math.nan], "idle"),
        ([0.3, 0.3, 0.3], "unsure"),
        ([0.02, -0.02] * 20 + [0.02] * 6, "unsure"),
    ],
    ids=["still", "next to nothing", "little and sure", "lost again", "worse", "no number", "three values", "noise"],
)
def test_what_is_learned_is_there_at_the_end_and_more_than_noise(gains: list[float], expected: str) -> None:
    assert verdict(gains) == expected
