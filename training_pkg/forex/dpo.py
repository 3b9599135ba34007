"""Preference training: the SFT adapter goes on being trained, a frozen copy of it is the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import PeftModel
from trl import DPOConfig, DPOTrainer

from . import order, runlog, template, training
from .config import Config
from .rows import Preference


class IdsTrainer(DPOTrainer):  # type: ignore[misc]  # trl publishes no types
    """A DPO trainer whose rows are token ids already: its own tokenising may add a second BOS."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def dataset(rows: list[Preference], tokenizer: Any, *, config: Config, steps: int) -> Dataset:
    """Token ids of prompts and of both answers in the order of the run, each cut to ``max_length``."""
    seen = [rows[at] for at in order.drawn(len(rows), steps=steps, batch_size=config.batch_size, seed=config.run.seed)]
    prompts = template.encode_prompts(tokenizer, [(row.prompt, row.system) for row in seen])
    chosen = template.encode_completions(tokenizer, [row.chosen for row in seen])
    rejected = template.encode_completions(tokenizer, [row.rejected for row in seen])
    room = template.room(prompts, config.model.max_length)
    longest = [max(len(one), len(other)) for one, other in zip(chosen, rejected, strict=True)]
    runlog.cut("dpo", sum(size > space for size, space in zip(longest, room, strict=True)), len(seen))
    columns = {
        "prompt_ids": prompts,
        "chosen_ids": [ids[:space] for ids, space in zip(chosen, room, strict=True)],
        "rejected_ids": [ids[:space] for ids, space in zip(rejected, room, strict=True)],
    }
    lengths = [len(prompt) + size for prompt, size in zip(prompts, longest, strict=True)]
    picked = order.by_length(lengths, config.batch_size)
    return Dataset.from_dict({name: [column[at] for at in picked] for name, column in columns.items()})


def train(
    config: Config, stage: training.Stage, base: Any, tokenizer: Any, rows: list[Preference], *, start: Path
) -> Path:
    """Train from the SFT adapter in ``start``; returns the last checkpoint. The log shows the first loss, ln 2."""
    settings = DPOConfig(
        **training.arguments(
            config,
            stage,
            micro=config.dpo.micro_batch,
            learning_rate=config.dpo.learning_rate,
            warmup_steps=config.dpo.warmup_steps,
        ),
        beta=config.dpo.beta,
    )
    trainer = IdsTrainer(
        model=PeftModel.from_pretrained(base, str(start), is_trainable=True),
        args=training.one_process(settings),
        train_dataset=dataset(rows, tokenizer, config=config, steps=stage.total),
        processing_class=tokenizer,
    )
    return training.run(trainer, stage)
