"""A job, as its TOML file states it: every threshold of every check, with its unit in its name.

The models are frozen and refuse unknown fields, so that a misspelt limit is an
error and not a limit that is silently not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
    model_validator,
)

from harness.artifacts import quantizations
from harness.core.ids import JobName, job_name
from harness.job import older, profiles
from harness.job.artifact import ArtifactTable, Quantization
from harness.job.card import CardTable
from harness.job.data import DataTable, TrainerName
from harness.job.provider import ProviderTable
from harness.job.table import FROM_FILE, Count, Table
from harness.log.course import CourseLimits
from harness.log.grammar import Trainer
from harness.providers import registry

_ANY_JOB = re.compile(r"\bJOB\b")
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


def _kept_steps(steps: dict[Trainer, int]) -> dict[Trainer, int]:
    kept = {trainer: count for trainer, count in steps.items() if count}
    if not kept:
        raise ValueError("no trainer has a step to do")
    return kept


def _from_pairs(steps: Any) -> Any:
    return dict(steps) if isinstance(steps, list) else steps


Steps = Annotated[
    dict[TrainerName, Annotated[int, Field(ge=0)]],
    BeforeValidator(_from_pairs),
    AfterValidator(_kept_steps),
    PlainSerializer(lambda steps: list(map(list, steps.items())), when_used="json"),
]
"""Recorded as pairs: the keys of a recorded table are sorted, and the order in which the trainers run would be lost."""


class MachineTable(Table):
    """The machine to rent. ``max_usd_per_hour`` is compared with everything that is billed by the hour."""

    gpu: str
    gpus: Count
    image: str
    disk_gb: Annotated[float, Field(ge=8)]
    max_usd_per_hour: Positive
    max_usd_per_gb: Annotated[float, Field(ge=0)] = 0.02
    """Cap on the price of a gigabyte of traffic, in either direction; it is billed beside the hours."""
    reserved_gb: Annotated[float, Field(ge=0)] = 20
    """Disk that the operating system, the installed packages and their caches take."""
    min_reliability: Share = 0.95
    min_cuda: Annotated[float, Field(ge=0)] = 12.1
    min_driver: int = 530
    """The driver's major version that the image's CUDA needs (CUDA 12.1: 530)."""
    min_inet_down_mbps: Annotated[float, Field(ge=0)] = 200
    direct_port: bool = True
    ready_timeout_s: Positive = 1200
    ssh_user: str = "root"


class PackageTable(Table):
    """The training package: what is staged, uploaded and run."""

    source: Path
    remote_dir: str
    entry: str
    documents: tuple[str, ...]
    requirements: str = "requirements.txt"
    needs: dict[str, Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")]] = Field(default={})
    """Oldest versions that the package runs on of what the image brings, such as python and torch."""
    prepare: tuple[str, ...] = ()
    """A command that completes the staged package on this machine; ``python3`` means the harness's own."""
    prepare_timeout_s: Positive = 600
    install: tuple[str, ...] = ("python3", "-m", "pip", "install", "-r", "requirements.txt")
    install_timeout_s: Positive = 1800
    readiness: tuple[str, ...] = ()
    """A command of the package that proves on the box, before training, that base model and export work."""
    readiness_timeout_s: Positive = 600
    fetch_option: str = ""
    """Word that makes of the readiness command one that only fetches the base model, with nothing installed.

    It runs on the box while the package is still on its way there, and beside the installation.
    """
    prove: tuple[str, ...] = ()
    """A command of the package that proves ``training.strategy`` on the box, before the training."""
    prove_timeout_s: Positive = 180
    evaluate: tuple[str, ...] = ()
    """A command of the package that judges the model on the box, once its file is verified at home."""

    @property
    def fetch(self) -> tuple[str, ...]:
        """The command that fetches the base model; empty when there is none."""
        return (*self.readiness, self.fetch_option) if self.readiness and self.fetch_option else ()


