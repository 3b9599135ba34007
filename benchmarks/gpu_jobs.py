"""Work of the benchmark on a GPU, each job in its own process: training in several ways, a short run, an export."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from forex import base, builder, chat, config, export, order, rates, rows, speed, template, trainers, training
from peft import PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, PrinterCallback, Qwen2Config, Qwen2ForCausalLM, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from benchmarks.bench_gpu import LEVERS, PEAKS, PLAIN, Bench

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = {True: config.Shape(64, 2, 4, 2, 128, 1024), False: config.Shape(3584, 28, 28, 4, 18944, 152064)}
"""By whether it is the tiny one."""

VOCABULARY = 435
"""Tokens of the learned vocabulary: rows are then as long as with the real one, 200 tokens on average."""


def card(_: Bench, __: str) -> dict[str, Any]:
    """The card as torch sees it; nothing without one."""
    if DEVICE == "cpu":
        return {}
    seen = torch.cuda.get_device_properties(0)
    capability = f"{seen.major}.{seen.minor}"
    return {"name": seen.name, "gib": round(seen.total_memory / 2**30, 1), "capability": capability}


def prepare(bench: Bench, _: str) -> dict[str, Any]:
    """Data, a tokenizer, and an adapter for DPO and the export."""
    builder.build(bench.scratch / "data", history=rates.default_file(), eval_from="2025-01-01", seed=17)
    texts = (text for row in examples(bench) for text in (row.prompt, row.completion))
    described = config.Model(str(bench.scratch / "words"), config.Shape(vocab_size=VOCABULARY))
    words = base.tokenizer(base.directory(described, texts, 1))
    adapter = trainers.lora(config.Config(1))
    empty = get_peft_model_state_dict(get_peft_model(model_of(bench, "meta"), adapter))
    drawn = {name: torch.randn(weight.shape) * (0.01 if "lora_A" in name else 0) for name, weight in empty.items()}
    adapter.save_pretrained(bench.scratch / "adapter")
    save_file(drawn, bench.scratch / "adapter" / "adapter_model.safetensors")
    return {"words": len(words), "adapter": sum(weight.numel() for weight in drawn.values())}


def examples(bench: Bench) -> list[rows.Example]:
    """Every SFT row."""
    names = builder.FEATURE_FILE, builder.SCENARIO_FILE
    return [row for name in names for row in rows.read_examples(bench.scratch / "data" / name).rows]


def pairs(bench: Bench) -> list[rows.Preference]:
    """Every preference row."""
    return list(rows.read_preferences(bench.scratch / "data" / builder.PREFERENCE_FILE).rows)


def chat_of(bench: Bench) -> chat.Chat:
    """The learned tokenizer with R1's turns."""
    return chat.of(base.tokenizer(bench.scratch / "words"), config.Model(str(bench.scratch / "words")))


def model_of(bench: Bench, device: str = DEVICE) -> Any:
    """Random weights in the dtype in which the package loads them."""
    sizes = {name: size for name, size in dataclasses.asdict(SHAPES[bench.tiny]).items() if name != "like"}
    described = Qwen2Config(**sizes, tie_word_embeddings=False, rms_norm_eps=1e-6, architectures=["Qwen2ForCausalLM"])
    with torch.device(device):
        return Qwen2ForCausalLM._from_config(  # noqa: SLF001 - the public way reads files
            described, dtype=training.compute_dtype(), attn_implementation=config.Model().attention
        )


def ours(bench: Bench, kind: str, way: str) -> Any:
    """The package's own trainer with one lever changed."""
    changed = dict(LEVERS[way])
    limit, forced = changed.pop("micro_batch", 0), changed.pop("checkpointing", False)
    settings = config.Config(
        bench.rows[kind],
        sft=config.Sft(accumulation=1, micro_batch=limit),
        dpo=config.Dpo(micro_batch=limit),
        speed=config.Speed(**changed),
    )
    stage, model, words = training.Stage(kind, bench.scratch / "run", bench.steps + 1), model_of(bench), chat_of(bench)
    if kind == "dpo":
        made = trainers.dpo(settings, stage, model, words, pairs(bench), start=bench.scratch / "adapter")
    else:
        made = trainers.sft(settings, stage, model, words, examples(bench))
    if forced:
        made._left = [split for split in made._left if split.checkpointing]  # noqa: SLF001 - no run wants it
        made.split = made._left[0]  # noqa: SLF001
    made.args.save_strategy = "no"  # the trainer saves after the last step, too
    return made


