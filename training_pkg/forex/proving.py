"""The proof of a strategy on this machine: the base's shape cut to a few layers, trained alone, by all ranks, resumed.

``python3 -m forex.proving --strategy ddp --ranks 8`` writes ``models/proof.json``, and ends with 0 when the strategy is
proven and with 1 when the job falls back. Libraries are imported once; each rank is a fork in a process group of its
own, and ends with the limit.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import admission, config, durable, hub, proof, ranks

STEPS, SAVED_AT = 6, 3
_BATCH, _TOKENS = 16, 16
"""Rows of a step over all ranks, and tokens of the longest, on a CPU; a GPU gets those of the training."""
_LAYERS = 2
_TOLERANCE = {"float32": 1e-3, "bfloat16": 3e-2}
_LAUNCHERS = ("ACCELERATE_", "FSDP_", "DEEPSPEED_", "TORCHELASTIC_", "MASTER_", "WORLD_SIZE", "RANK", "LOCAL_")


def build(settings: dict[str, Any], folder: Path, resume: Path | None) -> Any:
    """The trainer of a proof, as each rank makes it: the training's own, rows of several lengths, no dropout.

    ``resume`` is the checkpoint that it will go on from: the same trainer is made with it and without.
    """
    del resume
    import torch  # noqa: PLC0415 - the parent needs none
    from datasets import Dataset  # noqa: PLC0415
    from peft import LoraConfig  # noqa: PLC0415
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: PLC0415
    from trl import SFTConfig  # noqa: PLC0415

    from . import trainers, training  # noqa: PLC0415
    from .microbatch import Drawn  # noqa: PLC0415

    torch.manual_seed(7)
    world = ranks.world()
    shape = AutoConfig.from_pretrained(settings["base"])
    shape.num_hidden_layers = min(_LAYERS, shape.num_hidden_layers)
    if getattr(shape, "layer_types", None):
        shape.layer_types = shape.layer_types[: shape.num_hidden_layers]
    on_gpu = torch.cuda.is_available()
    batch, tokens = (settings["batch"], settings["tokens"]) if on_gpu else (_BATCH, _TOKENS)
    with torch.device("cuda" if on_gpu else "cpu"):
        model = AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16 if on_gpu else torch.float32)
    most = min(shape.vocab_size, 1000)
    lengths = [tokens // 4 + row * 7 % (tokens - tokens // 4 + 1) for row in range(STEPS * batch)]
    rows = [[2 + (row * 7 + at * at) % (most - 2) for at in range(length)] for row, length in enumerate(lengths)]
    arguments = SFTConfig(
        output_dir=str(folder / "out"),
        max_steps=STEPS,
        per_device_train_batch_size=batch // world,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_steps=SAVED_AT,
        save_total_limit=3,
        train_sampling_strategy="sequential",
        ddp_find_unused_parameters=False,
        gradient_checkpointing=False,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        report_to=[],
        disable_tqdm=True,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    trainer = trainers.PartsTrainer(
        model=model,
        args=training.one_process(arguments),
        train_dataset=Dataset.from_dict({"input_ids": rows, "labels": rows}),
        processing_class=_tokenizer(),
        peft_config=LoraConfig(
            r=settings["r"],
            lora_alpha=settings["alpha"],
            lora_dropout=0.0,
            target_modules=settings["target_modules"],
            task_type="CAUSAL_LM",
        ),
    )
    longest = sorted(range(batch), key=lambda row: -lengths[row])
    trainer.plan(Drawn(tuple(longest), tokens), at_most=0, run=config.Run(), levers=config.Speed())
    trainer.tell = print
    return trainer


def _tokenizer() -> Any:
    """A tokenizer that pads, and is asked for nothing else."""
    from tokenizers import Tokenizer, models  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    special = {"pad_token": "<pad>", "eos_token": "<eos>"}
    words = {word: number for number, word in enumerate(special.values())}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words)), **special)


def witness(trainer: Any, resume: Path | None) -> proof.Witness:
    """Train, and tell what this process saw."""
    import torch  # noqa: PLC0415
    from transformers import TrainerCallback  # noqa: PLC0415

    adapters = {name: one for name, one in trainer.model.named_parameters() if "lora_B" in name}
    grads = dict.fromkeys(adapters, False)
    began: list[float] = []

    class Watching(TrainerCallback):  # type: ignore[misc]  # transformers publishes no types
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            print(trainer.choose(None), flush=True)

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            began.append(time.monotonic())

        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            for name, one in adapters.items():
                if one.grad is not None and bool(torch.isfinite(one.grad).all()) and bool((one.grad != 0).any()):
                    grads[name] = True

    trainer.add_callback(Watching())
    before = {name: one.detach().clone() for name, one in adapters.items()}
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    seconds = (time.monotonic() - began[1]) / max(1, len(began) - 1) if len(began) > 1 else 0.0
    digest = hashlib.sha256()
    for name, one in sorted(trainer.model.named_parameters()):
        if "lora_" in name:
            digest.update(name.encode())
            digest.update(one.detach().float().cpu().numpy().tobytes())
    return proof.Witness(
        rank=ranks.rank(),
        world=ranks.world(),
        wrapped=type(trainer.model_wrapped).__name__,
        losses=_losses(trainer),
        grads=grads,
        moved={name: not torch.equal(before[name], one.detach()) for name, one in adapters.items()},
        weights=digest.hexdigest(),
        step_s=seconds,
        accelerator=trainer.args.device.type,
        gpu=_gpu() if trainer.args.device.type == "cuda" else "",
    )


def _gpu() -> str:
    """Name and serial number of the GPU that this process trains on."""
    import torch  # noqa: PLC0415

    told = torch.cuda.get_device_properties(torch.cuda.current_device())
    return f"{told.name} {getattr(told, 'uuid', '')}".strip()


def _losses(trainer: Any) -> list[float]:
    """The loss of each step, the mean over all ranks, as the trainer's state holds it in every rank."""
    return [float(one["loss"]) for one in trainer.state.log_history if "loss" in one]


