"""Every lesson: what was claimed, in which words it shows itself, and what it forbids. Pure.

``seeds`` are the first user's two documents, ``measured`` what was found when their claims were tried.
The reproducer of a lesson has its name in program/experiments.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from harness.core.errors import BadInput


@dataclass(frozen=True, slots=True)
class Lesson:
    """One claim. ``symptom`` is part of the error word for word; empty where silence, or success, is what is claimed.

    ``forbids`` matches what preflight and launch name when they refuse; empty where they refuse nothing by it.
    """

    name: str
    configuration: str
    source: str
    claim: str
    symptom: str
    forbids: str = ""


_NO_GRAD: Final = "element 0 of tensors does not require grad"

LESSONS: Final[tuple[Lesson, ...]] = (
    Lesson(
        "one-process-device-map-auto",
        'one process, device_map="auto", BATCH_SIZE = 32, LoRA',
        "seeds",
        'Original script with device_map="auto" + HIGH BATCH SIZE: it\'s STABLE, IT WORKS',
        "",
    ),
    Lesson(
        "deepspeed-zero-trl",
        "DeepSpeed ZeRO-2 through TRL's SFTTrainer with LoRA, two processes",
        "seeds",
        "DeepSpeed ZeRO with accelerate - Compatibility issues with TRL",
        "deepspeed",
        forbids=r"deepspeed|zero_optimization",
    ),
    Lesson(
        "fsdp-through-trainer",
        "FSDP (version 2) through TRL's SFTTrainer with LoRA, two processes",
        "seeds",
        "FSDP with PEFT/LoRA - Gradient issues, fails immediately",
        _NO_GRAD,
        forbids=r"fsdp|fullysharded|fully_shard|fairscale",
    ),
    Lesson(
        "fsdp1-through-trainer",
        "FSDP (version 1) through TRL's SFTTrainer with LoRA, two processes",
        "measured",
        "on the CPU version 1 raises",
        "There are currently no available devices found",
    ),
    Lesson("fsdp2-lora", "fully_shard on a LoRA model, two processes, no Trainer", "measured", "it works", ""),
    Lesson(
        "fsdp1-flat-parameters",
        "FullyShardedDataParallel(use_orig_params=False) on a LoRA model, two processes",
        "measured",
        "frozen and trained parameters cannot share one flat parameter",
        "Must flatten tensors with uniform `requires_grad`",
    ),
    Lesson(
        "fsdp1-two-dtypes",
        "FullyShardedDataParallel on a base in bfloat16 with LoRA in float32, two processes",
        "measured",
        "two dtypes cannot share one flat parameter",
        "Must flatten tensors with uniform dtype",
    ),
    Lesson(
        "accelerate-launch-lora",
        "accelerate launch with two processes, SFTTrainer with LoRA",
        "seeds",
        "NO accelerate launch: Causes gradient issues with LoRA",
        _NO_GRAD,
        forbids=r"accelerate|notebook_launcher|debug_launcher|distributed_type",
    ),
    Lesson(
        "device-map-auto-under-launcher",
        "a model that is mapped over several devices, under a launcher with two processes",
        "measured",
        'the two ways to use several GPUs exclude each other: DO NOT REMOVE device_map="auto", and start one process',
        "You can't train a model that has been loaded with `device_map='auto'` in any distributed mode",
    ),
    Lesson(
        "device-map-none-several-gpus",
        "device_map=None in one process that sees several GPUs",
        "seeds",
        "What DOESN'T work (never use): device_map=None with multi-GPU",
        "",
        forbids=r"device_map=None",
    ),
    Lesson(
        "ddp-reentrant-checkpointing",
        "DDP with LoRA and gradient checkpointing with use_reentrant=True, two processes",
        "measured",
        "DDP meets a parameter twice",
        "Expected to mark a variable ready only once",
        forbids=r"use_reentrant=True with ddp_",
    ),
    Lesson(
        "adapter-loaded-frozen",
        "PeftModel.from_pretrained at its default is_trainable=False, then a Trainer",
        "measured",
        "the error that was blamed on launchers",
        _NO_GRAD,
        forbids=r"PeftModel\.from_pretrained without is_trainable",
    ),
    Lesson(
        "reentrant-checkpointing-by-hand",
        "reentrant gradient checkpointing set by hand, the embeddings' output without gradient",
        "measured",
        "the error that was blamed on launchers",
        _NO_GRAD,
        forbids=r"reentrant gradient checkpointing without",
    ),
    Lesson(
        "adapters-disabled",
        "training inside model.disable_adapter()",
        "measured",
        "the error that was blamed on launchers",
        _NO_GRAD,
    ),
    Lesson(
        "merged-then-trained",
        "training after merge_and_unload()",
        "measured",
        "the error that was blamed on launchers",
        _NO_GRAD,
        forbids=r"merge_and_unload before training",
    ),
    Lesson(
        "files-not-ready-on-all-ranks",
        "one rank prepares a file that another opens without a barrier, in the order in which it loses",
        "seeds",
        "Multi-process data loading race conditions - Files not ready on all ranks",
        "FileNotFoundError",
        forbids=r"files not ready on all ranks",
    ),
    Lesson(
        "resume-without-optimizer",
        "resuming from a checkpoint whose optimizer.pt is missing",
        "measured",
        "it resumes silently with different weights",
        "",
    ),
    Lesson("resume-finished-run", "resuming a finished run", "measured", "it silently does steps more", ""),
    Lesson(
        "torchrun-ddp-lora",
        "DDP as torchrun starts it, SFTTrainer with LoRA, two processes",
        "seeds",
        'torchrun DDP with LoRA - "element 0 of tensors does not require grad" error',
        _NO_GRAD,
        forbids=r"torchrun|torch\.distributed|torch\.multiprocessing|DistributedDataParallel|init_process_group"
        r"|WORLD_SIZE|world_size|horovod|mpirun|mpiexec|colossalai",
    ),
)
"""In the order in which a refusal looks for its lesson."""

BY_NAME: Final = {lesson.name: lesson for lesson in LESSONS}


def forbidding(what: str) -> Lesson | None:
    """Lesson by which something that preflight or launch has found is refused; None where it rests on none of these."""
    return next((one for one in LESSONS if one.forbids and re.search(one.forbids, what, re.IGNORECASE)), None)


def named(names: list[str]) -> list[str]:
    """These names, or all; raises BadInput for one that no lesson has."""
    if unknown := [name for name in names if name not in BY_NAME]:
        raise BadInput(f"no lesson is named {', '.join(unknown)}", remedy=f"They are: {', '.join(BY_NAME)}")
    return names or [*BY_NAME]
