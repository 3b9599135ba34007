"""Common to SFT and DPO: arguments, the log lines, going on after a death."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from transformers.trainer_callback import ExportableState

from . import checkpoints, ranks, runlog, speed
from .config import Config
from .errors import Refused, TrainingDefect
from .microbatch import Split
from .trackers import Trackers


@dataclass(frozen=True, slots=True)
class Stage:
    """One training stage: its name in the log, its folder and its announced total of optimizer steps."""

    name: str
    folder: Path
    total: int

    def final_checkpoint(self) -> Path | None:
        """The checkpoint of the last step when it is there and whole: the stage is finished."""
        last = checkpoints.newest_complete(self.folder, self.name)
        return last.path if last and last.step >= self.total else None


def compute_dtype() -> torch.dtype:
    """bfloat16 where a GPU computes in it, else float32."""
    return torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32


def arguments(config: Config, stage: Stage) -> dict[str, Any]:
    """The trainer's arguments that both stages share. Its batch is a whole optimizer step, see ``microbatch``.

    Of several ranks each has its share of the step.
    """
    settings = config.dpo if stage.name == "dpo" else config.sft
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(stage.folder),
        "max_steps": stage.total,
        "per_device_train_batch_size": _share(config.rows_a_step(stage.name)),
        "ddp_find_unused_parameters": False,
        "gradient_accumulation_steps": 1,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": min(settings.warmup_steps, stage.total // 4),
        "save_strategy": "steps",
        "save_steps": config.run.checkpoint_every,
        "save_total_limit": config.run.checkpoint_limit,
        "train_sampling_strategy": "sequential",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": [],
        "seed": config.run.seed,
        "bf16": compute_dtype() is torch.bfloat16,
        "tf32": True if on_gpu else None,
        "use_cpu": not on_gpu,
        "activation_checkpointing": False,  # switched on by a trainer whose rows do not fit without
        "activation_checkpointing_kwargs": {"use_reentrant": False},
        "dataloader_pin_memory": on_gpu,
        "max_length": None,
        **speed.arguments(config.speed),
    }


def _share(rows: int) -> int:
    """Rows of a step that this rank learns from."""
    if rows % ranks.world():
        raise Refused(f"a step of {rows} rows cannot be shared evenly by {ranks.world()} ranks")
    return rows // ranks.world()


def one_process(arguments: Any) -> Any:
    """Keep the trainer from wrapping a model that sits on one of several GPUs into nn.DataParallel."""
    _ = arguments.device  # resolves the devices, which counts the GPUs
    arguments._n_gpu = min(arguments._n_gpu, 1)  # noqa: SLF001 - the only place where the count is kept
    return arguments


class LogLines(TrainerCallback, ExportableState):  # type: ignore[misc]  # transformers publishes no types
    """Prints the contract's lines while a trainer runs, and stops it at once when the loss is not a number.

    The split of the trainer's steps is settled before the first, and goes into each checkpoint's trainer_state.json.
    """

    def __init__(self, stage: Stage, trainer: Any, start: checkpoints.Checkpoint | None) -> None:
        self._stage, self._trainer, self._start = stage, trainer, start
        self._began = 0.0
        trainer.tell = self._tell

    def state(self) -> dict[str, Any]:
        """Attributes that a checkpoint keeps: the split in use."""
        split = self._trainer.split
        return {"args": {}, "attributes": {"micro_batch": split.size, "checkpointing": split.checkpointing}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ARG002 - the trainer's signature
        """Model and optimizer are ready: settle the split."""
        ranks.require_wrapped(self._trainer.model_wrapped)
        rows = args.per_device_train_batch_size
        self._tell(self._trainer.choose(_recorded(self._start, rows) if self._start else None))

    def _tell(self, reason: str) -> None:
        split = self._trainer.split
        runlog.say(
            runlog.MICRO_BATCH,
            stage=self._stage.name,
            size=split.size,
            rows=self._trainer.args.per_device_train_batch_size,
            checkpointing="on" if split.checkpointing else "off",
            reason=reason,
        )

    def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ARG002 - the trainer's signature
        """Start the step's clock."""
        self._began = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:  # noqa: ARG002 - the trainer's signature
        """One line a step."""
        if not logs or "loss" not in logs:
            return
        loss, number = float(logs["loss"]), state.global_step
        runlog.say(
            runlog.STEP,
            stage=self._stage.name,
            number=number,
            total=self._stage.total,
            percent=100 * number // self._stage.total,
            loss=loss,
            rate=logs["learning_rate"],
            seconds=time.monotonic() - self._began,
        )
        if self._stage.name == "dpo" and number == 1:
            _check_first_loss(loss)
        if not math.isfinite(loss):
            raise TrainingDefect(f"the loss of step {number} of {self._stage.name} is {loss}")

    def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ARG002 - the trainer's signature
        """One line a checkpoint."""
        checkpoint = self._stage.folder / f"checkpoint-{state.global_step}"
        runlog.say(runlog.SAVED, stage=self._stage.name, checkpoint=checkpoint.as_posix())


def run(trainer: Any, stage: Stage, tracked_by: tuple[str, ...] = ()) -> Path:
    """Train to the stage's last step, from the newest whole checkpoint if there is one; returns the last checkpoint."""
    a_step = trainer.args.per_device_train_batch_size * trainer.args.gradient_accumulation_steps * ranks.world()
    if a_step * stage.total != (drawn := len(trainer.train_dataset)):
        raise TrainingDefect(
            f"{stage.total} steps of {stage.name} take {a_step} rows each, but {drawn} rows were drawn"
        )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if tracked_by and ranks.first():
        trainer.add_callback(Trackers(stage.name, tracked_by))
    kind, warmup = trainer.args.lr_scheduler_type.value, trainer.args.warmup_steps
    runlog.say(runlog.SCHEDULE, stage=stage.name, kind=kind, warmup=warmup, rate=trainer.args.learning_rate)
    start = checkpoints.newest_complete(stage.folder, stage.name)
    if start is not None:
        runlog.say(runlog.RESUME, stage=stage.name, checkpoint=start.path.as_posix(), number=start.step)
    trainer.add_callback(LogLines(stage, trainer, start))
    with speed.applied(trainer, stage.name):
        trainer.train(resume_from_checkpoint=str(start.path) if start else None)
    final = stage.final_checkpoint()
    if final is None:
        raise TrainingDefect(
            f"{stage.name} ended at step {trainer.state.global_step} of {stage.total} without its checkpoint"
        )
    runlog.say(runlog.STAGE_COMPLETE, stage=stage.name, number=trainer.state.global_step, total=stage.total)
    return final


def _recorded(checkpoint: checkpoints.Checkpoint, rows: int) -> Split | None:
    """The split that a checkpoint was trained with; None when it says nothing that can be used."""
    state = json.loads((checkpoint.path / "trainer_state.json").read_text(encoding="utf-8"))
    try:
        kept = state["stateful_callbacks"][LogLines.__name__]["attributes"]
        size, checkpointing = kept["micro_batch"], kept["checkpointing"]
    except (KeyError, TypeError):
        return None
    return Split(size, checkpointing is True) if type(size) is int and 0 < size <= rows else None


def _check_first_loss(loss: float) -> None:
    """Policy and reference are the same adapter before the first update, so the loss is -log sigmoid(0) = ln 2."""
    runlog.say(runlog.FIRST_LOSS, loss=loss)
    if not math.isclose(loss, math.log(2), abs_tol=2e-3):
        raise TrainingDefect(
            f"the first DPO loss is {loss:.6f}, not ln 2 = 0.693147: the reference is not the SFT adapter"
        )
