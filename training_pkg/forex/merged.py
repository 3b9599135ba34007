"""The merged model as GGUF sees it: its tensors' names, its row order, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from . import gguf_model
from .errors import ExportDefect
from .gguf_file import Tensor
from .weights import Weights

_BLOCK_ELEMENTS = 1 << 19
"""Elements worked on at once by one thread: 2 MiB in float32, near enough to a core's cache."""


class Rows:
    """Reads the rows of GGUF tensors from base and adapter; raises ExportDefect unless the tensor sets are the same."""

    def __init__(self, weights: Weights, tensors: Sequence[Tensor], config: Mapping[str, Any]) -> None:
        self._weights = weights
        self._names = _names(weights, tensors)
        self._head = gguf_model.head_size(config)
        self._paired = gguf_model.architecture(config) == "llama"

    def blocks(self, tensor: Tensor) -> Iterator[tuple[int, int]]:
        """Spans of rows (elements, for a one-dimensional tensor) that cover a tensor in order."""
        columns = tensor.shape[1] if len(tensor.shape) > 1 else 1
        step = max(1, _BLOCK_ELEMENTS // columns)
        if self._is_paired(tensor):
            step = max(1, step // self._head) * self._head
        for start in range(0, tensor.shape[0], step):
            yield start, min(start + step, tensor.shape[0])

    def read(self, tensor: Tensor, start: int, stop: int) -> torch.Tensor:
        """The merged rows of one span of ``blocks``, float32."""
        rows = self._weights.rows(self._names[tensor.name], start, stop)
        if not self._is_paired(tensor):
            return rows
        # llama.cpp rotates neighbouring rows of a head, transformers rows half a head apart.
        halves = rows.reshape(-1, 2, self._head // 2, *rows.shape[1:])
        return halves.transpose(1, 2).reshape(rows.shape)

    def _is_paired(self, tensor: Tensor) -> bool:
        return self._paired and tensor.name.split(".")[-2] in {"attn_q", "attn_k"}


def _names(weights: Weights, tensors: Sequence[Tensor]) -> dict[str, str]:
    """The base tensor behind every GGUF tensor."""
    shapes = weights.shapes()
    names = {gguf_model.renamed(name): name for name in shapes if not name.endswith("rotary_emb.inv_freq")}
    wanted = {tensor.name: tensor.shape for tensor in tensors}
    if names.keys() - wanted.keys() == {"output.weight"}:
        del names["output.weight"]  # a tied model may carry a copy of its embedding
    for name in sorted(wanted.keys() ^ names.keys()):
        raise ExportDefect(f"{name} is {'missing from' if name in wanted else 'a stranger in'} the base model")
    for name, shape in wanted.items():
        if shapes[names[name]] != shape:
            raise ExportDefect(f"{names[name]} has the shape {shapes[names[name]]}, its configuration says {shape}")
    return names
