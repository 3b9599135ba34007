"""Estimate of a job from its file alone: seconds, USD, bytes on the box's disk. Pure.

The steps and seconds a step are the profile's. For the first user's run (330 SFT steps at 4.4 s,
80 DPO steps at 6 s, 5 minutes of export, 3 of loading) the training comes to 40 minutes and
10.7 USD at 16 USD an hour, which is what he paid: about 40 minutes and about 11 USD. The whole rental,
with setup, download and traffic, comes to 65 minutes and 18 USD: both stand wherever one of them is shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from harness.artifacts import model_shape
from harness.core.money import OWN, for_traffic, usd
from harness.job.model import Job

NOTHING: Mapping[str, int] = MappingProxyType({})
"""No step is done yet."""
_GB = 1e9
_LOOK_S = 300.0
"""Time that another look takes before anything is destroyed: the five minutes of the operating rules."""

_OPTIMIZER_STATES = 2
"""AdamW keeps two moments of every trained weight (torch.optim.AdamW), in the adapter's own fp32."""

_ADAPTER_BYTES = 4
"""PEFT keeps LoRA weights in fp32 and saves them so."""

_HALF_BYTES = 2
"""bfloat16 or float16: how base models are published and merged models are written."""

_DENSE = "LlamaForCausalLM"
"""Architecture whose tensors stand for those of one that is not known."""

_WIDTHS = {"bfloat16": 2, "float32": 4}


@dataclass(frozen=True, slots=True)
class Timeline:
    """Seconds of each part of a job while the instance is billed."""

    setup: float
    load: float
    steps: Mapping[str, float]
    """By trainer."""
    export: float
    download: float
    evaluate: float = 0.0

    @property
    def training(self) -> float:
        """From the launch to the finished file: what the timeline table of the operating rules adds up."""
        return self.load + sum(self.steps.values()) + self.export

    @property
    def total(self) -> float:
        """From the rental to the file at home, and the evaluation that the job asks for."""
        return self.setup + self.training + self.download + self.evaluate


@dataclass(frozen=True, slots=True)
class Cost:
    """USD at the price caps. What is billed by the hour includes the disk while the instance lives."""

    training: float
    hours: float
    traffic: float

    @property
    def total(self) -> float:
        """Everything: the hours from rental to release, and the traffic."""
        return self.hours + self.traffic


@dataclass(frozen=True, slots=True)
class DiskPlan:
    """Bytes that lie on the box's disk when the training ends, and what the disk offers."""

    reserved: int
    base: int
    merged: int
    gguf: int
    checkpoints: int
    size: int

    @property
    def needed(self) -> int:
        """Everything that lies there at once."""
        return self.reserved + self.base + self.merged + self.gguf + self.checkpoints


def timeline(job: Job, done: Mapping[str, int] = NOTHING) -> Timeline:
    """Seconds of each part by the job's own figures, but for the steps that are ``done``, by trainer."""
    limits, training = job.limits, job.training
    return Timeline(
        setup=_setup_s(job),
        load=limits.load_s,
        steps={
            trainer: (steps - done.get(trainer, 0)) * limits.s_per_step[trainer]
            for trainer, steps in training.steps.items()
        },
        export=limits.export_s,
        download=limits.download_s,
        evaluate=limits.evaluate_s if job.package.evaluate else 0.0,
    )


def cost(job: Job, done: Mapping[str, int] = NOTHING) -> Cost:
    """Cost of the job (USD) at its price caps, ``done`` as in ``timeline``.

    Raises BadInput for a model whose sizes cannot be predicted.
    """
    time = timeline(job, done)
    price = job.most_usd_per_hour
    traffic = base_bytes(job) + sent_home_bytes(job)
    return Cost(
        training=usd(time.training, price),
        hours=usd(time.total, price),
        traffic=for_traffic(traffic, job.machine.max_usd_per_gb if job.is_billed else 0.0),
    )


def in_words(job: Job) -> str:
    """The training alone and the whole rental, in minutes and USD at the price caps; raises BadInput as ``cost``."""
    time, paid = timeline(job), cost(job)
    sizes = f"; sizes reckoned as a dense model's: {job.model.architecture} is not known here" if reckoned(job) else ""
    if not job.is_billed:
        told = f"training alone {_minutes(time.training)}; whole job with setup and download {_minutes(time.total)}"
        return f"{told}; {OWN}{sizes}"
    return (
        f"training alone {_minutes(time.training)}, ${paid.training:.2f}; whole rental with setup, download and "
        f"traffic {_minutes(time.total)}, ${paid.total:.2f}; at most ${job.machine.max_usd_per_hour:.2f}/h{sizes}"
    )


