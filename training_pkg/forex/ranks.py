"""Ranks of a training: one process as a rule, or as many as torchrun started, each with a GPU of its own.

A rank sees one GPU, so ``device_map="auto"`` puts its whole model there. The first rank writes, prepares and exports;
with one process every answer here is that process's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, MutableMapping
from typing import Any

from .errors import TrainingDefect


def rank() -> int:
    """Number of this process among the ranks."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many ranks there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def first() -> bool:
    """True in the rank that writes what there is to be once."""
    return rank() == 0


def see_one_gpu(environment: MutableMapping[str, str]) -> None:
    """Leave this rank the one GPU of the visible ones that is its own; before torch looks at them."""
    if environment.get("WORLD_SIZE", "1") != "1":
        own = int(environment["LOCAL_RANK"])
        visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
        environment["CUDA_VISIBLE_DEVICES"] = visible[own] if own < len(visible) and visible != [""] else str(own)


def meet() -> None:
    """Come together with the other ranks, if there are any: from here on they can wait for each other."""
    if world() > 1:
        import torch  # noqa: PLC0415 - one process needs none for this
        from accelerate import PartialState  # noqa: PLC0415

        PartialState(cpu=not torch.cuda.is_available())


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """The first rank does it, and only then the others: what it prepares is ready for all."""
    if not first():
        _wait()
    yield
    if first():
        _wait()


def gathered(own: Any) -> list[Any]:
    """Answers of all ranks, in their order; every rank has to ask."""
    if not _together():
        return [own]
    from torch import distributed  # noqa: PLC0415

    told: list[Any] = [None] * world()
    distributed.all_gather_object(told, own)
    return told


def require_wrapped(model: Any) -> None:
    """Raise TrainingDefect for a model whose ranks would each train one of their own."""
    if world() > 1 and type(model).__name__ != "DistributedDataParallel":
        raise TrainingDefect(f"{world()} ranks train a {type(model).__name__}, whose gradients nobody adds up")


def part() -> None:
    """Go on alone: what the first rank does from here takes minutes, and no other waits for it."""
    if _together():
        from torch import distributed  # noqa: PLC0415

        _wait()
        distributed.destroy_process_group()


def _wait() -> None:
    if _together():
        from torch import distributed  # noqa: PLC0415

        distributed.barrier()


def _together() -> bool:
    if world() == 1:
        return False
    from torch import distributed  # noqa: PLC0415

    return distributed.is_initialized()
