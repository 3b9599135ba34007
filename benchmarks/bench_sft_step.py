"""Throughput of the SFT step: tokens/s, samples/s and MFU, at the data's real length distribution.

    python benchmarks/bench_sft_step.py                 # the 7B's shape; needs a GPU with 80 GB or more
    python benchmarks/bench_sft_step.py --tiny          # the same code on any CPU; says nothing about a GPU

Random weights in the shape of DeepSeek-R1-Distill-Qwen-7B, LoRA 64 on seven projections, batch 32. Two ways take
turns: ours (rows of one step by length, own micro-batch) and plain (rows as drawn, every micro-batch padded).
MFU counts 6 x parameters x real tokens a step (4 x for the frozen base's forward and activation gradient, which
is what LoRA computes), against ``--peak-tflops`` (dense bfloat16; 989 on an H100 or H200 SXM, NVIDIA's data sheet).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1] / "training_pkg"
sys.path.insert(0, str(PACKAGE))

import torch  # noqa: E402 - after the path
from forex import base, builder, order, rates, rows, template  # noqa: E402
from forex.config import Model, Shape  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import Qwen2Config, Qwen2ForCausalLM  # noqa: E402

BATCH = 32
IGNORED = -100
FIRST_SAMPLES_PER_SECOND = 7.0
"""What the first user measured on 8x H100 SXM."""


def model_of(shape: Shape) -> Any:
    """A LoRA model with random weights on the best device here, in the dtype it trains in."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    config = Qwen2Config(
        **{name: getattr(shape, name) for name in Shape.__dataclass_fields__}, tie_word_embeddings=False
    )
    with torch.device(device):
        torch.set_default_dtype(dtype)
        plain = Qwen2ForCausalLM._from_config(config, attn_implementation="sdpa")  # noqa: SLF001 - the public way reads files
        torch.set_default_dtype(torch.float32)
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapted = get_peft_model(plain, LoraConfig(r=64, lora_alpha=128, target_modules=modules, task_type="CAUSAL_LM"))
    adapted.gradient_checkpointing_enable({"use_reentrant": False})
    adapted.enable_input_require_grads()
    return adapted.train()


def examples(folder: Path, vocabulary: int) -> list[tuple[int, int]]:
    """(prompt, completion) lengths in tokens of every SFT row, with a tokenizer learned from the data."""
    builder.build(folder, history=rates.default_file(), eval_from="2025-01-01", seed=17)
    read = [
        row for name in (builder.FEATURE_FILE, builder.SCENARIO_FILE) for row in rows.read_examples(folder / name).rows
    ]
    texts = (text for row in read for text in (row.prompt, row.completion))
    words = base.tokenizer(base.directory(Model(str(folder / "base"), Shape(vocab_size=vocabulary)), texts, 1))
    prompts = template.encode_prompts(words, [(row.prompt, "") for row in read])
    answers = template.encode_completions(words, [row.completion for row in read])
    return [(len(prompt), len(answer)) for prompt, answer in zip(prompts, answers, strict=True)]


def step(model: Any, optimizer: torch.optim.Optimizer, lengths: list[tuple[int, int]], micro: int) -> float:
    """One optimizer step over rows of these lengths; seconds."""
    began = time.monotonic()
    answers = sum(answer for _, answer in lengths)
    for start in range(0, len(lengths), micro):
        part = lengths[start : start + micro]
        width = max(prompt + answer for prompt, answer in part)
        ids = torch.randint(0, 1000, (len(part), width), device=model.device)
        labels = torch.full_like(ids, IGNORED)
        mask = torch.zeros_like(ids)
        for at, (prompt, answer) in enumerate(part):
            labels[at, prompt : prompt + answer] = ids[at, prompt : prompt + answer]
            mask[at, : prompt + answer] = 1
        model(input_ids=ids, attention_mask=mask, labels=labels, num_items_in_batch=answers).loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic() - began


def main() -> None:
    """Take turns and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--micro", type=int, default=8)
    parser.add_argument("--peak-tflops", type=float, default=989.0)
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        raise SystemExit("no GPU here; --tiny runs the same code on the CPU")
    shape = Shape() if options.tiny else Shape(3584, 28, 28, 4, 18944, 152064)
    with tempfile.TemporaryDirectory() as name:
        lengths = examples(Path(name) / "data", 2048)
    total = [prompt + answer for prompt, answer in lengths]
    drawn = order.drawn(len(total), steps=options.steps + 1, batch_size=BATCH, seed=17)
    picked = [drawn[at] for at in order.by_length([total[at] for at in drawn], BATCH)]
    model = model_of(shape)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-5)
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    for number in range(options.steps + 1):  # the first warms up
        span = slice(number * BATCH, (number + 1) * BATCH)
        for way, rows_ in (("ours", picked), ("plain", drawn)):
            seconds[way].append(step(model, optimizer, [lengths[at] for at in rows_[span]], options.micro))
    tokens = statistics.mean(total) * BATCH
    parameters = sum(weight.numel() for weight in model.parameters())
    for way, taken in seconds.items():
        each = statistics.median(taken[1:])
        found: dict[str, Any] = {
            "way": way,
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "parameters": parameters,
            "s_per_step": round(each, 3),
            "samples_per_s": round(BATCH / each, 2),
            "tokens_per_s": round(tokens / each),
        }
        if not options.tiny:
            peak = options.peak_tflops * 1e12
            found["mfu_6n"] = round(6 * parameters * tokens / each / peak, 4)
            found["mfu_4n"] = round(4 * parameters * tokens / each / peak, 4)
            found["times_the_first_runs"] = round(BATCH / each / FIRST_SAMPLES_PER_SECOND, 2)
        print(json.dumps(found))


if __name__ == "__main__":
    main()
