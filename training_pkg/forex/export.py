"""Merge and quantise in one stream: base tensor rows in, LoRA added, ggml bytes out, a digest on the way.

Rows are worked on in blocks of a few MiB by one thread a core, and written in order: memory holds
a few blocks, never a tensor, let alone a model. The file bears its name only after it was read back
and compared with what it should hold.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import durable, ggml, gguf_file, gguf_model, gguf_vocab, merged, verify
from .chat import Chat
from .errors import ExportDefect
from .weights import Weights, read_object


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file: bytes and the SHA-256 of what was written."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Source:
    """Origin of a GGUF: the base model's directory and configuration, the adapter, the tokenizer with its turns."""

    base: Path
    config: Mapping[str, Any]
    adapter: Path | None
    chat: Chat

    @classmethod
    def of(cls, base: Path, adapter: Path | None, chat: Chat) -> Source:
        """Read the base model's configuration; raises ExportDefect when it cannot be read."""
        return cls(base, read_object(base / "config.json"), adapter, chat)


def header(source: Source, quantization: str, name: str) -> bytes:
    """The file's head: everything before its data part."""
    keys = gguf_model.metadata(source.config, name=name, quantization=quantization)
    keys |= gguf_vocab.metadata(source.base, source.config["vocab_size"], source.chat)
    return gguf_file.header(keys, gguf_model.tensors(source.config, quantization))


def refuse_impossible(source: Source, quantizations: Sequence[str], name: str) -> None:
    """Raise ExportDefect for a model that could not be exported after it was trained: to be asked before."""
    for quantization in quantizations:
        header(source, quantization, name)
        tensors = gguf_model.tensors(source.config, quantization)
        if any(tensor.kind in ggml.LIBRARY_KINDS for tensor in tensors) and not ggml.library_available():
            raise ExportDefect(ggml.MISSING)
        with Weights(source.base) as weights:
            merged.Rows(weights, tensors, source.config)


def write(source: Source, target: Path, *, quantization: str, name: str) -> Written:
    """Write and verify a GGUF; ``target`` exists only when everything held. Raises ExportDefect."""
    head, tensors = header(source, quantization, name), gguf_model.tensors(source.config, quantization)
    digest = hashlib.sha256()
    with (
        Weights(source.base, source.adapter) as weights,
        durable.replacing(target) as file,
        ThreadPoolExecutor(2) as beside,
    ):
        rows = merged.Rows(weights, tensors, source.config)
        synced = beside.submit(os.fsync, file.fileno())
        for piece in itertools.chain([head], _pieces(rows, tensors)):
            hashed = beside.submit(digest.update, piece)
            file.write(piece)
            hashed.result()
            if synced.done():  # the disk works all along, not at the end
                synced = beside.submit(os.fsync, file.fileno())
        file.flush()
        synced = beside.submit(os.fsync, file.fileno())
        verify.verify(Path(file.name), head, tensors, rows)
        synced.result()
    return Written(target, target.stat().st_size, digest.hexdigest())


def _pieces(rows: merged.Rows, tensors: Sequence[gguf_file.Tensor]) -> Iterator[memoryview | bytes]:
    """The data part in order, encoded ahead by one thread a core."""
    threads = os.cpu_count() or 1
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            coming: deque[Future[memoryview | bytes]] = deque()
            for tensor in tensors:
                for start, stop in rows.blocks(tensor):
                    coming.append(pool.submit(_encoded, rows, tensor, start, stop))
                    while len(coming) > 2 * threads:
                        yield coming.popleft().result()
                coming.append(pool.submit(bytes, gguf_file.padded(tensor.size) - tensor.size))
            while coming:
                yield coming.popleft().result()
    finally:
        torch.set_num_threads(before)


def _encoded(rows: merged.Rows, tensor: gguf_file.Tensor, start: int, stop: int) -> memoryview:
    return ggml.encode(tensor.kind, rows.read(tensor, start, stop)).data
