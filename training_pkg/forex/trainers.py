"""The trainers: SFT of a new adapter on completions alone; DPO of that adapter, with a frozen copy as its reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from . import order, runlog, training
from .chat import Chat
from .config import Config
from .errors import DataDefect
from .microbatch import ON_CPU, Drawn, Splitting
from .rows import Example, Preference

IGNORED = -100
"""The label of a token that carries no loss."""

_SAME = 1e-4
"""Difference of two references, in the loss's logits, that counts as none; the first loss may be off by 2e-3."""


class PartsTrainer(Splitting, SFTTrainer):  # type: ignore[misc]  # trl publishes no types
    """An SFT trainer whose steps are computed in parts."""


class IdsTrainer(Splitting, DPOTrainer):  # type: ignore[misc]  # trl publishes no types
    """A DPO trainer in parts, whose rows are token ids already: its own tokenising may add a second BOS."""

    blocks = 2
    train_dataset: Dataset

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def keep_references(self, drawn: Drawn) -> float:
        """Compute each pair's reference once, now; answers how far apart it is from the same pairs' in other company.

        The largest difference, in the loss's logits. In bfloat16 a row's numbers depend a little on the shape of its
        batch, and the policy's are computed in the shape of the step's.
        """
        first = {row: at for at, row in reversed(list(enumerate(drawn.rows)))}
        known: dict[int, tuple[float, float]] = {}
        every = list(first)
        for start in range(0, len(every), ON_CPU):
            rows = every[start : start + ON_CPU]
            chosen, rejected = self._references([first[row] for row in rows])
            known.update(zip(rows, zip(chosen.tolist(), rejected.tolist(), strict=True), strict=True))
        some = every[:: -(-len(every) // ON_CPU)]
        live = torch.stack(self._references([first[row] for row in some])).cpu()
        for at, name in enumerate(("ref_chosen_logps", "ref_rejected_logps")):
            self.train_dataset = self.train_dataset.add_column(name, [known[row][at] for row in drawn.rows])
        self.precompute_ref_logps = True
        apart = (live - torch.tensor([known[row] for row in some]).T).abs().max()
        return float(self.beta) * float(apart)

    def _references(self, positions: list[int]) -> Any:
        batch = self.data_collator([self.train_dataset[at] for at in positions])
        return self.compute_ref_log_probs(self.model, self._prepare_inputs(batch))


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
    repeated = len(set(drawn.rows)) < len(drawn.rows)
    if config.speed.reference_once and repeated and (apart := trainer.keep_references(drawn)) > _SAME:
        trainer.precompute_ref_logps = False
        text = f"speed.reference_once is left off: beside other rows a pair's reference is another by {apart:.2g}"
        runlog.say(runlog.NOTE, stage=stage.name, text=text)
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
    picked = order.by_length(lengths, size)
    longest_first = sorted(range(len(picked)), key=lambda at: -lengths[picked[at]])
    drawn = Drawn(tuple(seen[at] for at in picked), tuple(longest_first[:size]), max(lengths))
    return {name: [column[place[row]] for row in drawn.rows] for name, column in turns.items()}, drawn
