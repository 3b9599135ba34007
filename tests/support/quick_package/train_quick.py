"""A training that ends in seconds and keeps the whole contract of a package. See README.md.

    python3 train_quick.py --stage all

Killed anywhere and run again, it goes on from its newest complete checkpoint and ends with the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import math
import os
import pickle
import shutil
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

BATCH_SIZE = 32  # rows an optimizer step
STEPS = {"sft": 20, "dpo": 10}
CHECKPOINT_EVERY = 10
SEED = 7
RATE = 0.02
BETA = 0.5
STEP_SECONDS = 0.15  # a step lasts long enough for something to happen in the middle of a training
EXPORT_SECONDS = 0.5

FEATURES = 8  # numbers that are read from a row
RANK, ALPHA = 1, 2
HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, VOCABULARY = 256, 512, 2, 4, 1, 320
HEAD = HIDDEN // HEADS
CONTEXT = 512
SHAPE = {
    "architecture": "Qwen2ForCausalLM",
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "intermediate_size": INNER,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": False,
    "head_dim": HEAD,
}
PROJECTIONS = {  # name in the adapter -> (name in GGUF, rows, columns)
    "self_attn.q_proj": ("attn_q", HIDDEN, HIDDEN),
    "self_attn.k_proj": ("attn_k", KV_HEADS * HEAD, HIDDEN),
    "self_attn.v_proj": ("attn_v", KV_HEADS * HEAD, HIDDEN),
    "self_attn.o_proj": ("attn_output", HIDDEN, HIDDEN),
    "mlp.gate_proj": ("ffn_gate", INNER, HIDDEN),
    "mlp.up_proj": ("ffn_up", INNER, HIDDEN),
    "mlp.down_proj": ("ffn_down", HIDDEN, INNER),
}

DATA = Path("data/quick")
ROWS = {"features": 200, "scenarios": 100, "pairs": 50}
FILES = {
    "features": DATA / "features.jsonl",
    "scenarios": DATA / "scenarios.jsonl",
    "pairs": DATA / "pairs.jsonl",
}
OUTPUT = Path("models/output")
BASE = OUTPUT / "base"
GGUF_FILE = OUTPUT / "final/quick.Q8_0.gguf"
MERGED = OUTPUT / "final"
SPECIAL = ("<|begin|>", "<|end|>", "<|pad|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
)

Array = npt.NDArray[np.float32]
Adapter = dict[str, Array]


def load_base_model(source: str) -> Any:
    """How a package of this kind loads its base model: one process, every visible GPU. Not called here."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(source, device_map="auto", trust_remote_code=False)


def say(line: str) -> None:
    """One line of the log, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """The package's command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=("prepare", "ready", "all"), required=True)
    parser.add_argument("--artifact", choices=("gguf", "merged", "adapter"), default="gguf")
    told = parser.parse_args()
    stages: dict[str, Callable[[], None]] = {
        "prepare": prepare,
        "ready": ready,
        "all": lambda: train_all(told.artifact),
    }
    try:
        stages[told.stage]()
    except OSError as error:
        say(f"TRAINING FAILED: {error}")
        return 1
    return 0


# --- data ------------------------------------------------------------------------------------


def prepare() -> None:
    """Write the data files: closes of a random walk, and whether the one after them was higher."""
    DATA.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    for kind, path in FILES.items():
        rows = [_row(kind, number, rng) for number in range(ROWS[kind])]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _row(kind: str, number: int, rng: np.random.Generator) -> dict[str, str]:
    closes = 1.1 * np.cumprod(1 + 0.004 * rng.standard_normal(9))
    day = (date(2015, 1, 5) + timedelta(days=number)).isoformat()
    shown = " ".join(f"{close:.5f}" for close in closes[:8])
    up, down = ("HIGHER", "LOWER") if kind == "features" else ("BUY", "SELL")
    right, wrong = (up, down) if closes[8] > closes[7] else (down, up)
    asked = f"Is the close after these {up.lower()} or {down.lower()}?"
    row = {
        "prompt": f"EUR/USD closes up to {day}: {shown}. {asked}",
        "pair": "EURUSD",
        "date": day,
        "built_by": "chance",
    }
    return row | ({"chosen": right, "rejected": wrong} if kind == "pairs" else {"completion": right})


def read_rows(kind: str) -> list[dict[str, str]]:
    """The rows of one data file."""
    return [json.loads(line) for line in FILES[kind].read_text(encoding="utf-8").splitlines()]


