"""Does a GGUF carry the fine-tune: rows of every adapted tensor, held against base weights and adapter. Needs numpy.

With D = merged - base and G the dequantized rows, G - base projected on D is 1 when the merge is in the file and 0 when
the file is the base model; what the quantizer changed is noise around it. The merged rows follow PEFT's formulas
(``lora/layer.py``, ``lora/variants.py``): base + s B A, of DoRA magnitude / |base + s B A| times that. Rows are spread
evenly over each tensor, as many as hold ``ELEMENTS`` numbers: all of a small tensor. One line of JSON is written.
"""

# The box may have Python 3.8: typing's old names; and os.path, as strings are what crosses the wire.
# ruff: noqa: PTH112, PTH118, PTH123, PTH207
from __future__ import annotations

import glob
import json
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from harness.artifacts import gguf, lora, safetensors
from harness.remote.box import dequantize

ELEMENTS = (1 << 16, 1 << 20)
"""Numbers of each tensor that are looked at: so many, and where those do not tell for the noise, so many."""

_NOISE = 0.05

_NOT_FINITE = 1e30
"""Stands for NaN and infinity, which JSON does not have, and is wrong as each of the four numbers but the change."""

_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_MODULES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def main(request: Any) -> None:
    """``{tensors: {name: [projection, error, change, noise]}, unknown: {name: reason}, doubt, elements}``."""
    sys.stdout.write(json.dumps(compared(request["model"], request["adapter"], request["base"])) + "\n")


def compared(model: str, adapter: str, base: str) -> Any:
    """Every tensor that the adapter changes, by its name in the base model; without ``base`` the adapter names it."""
    with open(os.path.join(adapter, "adapter_config.json"), encoding="utf-8") as file:
        body = json.load(file)
    config = lora.read(body)
    weights = _Tensors("the adapter", os.path.join(adapter, "adapter_model.safetensors"))
    folder = _folder(base or body.get("base_model_name_or_path"))
    held = _Tensors(
        "the base model's directory", *sorted(glob.glob(os.path.join(glob.escape(folder), "*.safetensors")))
    )
    artifact = _artifact(model)
    tensors, unknown = {}, {}
    for name in config.unknown:
        unknown[name] = "its formula is not known here"
    shared = not held.has("lm_head.weight") and config.adapts("lm_head") and config.adapts("model.embed_tokens")
    for change in _changes(config, weights):
        try:
            told = _compare(change, held, artifact)
        except (KeyError, ValueError) as error:
            unknown[change.name] = str(error.args[0])[:200]
            continue
        if shared and change.name in {"lm_head.weight", "model.embed_tokens.weight"}:
            unknown[change.name] = "it is one tensor with another that is adapted, too"
            continue
        if told[2] or change.always:
            tensors[change.name] = [float(f"{one:.5g}") if np.isfinite(one) else _NOT_FINITE for one in told]
    doubt = f"init_lora_weights={config.init} trains from a changed base" if config.changes_base else ""
    return {"tensors": tensors, "unknown": unknown, "doubt": doubt, "elements": ELEMENTS[0]}


class _Change(NamedTuple):
    """One parameter of the base model that the adapter changes.

    ``merged``: (its numbers of those rows in the base, the rows) -> the merged numbers; ``rows`` None for any;
    ``always``: it must have changed, as it began as no change at all.
    """

    name: str
    merged: Any
    rows: Any = None
    always: bool = False


def _changes(config: lora.Lora, weights: _Tensors) -> Iterator[_Change]:
    for name in weights.names():
        module, _, kind = name[len(lora.PREFIX) :].partition(".lora_")
        if kind == "A.weight":
            yield _Change(module + ".weight", _linear(config, module, weights), always=True)
        elif kind == "B.bias":
            scale, bias = config.scale_of(module), weights.all(name)
            yield _Change(module + ".bias", _added(scale * bias[:, None]))
        elif kind == "embedding_A":
            yield _Change(module + ".weight", _embedding(config, module, weights), always=True)
        elif not kind and name.endswith(".token_adapter.trainable_tokens_delta"):
            module = module[: -len(".token_adapter.trainable_tokens_delta")]
            rows = next((rows for key, rows in config.tokens.items() if module.endswith(key)), ())
            yield _Change(module + ".weight", _instead(weights.all(name), rows), np.array(rows, dtype=np.int64))
        elif not kind and name.endswith((".weight", ".bias")) and not name.endswith(".base_layer.weight"):
            yield _Change(module.replace(".base_layer.", "."), _saved(weights, name))


