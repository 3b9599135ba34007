"""Supervised fine-tuning of an adapter with TRL, as the harness runs it: yours to change.

python3 train.py                        trains, or goes on from the newest whole checkpoint
python3 train.py --ready                proves that the base model is there
python3 train.py --settings tiny.json   the same on a tiny model that is made on the spot, for a rehearsal
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import tiny_model
from datasets import load_dataset
from harness_contract import Contract, ready
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import SFTConfig, SFTTrainer

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
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(base, dtype=settings["dtype"], device_map="auto"),
            args=arguments(settings),
            train_dataset=load_dataset("json", data_files=DATA, split="train"),
            processing_class=AutoTokenizer.from_pretrained(base),
            peft_config=LoraConfig(
                r=settings["lora_r"],
                lora_alpha=settings["lora_alpha"],
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        )
        contract.train("sft", trainer)
        trainer.save_model(ADAPTER)
        contract.finish(ADAPTER)


def arguments(settings: dict) -> SFTConfig:
    """What TRL is told: a step of the optimizer takes BATCH_SIZE rows, some of them at a time."""
    return SFTConfig(
        output_dir="models/output/sft",
        max_steps=settings["steps"],
        per_device_train_batch_size=settings["rows_at_once"],
        gradient_accumulation_steps=BATCH_SIZE // settings["rows_at_once"],
        learning_rate=settings["learning_rate"],
        lr_scheduler_type="cosine",
        warmup_steps=settings["warmup_steps"],
        max_length=settings["max_length"],
        bf16=settings["dtype"] == "bfloat16",
        save_strategy="steps",
        save_steps=settings["checkpoint_every"],
        save_total_limit=5,
        report_to="none",
        seed=settings["seed"],
    )


if __name__ == "__main__":
    main()