def stakes(job: Job, usd_per_hour: float | None = None, *, stopped: bool = False) -> str:
    """Price of training again beside the price of another look, at the rental's price or else the price cap.

    ``stopped``: the instance bills its disk alone while somebody looks.
    """
    price = job.most_usd_per_hour if usd_per_hour is None else usd_per_hour
    again = timeline(job).total
    if not job.is_billed:
        return f"a retrain would take about {_minutes(again)}; to look again costs nothing: {OWN}"
    look = "nothing but its disk" if stopped else f"${usd(_LOOK_S, price):.2f}"
    return (
        f"a retrain would cost about ${usd(again, price):.2f} ({_minutes(again)} at ${price:.2f}/h); "
        f"five more minutes to look again cost {look}"
    )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min"


def _setup_s(job: Job) -> float:
    """Seconds from the rental to the launch, with the proof of a strategy where one is stated."""
    return job.limits.setup_s + (job.package.prove_timeout_s if job.training.strategy != "seeds" else 0.0)


def first_checkpoint_s(job: Job) -> float:
    """Seconds from the rental to the first checkpoint on the disk."""
    first, total = next(iter(job.training.steps.items()))
    steps = min(job.training.checkpoint_every, total)
    return _setup_s(job) + job.limits.load_s + steps * job.limits.s_per_step[first]


def checkpoints_due(job: Job) -> int:
    """Number of checkpoints that the trainers write, the last step's included."""
    every = job.training.checkpoint_every
    return sum(math.ceil(steps / every) for steps in job.training.steps.values())


def disk(job: Job) -> DiskPlan:
    """Bytes that must fit on the instance's disk; raises BadInput for a model whose sizes cannot be predicted."""
    base = base_bytes(job)
    kept = min(checkpoints_due(job), len(job.trainers) * job.training.checkpoints_kept)
    return DiskPlan(
        reserved=int(job.machine.reserved_gb * _GB),
        base=base,
        merged=base if job.artifact.kind == "gguf" else 0,
        gguf=artifact_bytes(job),
        checkpoints=kept * checkpoint_bytes(job),
        size=int(job.machine.disk_gb * _GB),
    )


def base_bytes(job: Job) -> int:
    """The base model's weights as they are published."""
    dense = model_shape.parameters(_shape(job)) * _HALF_BYTES
    return dense if job.artifact.kind == "adapter" else dense * artifact_bytes(job) // _by_its_shape(job)


def artifact_bytes(job: Job) -> int:
    """The artifact's tensor data, to the byte; its header comes to less than a thousandth more.

    Of a model that is ``reckoned``: those of a dense one, and over the job's floor.
    """
    return max(_by_its_shape(job), job.artifact.floor_bytes + 1 if reckoned(job) else 0)


def _by_its_shape(job: Job) -> int:
    if job.artifact.kind == "adapter":
        return model_shape.lora_parameters(_shape(job), job.model.lora_r) * _ADAPTER_BYTES
    if job.artifact.kind == "merged":
        return model_shape.parameters(_shape(job)) * _WIDTHS[job.model.dtype]
    return model_shape.data_bytes(_shape(job), job.artifact.quantization)


def checkpoint_bytes(job: Job) -> int:
    """One checkpoint: the adapter and its optimizer."""
    return model_shape.lora_parameters(_shape(job), job.model.lora_r) * _ADAPTER_BYTES * (1 + _OPTIMIZER_STATES)


def mirrored_bytes(job: Job) -> int:
    """Bytes of one checkpoint that are mirrored while the training goes on."""
    return checkpoint_bytes(job) // (1 if job.training.mirror == "resumable" else 1 + _OPTIMIZER_STATES)


def sent_home_bytes(job: Job) -> int:
    """Bytes that leave the box: the artifact, and every checkpoint that is mirrored."""
    return artifact_bytes(job) + checkpoints_due(job) * mirrored_bytes(job)


def mirror_bytes(job: Job) -> int:
    """Most bytes that the mirror takes on this machine's disk: of each trainer the two newest, and one on its way."""
    return min(checkpoints_due(job), 2 * len(job.trainers) + 1) * mirrored_bytes(job)


def resident_bytes(job: Job) -> int:
    """Bytes that a GPU which holds the whole model needs beside the rows: weights, adapter, optimizer."""
    return base_bytes(job) + checkpoint_bytes(job)


def reckoned(job: Job) -> bool:
    """True for a model whose tensors are not known here, as ``artifact.predict = false`` says: it counts as dense."""
    return not job.artifact.predict and job.model.architecture not in model_shape.FAMILIES


def _shape(job: Job) -> model_shape.ModelShape:
    told = job.model.model_dump()
    if reckoned(job):
        told |= {"architecture": _DENSE, "head_dim": max(1, job.model.hidden_size // job.model.num_attention_heads)}
    return model_shape.from_config(told)