class ModelTable(Table):
    """The base model's shape (fields of its config.json) and the adapter's."""

    base: str
    architecture: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,80}$")] = "Qwen2ForCausalLM"
    hidden_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    num_key_value_heads: Count
    intermediate_size: Count
    vocab_size: Count
    tie_word_embeddings: bool = False
    lora_r: Annotated[int, Field(ge=0)] = 64
    """Rank of the adapter; 0 where every weight is trained and there is none."""
    lora_alpha: Annotated[float, Field(ge=0)] = 128
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    max_length: Count = 1024
    template_tokens: Annotated[int, Field(ge=0)] = 16
    """Tokens that the chat template adds to a row at most: marks of turns, begin, end, line feeds."""


class TrainingTable(Table):
    """The command that trains and what it must announce and do."""

    command: tuple[str, ...]
    steps: Steps
    """Optimizer steps by trainer, in the order in which they run; 0 takes a trainer of the profile out."""
    checkpoints: dict[TrainerName, str] = Field(default={})
    """Folder of a trainer's checkpoints in the package; not given, ``models/output/<trainer>``."""
    batch_size: Annotated[int, Field(ge=0)] = 32
    """BATCH_SIZE of the script; with 0 the script has none that could be looked at."""
    accumulation: dict[TrainerName, Count] = Field(default={})
    """Batches of ``batch_size`` rows that one optimizer step of a trainer learns from; not given: 1."""
    strategy: Literal["seeds", "single", "ddp"] = "seeds"
    """Way to use the GPUs: the operating rules' (one process, all GPUs); one GPU; a process for each GPU.

    The last two are tried on the box before the training; what is not proven there falls back to the first.
    """
    device_map: str = "auto"
    accelerator: Literal["cuda", "cpu"] = "cuda"
    """Device that torch must find on the box; ``cpu`` for a rehearsal without a GPU."""
    devices: Count | None = None
    """Number of devices that must hold weights; a machine with fewer uses all. Not given: 1, or 2 of several GPUs."""
    checkpoint_every: Count = 100
    checkpoints_kept: Annotated[int, Field(ge=2)] = 5
    """Checkpoints that each training stage leaves; with fewer than two, a kill while one is written leaves none."""
    mirror: Literal["resumable", "adapter"] = "resumable"
    """Files of each checkpoint brought home while it trains: all that a resume elsewhere needs, or the weights alone.

    With ``adapter``, a third of the bytes, a training whose box dies starts again from step 0 on another one.
    """
    session: str = "train"
    environment: tuple[Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]{0,79}$")], ...] = ()
    """Names of variables of this machine's environment that the training gets on the box, such as ``WANDB_API_KEY``.

    Their values lie on the rented box while the job does; no record, facts file or report has them.
    """
    log: Literal["contract", "trainer"] = "contract"
    """Lines that training.log is read by: those of docs/contract.md, or the records that the trainer logs by itself."""

    def rows_a_step(self, trainer: str) -> int:
        """Rows that one optimizer step of a trainer learns from; 0 where the job does not say."""
        return self.batch_size * self.accumulation.get(Trainer(trainer), 1)


