"""Whole model files for tests and benchmarks: real GGUFs of any shape, written by gguf-py, and what they came from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from harness.artifacts import model_shape
from harness.artifacts.gguf import BLOCKS, SCALES, parse

CHAT_TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}<think>\n"
TINY: Mapping[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "vocab_size": 300,
    "tie_word_embeddings": False,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
R1_QWEN_7B: Mapping[str, Any] = {
    **TINY,
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "max_position_embeddings": 131072,
}


def tokens(count: int) -> list[str]:
    """A vocabulary; the last tenth is padding that no tokenizer knows."""
    known = count - count // 10
    return [f"tök{index}" for index in range(known)] + [f"[PAD{index}]" for index in range(known, count)]


def merges(count: int) -> list[str]:
    """Merges of a byte-pair vocabulary."""
    return [f"a{index} b{index}" for index in range(count)]


def write_training(directory: Path, config: Mapping[str, Any]) -> Path:
    """The directory that the training left: config.json, tokenizer.json, tokenizer_config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    count = config["vocab_size"]
    vocabulary = {token: index for index, token in enumerate(tokens(count)) if not token.startswith("[PAD")}
    added = [{"id": index, "content": f"tök{index}", "special": True} for index in (0, 1, 2)]
    tokenizer = {
        "added_tokens": added,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [merge.split(" ") for merge in merges(count)]},
    }
    settings = {
        "bos_token": "tök1",
        "eos_token": "tök2",
        "pad_token": "tök0",
        "add_bos_token": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return directory


def write_gguf(
    path: Path,
    config: Mapping[str, Any],
    quantization: str = "Q8_0",
    *,
    change: Callable[[gguf.GGUFWriter], None] = lambda _: None,
    leave_out: frozenset[str] = frozenset(),
    types: Mapping[str, str] = MappingProxyType({}),
    also: tuple[model_shape.ExpectedTensor, ...] = (),
) -> Path:
    """A model file with random weights: llama.cpp would load it. ``change`` may add or overwrite metadata.

    ``types`` are those of tensors that have another than the quantization gives, ``also`` tensors beyond the model's.
    """
    shape = model_shape.from_config(config)
    writer = gguf.GGUFWriter(None, shape.family.name)
    _hyperparameters(writer, config)
    _tokenizer(writer, config["vocab_size"])
    change(writer)
    expected = (*model_shape.predict(shape, quantization), *also)
    typed = (replace(tensor, type=types.get(tensor.name, tensor.type)) for tensor in expected)
    kept = [tensor for tensor in typed if tensor.name not in leave_out]
    for tensor in kept:
        rows = tuple(reversed(tensor.shape))
        weights, size = BLOCKS[tensor.type]
        stored = (*rows[:-1], rows[-1] // weights * size) if tensor.type not in {"F32", "F16"} else rows
        dtype = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16)}.get(tensor.type, np.dtype(np.uint8))
        raw = gguf.GGMLQuantizationType[tensor.type]
        writer.add_tensor_info(tensor.name, stored, dtype, tensor.nbytes, raw_dtype=raw)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        file.seek(0, 2)
        _pad(file)
        for tensor in kept:
            pattern = random_weights(tensor.type, min(tensor.nbytes, 8 << 20))
            for _ in range(tensor.nbytes // pattern.nbytes):
                file.write(pattern.data)
            file.write(pattern[: tensor.nbytes % pattern.nbytes].data)
            _pad(file)
    return path


def split_gguf(whole: Path, stem: str, count: int = 3) -> list[Path]:
    """A model in several files beside it, as llama.cpp's gguf-split makes them."""
    header, data, reader = parse(whole), whole.read_bytes(), gguf.GGUFReader(whole)
    each = -(-len(header.tensors) // count)
    files = []
    for number in range(count):
        path = whole.with_name(f"{stem}-{number + 1:05d}-of-{count:05d}.gguf")
        w = gguf.GGUFWriter(path, str(header.metadata["general.architecture"]))
        if number == 0:
            for field in reader.fields.values():
                if not field.name.startswith(("GGUF.", "general.architecture")):
                    w.add_key_value(field.name, field.contents(), field.types[0], *field.types[1:2])
        w.add_uint16("split.no", number)
        w.add_uint16("split.count", count)
        w.add_int32("split.tensors.count", len(header.tensors))
        for tensor in header.tensors[number * each : (number + 1) * each]:
            raw = np.frombuffer(data, np.uint8, tensor.nbytes, header.data_start + tensor.offset)
            weights, size = BLOCKS[tensor.type]
            rows = tuple(reversed(tensor.shape))
            stored = raw.reshape(*rows[:-1], rows[-1] // weights * size)
            w.add_tensor(tensor.name, stored, raw_dtype=gguf.GGMLQuantizationType[tensor.type])
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        files.append(path)
    return files


def random_weights(type_name: str, size: int) -> npt.NDArray[np.uint8]:
    """Whole blocks of a type with plausible scales, at most ``size`` bytes."""
    random = np.random.default_rng(7)
    if type_name == "F32":
        return np.asarray(1 + random.normal(0, 0.1, size // 4), dtype="<f4").view(np.uint8)
    if type_name == "F16":
        return np.asarray(random.normal(0, 0.02, size // 2), dtype="<f2").view(np.uint8)
    if type_name == "BF16":
        wide = np.asarray(random.normal(0, 0.02, size // 2), dtype="<f4").view("<u4")
        return (wide >> 16).astype("<u2").view(np.uint8)
    block = BLOCKS[type_name][1]
    blocks = random.integers(0, 256, (size // block, block), dtype=np.uint8)
    spelling, offsets = SCALES[type_name]
    if spelling == "f16":
        scales = np.asarray(random.uniform(1e-4, 1e-2, size // block), dtype="<f2").view(np.uint8).reshape(-1, 2)
        for offset in offsets:
            blocks[:, offset : offset + 2] = scales
    else:  # e8m0, e4m3, and the upper bits of words: any but the patterns of infinity
        for offset in offsets:
            blocks[:, offset : offset + 2] = 0x21
    return blocks.reshape(-1)


def _hyperparameters(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])


def _tokenizer(writer: gguf.GGUFWriter, count: int) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("deepseek-r1-qwen")
    writer.add_token_list(tokens(count))
    writer.add_token_types([3 if index < 3 else 1 for index in range(count)])
    writer.add_token_merges(merges(count))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _pad(file: Any) -> None:
    file.write(bytes(-file.tell() % 32))
