"""The resolved configuration: defaults, a TOML file over them, options over both. Pure but for reading the file.

The defaults are the real run: DeepSeek-R1-Distill-Qwen-7B, LoRA 64/128/0.05 on the seven projections,
SFT at 2e-5 and DPO at 2e-6 with beta 0.1. ``batch_size`` is not in the file: it is the entry script's constant.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import BadConfig

QUANTIZATIONS = ("Q8_0", "F16", "Q4_K_M")
REASONING = ("template", "drop", "keep")
TRACKERS = ("tensorboard", "trackio", "wandb")
_MAY_BE_ZERO = {
    "max_steps": " (0: no cap)",
    "micro_batch": " (0: as many as fit)",
    "warmup_steps": "",
    "threads": "",
    "seed": "",
    "dropout": "",
}
"""Numbers that need not be positive, and a remark on the zero."""

BUILT_MODEL = "models/base"
"""Directory of a model that is built on the spot; ``model.name`` then points there."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A model to be built on the spot with random weights, for rehearsals: a Qwen2 unless it is ``like`` another.

    ``vocab_size`` is an upper bound for the vocabulary that a Qwen2 learns from the rows.
    """

    hidden_size: int = 64
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    intermediate_size: int = 128
    vocab_size: int = 2048
    like: str = ""
    """A base whose architecture, tokenizer and chat template it has: a directory or a hub id; no weights are needed."""


@dataclass(frozen=True, slots=True)
class Model:
    """The base model: a local directory or a hub id; with ``built`` it is made on the spot instead."""

    name: str = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
    built: Shape | None = None
    attention: str = "sdpa"
    max_length: int = 1024
    chat: str = ""
    """Turns to train: the base's own chat template's, ``r1``, or those of a Jinja file; R1's marks mean R1's turns."""
    reasoning: str = "template"
    """An answer's ``<think>``: as the template knows it, ``drop`` it with what it holds, or ``keep`` it as text."""
    today: str = ""
    """The date (ISO) that a chat template writes which asks for the day; the same on every day of a training."""


@dataclass(frozen=True, slots=True)
class Lora:
    """The adapter."""

    r: int = 64
    alpha: int = 128
    dropout: float = 0.05
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Sft:
    """Supervised fine-tuning: at most ``epochs`` over the rows, at most ``max_steps`` optimizer steps (0: no cap).

    At most ``micro_batch`` rows go through the model at once; 0: as many as the card holds (8 on the CPU).
    """

    learning_rate: float = 2e-5
    epochs: float = 3.0
    max_steps: int = 330
    warmup_steps: int = 10
    accumulation: int = 4
    """Batches of BATCH_SIZE rows that one optimizer step learns from."""
    micro_batch: int = 0


@dataclass(frozen=True, slots=True)
class Dpo:
    """Preference training from the SFT adapter, with the SFT adapter as its reference."""

    learning_rate: float = 2e-6
    beta: float = 0.1
    epochs: float = 1.0
    max_steps: int = 0
    warmup_steps: int = 5
    accumulation: int = 1
    """As in ``Sft``."""
    micro_batch: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """Settings of both trainings. ``checkpoint_limit`` newest checkpoints are kept in each stage.

    ``gradient_checkpointing`` lets activations be computed a second time where rows do not fit otherwise.
    ``threads`` is torch's on the CPU; 0 leaves the choice to torch.
    """

    seed: int = 17
    checkpoint_every: int = 100
    checkpoint_limit: int = 5
    gradient_checkpointing: bool = True
    threads: int = 0
    trackers: tuple[str, ...] = ()
    """Trackers that may write the course down, too; one that is not installed is done without."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Ways to compute the same sooner. One that the machine cannot go is left off, and the log says so."""

    cast_inputs: bool = False
    """Cast each adapter's input to float32, as PEFT does by itself; autocast undoes it, so the numbers are the same."""
    fused_optimizer: bool = True
    kernels: bool = False
    """Liger's kernels for RMSNorm, SwiGLU and the rotary embedding; needs a GPU and the package liger-kernel."""
    compile: bool = False
    """torch.compile of the decoder's layers; needs a GPU. ``pad_to`` 16 or more leaves it few shapes."""
    pad_to: int = 1
    """Rows are padded to a multiple of so many tokens."""
    pad_mask: bool = True
    """Hide padding from the attention. It stands on the right, where no token looks: off, faster kernels are used."""


@dataclass(frozen=True, slots=True)
class Data:
    """``folder`` holds the files; evaluation rows are dated ``eval_from`` or later."""

    folder: str = "data/forex_integrated"
    eval_from: str = "2025-01-01"
    seed: int = 17