def _linear(config: lora.Lora, module: str, weights: _Tensors) -> Any:
    stem = lora.PREFIX + module

    def merged(base: Any, rows: Any) -> Any:
        total = base + config.scale_of(module) * (weights.rows(stem + ".lora_B.weight", rows) @ down)
        if not config.dora:
            return total
        magnitude = weights.rows(stem + ".lora_magnitude_vector", rows)
        return magnitude / np.linalg.norm(total, axis=1, keepdims=True) * total

    down = weights.all(stem + ".lora_A.weight")
    return merged


def _embedding(config: lora.Lora, module: str, weights: _Tensors) -> Any:
    def merged(base: Any, rows: Any) -> Any:
        if config.dora:
            raise ValueError("DoRA of an embedding is not computed here")
        down, up = (weights.all(f"{lora.PREFIX}{module}.lora_embedding_{half}") for half in "AB")
        return base + config.scale_of(module) * (down[:, rows].T @ up.T)

    return merged


def _added(whole: Any) -> Any:
    return lambda base, rows: base + whole[rows]


def _saved(weights: _Tensors, name: str) -> Any:
    return lambda _, rows: weights.rows(name, rows)


def _instead(whole: Any, at: Any) -> Any:
    place = {row: index for index, row in enumerate(at)}
    return lambda _, rows: whole[[place[row] for row in rows]]


def _artifact(path: str) -> _Gguf | _Model:
    """A GGUF in one file or in the files of a folder, or a folder of safetensors."""
    if not os.path.isdir(path):
        return _Gguf(path)
    split, whole = (sorted(glob.glob(os.path.join(glob.escape(path), f"*.{end}"))) for end in ("gguf", "safetensors"))
    return _Gguf(*split) if split else _Model(*whole)


