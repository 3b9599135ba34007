"""Supervised fine-tuning of an adapter with the plain Trainer of transformers: a frame for a script of your own.

python3 train.py                        trains, or goes on from the newest whole checkpoint
python3 train.py --ready                proves that the base model is there
python3 train.py --settings tiny.json   the same on a tiny model that is made on the spot, for a rehearsal
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import tiny_model
from harness_contract import Contract, ready
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)

BATCH_SIZE = 16
DATA = "data/train.jsonl"
ADAPTER = "models/output/adapter"


def main() -> None:
    """Train and save an adapter; ``models/output/`` is where the harness looks for it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--settings", default="settings.json")
    options.add_argument("--ready", action="store_true")
    told = options.parse_args()
    settings = json.loads(Path(told.settings).read_text(encoding="utf-8"))
    base = settings["base"]
    if base == "tiny":
        tiny_model.make(base, DATA)
    if told.ready:
        ready(base)
        return
    with Contract(base=base, data={"examples": DATA}) as contract:
        set_seed(settings["seed"])
        tokenizer = AutoTokenizer.from_pretrained(base)
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        model = AutoModelForCausalLM.from_pretrained(base, dtype=settings["dtype"], device_map="auto")
        lora = LoraConfig(r=settings["lora_r"], lora_alpha=settings["lora_alpha"], target_modules="all-linear")
        trainer = Trainer(
            model=get_peft_model(model, lora),
            args=arguments(settings),
            train_dataset=rows(tokenizer, settings["max_length"]),
            data_collator=DataCollatorForSeq2Seq(tokenizer),
            processing_class=tokenizer,
        )
        contract.train("sft", trainer)
        trainer.save_model(ADAPTER)
        contract.finish(ADAPTER)


def rows(tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict]:
    """The rows as tokens: the prompt is read, the completion is learned."""
    found = []
    for line in Path(DATA).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        asked = tokenizer(row["prompt"])["input_ids"]
        learned = tokenizer(row["completion"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        tokens = (asked + learned)[:max_length]
        labels = ([-100] * len(asked) + learned)[:max_length]
        found.append({"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": labels})
    return found


def arguments(settings: dict) -> TrainingArguments:
    """What the trainer is told: a step of the optimizer takes BATCH_SIZE rows, some of them at a time."""
    return TrainingArguments(
        output_dir="models/output/sft",
        max_steps=settings["steps"],
        per_device_train_batch_size=settings["rows_at_once"],
        gradient_accumulation_steps=BATCH_SIZE // settings["rows_at_once"],
        learning_rate=settings["learning_rate"],
        lr_scheduler_type="cosine",
        warmup_steps=settings["warmup_steps"],
        bf16=settings["dtype"] == "bfloat16",
        save_strategy="steps",
        save_steps=settings["checkpoint_every"],
        save_total_limit=5,
        report_to="none",
        seed=settings["seed"],
    )


if __name__ == "__main__":
    main()
