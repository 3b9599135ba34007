"""Throughput of the SFT step: tokens/s, samples/s and MFU, at the data's real length distribution.

    python -m benchmarks.bench_sft_step             # the 7B's shape; needs a GPU with 80 GB or more
    python -m benchmarks.bench_sft_step --tiny      # the same code on any CPU; says nothing about a GPU

Random weights in the shape of DeepSeek-R1-Distill-Qwen-7B, the package's adapter and rows, 32 samples an optimizer
step. ``plain`` is TRL's SFTTrainer with its own defaults (micro-batch 8, rows in random order, every micro-batch
padded to its longest); ``ours`` is the very trainer of training_pkg with its defaults. Then ours with other
micro-batches, with and without activation checkpointing: what the package's defaults should be. One JSON line each,
before the rows. ``--quick`` is ``--tiny``, with the two that are compared.

A step's time runs from the end of the one before it to its own, data loading included; the first warms up. Tokens are
those of rows, padding is not counted. ``mfu`` counts what LoRA has to compute: 4 x the frozen matrices x tokens (the
forward, and the gradient of the activations), the output matrix for learned tokens only, 6 x the adapter x tokens;
neither attention's products (under 1 % at these lengths) nor what checkpointing computes again. ``mfu_6n`` is the
usual 6 x all parameters x tokens, over half as much again. Both against ``--peak-tflops`` (dense bfloat16; 989 on an
H100 or H200 SXM, NVIDIA's data sheet; an H100 PCIe has 756).

Bars, on one GPU: half the seconds that the first user's eight H100 SXM took for 32 samples; an MFU of 45 %.

Token ids come from a vocabulary learned from the data, unless ``--tokenizer`` names a model's directory.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import benchmarks.training_package  # noqa: F401 - forex is found through it
from benchmarks import table
from benchmarks.table import Row

try:
    import torch
    from datasets import Dataset
    from forex import base, builder, config, order, rates, rows, template, trainers, training
    from transformers import PrinterCallback, Qwen2Config, Qwen2ForCausalLM, TrainerCallback
    from trl import SFTConfig, SFTTrainer
except ModuleNotFoundError as error:
    table.absent(error)

BATCH = 32
SEVEN_B = config.Shape(3584, 28, 28, 4, 18944, 152064)
FIRST_SAMPLES_PER_SECOND = 7.0
"""What the first user measured on 8x H100 SXM."""
FIRST_BAR, MFU_BAR = 0.5, 0.45

PLAIN, OURS = "plain", "ours"
WAYS: dict[str, tuple[int, bool]] = {
    OURS: (config.Sft().micro_batch, config.Run().gradient_checkpointing),
    "ours, micro 16": (16, True),
    "ours, micro 32": (32, True),
    "ours, micro 4, no checkpointing": (4, False),
    "ours, micro 8, no checkpointing": (8, False),
    "ours, micro 16, no checkpointing": (16, False),
}
"""Micro-batch and activation checkpointing."""


class Meter(TrainerCallback):  # type: ignore[misc]  # transformers publishes no types
    """Counts what passes through a trainer's collator, and notes when each step ends."""

    def __init__(self, trainer: SFTTrainer) -> None:
        self._collate, self._pad = trainer.data_collator, trainer.processing_class.pad_token_id
        self.ends: list[float] = []
        self.tokens = self.learned = self.positions = 0
        trainer.data_collator = self.collate
        trainer.add_callback(self)

    def collate(self, part: list[dict[str, Any]]) -> Any:
        """One micro-batch."""
        made = self._collate(part)
        self.tokens += int(made["attention_mask"].sum())
        self.learned += int((made["labels"] != trainers.IGNORED).sum())
        self.positions += made["input_ids"].numel()
        return made

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ARG002 - the trainer's signature
        """All of the step's work is done."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.monotonic())


def model_of(shape: config.Shape) -> Any:
    """Random weights on the best device here, in the dtype in which the package loads them."""
    described = Qwen2Config(**dataclasses.asdict(shape), tie_word_embeddings=False)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        return Qwen2ForCausalLM._from_config(  # noqa: SLF001 - the public way reads files
            described, dtype=training.compute_dtype(), attn_implementation=config.Model().attention
        )


def data(folder: Path, tokenizer: Path | None) -> tuple[list[rows.Example], Any]:
    """Every SFT row, and a tokenizer."""
    builder.build(folder, history=rates.default_file(), eval_from="2025-01-01", seed=17)
    read = [
        row for name in (builder.FEATURE_FILE, builder.SCENARIO_FILE) for row in rows.read_examples(folder / name).rows
    ]
    texts = (text for row in read for text in (row.prompt, row.completion))
    tokenizer = tokenizer or base.directory(config.Model(str(folder / "base"), config.Shape()), texts, 1)
    return read, base.tokenizer(tokenizer)


def ours(folder: Path, steps: int, read: list[rows.Example], words: Any, *, model: Any, way: tuple[int, bool]) -> Any:
    """The package's own trainer."""
    micro, checkpointing = way
    settings = config.Config(
        BATCH, sft=config.Sft(micro_batch=micro, accumulation=1), run=config.Run(gradient_checkpointing=checkpointing)
    )
    made = trainers.sft(settings, training.Stage("sft", folder, steps), model, words, read)
    made.args.save_strategy = "no"  # the trainer saves after the last step, too
    return made