class LimitsTable(Table):
    """Limits of what the job may cost and of how long each thing may take (USD, seconds)."""

    budget_usd: Positive
    launch_deadline_s: Positive = 900
    stall_s: Positive = 300
    reconnect_s: Positive = 60
    """A box that does not answer is called again for this long before one look at it is given up."""
    poll_s: Positive = 15
    judge_every_s: Positive = 120
    training_deadline_s: Positive = 3 * 3600
    relaunches: Annotated[int, Field(ge=0)] = 2
    dead_after_s: Positive = 600
    """An instance must be offline or exited for this long without a break before another may take its place."""
    stop_unheard_s: Annotated[float, Field(ge=300)] | None = None
    """Silence after which the box stops its own instance, its disk kept, once nothing trains there; not given: never.

    Seconds in which no command of the harness was heard on the box. For that a key lies there that can do nothing else.
    """
    s_per_step: dict[TrainerName, Positive]
    """Seconds that a step of each trainer takes."""
    export_s: Positive = 300
    setup_s: Annotated[float, Field(ge=0)] = 600
    """From the rental to the launch: boot, upload, installation, the base model's download."""
    load_s: Annotated[float, Field(ge=0)] = 180
    """From the launch to the first step: imports and loading the base model."""
    download_s: Annotated[float, Field(ge=0)] = 900
    """Bringing the artifact home and verifying it while the instance is still billed."""
    evaluate_s: Positive = 600
    """``package.evaluate`` gets this long on the billed box, and no longer than the budget lasts."""
    first_checkpoint_share: Share = 1 / 3
    """The share of the budget that may be gone when the first checkpoint is on the disk."""
    pace_tolerance: Annotated[float, Field(ge=1)] = 2.0
    """A stage slower than the timeline by more than this factor fails the pace check."""
    min_gpu_utilization: Share = 0.05
    min_disk_free_share: Share = 0.1
    min_epochs: Annotated[float, Field(ge=0)] = 1.0
    """Times that a trainer goes through all its rows, at least: under 1 some are never learned from; 0 asks nothing."""
    max_loss: Positive = 20.0
    loss_jump_on_resume: Positive = 1.5
    course: CourseLimits = CourseLimits()
    """Limits of a training's course: how its loss and its learning rate move."""
    absence_window_s: Annotated[float, Field(ge=0)] = 60
    absence_deadline_s: Positive = 600
    release_valid_s: Positive = 3600
    carried_off_by: Share = 0.5
    """Distance from 1 allowed to a sampled tensor's share of the adapter's change: a small one drowns in rounding."""
    quantizer_error: dict[Quantization, Share] = quantizations.ERRORS
    """Distance that a sampled tensor may have from the merged weights, as a share of their norm."""

    @model_validator(mode="after")
    def _heard_in_time(self) -> LimitsTable:
        """A run that looks at its box is not to be stopped under between two looks."""
        if self.stop_unheard_s is not None and self.stop_unheard_s < 3 * self.poll_s:
            raise ValueError(
                f"stop_unheard_s = {self.stop_unheard_s:g} is less than three times poll_s = {self.poll_s:g}: the box "
                "would stop itself between two looks of a run that watches it"
            )
        return self


class GatesTable(Table):
    """Optional checks that this job requires, and where its own checks are kept."""

    smoke_run: bool = True
    smoke_command: tuple[str, ...] = ()
    smoke_timeout_s: Positive = 600
    smoke_memory_gb: Positive = 8
    """Memory of its own that the smoke run may take, on Linux: a package that ignores the tiny model stops there."""
    smoke_files: dict[str, str] = Field(default={})
    """Files that the smoke run adds to its copy of the package: relative path -> text."""
    context: bool = True
    generate: bool = True
    prompt: Annotated[str, Field(min_length=1, max_length=200)] = "Hello"
    """Text that the finished model goes on from when it must generate."""
    checks: tuple[Path, ...] = ()
    """Folders beside the built-in ``checks/`` whose checks count too."""


class TeardownTable(Table):
    """Consent to destroying: a person at the terminal gives it (``ask``), or it was agreed in advance (``yes``)."""

    confirm: Literal["ask", "yes"] = "ask"


class NotifyTable(Table):
    """People who are told, by URL. A URL is a secret: no record, facts file or report of the job has it."""

    urls: tuple[str, ...] = ()
    """``file:///PATH``, or what Apprise knows; beside those of HARNESS_NOTIFY."""


