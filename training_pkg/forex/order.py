"""Which rows a run sees, in which order. Pure: the same numbers give the same order, after any death.

Each epoch is a fresh shuffle. Within one optimizer step the rows stand by length, so that a
micro-batch pads little; the step's rows, and therefore its gradient, are those of the shuffle.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def rows_of_run(lengths: Sequence[int], *, steps: int, batch_size: int, seed: int) -> list[int]:
    """Row indices, ``batch_size`` a step; ``lengths`` are the rows' lengths in tokens."""
    needed = steps * batch_size
    epochs = -(-needed // len(lengths))
    shuffled = np.concatenate(
        [np.random.default_rng([seed, epoch]).permutation(len(lengths)) for epoch in range(epochs)]
    )
    blocks = shuffled[:needed].reshape(steps, batch_size)
    size = np.asarray(lengths)[blocks]
    return [int(row) for row in np.take_along_axis(blocks, np.argsort(-size, axis=1, kind="stable"), axis=1).ravel()]