def plain(bench: Bench, kind: str) -> Any:
    """TRL's trainer as it comes, on the same rows and with the same adapter."""
    steps, size, model = bench.steps + 1, bench.rows[kind], model_of(bench)
    read: list[Any] = pairs(bench) if kind == "dpo" else examples(bench)
    seen = [read[at] for at in order.drawn(len(read), steps=steps, rows_a_step=size, seed=config.Run().seed)]
    columns = {"prompt": [template.prompt_text(row.prompt, row.system) for row in seen]}
    for name in ("chosen", "rejected") if kind == "dpo" else ("completion",):
        columns[name] = [template.completion_text(getattr(row, name)) for row in seen]
    settings = DPOConfig if kind == "dpo" else SFTConfig
    arguments = settings(
        output_dir=str(bench.scratch / "run"),
        max_steps=steps,
        gradient_accumulation_steps=max(1, size // settings.per_device_train_batch_size),
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_steps=1,
        use_cpu=DEVICE == "cpu",
        bf16=training.compute_dtype() is torch.bfloat16,
    )
    given = {
        "args": training.one_process(arguments),
        "train_dataset": Dataset.from_dict(columns),
        "processing_class": chat_of(bench).tokenizer,
    }
    if kind == "dpo":
        return DPOTrainer(PeftModel.from_pretrained(model, str(bench.scratch / "adapter"), is_trainable=True), **given)
    return SFTTrainer(model, peft_config=trainers.lora(config.Config(1)), **given)


class Meter(TrainerCallback):  # type: ignore[misc]  # transformers publishes no types
    """Notes when each step ends, and the positions that it computes."""

    def __init__(self, trainer: Any) -> None:
        self._loss: Callable[..., Any] = trainer.compute_loss
        self.ends: list[tuple[float, float]] = []
        self.positions: list[int] = []
        trainer.compute_loss = self.counted
        trainer.add_callback(self)

    def counted(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        """One micro-batch; those of a trial come before the first step."""
        if self.positions:
            self.positions[-1] += inputs["input_ids"].numel()
        return self._loss(model, inputs, *rest, **named)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Begin to count."""
        self.positions.append(0)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """All of the step's work is done."""
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        self.ends.append((time.monotonic(), time.process_time()))


def trained(bench: Bench, kind: str, way: str) -> dict[str, Any]:
    """Train a few steps, and say how fast it went."""
    trainer = plain(bench, kind) if way == PLAIN else ours(bench, kind, way)
    meter = Meter(trainer)
    trainer.remove_callback(PrinterCallback)
    with ExitStack() as held:
        if way != PLAIN:
            stage = training.Stage(kind, bench.scratch / "run", bench.steps + 1)
            trainer.add_callback(training.LogLines(stage, trainer, None))
            held.enter_context(speed.applied(trainer, kind))
        trainer.train()
    size, data = bench.rows[kind], trainer.train_dataset
    lengths = {name: [len(ids) for ids in data[name]] for name in data.column_names if name.endswith("_ids")}
    if kind == "dpo":
        learned = sum(lengths["chosen_ids"]) + sum(lengths["rejected_ids"])
        tokens = learned + 2 * sum(lengths["prompt_ids"])
    else:
        learned = sum(label >= 0 for labels in data["labels"] for label in labels)
        tokens = sum(lengths["input_ids"])
    both = [(end - begin, busy - before) for (begin, before), (end, busy) in itertools.pairwise(meter.ends)]
    taken, cpu = zip(*both, strict=True)
    each, steps = statistics.mean(taken), len(meter.ends)
    done = flops(trainer.model, tokens, learned, reference=kind == "dpo") / steps / each / 1e12
    split = getattr(trainer, "split", None)
    found = {
        "micro_batch": split.size if split else trainer.args.per_device_train_batch_size,
        "checkpointing": split.checkpointing if split else bool(trainer.args.activation_checkpointing),
        "steps": len(taken),
        "s_per_step": round(each, 4),
        "s_per_step_range": [round(min(taken), 4), round(max(taken), 4)],
        "cpu_s_per_step": round(statistics.mean(cpu), 4),
        "samples_per_s": round(size / each, 2),
        "tokens_per_s": round(tokens / steps / each),
        "tokens_per_row": round(tokens / len(data), 1),
        "padding": round(1 - tokens / sum(meter.positions), 4),
        "tflops": round(done, 3),
        "losses": [round(entry["loss"], 5) for entry in trainer.state.log_history if "loss" in entry],
    }
    if DEVICE == "cuda":
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
        found["reserved_gib"] = round(torch.cuda.max_memory_reserved() / 2**30, 1)
        name = torch.cuda.get_device_name()
        if peak := bench.peak_tflops or next((peak for part, peak in PEAKS.items() if part in name), None):
            found["mfu"] = round(done / peak, 4)
    return found


def flops(model: Any, tokens: int, learned: int, *, reference: bool) -> float:
    """Floating-point operations that LoRA needs for these tokens, and those of a frozen reference's forward."""
    sizes: dict[str, int] = {name: weight.numel() for name, weight in model.named_parameters() if ".ref." not in name}
    adapter = sum(size for name, size in sizes.items() if "lora_" in name)
    output = sum(size for name, size in sizes.items() if "lm_head" in name)
    layers = sum(sizes.values()) - adapter - output - sum(n for name, n in sizes.items() if "embed_tokens" in name)
    needed = (4 * layers + 6 * adapter) * tokens + 4 * output * learned
    return needed + reference * (2 * (layers + adapter) * tokens + 2 * output * learned)


def right(bench: Bench, _: str) -> dict[str, Any]:
    """A short run on the card: loss falls, a resumed run equals one left alone, and what is exported loads."""
    where = bench.scratch / "right"
    shape = config.Shape(64, 2, 4, 2, 128, 600) if bench.tiny else config.Shape(512, 4, 8, 2, 1024, 2048)
    model = config.Model(str(where / "base"), shape)
    settings = config.Config(
        8 if bench.tiny else 32,
        model,
        sft=config.Sft(learning_rate=3e-3, warmup_steps=1),
        dpo=config.Dpo(learning_rate=1e-4, warmup_steps=1),
        run=config.Run(checkpoint_every=3, checkpoint_limit=9),
    )
    read = examples(bench)[::37]
    described = base.directory(model, (text for row in read for text in (row.prompt, row.completion)), 1)
    turns = chat.of(base.tokenizer(described), model)

    def fresh() -> Any:
        return AutoModelForCausalLM.from_pretrained(described, dtype=training.compute_dtype()).to(DEVICE)

    def sft(name: str) -> tuple[list[float], Path]:
        stage = training.Stage("sft", where / name, 9)
        made = trainers.sft(settings, stage, fresh(), turns, read)
        last = training.run(made, stage)
        return [entry["loss"] for entry in made.state.log_history if "loss" in entry], last

    whole, last = sft("whole")
    shutil.copytree(where / "whole", where / "again")
    for step in (6, 9):
        shutil.rmtree(where / "again" / f"checkpoint-{step}")
    again, resumed = sft("again")
    stage = training.Stage("dpo", where / "dpo", 3)
    preferred = trainers.dpo(settings, stage, fresh(), turns, pairs(bench)[:64], start=last)
    adapter = training.run(preferred, stage)
    same = (last / "adapter_model.safetensors").read_bytes() == (resumed / "adapter_model.safetensors").read_bytes()
    found: dict[str, Any] = {
        "losses": [round(loss, 5) for loss in whole],
        "loss_falls": whole[-1] < whole[0],
        "resumed_to_the_same_step": len(again) == len(whole),
        "resume_bit_equal": same and again == whole,
        "resume_losses_apart": max(abs(one - two) for one, two in zip(whole, again, strict=True)),
        "first_dpo_loss": next(entry["loss"] for entry in preferred.state.log_history if "loss" in entry),
    }
    for quantization in ("F16", "Q8_0"):
        target = where / f"right.{quantization}.gguf"
        export.write(export.Source.of(described, adapter, turns), target, quantization=quantization, name="right")
        found[f"{quantization}_loads"] = loaded(target, preferred.model.eval(), turns, read[0])
    return found


def loaded(target: Path, model: Any, turns: chat.Chat, row: rows.Example) -> str:
    """How a GGUF that transformers loads answers beside the trained model; it was verified when it was written."""
    try:
        import gguf  # noqa: F401, PLC0415 - transformers reads it by this package, which may be missing
    except ModuleNotFoundError:
        return "verified as written, not loaded: gguf is not installed"
    file = AutoModelForCausalLM.from_pretrained(target.parent, gguf_file=target.name, dtype=torch.float32)
    ids = torch.tensor([turns.prompts([row])[0] + turns.answers([row], "completion")[0]])
    with torch.no_grad():
        its = file(input_ids=ids).logits[0]
        own = model(input_ids=ids.to(DEVICE)).logits[0].float().cpu()
    agree = float((its.argmax(-1) == own.argmax(-1)).float().mean())
    return f"{agree:.1%} of the likeliest tokens agree, logits at most {float((its - own).abs().max()):.2g} apart"


def exported(bench: Bench, _: str) -> dict[str, Any]:
    """Write the shape's weights, then merge, quantise and verify them as a run's end does."""
    source, target = bench.scratch / "base", bench.scratch / "bench.Q8_0.gguf"
    model_of(bench).to(torch.bfloat16).save_pretrained(source, max_shard_size="4GB")
    for path in (bench.scratch / "words").glob("*token*"):
        shutil.copyfile(path, source / path.name)
    read = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    began = time.monotonic()
    origin = export.Source.of(source, bench.scratch / "adapter", chat_of(bench))
    written = export.write(origin, target, quantization="Q8_0", name="bench")
    took = time.monotonic() - began
    shutil.rmtree(source)
    target.unlink()
    return {
        "seconds": round(took, 2),
        "bytes_read": read,
        "bytes_written": written.size,
        "gb_per_s_read": round(read / took / 1e9, 3),
        "gb_per_s_written": round(written.size / took / 1e9, 3),
        "cores": os.cpu_count(),
    }


WORK: dict[str, Callable[[Bench, str], dict[str, Any]]] = {
    "card": card,
    "prepare": prepare,
    "sft": lambda bench, way: trained(bench, "sft", way),
    "dpo": lambda bench, way: trained(bench, "dpo", way),
    "right": right,
    "export": exported,
}
