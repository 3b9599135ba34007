"""The experiments: each tries one configuration, and answers how what happened differs from what was asked."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from peft import PeftModel
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.checkpoint import checkpoint

from .material import base, equal, free_port, fsdp1, loaded, steps, train, train_saving, with_lora


@dataclass(frozen=True)
class Experiment:
    """One configuration: ``run`` returns how it differs from what was asked, in words; empty when it does not."""

    run: Callable[[], str]
    ranks: int
    limit_s: float
    gpus: int
    needs: str


EXPERIMENTS: dict[str, Experiment] = {}


def experiment(
    ranks: int = 1, limit_s: float = 150.0, gpus: int = 0, needs: str = "torch"
) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Register a function as the experiment of its name; with several ``ranks`` it runs once in each."""

    def register(run: Callable[[], str]) -> Callable[[], str]:
        EXPERIMENTS[run.__name__.replace("_", "-")] = Experiment(run, ranks, limit_s, gpus, needs)
        return run

    return register


@experiment()
def one_process_device_map_auto() -> str:
    """The configuration that the rules demand."""
    base().save_pretrained("base")
    return train(loaded(device_map="auto"), per_device_train_batch_size=32)


@experiment(ranks=2)
def torchrun_ddp_lora() -> str:
    """The environment of a rank as torchrun sets it up, and nothing else."""
    return train(base(), wrapped="DistributedDataParallel")


@experiment(limit_s=180.0, needs="accelerate")
def accelerate_launch_lora() -> str:
    """The launcher itself, which starts this program anew in two processes."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    options = ["--main_process_port", str(free_port()), "--mixed_precision", "no", "--dynamo_backend", "no"]
    done = subprocess.run(
        [*launch, *options, "--num_machines", "1", "--module", "program", "--rank", "torchrun-ddp-lora"],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    told = [json.loads(path.read_text()) for path in sorted(Path().glob("rank-*.json"))]
    if len(told) != 2:
        raise RuntimeError(f"accelerate launch started {len(told)} of 2 processes: {done.stdout[-600:]}")
    for one in sorted(told, key=lambda one: float(one["at"])):
        if one["ended"] == "raised":
            raise RuntimeError(one["said"])
    return next((str(one["said"]) for one in told if one["said"]), "")


@experiment(ranks=2)
def ddp_reentrant_checkpointing() -> str:
    """Reentrant checkpointing runs the backward of a block by itself, under DDP's hooks."""
    return train(
        base(),
        wrapped="DistributedDataParallel",
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": True},
    )


@experiment(ranks=2)
def fsdp_through_trainer() -> str:
    """FSDP as the Trainer's option turns it on."""
    return train(base(), wrapped="FSDP", fsdp="full_shard", fsdp_config={"fsdp_version": 2})


@experiment(ranks=2)
def fsdp1_through_trainer() -> str:
    """Its first version, by the same option."""
    return train(base(), wrapped="FullyShardedDataParallel", fsdp="full_shard", fsdp_config={"fsdp_version": 1})


@experiment(ranks=2)
def fsdp2_lora() -> str:
    """Its second version without a Trainer."""
    dist.init_process_group("gloo")
    model = with_lora(base())
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    return steps(model)


@experiment(ranks=2)
def fsdp1_flat_parameters() -> str:
    """Frozen and trained parameters in one flat parameter."""
    return fsdp1(with_lora(base()), use_orig_params=False)


@experiment(ranks=2)
def fsdp1_two_dtypes() -> str:
    """A base in bfloat16 and an adapter in float32 in one flat parameter."""
    model = with_lora(base().to(torch.bfloat16))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    return fsdp1(model, use_orig_params=True)


@experiment(ranks=2, limit_s=400.0, needs="deepspeed")
def deepspeed_zero_trl() -> str:
    """ZeRO-2. What it compiles goes into this experiment's folder: a lock left elsewhere would hang later runs."""
    zero = {"zero_optimization": {"stage": 2}, "train_micro_batch_size_per_gpu": "auto", "bf16": {"enabled": False}}
    zero |= {"gradient_accumulation_steps": "auto"}
    return train(base(), wrapped="DeepSpeedEngine", deepspeed=zero)


@experiment(ranks=2)
def files_not_ready_on_all_ranks() -> str:
    """Rank 0 prepares a file that rank 1 opens, without a barrier, in the order in which it loses."""
    dist.init_process_group("gloo")
    if dist.get_rank() == 1:
        with contextlib.ExitStack() as later:
            later.callback(dist.barrier)
            return "" if Path("rows.jsonl").read_text(encoding="utf-8") else "rows.jsonl was empty"
    dist.barrier()
    Path("rows.jsonl").write_text('{"text": "buy"}\n', encoding="utf-8")
    return ""


@experiment(gpus=2)
def device_map_none_several_gpus() -> str:
    """The Trainer wraps what it finds on one of several GPUs in DataParallel."""
    base().save_pretrained("base")
    return train(loaded(device_map=None), wrapped="PeftModelForCausalLM")


@experiment(ranks=2)
def device_map_auto_under_launcher() -> str:
    """A map over two places, as auto makes it over several GPUs."""
    base().save_pretrained(folder := f"base-{os.environ['RANK']}")
    places = {"model.embed_tokens": "cpu", "model.layers": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu"}
    return train(loaded(folder, device_map={**places, "lm_head": "disk"}, offload_folder="offload"), wrapped="")


@experiment()
def adapter_loaded_frozen() -> str:
    """An adapter that is loaded at the default, for inference."""
    with_lora(base()).save_pretrained("adapter")
    return train(PeftModel.from_pretrained(base(), "adapter"), lora=False)


def _checkpointed(forward: Callable[..., Any], hidden: Any, **options: Any) -> Any:
    """A layer's forward under reentrant checkpointing, which takes no options by name."""
    return checkpoint(functools.partial(forward, **options), hidden, use_reentrant=True)


@experiment()
def reentrant_checkpointing_by_hand() -> str:
    """Reentrant checkpointing whose inputs need no gradient."""
    model = with_lora(base())
    for layer in model.base_model.model.model.layers:
        layer.forward = functools.partial(_checkpointed, layer.forward)
    return steps(model)


@experiment()
def adapters_disabled() -> str:
    """Steps while the adapter is switched off."""
    model = with_lora(base())
    with model.disable_adapter():
        return steps(model)


@experiment()
def merged_then_trained() -> str:
    """Nothing is left that needs a gradient."""
    return train(with_lora(base()).merge_and_unload(), lora=False)


@experiment()
def resume_without_optimizer() -> str:
    """The same training, resumed from a checkpoint that lacks its optimizer."""
    whole = train_saving(4)
    (Path("out") / "checkpoint-2" / "optimizer.pt").unlink()
    resumed = train_saving(4, resume="out/checkpoint-2")
    return "" if equal(whole, resumed) else "it resumed without a word and trained other weights"


@experiment()
def resume_finished_run() -> str:
    """A training that has reached its last step, resumed."""
    train_saving(4)
    train_saving(4, resume="out/checkpoint-4")
    beyond = [path.name for path in Path("out").glob("checkpoint-*") if int(path.name.rpartition("-")[2]) > 4]
    return f"it trained on, to {beyond[0]} of 4" if beyond else ""