def _in_rank(folder: Path, resume: Path | None) -> None:
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    module, _, name = settings["build"].partition(":")
    trainer = getattr(importlib.import_module(module), name)(settings, folder, resume)
    seen = witness(trainer, resume)
    durable.write_json(folder / f"witness-{seen.rank}{'-resumed' if resume else ''}.json", asdict(seen))


def prove(settings: dict[str, Any], *, strategy: str, ranks: int, limit_s: float = 300.0) -> proof.Proof:
    """Train alone, by all ranks, and resumed, and judge; what does not end in time tells nothing, and is not proven."""
    ends = time.monotonic() + limit_s
    with tempfile.TemporaryDirectory(prefix="proof-") as place:
        folders = [Path(place) / name for name in ("alone", "ranks")]
        for folder in folders:
            folder.mkdir()
            durable.write_json(folder / "settings.json", settings)
        alone, together = folders
        told = _run(alone, 1, ends)
        _run(together, ranks, ends)
        checkpoint = together / "out" / f"checkpoint-{SAVED_AT}"
        if checkpoint.is_dir():
            _run(together, ranks, ends, checkpoint)
        single = _witnesses(alone, 1, "")
        whole, resumed = (_witnesses(together, ranks, kind) for kind in ("", "-resumed"))
    if not single:
        why = f"the single process trained nothing: {told}"
        return proof.Proof(strategy, ranks, {"alone_failed": why}, 0.0)
    tolerance = _TOLERANCE["float32" if single[0].accelerator == "cpu" else "bfloat16"]
    return proof.judge(strategy, single[0], whole, resumed, tolerance=tolerance, demanded=ranks)


def _run(folder: Path, ranks: int, ends: float, resume: Path | None = None) -> str:
    """Fork the ranks, and wait for their end, or for the limit; returns the last words of the first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": str(ranks)}
    waiting: dict[int, int] = {}
    try:
        for rank in range(ranks):
            own = {**world, "RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {"CUDA_VISIBLE_DEVICES": "0"}
            waiting[_fork(folder, rank, own, resume)] = rank
        while waiting and time.monotonic() < ends:
            for pid in [*waiting]:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended and status:
                    ends = min(ends, time.monotonic() + 10.0)  # the others wait for it in a collective
                if ended:
                    del waiting[pid]
            time.sleep(0.02)
    finally:
        for pid in waiting:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.waitpid(pid, 0)
    return (folder / "log-0.txt").read_text(encoding="utf-8", errors="replace").strip()[-300:]


def _fork(folder: Path, rank: int, own: dict[str, str], resume: Path | None) -> int:
    """A rank, in a process group of its own; returns its id. What it prints goes into a file of its folder."""
    if pid := os.fork():
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        return pid
    status = 1
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it dies with what started it
        log = os.open(folder / f"log-{rank}.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(own)
        ranks.see_one_gpu(os.environ)
        _in_rank(folder, resume)
        status = 0
    except BaseException:  # noqa: BLE001 - told in the log, and by the status
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _witnesses(folder: Path, ranks: int, kind: str) -> list[proof.Witness]:
    paths = [folder / f"witness-{rank}{kind}.json" for rank in range(ranks)]
    return [proof.Witness(**json.loads(path.read_text(encoding="utf-8"))) for path in paths if path.is_file()]


def main(words: Sequence[str] | None = None) -> int:
    """The command. The environment of a launcher is left out: the ranks get their own."""
    parser = argparse.ArgumentParser(prog="forex.proving", description=__doc__)
    parser.add_argument("--strategy", choices=sorted(proof.WRAPPED), default="ddp")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--config", type=Path, help="the training's TOML file")
    parser.add_argument("--base", help="folder or name of the base, whose shape is taken; else the configuration's")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for all of it")
    parser.add_argument("--of", default="", help="words that name what is proven; the proof repeats them")
    parser.add_argument("--build", default=f"{__spec__.name if __spec__ else __name__}:build", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=admission.PROOF)
    given = parser.parse_args(words)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.unlink(missing_ok=True)
    for name in [*os.environ]:
        if name.startswith(_LAUNCHERS):
            del os.environ[name]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as every end: the folder goes, and the ranks
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # a look at the GPUs that starts CUDA would keep forks from it
    began, count = time.monotonic(), 1 if given.strategy == "single" else given.ranks
    training = config.load(given.config, batch_size=32, model=given.base)
    lora, base = training.lora, training.model.name
    settings = {"base": str(hub.found(base, weights=False)), "r": lora.r, "alpha": lora.alpha, "build": given.build}
    settings |= {"target_modules": list(lora.target_modules), "tokens": training.model.max_length}
    settings |= {"batch": training.rows_a_step("sft")}
    from . import trainers  # noqa: PLC0415 - after the environment that it reads; once, for all ranks

    _ = trainers.PartsTrainer
    left_s = given.limit - (time.monotonic() - began)
    found = prove(settings, strategy=given.strategy, ranks=count, limit_s=left_s)
    bound = {"of": given.of, "base": base, "versions": admission.versions()}
    durable.write_json(given.out, {**asdict(found), **bound, "proven": found.proven})
    print(found.sentence, flush=True)
    return 0 if found.proven else 1


if __name__ == "__main__":
    sys.exit(main())
