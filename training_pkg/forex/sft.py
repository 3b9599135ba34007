"""Supervised fine-tuning of a new adapter on the completions only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from . import order, runlog, template, training
from .config import Config
from .rows import Example

IGNORED = -100
"""The label of a token that carries no loss."""


def dataset(rows: list[Example], tokenizer: Any, *, config: Config, steps: int) -> Dataset:
    """Token ids and labels in the order of the run; a completion that exceeds ``max_length`` is cut and counted."""
    seen = [rows[at] for at in order.drawn(len(rows), steps=steps, batch_size=config.batch_size, seed=config.run.seed)]
    prompts = template.encode_prompts(tokenizer, [(row.prompt, row.system) for row in seen])
    completions = template.encode_completions(tokenizer, [row.completion for row in seen])
    room = template.room(prompts, config.model.max_length)
    runlog.cut("sft", sum(len(ids) > space for ids, space in zip(completions, room, strict=True)), len(seen))
    kept = [ids[:space] for ids, space in zip(completions, room, strict=True)]
    inputs = [prompt + ids for prompt, ids in zip(prompts, kept, strict=True)]
    labels = [[IGNORED] * len(prompt) + ids for prompt, ids in zip(prompts, kept, strict=True)]
    picked = order.by_length([len(ids) for ids in inputs], config.batch_size)
    return Dataset.from_dict({"input_ids": [inputs[at] for at in picked], "labels": [labels[at] for at in picked]})


def train(config: Config, stage: training.Stage, model: Any, tokenizer: Any, rows: list[Example]) -> Path:
    """Train the adapter; returns its last checkpoint."""
    return training.run(trainer(config, stage, model, tokenizer, rows), stage)


def lora(config: Config) -> LoraConfig:
    """The adapter to train."""
    return LoraConfig(
        r=config.lora.r,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=list(config.lora.target_modules),
        task_type="CAUSAL_LM",
    )


def trainer(config: Config, stage: training.Stage, model: Any, tokenizer: Any, rows: list[Example]) -> SFTTrainer:
    """The trainer of a new adapter on these rows."""
    settings = SFTConfig(
        **training.arguments(
            config,
            stage,
            micro=config.sft.micro_batch,
            learning_rate=config.sft.learning_rate,
            warmup_steps=config.sft.warmup_steps,
        ),
        dataset_kwargs={"skip_prepare_dataset": True},
        packing=False,
    )
    return SFTTrainer(
        model=model,
        args=training.one_process(settings),
        train_dataset=dataset(rows, tokenizer, config=config, steps=stage.total),
        processing_class=tokenizer,
        peft_config=lora(config),
    )
