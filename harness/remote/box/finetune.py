"""Does a GGUF carry the fine-tune: sampled rows of it, held against base weights and adapter. Runs where numpy is.

With D = scale * B A and G the dequantized rows, G - W projected on D is 1 when the merge is in the file and 0 when
the file is the base model; what the quantizer changed is noise around it. Formats: safetensors, and ggml's block
layouts (https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c). One line of JSON goes to standard output.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from typing import Any

import numpy as np

ROWS = 256
"""Rows of each tensor that are looked at; a row lies contiguously in both files."""


def main() -> None:
    """``{tensor: {projection, relative_error}}`` for every sampled tensor of the request in ``sys.argv[1]``."""
    request = json.loads(sys.argv[1])
    with open(os.path.join(request["adapter"], "adapter_config.json")) as file:  # noqa: PTH118,PTH123 - programs of the box share os.path
        config = json.load(file)
    rank = config["r"]
    scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
    base = _base(request["base"] or config["base_model_name_or_path"])
    adapter = os.path.join(request["adapter"], "adapter_model.safetensors")  # noqa: PTH118 - as above
    found = {}
    for tensor in request["tensors"]:
        module = tensor["module"]
        rows = min(ROWS, tensor["shape"][1])
        a = _tensor(adapter, "base_model.model." + module + ".lora_A.weight", rank)
        b = _tensor(adapter, "base_model.model." + module + ".lora_B.weight", rows)
        weight = _tensor(_holder(base, module + ".weight"), module + ".weight", rows)
        change = scale * (b @ a)
        model = _dequantized(request["gguf"], tensor, rows)
        size = float((change * change).sum())
        merged = weight + change
        error = float(np.linalg.norm(model - merged) / max(float(np.linalg.norm(merged)), 1e-30))
        projection = float(((model - weight) * change).sum() / size) if size else 0.0
        found[module] = {"projection": projection, "relative_error": error, "change": size**0.5}
    sys.stdout.write(json.dumps(found) + "\n")


def _base(name: str) -> str:
    if os.path.isdir(name):  # noqa: PTH112 - as above
        return name
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only for a base model that came from the hub

    return str(snapshot_download(name, local_files_only=True))


def _holder(directory: str, name: str) -> str:
    index = os.path.join(directory, "model.safetensors.index.json")  # noqa: PTH118 - as above
    if not os.path.exists(index):  # noqa: PTH110 - as above
        return os.path.join(directory, "model.safetensors")  # noqa: PTH118 - as above
    with open(index) as file:  # noqa: PTH123 - as above
        return os.path.join(directory, os.path.basename(json.load(file)["weight_map"][name]))  # noqa: PTH118,PTH119 - as above


def _tensor(path: str, name: str, rows: int) -> Any:
    """The first rows of a matrix in a safetensors file, as float32."""
    with open(path, "rb") as file:  # noqa: PTH123 - as above
        (length,) = struct.unpack("<Q", file.read(8))
        entry = json.loads(file.read(length))[name]
        width = entry["shape"][1]
        kind = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[entry["dtype"]]
        file.seek(8 + length + entry["data_offsets"][0])
        data = np.frombuffer(file.read(rows * width * np.dtype(kind).itemsize), kind).reshape(rows, width)
    if entry["dtype"] == "BF16":
        return (data.astype(np.uint32) << 16).view(np.float32)
    return data.astype(np.float32)


def _dequantized(path: str, tensor: Any, rows: int) -> Any:
    width, _ = tensor["shape"]
    kind = tensor["type"]
    weights, size = {"F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "Q8_0": (32, 34), "Q4_K": (256, 144)}[kind]
    with open(path, "rb") as file:  # noqa: PTH123 - as above
        file.seek(tensor["offset"])
        data = np.frombuffer(file.read(rows * width // weights * size), np.uint8)
    if kind == "F32":
        return data.view("<f4").reshape(rows, width)
    if kind == "F16":
        return data.view("<f2").astype(np.float32).reshape(rows, width)
    if kind == "BF16":
        return (data.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(rows, width)
    blocks = data.reshape(-1, size)
    return (_q8_0(blocks) if kind == "Q8_0" else _q4_k(blocks)).reshape(rows, width)


def _q8_0(blocks: Any) -> Any:
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    return scale * blocks[:, 2:].view(np.int8).astype(np.float32)


def _q4_k(blocks: Any) -> Any:
    scale = blocks[:, 0:2].copy().view("<f2").astype(np.float32)
    least = blocks[:, 2:4].copy().view("<f2").astype(np.float32)
    packed = blocks[:, 4:16].astype(np.uint8)
    low, middle, high = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([low & 63, (high & 15) | ((low >> 6) << 4)], axis=1).astype(np.float32)
    minima = np.concatenate([middle & 63, (high >> 4) | ((middle >> 6) << 4)], axis=1).astype(np.float32)
    nibbles = blocks[:, 16:144].reshape(-1, 4, 32)
    values = np.stack([nibbles & 15, nibbles >> 4], axis=2).reshape(-1, 8, 32).astype(np.float32)
    return (scale * scales)[:, :, None] * values - (least * minima)[:, :, None]


if __name__ == "__main__":
    main()
