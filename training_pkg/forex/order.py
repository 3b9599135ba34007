"""Rows that a run sees, in their order. Pure: the same numbers give the same order, after any death.

Each epoch is a fresh shuffle. Within one optimizer step the rows stand by length, so that a
micro-batch pads little; the step's rows, and therefore its gradient, are those of the shuffle.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def drawn(rows: int, *, steps: int, rows_a_step: int, seed: int) -> list[int]:
    """Row numbers in the order in which the steps see them: every row once before any row again."""
    needed = steps * rows_a_step
    epochs = -(-needed // rows)
    shuffled = np.concatenate([np.random.default_rng([seed, epoch]).permutation(rows) for epoch in range(epochs)])
    return [int(row) for row in shuffled[:needed]]


def by_length(lengths: Sequence[int], rows_a_step: int) -> list[int]:
    """Positions of samples of these lengths, the longest of each step first; steps keep their samples."""
    steps = np.asarray(lengths).reshape(-1, rows_a_step)
    within = np.argsort(-steps, axis=1, kind="stable")
    return [int(at) for at in (within + np.arange(len(steps))[:, None] * rows_a_step).ravel()]


def dealt(places: Sequence[int], rows_a_step: int, ranks: int) -> list[int]:
    """The same, each step's dealt to the ranks, which take blocks of it in turn: each has rows of every length."""
    hands = np.asarray(places).reshape(-1, rows_a_step // ranks, ranks)
    return [int(at) for at in hands.transpose(0, 2, 1).ravel()]