def plain(folder: Path, steps: int, read: list[rows.Example], words: Any, model: Any) -> Any:
    """TRL's trainer as it comes, on the same rows and with the same adapter."""
    settings = SFTConfig(
        output_dir=str(folder),
        max_steps=steps,
        gradient_accumulation_steps=BATCH // SFTConfig.per_device_train_batch_size,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        bf16=training.compute_dtype() is torch.bfloat16,
    )
    seen = [read[at] for at in order.drawn(len(read), steps=steps, rows_a_step=BATCH, seed=config.Run().seed)]
    columns = {
        "prompt": [template.prompt_text(row.prompt, row.system) for row in seen],
        "completion": [template.completion_text(row.completion) for row in seen],
    }
    return SFTTrainer(
        model=model,
        args=training.one_process(settings),
        train_dataset=Dataset.from_dict(columns),
        processing_class=words,
        peft_config=trainers.lora(config.Config(BATCH)),
    )


def flops(model: Any, meter: Meter) -> tuple[float, float]:
    """Floating-point operations of the whole run: those that LoRA needs, and 6 x parameters x tokens."""
    frozen = {name: weight.numel() for name, weight in model.named_parameters() if not weight.requires_grad}
    adapter = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    looked_up = sum(size for name, size in frozen.items() if "embed_tokens" in name)
    output = sum(size for name, size in frozen.items() if "lm_head" in name)
    layers = sum(frozen.values()) - looked_up - output
    needed = (4 * layers + 6 * adapter) * meter.tokens + 4 * output * meter.learned
    return needed, 6 * (sum(frozen.values()) + adapter) * meter.tokens


def measured(trainer: Any, steps: int, peak: float | None) -> dict[str, Any]:
    """Train, and say how fast it went."""
    meter = Meter(trainer)
    trainer.remove_callback(PrinterCallback)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    trainer.train()
    taken = [end - start for start, end in zip(meter.ends, meter.ends[1:], strict=False)]
    each = statistics.mean(taken)
    found: dict[str, Any] = {
        "micro_batch": trainer.args.per_device_train_batch_size,
        "checkpointing": bool(trainer.args.activation_checkpointing),
        "dtype": str(next(trainer.model.parameters()).dtype).removeprefix("torch."),
        "parameters": sum(weight.numel() for weight in trainer.model.parameters()),
        "steps": len(taken),
        "s_per_step": round(each, 3),
        "s_per_step_range": [round(min(taken), 3), round(max(taken), 3)],
        "samples_per_s": round(BATCH / each, 2),
        "tokens_per_s": round(meter.tokens / steps / each),
        "tokens_per_sample": round(meter.tokens / steps / BATCH, 1),
        "padding": round(1 - meter.tokens / meter.positions, 4),
    }
    if torch.cuda.is_available():
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    if peak is not None:
        needed, six_n = flops(trainer.model, meter)
        found |= {
            "mfu": round(needed / steps / each / peak, 4),
            "mfu_6n": round(six_n / steps / each / peak, 4),
            "times_the_first_runs": round(BATCH / each / FIRST_SAMPLES_PER_SECOND, 2),
        }
    return found


def measure(options: argparse.Namespace, *, tiny: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each way's figures, printed too."""
    shape, peak = (config.Shape(), None) if tiny else (SEVEN_B, options.peak_tflops * 1e12)
    steps = options.steps + 1
    if tiny:
        torch.set_num_threads(1)  # threads that wait for each other would measure what else the machine does
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    print(json.dumps({"device": device, "torch": torch.__version__, "peak_flops": peak}), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        read, words = data(folder / "data", options.tokenizer)
        for way in (PLAIN, OURS) if options.quick else (PLAIN, *WAYS):
            try:
                model = model_of(shape)
                trainer = (
                    plain(folder, steps, read, words, model)
                    if way == PLAIN
                    else ours(folder, steps, read, words, model=model, way=WAYS[way])
                )
                found = measured(trainer, steps, peak)
            except torch.cuda.OutOfMemoryError as error:
                found = {"out_of_memory": str(error).splitlines()[0]}
            print(json.dumps({"way": way, **found}), flush=True)
            yield way, found
            model = trainer = None  # frees the GPU before the next one is made
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def step_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Each way beside TRL's defaults; on a GPU the defaults beside the first user's step and the card's peak, too."""
    small = options.tiny or options.quick
    tiny = small or not torch.cuda.is_available()
    device = "GPU" if torch.cuda.is_available() else "CPU"
    what = f"SFT step of {BATCH} samples, {'tiny' if tiny else '7B'} shape, {device}"
    found = dict(measure(options, tiny=tiny))
    taken = {way: figures.get("s_per_step") for way, figures in found.items()}
    for way in [way for way in found if way != PLAIN]:
        why = "" if taken[way] and taken[PLAIN] else "out of memory"
        yield Row(f"{what}: {way}", "TRL's defaults", taken[way], taken[PLAIN], why=why)
    if small:
        return
    mine, why = (None, "no GPU here") if tiny else (taken[OURS], "" if taken[OURS] else "out of memory")
    what = f"SFT step of {BATCH} samples, 7B shape, one GPU"
    yield Row(
        what, "eight H100 SXM, as the first user ran them", mine, BATCH / FIRST_SAMPLES_PER_SECOND, FIRST_BAR, why=why
    )
    ideal = mine * found[OURS]["mfu"] / MFU_BAR if mine else None
    yield Row(what, f"{MFU_BAR:.0%} of the card's peak", mine, ideal, 1.0, why=why)


if __name__ == "__main__":
    parser = table.parser(__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--steps", type=int, default=8, help="optimizer steps that are measured in each way")
    parser.add_argument("--peak-tflops", type=float, default=989.0)
    parser.add_argument("--tokenizer", type=Path, help="a model's directory")
    table.run(parser.parse_args(), step_rows)
