"""The levers of ``[speed]`` on a trainer: each computes the same sooner, and is left off where the machine cannot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting
from transformers.integrations.liger import apply_liger_kernel

from . import runlog
from .config import Speed

_LAYERWISE = {
    "rope": True,
    "rms_norm": True,
    "swiglu": True,
    "cross_entropy": False,
    "fused_linear_cross_entropy": False,
}
"""Liger's kernels beside TRL's own fused head, which its cross-entropy would replace."""


def arguments(levers: Speed) -> dict[str, Any]:
    """The trainer's arguments that the levers decide."""
    return {
        "optim": "adamw_torch_fused" if levers.fused_optimizer else "adamw_torch",
        "pad_to_multiple_of": levers.pad_to if levers.pad_to > 1 else None,
    }


@contextlib.contextmanager
def applied(trainer: Any, stage: str) -> Iterator[None]:
    """The model with its levers while it trains."""
    levers, on_gpu = trainer.levers, torch.cuda.is_available()
    if levers.kernels:
        if on_gpu and find_spec("liger_kernel"):
            apply_liger_kernel(trainer.model, _LAYERWISE)
        else:
            _left_off(stage, "kernels", "liger-kernel is not installed" if on_gpu else "there is no GPU")
    if levers.compile:
        if on_gpu:
            for layer in _layers(trainer.model):
                layer.compile()
        else:
            _left_off(stage, "compile", "there is no GPU")
    # Without autocast, an input has to be cast to the adapter's own dtype.
    with disable_input_dtype_casting(trainer.model, active=trainer.args.bf16 and not levers.cast_inputs):
        yield


def _layers(model: Any) -> list[torch.nn.Module]:
    """The decoder's layers, which are alike: the longest list of modules in the model."""
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return list(max(lists, key=len, default=()))


def _left_off(stage: str, lever: str, reason: str) -> None:
    runlog.say(runlog.NOTE, stage=stage, text=f"speed.{lever} is left off: {reason}")