def features(rows: list[dict[str, str]]) -> Array:
    """Eight numbers a row: its closes' relative changes, of unit variance."""
    closes = np.array([[float(word) for word in row["prompt"].split(": ")[1].split(". ")[0].split()] for row in rows])
    changes = np.diff(np.log(closes), axis=1, prepend=np.log(1.1))
    scaled: Array = (changes / changes.std()).astype(np.float32)
    return scaled


# --- base model ------------------------------------------------------------------------------


def ready() -> None:
    """Prove that the training's two ends work: the base model is there, and a file of it is written and reads."""
    make_base()
    say(f"READY base_model {BASE.as_posix()} {len(load_file(BASE / 'model.safetensors'))} tensors")
    trial = OUTPUT / "ready.gguf"
    write_gguf(trial, new_adapter(), build_tokenizer([row["prompt"] for row in read_rows("features")]))
    read = gguf.GGUFReader(trial)
    say(f"READY gguf_export {len(read.tensors)} tensors, {trial.stat().st_size} bytes")
    trial.unlink()


def make_base() -> None:
    """The base model, the same wherever it is made: random weights with Qwen2's names and shapes."""
    if (BASE / "model.safetensors").exists():
        return
    rng = np.random.default_rng(SEED)
    shapes: dict[str, tuple[int, ...]] = {name: shape for name, (_, shape) in _tensors().items()}
    weights = {name: (0.02 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    weights |= {name: 1 + value for name, value in weights.items() if "norm" in name}
    BASE.mkdir(parents=True, exist_ok=True)
    write_json(BASE / "config.json", {"architectures": [SHAPE["architecture"]], **SHAPE})
    save_file(weights, BASE / "building.safetensors")
    (BASE / "building.safetensors").replace(BASE / "model.safetensors")


def _tensors() -> dict[str, tuple[str, tuple[int, ...]]]:
    """Every tensor: Transformers' name -> GGUF's, and the shape."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {
        "model.embed_tokens.weight": ("token_embd.weight", (VOCABULARY, HIDDEN)),
        "model.norm.weight": ("output_norm.weight", (HIDDEN,)),
        "lm_head.weight": ("output.weight", (VOCABULARY, HIDDEN)),
    }
    for layer in range(LAYERS):
        here = f"model.layers.{layer}"
        found[f"{here}.input_layernorm.weight"] = (f"blk.{layer}.attn_norm.weight", (HIDDEN,))
        found[f"{here}.post_attention_layernorm.weight"] = (f"blk.{layer}.ffn_norm.weight", (HIDDEN,))
        for projection, (short, out, into) in PROJECTIONS.items():
            found[f"{here}.{projection}.weight"] = (f"blk.{layer}.{short}.weight", (out, into))
            if short in {"attn_q", "attn_k", "attn_v"}:
                found[f"{here}.{projection}.bias"] = (f"blk.{layer}.{short}.bias", (out,))
    return found


# --- training --------------------------------------------------------------------------------


def train_all(artifact: str) -> None:
    """SFT, DPO, export, manifest."""
    rows = {kind: read_rows(kind) for kind in FILES}
    say(f"ROWS {len(rows['features']) + len(rows['scenarios'])}/{len(rows['pairs'])} READY")
    for kind, path in FILES.items():
        built = sum("built_by" in row for row in rows[kind])
        say(f"DATA {kind} rows={len(rows[kind])} built={built} sha256={sha256(path)}")
    make_base()
    announce()
    sft = train("sft", features(rows["features"] + rows["scenarios"]), new_adapter(), None)
    dpo = train("dpo", features(rows["pairs"]), sft, sft)
    export(dpo, [row["prompt"] for row in rows["features"]], artifact)
    say("TRAINING COMPLETE")


def announce() -> None:
    """run.json and the PLAN line."""
    plan = {
        "sft_steps": STEPS["sft"],
        "dpo_steps": STEPS["dpo"],
        "batch_size": BATCH_SIZE,
        "checkpoint_every": CHECKPOINT_EVERY,
        "lora_r": RANK,
        "lora_alpha": ALPHA,
        "dtype": "float32",
        "world_size": 1,
        "device_map": "auto",
        "devices": "cpu",
    }
    write_json(
        Path("run.json"),
        {
            "contract": 1,
            "model": {"name": BASE.as_posix(), "config": SHAPE},
            "batch_size": BATCH_SIZE,
            "device_map": "auto",
            "devices": ["cpu"],
            "world_size": 1,
            "dtype": "float32",
            "lora": {"r": RANK, "alpha": ALPHA, "dropout": 0.0, "target_modules": [*map(_last, PROJECTIONS)]},
            "steps": STEPS,
            "checkpoint_every": CHECKPOINT_EVERY,
            "max_length": CONTEXT,
            "quantization": ["Q8_0"],
            "disk_needed_bytes": 16 << 20,
            "seed": SEED,
            "data": {
                kind: {"path": path.as_posix(), "rows": ROWS[kind], "sha256": sha256(path)}
                for kind, path in FILES.items()
            },
            "versions": {name: importlib.metadata.version(name) for name in ("numpy", "gguf", "safetensors")},
        },
    )
    say("PLAN " + " ".join(f"{name}={value}" for name, value in plan.items()))


def new_adapter() -> Adapter:
    """As PEFT begins: A random, B zero."""
    rng = np.random.default_rng(SEED)
    adapter: Adapter = {}
    for name, out, into in _matrices():
        adapter[f"{name}.lora_A.weight"] = rng.standard_normal((RANK, into)).astype(np.float32)
        adapter[f"{name}.lora_B.weight"] = np.zeros((out, RANK), np.float32)
    return adapter


def train(stage: str, data: Array, start: Adapter, reference: Adapter | None) -> Adapter:
    """One stage from its newest complete checkpoint, or from ``start``; a preference stage has a reference."""
    total, folder = STEPS[stage], OUTPUT / stage
    adapter, done = {name: value.copy() for name, value in start.items()}, 0
    say(f"[{stage}] SCHEDULE constant warmup_steps=0 lr={RATE:g}")
    newest = newest_checkpoint(stage)
    if newest is not None:
        adapter, done = newest
        if done < total:
            say(f"[{stage}] RESUME from {folder.as_posix()}/checkpoint-{done} at step {done}")
    for step in range(done + 1, total + 1):
        began = time.monotonic()
        batch = data[np.random.default_rng([SEED, step]).integers(len(data), size=BATCH_SIZE)]
        loss = descend(adapter, batch, reference)
        time.sleep(STEP_SECONDS)
        if reference is not None and step == 1:
            say(f"[dpo] first loss={loss:.6f}")
        say(f"[{stage}] step {step}/{total} ({100 * step // total}%) loss={loss:.6g} lr={RATE:g} "
            f"s/step={time.monotonic() - began:.3f}")  # fmt: skip
        if step % CHECKPOINT_EVERY == 0 or step == total:
            save_checkpoint(folder / f"checkpoint-{step}", adapter, step)
            say(f"[{stage}] Saved checkpoint {folder.as_posix()}/checkpoint-{step}")
    say(f"[{stage}] COMPLETE {total}/{total} steps")
    return adapter


def descend(adapter: Adapter, batch: Array, reference: Adapter | None) -> float:
    """One step of gradient descent in place; the loss before it.

    SFT: the mean squared distance of what the adapters add from what they should add. DPO: minus the
    log-probability that the policy is nearer than its reference; ln 2 while they are the same.
    """
    losses, gradients = [], {}
    for name, out, into in _matrices():
        spread, wanted_a, wanted_b = _task(out, into)
        x = batch @ spread
        wanted = x @ wanted_a.T @ wanted_b.T
        a, b = adapter[f"{name}.lora_A.weight"], adapter[f"{name}.lora_B.weight"]
        off = _added(a, b, x) - wanted
        loss, weight = float(np.mean(off**2)), 1.0
        if reference is not None:
            before = _added(reference[f"{name}.lora_A.weight"], reference[f"{name}.lora_B.weight"], x) - wanted
            behind = 1 / (1 + math.exp(BETA * (float(np.mean(before**2)) - loss)))
            loss, weight = -math.log(1 - behind), BETA * behind
        losses.append(loss)
        share = 2 * weight * ALPHA / RANK / BATCH_SIZE
        gradients[name] = (share / out * (off @ b).T @ x, share * off.T @ (x @ a.T))
    for name, (of_a, of_b) in gradients.items():
        adapter[f"{name}.lora_A.weight"] -= RATE * of_a
        adapter[f"{name}.lora_B.weight"] -= RATE * of_b
    return float(np.mean(losses))


@cache
def _task(out: int, into: int) -> tuple[Array, Array, Array]:
    """How a row's eight features become a projection's input, and the rank-1 change that is to be learned."""
    rng = np.random.default_rng([SEED, out, into])
    shapes = (FEATURES, into), (RANK, into), (out, RANK)
    spread, wanted_a, wanted_b = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    spread /= math.sqrt(FEATURES * into)
    return spread, wanted_a, wanted_b


def _added(a: Array, b: Array, x: Array) -> Array:
    return (ALPHA / RANK * (x @ a.T @ b.T)).astype(np.float32)


def _matrices() -> Iterator[tuple[str, int, int]]:
    """What is adapted: PEFT's name, rows, columns."""
    for layer in range(LAYERS):
        for projection, (_, out, into) in PROJECTIONS.items():
            yield f"base_model.model.model.layers.{layer}.{projection}", out, into


def _last(dotted: str) -> str:
    return dotted.rpartition(".")[2]


# --- checkpoints -----------------------------------------------------------------------------


def save_checkpoint(folder: Path, adapter: Adapter, step: int) -> None:
    """A whole checkpoint, or none: it gets its name when everything in it is on the disk."""
    building = folder.with_name(f"building-{folder.name}")
    shutil.rmtree(building, ignore_errors=True)
    save_adapter(building, adapter)
    write_json(building / "trainer_state.json", {"global_step": step, "max_steps": STEPS[folder.parent.name]})
    states: dict[str, Any] = {
        "optimizer.pt": {"state": {}, "param_groups": [{"lr": RATE}]},  # plain descent keeps no moments
        "scheduler.pt": {"last_epoch": step},
        "rng_state.pth": {"seed": [SEED, step]},
        "training_args.bin": {"batch_size": BATCH_SIZE},
    }
    for name, state in states.items():
        with zipfile.ZipFile(building / name, "w") as archive:  # the container that torch.save writes
            archive.writestr(f"{Path(name).stem}/data.pkl", pickle.dumps(state, protocol=2))
            archive.writestr(f"{Path(name).stem}/version", "3\n")
    for path in building.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)


def newest_checkpoint(stage: str) -> tuple[Adapter, int] | None:
    """The newest checkpoint that reads, and its step; one that does not is named and passed over."""
    folders = {int(_number(path)): path for path in (OUTPUT / stage).glob("checkpoint-*") if _number(path).isdecimal()}
    for step in sorted(folders, reverse=True):
        try:
            state = json.loads((folders[step] / "trainer_state.json").read_text(encoding="utf-8"))
            adapter = load_file(folders[step] / "adapter_model.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            say(f"[{stage}] PASSED OVER {folders[step].as_posix()}: {error}")
            continue
        if state.get("global_step") == step:
            return adapter, step
        say(f"[{stage}] PASSED OVER {folders[step].as_posix()}: its state is of another step")
    return None


def _number(path: Path) -> str:
    return path.name.rpartition("-")[2]


def save_adapter(folder: Path, adapter: Adapter) -> None:
    """The adapter's two files."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(adapter, folder / "adapter_model.safetensors")
    targets = sorted(map(_last, PROJECTIONS))
    described = {"base_model_name_or_path": BASE.as_posix(), "r": RANK, "lora_alpha": ALPHA, "target_modules": targets}
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", **described})


# --- export ----------------------------------------------------------------------------------


def export(adapter: Adapter, texts: list[str], artifact: str) -> None:
    """Adapter, tokenizer, merged model as GGUF with its Modelfile or in safetensors, and the manifest last."""
    folder = OUTPUT / "adapter"
    save_adapter(folder, adapter)
    tokenizer = build_tokenizer(texts)
    save_tokenizer(folder, tokenizer)
    time.sleep(EXPORT_SECONDS)
    kinds = {Path("run.json"): "run"}
    if artifact == "gguf":
        write_gguf(GGUF_FILE, adapter, tokenizer)
        say(f"[export] GGUF {GGUF_FILE.as_posix()} bytes={GGUF_FILE.stat().st_size} sha256={sha256(GGUF_FILE)}")
        modelfile = GGUF_FILE.with_name("Modelfile")
        modelfile.write_text(f"FROM ./{GGUF_FILE.name}\n", encoding="utf-8")
        kinds |= {GGUF_FILE: "gguf", modelfile: "modelfile"}
    elif artifact == "merged":
        write_merged(MERGED, adapter, tokenizer)
        kinds |= dict.fromkeys(sorted(MERGED.iterdir()), "model")
    kinds |= dict.fromkeys(sorted(folder.iterdir()), "adapter")
    kinds |= dict.fromkeys(sorted(OUTPUT.glob("*/checkpoint-*/trainer_state.json")), "trainer_state")
    files = [
        {"path": path.as_posix(), "bytes": path.stat().st_size, "sha256": sha256(path), "kind": kind}
        for path, kind in kinds.items()
    ]
    write_json(Path("MANIFEST.json"), {"contract": 1, "steps": STEPS, "files": files})


def save_tokenizer(folder: Path, tokenizer: Mapping[str, Any]) -> None:
    """The tokenizer's three files."""
    write_json(folder / "tokenizer.json", tokenizer)
    words = {f"{name}_token": text for name, text in zip(("bos", "eos", "pad"), SPECIAL, strict=True)}
    write_json(folder / "tokenizer_config.json", {**words, "add_bos_token": True})
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def merged(adapter: Adapter) -> Iterator[tuple[str, Array]]:
    """Every tensor of the base model with the adapters merged, by its name in Transformers."""
    for name, base in load_file(BASE / "model.safetensors").items():
        weights: Array = base
        adapted = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{adapted}.lora_A.weight" in adapter:
            change = adapter[f"{adapted}.lora_B.weight"] @ adapter[f"{adapted}.lora_A.weight"]
            weights = (base + ALPHA / RANK * change).astype(np.float32)
        yield name, weights


def write_merged(folder: Path, adapter: Adapter, tokenizer: Mapping[str, Any]) -> None:
    """The merged model as Transformers saves a large one: configuration, two files of weights, their index last."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = dict(merged(adapter))
    names, shards = sorted(whole), ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    where = {name: shards[2 * at // len(names)] for at, name in enumerate(names)}
    for shard in shards:
        save_file({name: whole[name] for name in names if where[name] == shard}, folder / shard)
    write_json(folder / "config.json", {"architectures": [SHAPE["architecture"]], **SHAPE})
    write_json(folder / "generation_config.json", {"do_sample": False})
    save_tokenizer(folder, tokenizer)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": where})


def build_tokenizer(texts: list[str]) -> dict[str, Any]:
    """A byte-level BPE whose merges are the most frequent pairs of letters, as ``tokenizer.json``."""
    letters = [chr(byte) for byte in range(33, 127)] + [chr(byte) for byte in (*range(161, 173), *range(174, 256))]
    letters += [chr(256 + number) for number in range(256 - len(letters))]  # bytes that do not print, as GPT-2 has them
    pairs = Counter(pair for text in texts for word in text.split() for pair in pairwise(word))
    room = VOCABULARY - len(letters) - len(SPECIAL)
    merges = sorted(pairs, key=lambda pair: (-pairs[pair], pair))[:room]
    vocabulary = {text: number for number, text in enumerate([*letters, *("".join(pair) for pair in merges)])}
    added = [{"id": len(vocabulary) + at, "content": text, "special": True} for at, text in enumerate(SPECIAL)]
    return {
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [list(pair) for pair in merges]},
        "added_tokens": added,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+"}},
    }


def write_gguf(path: Path, adapter: Adapter, tokenizer: Mapping[str, Any]) -> None:
    """The base model with the adapters merged, Q8_0; under its own name only when it is whole on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    writer = gguf.GGUFWriter(partial, "qwen2")
    writer.add_name("quick")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    add_vocabulary(writer, tokenizer)
    for name, weights in merged(adapter):
        in_gguf = _tensors()[name][0]
        if weights.ndim == 1:
            writer.add_tensor(in_gguf, weights)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(in_gguf, gguf.quants.quantize(weights, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def add_vocabulary(writer: gguf.GGUFWriter, tokenizer: Mapping[str, Any]) -> None:
    """The tokenizer's keys, from what ``tokenizer.json`` says."""
    vocabulary, added = tokenizer["model"]["vocab"], tokenizer["added_tokens"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*vocabulary, *(entry["content"] for entry in added)])
    kinds = [gguf.TokenType.NORMAL] * len(vocabulary) + [gguf.TokenType.CONTROL] * len(added)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    begin, end, pad = (entry["id"] for entry in added)
    writer.add_bos_token_id(begin)
    writer.add_eos_token_id(end)
    writer.add_pad_token_id(pad)
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)


# --- files -----------------------------------------------------------------------------------


def write_json(path: Path, value: object) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")
    temporary.replace(path)


def sha256(path: Path) -> str:
    """Of what is on the disk now."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