@dataclass(frozen=True, slots=True)
class Export:
    """The first of ``quantizations`` is the artifact; the others are written to ``models/output/extra/``."""

    name: str = "forex-r1-v3"
    quantizations: tuple[str, ...] = ("Q8_0",)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that decides what is trained and written."""

    batch_size: int
    model: Model = field(default_factory=Model)
    lora: Lora = field(default_factory=Lora)
    sft: Sft = field(default_factory=Sft)
    dpo: Dpo = field(default_factory=Dpo)
    run: Run = field(default_factory=Run)
    speed: Speed = field(default_factory=Speed)
    data: Data = field(default_factory=Data)
    export: Export = field(default_factory=Export)

    def rows_a_step(self, stage: str) -> int:
        """Rows that one optimizer step of a stage learns from, however many go through the model at once."""
        return self.batch_size * (self.dpo if stage == "dpo" else self.sft).accumulation


def load(path: Path | None, *, batch_size: int, model: str | None = None) -> Config:
    """The configuration of a run; raises BadConfig with the file and the field."""
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise BadConfig(f"cannot read {path}: {error}") from error
        if "batch_size" in table:
            raise BadConfig(f"{path}: batch_size is the constant BATCH_SIZE of train_deepseek_forex.py; set it there")
    config: Config = _over(Config(batch_size), table, str(path))
    if model is not None:
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, name=model, built=None))
    if config.model.built is not None:
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, name=BUILT_MODEL))
    _check(config)
    return config


def total_steps(rows: int, epochs: float, rows_a_step: int, max_steps: int) -> int:
    """Optimizer steps of a stage: ``ceil(rows * epochs / rows_a_step)``, capped by ``max_steps`` unless that is 0."""
    steps = math.ceil(rows * epochs / rows_a_step)
    return min(steps, max_steps) if max_steps else steps


def _over(defaults: Any, table: Any, where: str) -> Any:
    """A dataclass with a table's values over its own; an unknown or ill-typed field is refused by name."""
    if not isinstance(table, dict):
        raise BadConfig(f"{where} is not a table")
    names = sorted(field.name for field in dataclasses.fields(defaults))
    for name in table:
        if name not in names:
            raise BadConfig(f"{where}: unknown field {name!r}; allowed: {', '.join(names)}")
    changed = {name: _value(getattr(defaults, name), value, f"{where}: {name}") for name, value in table.items()}
    return dataclasses.replace(defaults, **changed)


def _value(default: Any, value: Any, where: str) -> Any:
    """A TOML value for the field that has this default."""
    if default is None:
        default = Shape()  # model.built, the only field without a default of its own
    if dataclasses.is_dataclass(default):
        return _over(default, value, where)
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise BadConfig(f"{where} is not a list of texts")
        return tuple(value)
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        raise BadConfig(f"{where} is {value!r}, not {type(default).__name__}")
    return value


def _check(config: Config) -> None:
    _check_numbers(config)
    if config.run.checkpoint_limit < 2:
        raise BadConfig("run.checkpoint_limit must be at least 2: with one, a kill during a save leaves none complete")
    if config.model.reasoning not in REASONING:
        raise BadConfig(f"model.reasoning is {config.model.reasoning!r}; allowed: {', '.join(REASONING)}")
    if config.model.today:
        _day(config.model.today)
    if not config.export.quantizations:
        raise BadConfig("export.quantizations is empty")
    for name in config.run.trackers:
        if name not in TRACKERS:
            raise BadConfig(f"run.trackers: {name!r} is unknown; allowed: {', '.join(TRACKERS)}")
    for name in config.export.quantizations:
        if name not in QUANTIZATIONS:
            raise BadConfig(f"export.quantizations: {name!r} is unknown; allowed: {', '.join(QUANTIZATIONS)}")
    if not config.export.name or not all(letter.isalnum() or letter in "._-" for letter in config.export.name):
        raise BadConfig("export.name may hold letters, digits, '.', '_' and '-' only")


def _day(text: str) -> None:
    try:
        dt.date.fromisoformat(text)
    except ValueError as error:
        raise BadConfig(f"model.today is {text!r}, not a date such as 2026-01-31") from error


def _check_numbers(config: Config) -> None:
    numbers: dict[str, Any] = {"batch_size": config.batch_size}
    for section, fields in dataclasses.asdict(config).items():
        if section != "batch_size":
            numbers |= {f"{section}.{name}": value for name, value in fields.items() if type(value) in {int, float}}
    for place, value in numbers.items():
        remark = _MAY_BE_ZERO.get(place.rpartition(".")[2])
        if remark is None and not 0 < value < math.inf:
            raise BadConfig(f"{place} is {value}; it must be positive")
        if remark is not None and value < 0:
            raise BadConfig(f"{place} is {value}; it must not be negative{remark}")
    if not 0 <= config.lora.dropout < 1:
        raise BadConfig(f"lora.dropout is {config.lora.dropout}; it must be at least 0 and below 1")
