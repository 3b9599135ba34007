"""The trainers: SFT of a new adapter on completions alone; DPO of that adapter, with a frozen copy as its reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig, PeftModel
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from . import order, runlog, training
from .chat import Chat
from .config import Config
from .errors import DataDefect
from .rows import Example, Preference

IGNORED = -100
"""The label of a token that carries no loss."""


class IdsTrainer(DPOTrainer):  # type: ignore[misc]  # trl publishes no types
    """A DPO trainer whose rows are token ids already: its own tokenising may add a second BOS."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def sft(config: Config, stage: training.Stage, model: Any, chat: Chat, rows: Sequence[Example]) -> SFTTrainer:
    """The trainer of a new adapter on these rows."""
    settings = SFTConfig(
        **training.arguments(config, stage), dataset_kwargs={"skip_prepare_dataset": True}, packing=False
    )
    turns = _turns(rows, ("completion",), chat, config=config, stage=stage)
    both = list(zip(turns["prompt"], turns["completion"], strict=True))
    columns = {
        "input_ids": [prompt + ids for prompt, ids in both],
        "labels": [[IGNORED] * len(prompt) + ids for prompt, ids in both],
    }
    return SFTTrainer(
        model=model,
        args=training.one_process(settings),
        train_dataset=Dataset.from_dict(columns),
        processing_class=chat.tokenizer,
        peft_config=lora(config),
    )


def lora(config: Config) -> LoraConfig:
    """The adapter to train."""
    return LoraConfig(
        r=config.lora.r,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=list(config.lora.target_modules),
        task_type="CAUSAL_LM",
    )


def dpo(
    config: Config, stage: training.Stage, model: Any, chat: Chat, rows: Sequence[Preference], *, start: Path
) -> IdsTrainer:
    """The trainer of the SFT adapter in ``start``; its first loss is ln 2."""
    turns = _turns(rows, ("chosen", "rejected"), chat, config=config, stage=stage)
    return IdsTrainer(
        model=PeftModel.from_pretrained(model, str(start), is_trainable=True),
        args=training.one_process(DPOConfig(**training.arguments(config, stage), beta=config.dpo.beta)),
        train_dataset=Dataset.from_dict({f"{name}_ids": column for name, column in turns.items()}),
        processing_class=chat.tokenizer,
    )


def _turns(
    rows: Sequence[Any], answers: Sequence[str], chat: Chat, *, config: Config, stage: training.Stage
) -> dict[str, list[list[int]]]:
    """Token ids of prompts and answers in the order of the run; an answer that exceeds ``max_length`` is cut."""
    size, seed = config.rows_a_step(stage.name), config.run.seed
    seen = [rows[at] for at in order.drawn(len(rows), steps=stage.total, rows_a_step=size, seed=seed)]
    turns = {"prompt": chat.prompts(seen)}
    room = [config.model.max_length - len(ids) for ids in turns["prompt"]]
    if min(room) <= 0:
        raise DataDefect(f"a prompt fills max_length = {config.model.max_length} tokens: no room for an answer")
    for name in answers:
        turns[name] = chat.answers(seen, name)
    longest = [max(len(ids) for ids in row) for row in zip(*(turns[name] for name in answers), strict=True)]
    if cut := sum(length > space for length, space in zip(longest, room, strict=True)):
        runlog.say(runlog.CUT, stage=stage.name, rows=cut, of=len(seen))
    for name in answers:
        turns[name] = [ids[:space] for ids, space in zip(turns[name], room, strict=True)]
    kept = [min(length, space) for length, space in zip(longest, room, strict=True)]
    lengths = [len(prompt) + length for prompt, length in zip(turns["prompt"], kept, strict=True)]
    picked = order.by_length(lengths, size)
    return {name: [column[at] for at in picked] for name, column in turns.items()}