class Job(Table):
    """A whole job. Paths are absolute once the file is loaded."""

    name: Annotated[JobName, AfterValidator(job_name)]
    provider: ProviderTable
    machine: MachineTable
    package: PackageTable
    data: DataTable
    model: ModelTable
    training: TrainingTable
    artifact: ArtifactTable
    limits: LimitsTable
    gates: GatesTable = GatesTable()
    teardown: TeardownTable = TeardownTable()
    card: CardTable = CardTable()
    notify: Annotated[NotifyTable, Field(exclude=True, repr=False)] = NotifyTable()
    adopted: bool = False
    """True when the job took over an instance that it did not rent. No job file says so: an adoption does."""

    @model_validator(mode="before")
    @classmethod
    def _as_recorded(cls, told: Any, info: ValidationInfo) -> Any:
        """Jobs come from job files, which state everything, and from the records of any earlier version."""
        if not isinstance(told, dict):
            return told
        told = older.spelled(told if info.context == FROM_FILE else profiles.recorded_by(told))
        package, training = told.get("package"), told.get("training")
        if isinstance(package, dict) and isinstance(training, dict) and training.get("strategy", "seeds") == "seeds":
            # Nothing is proven: a profile that names a command for it changes no job that an earlier version began.
            told = {**told, "package": {name: value for name, value in package.items() if name != "prove"}}
        return told

    @model_validator(mode="after")
    def _of_its_trainers(self) -> Job:
        """Every trainer that is named runs, and every one that runs has its seconds a step."""
        steps = self.training.steps
        if strange := set(self.data.rows) - set(steps):
            raise ValueError(f"data is for {', '.join(sorted(strange))}, which has no steps in training.steps")
        if untold := [trainer for trainer in steps if trainer not in self.limits.s_per_step]:
            raise ValueError(f"limits.s_per_step says nothing of {', '.join(untold)}")
        return self

    @property
    def trainers(self) -> tuple[Trainer, ...]:
        """The trainers that run, in their order."""
        return tuple(self.training.steps)

    @property
    def taught(self) -> Mapping[Trainer, int]:
        """Rows of each trainer that has files of its own."""
        return {trainer: self.data.rows[trainer] for trainer in self.trainers if trainer in self.data.rows}

    def checkpoint_folder(self, trainer: str) -> str:
        """A trainer's folder of checkpoints, relative to the package's directory."""
        return self.training.checkpoints.get(Trainer(trainer), f"models/output/{trainer}")

    @property
    def is_billed(self) -> bool:
        """False for a job on a machine of the operator's own, where nothing has a price."""
        return registry.is_billed(self.provider.kind)

    @property
    def most_usd_per_hour(self) -> float:
        """The most that an hour of the job costs (USD): the cap, or nothing."""
        return self.machine.max_usd_per_hour if self.is_billed else 0.0

    @property
    def output_folders(self) -> tuple[str, ...]:
        """Folders of the package that the training writes to: its checkpoints' and its artifact's."""
        named = (*map(self.checkpoint_folder, self.trainers), self.artifact.remote_dir)
        return tuple(dict.fromkeys(folder for one in named if (folder := PurePosixPath(one).as_posix()) != "."))

    @property
    def unmodified(self) -> bool:
        """True for a package that says nothing of its own: its trainer's records are read."""
        return self.training.log == "trainer"

    @property
    def adapter_folder(self) -> str:
        """Folder of the trained adapter, relative to the package's directory.

        An unmodified trainer leaves it in its last checkpoint.
        """
        if not self.unmodified:
            return "models/output/adapter"
        last = self.trainers[-1]
        return f"{self.checkpoint_folder(last)}/checkpoint-{self.training.steps[last]}"

    def maps_devices(self, device_map: str) -> bool:
        """True for a device map that this job's machine needs; with one GPU it need not be told to split the model."""
        from harness.static.device_maps import fits_one_gpu  # noqa: PLC0415 - loads what parses scripts

        one_gpu = self.machine.gpus == 1 and self.training.device_map == "auto" and fits_one_gpu(device_map)
        return device_map == self.training.device_map or one_gpu

    @property
    def least_devices(self) -> int:
        """Devices that must hold weights: what the job says, and no more than there are; "auto" uses several GPUs."""
        split = self.training.device_map == "auto" and self.training.accelerator == "cuda"
        return min(self.training.devices or (2 if split else 1), self.machine.gpus)

    def addressed(self, remedy: str) -> str:
        """A remedy for this job, for ``JOB``: an adopted one has no job file that ``harness run`` could drive."""
        command = "harness destroy" if self.adopted else "harness run"
        return _ANY_JOB.sub(self.name, remedy.replace("harness run JOB", f"{command} JOB"))

    @property
    def announced(self) -> dict[str, Any]:
        """Batch size, steps, adapter and dtype that the PLAN line of the training's log must state."""
        training, model = self.training, self.model
        return {
            "steps": dict(training.steps),
            "batch_size": training.batch_size,
            "checkpoint_every": training.checkpoint_every,
            "lora_r": model.lora_r,
            "lora_alpha": model.lora_alpha,
            "dtype": model.dtype,
        }
