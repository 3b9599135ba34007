"""The decisions of the trained model on rows later than any it learned from, beside the untrained base's.

The model reasons for at most ``REASONING`` tokens; then its reasoning is closed for it, and the
likelier of the possible answers counts. So the base, which knows nothing of the format, decides too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from . import durable, judging, runlog, template
from .chat import Chat
from .rows import Example

REASONING = 96
_BATCH = 64
REPORT = Path("evaluation.json")


def evaluate(
    model: PeftModel,
    chat: Chat,
    kinds: dict[str, tuple[Sequence[Example], Sequence[Example]]],
    *,
    learned: judging.Learned,
) -> dict[str, Any]:
    """Judge each kind of rows, given as (training rows, evaluation rows); writes evaluation.json and returns it.

    ``learned`` are the training rows of all kinds, among which leaks are looked for.
    """
    for train, later in kinds.values():
        judging.decisions(train, later)  # a defect of the last kind is not found when the first was decided for hours
    model.eval()

    def trained(rows: Sequence[Example], among: Sequence[str]) -> list[str]:
        return decide(model, chat, rows, among)

    def untrained(rows: Sequence[Example], among: Sequence[str]) -> list[str]:
        with model.disable_adapter():
            return decide(model, chat, rows, among)

    report = {
        name: judging.judge(train, later, trained, untrained, learned=learned) for name, (train, later) in kinds.items()
    }
    for name, found in report.items():
        runlog.say(runlog.NOTE, stage=f"evaluate {name}", text=json.dumps(found, ensure_ascii=False))
    durable.write_json(REPORT, report)
    return report


def decide(model: Any, chat: Chat, rows: Sequence[Example], among: Sequence[str]) -> list[str]:
    """The answer that the model gives to each row; one that was not taught to reason gives it at once."""
    tokenizer = chat.tokenizer
    decided: list[str] = []
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        reasoned = chat.prompts(part)
        if chat.reasons:
            reasoned = [_closed(tokenizer, ids) for ids in _generated(model, tokenizer, reasoned)]
        scores = torch.stack([_score(model, tokenizer, reasoned, answer) for answer in among])
        decided += [among[at] for at in scores.argmax(dim=0).tolist()]
    return decided


def _generated(model: Any, tokenizer: Any, prompts: list[list[int]]) -> list[list[int]]:
    """Prompts with the model's own reasoning, cut where it ends."""
    ids, mask = _padded(prompts, tokenizer.pad_token_id, device=model.device)
    stops = [tokenizer.convert_tokens_to_ids(template.END_THINK), tokenizer.eos_token_id]
    stops = [stop for stop in stops if isinstance(stop, int)]
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=REASONING,
            do_sample=False,
            eos_token_id=stops,
            pad_token_id=tokenizer.pad_token_id,
        )[:, ids.shape[1] :].tolist()
    ends = [next((at for at, token in enumerate(row) if token in stops), len(row)) for row in out]
    return [prompt + row[:end] for prompt, row, end in zip(prompts, out, ends, strict=True)]


def _closed(tokenizer: Any, ids: list[int]) -> list[int]:
    """The reasoning ended as in training: a new line unless there is one, the closing mark, an empty line."""
    ends_line = tokenizer.decode(ids[-1:]).endswith("\n")
    end = f"{'' if ends_line else chr(10)}{template.END_THINK}\n\n"
    return ids + list(tokenizer(end, add_special_tokens=False)["input_ids"])


def _score(model: Any, tokenizer: Any, contexts: list[list[int]], answer: str) -> torch.Tensor:
    """The log-probability of one answer after each context."""
    target = list(tokenizer(answer, add_special_tokens=False)["input_ids"])
    ids, mask = _padded([context + target for context in contexts], tokenizer.pad_token_id, device=model.device)
    with torch.inference_mode():
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        logits = model(
            input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=len(target) + 1
        ).logits
    chances = logits[:, :-1].float().log_softmax(dim=-1)
    picked = chances.gather(2, ids[:, -len(target) :].to(chances.device).unsqueeze(2)).squeeze(2)
    total: torch.Tensor = picked.sum(dim=1).cpu()
    return total


def _padded(rows: list[list[int]], pad: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask as one batch, padded on the left."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for at, row in enumerate(rows):
        ids[at, width - len(row) :], mask[at, width - len(row) :] = torch.tensor(row), 1
    return ids.to(device), mask.to(device)
