"""Merge and quantise in one stream: base tensor rows in, LoRA added, ggml bytes out, a digest on the way.

Rows are worked on in blocks of a few MiB by one thread a core, and written in order: memory holds
a few blocks, never a tensor, let alone a model. The file bears its name only after it was read back
and compared with what it should hold.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import durable, ggml, ggml_library, gguf_file, gguf_model, gguf_vocab, merged, verify
from .errors import ExportDefect
from .weights import Weights


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file: bytes and the SHA-256 of what was written."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Source:
    """What a GGUF is made from: the base model's directory and configuration, the adapter, the tokenizer."""

    base: Path
    config: Mapping[str, Any]
    adapter: Path | None
    tokenizer: Any

    @classmethod
    def of(cls, base: Path, adapter: Path | None, tokenizer: Any) -> Source:
        """Read the base model's configuration."""
        return cls(base, read_config(base), adapter, tokenizer)


def read_config(base: Path) -> dict[str, Any]:
    """A base model's config.json; raises ExportDefect when it cannot be read."""
    try:
        value = json.loads((base / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportDefect(f"cannot read {base / 'config.json'}: {error}") from error
    if not isinstance(value, dict):
        raise ExportDefect(f"{base / 'config.json'} is not an object")
    return value


def plan(source: Source, quantization: str) -> tuple[gguf_file.Tensor, ...]:
    """The tensors of the file, from the model's configuration alone."""
    shapes = gguf_model.expected(source.config)
    return gguf_file.layout(
        [
            (name, gguf_model.kind_of(name, shapes[name], quantization, source.config), shapes[name])
            for name in sorted(shapes, key=gguf_model.rank)
        ]
    )


def header(source: Source, quantization: str, name: str) -> bytes:
    """The file's head: everything before its data part."""
    keys = gguf_model.metadata(source.config, name=name, quantization=quantization)
    keys |= gguf_vocab.metadata(source.base, source.config["vocab_size"], source.tokenizer)
    return gguf_file.header(keys, plan(source, quantization))


def refuse_impossible(source: Source, quantizations: Sequence[str], name: str) -> None:
    """Raise ExportDefect for a model that could not be exported after it was trained: to be asked before."""
    for quantization in quantizations:
        header(source, quantization, name)
        tensors = plan(source, quantization)
        if any(tensor.kind in ggml.LIBRARY_KINDS for tensor in tensors) and not ggml_library.available():
            raise ExportDefect(ggml_library.MISSING)
        with Weights(source.base) as weights:
            merged.Rows(weights, tensors, source.config)


def write(source: Source, target: Path, *, quantization: str, name: str) -> Written:
    """Write and verify a GGUF; ``target`` exists only when everything held. Raises ExportDefect."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + durable.PARTIAL)
    head, tensors = header(source, quantization, name), plan(source, quantization)
    digest, size = hashlib.sha256(), 0
    with Weights(source.base, source.adapter) as weights:
        rows = merged.Rows(weights, tensors, source.config)
        with partial.open("wb") as file:
            for piece in itertools.chain([head], _pieces(rows, tensors)):
                file.write(piece)
                digest.update(piece)
                size += len(piece)
            file.flush()
            os.fsync(file.fileno())
        verify.verify(partial, head, tensors, rows)
    partial.replace(target)
    durable.sync_directory(target.parent)
    return Written(target, size, digest.hexdigest())


def _pieces(rows: merged.Rows, tensors: Sequence[gguf_file.Tensor]) -> Iterator[memoryview | bytes]:
    """The data part in order, encoded ahead by one thread a core."""
    threads = os.cpu_count() or 1
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            coming: deque[Future[ggml.Bytes] | bytes] = deque()
            for tensor in tensors:
                for start, stop in rows.blocks(tensor):
                    coming.append(pool.submit(_encoded, rows, tensor, start, stop))
                    while len(coming) > 2 * threads:
                        yield _ready(coming.popleft())
                coming.append(bytes(gguf_file.padded(tensor.size) - tensor.size))
            while coming:
                yield _ready(coming.popleft())
    finally:
        torch.set_num_threads(before)


def _encoded(rows: merged.Rows, tensor: gguf_file.Tensor, start: int, stop: int) -> ggml.Bytes:
    return ggml.encode(tensor.kind, rows.read(tensor, start, stop))


def _ready(piece: Future[ggml.Bytes] | bytes) -> memoryview | bytes:
    return piece if isinstance(piece, bytes) else piece.result().data
