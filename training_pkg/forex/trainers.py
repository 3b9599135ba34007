"""The trainers: SFT of a new adapter on completions alone; DPO of that adapter, with a frozen copy as its reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig, PeftModel
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from . import order, ranks, runlog, training
from .chat import Chat
from .config import Config
from .errors import DataDefect
from .microbatch import Drawn, Splitting
from .rows import Example, Preference

IGNORED = -100
"""The label of a token that carries no loss."""


class PartsTrainer(Splitting, SFTTrainer):  # type: ignore[misc]  # trl publishes no types
    """An SFT trainer whose steps are computed in parts."""


class IdsTrainer(Splitting, DPOTrainer):  # type: ignore[misc]  # trl publishes no types
    """A DPO trainer in parts, whose rows are token ids already: its own tokenising may add a second BOS."""

    blocks = 2
    train_dataset: Dataset

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def sft(config: Config, stage: training.Stage, model: Any, chat: Chat, rows: Sequence[Example]) -> PartsTrainer:
    """The trainer of a new adapter on these rows."""
    settings = SFTConfig(
        **training.arguments(config, stage), dataset_kwargs={"skip_prepare_dataset": True}, packing=False
    )
    turns, drawn = _turns(rows, ("completion",), chat, config=config, stage=stage)
    both = list(zip(turns["prompt"], turns["completion"], strict=True))
    columns = {
        "input_ids": [prompt + ids for prompt, ids in both],
        "labels": [[IGNORED] * len(prompt) + ids for prompt, ids in both],
    }
    trainer = PartsTrainer(
        model=model,
        args=training.one_process(settings),
        train_dataset=Dataset.from_dict(columns),
        processing_class=chat.tokenizer,
        peft_config=lora(config),
    )
    trainer.plan(drawn, at_most=config.sft.micro_batch, run=config.run, levers=config.speed)
    return trainer


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
    turns, drawn = _turns(rows, ("chosen", "rejected"), chat, config=config, stage=stage)
    settings = DPOConfig(**training.arguments(config, stage), beta=config.dpo.beta)
    trainer = IdsTrainer(
        model=PeftModel.from_pretrained(model, str(start), is_trainable=True),
        args=training.one_process(settings),
        train_dataset=Dataset.from_dict({f"{name}_ids": column for name, column in turns.items()}),
        processing_class=chat.tokenizer,
    )
    trainer.plan(drawn, at_most=config.dpo.micro_batch, run=config.run, levers=config.speed)
    return trainer


def _turns(
    rows: Sequence[Any], answers: Sequence[str], chat: Chat, *, config: Config, stage: training.Stage
) -> tuple[dict[str, list[list[int]]], Drawn]:
    """Token ids of prompts and answers in the order of the run; each row is tokenised once.

    An answer that exceeds ``max_length`` is cut.
    """
    size, seed = config.rows_a_step(stage.name), config.run.seed
    seen = order.drawn(len(rows), steps=stage.total, rows_a_step=size, seed=seed)
    place = {row: at for at, row in enumerate(dict.fromkeys(seen))}
    once = [rows[row] for row in place]
    turns = {"prompt": chat.prompts(once)}
    room = [config.model.max_length - len(ids) for ids in turns["prompt"]]
    if min(room) <= 0:
        raise DataDefect(f"a prompt fills max_length = {config.model.max_length} tokens: no room for an answer")
    for name in answers:
        turns[name] = chat.answers(once, name)
    longest = [max(len(ids) for ids in row) for row in zip(*(turns[name] for name in answers), strict=True)]
    if cut := sum(longest[place[row]] > room[place[row]] for row in seen):
        runlog.say(runlog.CUT, stage=stage.name, rows=cut, of=len(seen))
    for name in answers:
        turns[name] = [ids[:space] for ids, space in zip(turns[name], room, strict=True)]
    kept = [min(length, space) for length, space in zip(longest, room, strict=True)]
    each = [len(prompt) + length for prompt, length in zip(turns["prompt"], kept, strict=True)]
    lengths = [each[place[row]] for row in seen]
    picked = order.dealt(order.by_length(lengths, size), size, ranks.world())
    longest_first = sorted(range(len(picked)), key=lambda at: -lengths[picked[at]])
    columns = {name: [column[place[seen[at]]] for at in picked] for name, column in turns.items()}
    return columns, Drawn(tuple(longest_first[:size]), max(lengths))