def _compare(change: _Change, held: _Tensors, artifact: _Gguf | _Model) -> Any:
    name = held.tied(change.name)
    height, width = held.shape(name) if name else artifact.shape(change.name)
    told = None
    for elements in ELEMENTS:
        count = min(height, max(1, -(-elements // width)))
        rows = np.unique(np.linspace(0, height - 1, count).astype(np.int64)) if change.rows is None else change.rows
        base = held.rows(name, rows) if name else np.zeros((len(rows), width), np.float32)
        told = _told(base, change.merged(base, rows), artifact.rows(change.name, rows, (height, width)))
        if told[3] < _NOISE:
            break
    return told


def _told(base: Any, merged: Any, model: Any) -> Any:
    delta = merged - base
    size = float(np.linalg.norm(delta))
    projection = float(((model - base) * delta).sum()) / size**2 if size else 0.0
    noise = float(np.linalg.norm(model - base - projection * delta)) / delta.size**0.5 / size if size else 0.0
    error = float(np.linalg.norm(model - merged)) / max(float(np.linalg.norm(merged)), 1e-30)
    return projection, error, size, noise


class _Tensors:
    """Tensors of safetensors files, mapped; vectors are matrices of one column."""

    def __init__(self, what: str, *paths: str) -> None:
        self._what = what
        self._where = {entry.name: (path, entry) for path in paths for entry in safetensors.parse(path)}

    def names(self) -> Any:
        return sorted(self._where)

    def has(self, name: str) -> bool:
        return name in self._where

    def tied(self, name: str) -> str | None:
        """A parameter's own name, or that of the embeddings it is tied to; None of a bias that is not there."""
        if name in self._where or not name.endswith(".bias"):
            return name if name in self._where or name != "lm_head.weight" else "model.embed_tokens.weight"
        return None

    def shape(self, name: str) -> Any:
        if name not in self._where:
            raise KeyError(f"{name} is not in {self._what}")
        return (*self._where[name][1].shape, 1)[:2]

    def rows(self, name: str, rows: Any) -> Any:
        shape = self.shape(name)
        path, entry = self._where[name]
        if entry.dtype not in _FLOATS:
            raise ValueError(f"{name} is {entry.dtype} in {self._what}: that type is not read here")
        data = np.memmap(path, _FLOATS[entry.dtype], "r", entry.start, shape)[rows]
        return dequantize.bfloat16(data) if entry.dtype == "BF16" else data.astype(np.float32)

    def all(self, name: str) -> Any:
        found = self.rows(name, slice(None))
        return found[:, 0] if len(self._where[name][1].shape) == 1 else found


class _Model:
    """A merged model's tensors, which have the base model's names."""

    def __init__(self, *paths: str) -> None:
        self._held = _Tensors("the artifact", *paths)

    def shape(self, parameter: str) -> Any:
        return self._held.shape(parameter) if self._held.has(parameter) else (1, 1)

    def rows(self, parameter: str, rows: Any, shape: Any) -> Any:
        name = self._held.tied(parameter)
        if name is None or not self._held.has(name):
            return np.zeros((len(rows), shape[1]), np.float32)  # what is not there carries nothing
        found = self._held.shape(name)
        if found != tuple(shape):
            raise ValueError(f"{name} is {found[0]} x {found[1]}, the base model's is {shape[0]} x {shape[1]}")
        return self._held.rows(name, rows)


class _Gguf:
    """The artifact's tensors by the base model's names, their rows in the base model's order."""

    def __init__(self, *paths: str) -> None:
        headers = {path: gguf.parse(path) for path in paths}
        header = headers[paths[0]]
        self._where = {tensor.name: (path, one, tensor) for path, one in headers.items() for tensor in one.tensors}
        self._tensors = {name: tensor for name, (_, _, tensor) in self._where.items()}
        kind = header.metadata.get("general.architecture")
        heads = header.metadata.get(f"{kind}.attention.head_count")
        kv = header.metadata.get(f"{kind}.attention.head_count_kv", heads)
        # The converter puts the two halves of each of Llama's heads beside each other, row by row.
        self._heads = {"attn_q": heads, "attn_k": kv} if kind == "llama" else {}

    def _name(self, parameter: str) -> str:
        module, _, kind = parameter.rpartition(".")
        layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", module)
        short = _MODULES.get(layer[2]) if layer else _TOP.get(module)
        if short is None:
            raise KeyError(f"{parameter} has no place in the GGUF that is known here")
        name = f"blk.{layer[1]}.{short}.{kind}" if layer else f"{short}.{kind}"
        return "token_embd.weight" if name == "output.weight" and name not in self._tensors else name

    def shape(self, parameter: str) -> Any:
        tensor = self._tensors.get(self._name(parameter))
        return (tensor.shape[0], 1) if tensor else (1, 1)

    def rows(self, parameter: str, rows: Any, shape: Any) -> Any:
        name = self._name(parameter)
        tensor = self._tensors.get(name)
        if tensor is None:
            return np.zeros((len(rows), shape[1]), np.float32)  # what is not there carries nothing
        height, width = tensor.shape[::-1] if len(tensor.shape) > 1 else (tensor.shape[0], 1)
        if (height, width) != shape:
            raise ValueError(f"{name} is {height} x {width}, the base model's is {shape[0]} x {shape[1]}")
        heads = self._heads.get(name.split(".")[-2])
        if heads:
            half = height // heads // 2
            head, at = np.divmod(rows, 2 * half)
            rows = head * 2 * half + at % half * 2 + at // half
        path, header, _ = self._where[name]
        data = np.memmap(path, np.uint8, "r", header.data_start + tensor.offset, (height, tensor.nbytes // height))
        try:
            return dequantize.rows(data[rows], tensor.type)
        except KeyError:
            raise KeyError(f"{name} is {tensor.type}, which is not read here") from None


def _folder(name: str) -> str:
    if os.path.isdir(name):
        return name
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only for a base model that came from the hub

    return str(snapshot_download(name, local_files_only=True))
