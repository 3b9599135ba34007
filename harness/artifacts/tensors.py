"""The tensor table of a GGUF: every tensor of the model there, with its shape, each of a type of weights.

What a model must hold is known for the architectures of ``model_shape.FAMILIES``; of others only what the file says of
itself can be held against it. A mixture that is none of llama.cpp's is said as one, and is no defect: every type was
checked for its size when the header was parsed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from harness.artifacts import gguf, hyperparameters, model_shape, quantizations
from harness.artifacts.expectation import Expectation, config_of
from harness.core.errors import BadInput
from harness.core.finding import Finding
from harness.core.text import printable

BY_USE: Final = (
    "Nothing says that the file is damaged: what it must hold is not known here."
    " Let llama.cpp load it and answer a prompt before you rely on it."
)
"""Remedy where this program cannot judge."""

_EXPORT: Final = "Export the model again on the box; do not destroy the instance."
_ANOTHER: Final = "Name the model's own file: this one holds something that belongs to a model."
_NAMED: Final = 3
_FEW: Final = 4  # tensors that may be named one by one beside a mixture's name
_LAYER: Final = re.compile(r"blk\.(\d{1,6})\.")
_NUMBERS: Final = frozenset({"F32", "F16", "BF16"})
_BESIDE: Final = (".scale", ".input_scale")  # NVFP4 keeps a scale of the whole matrix beside it

Table = Mapping[str, gguf.Tensor]


def judge(header: gguf.Gguf, known: Expectation) -> Finding:
    """The tensor table against what the configuration predicts: names, shapes, types, and so the exact bytes."""
    whose = "its own metadata" if known.config is None else "the training's config.json"
    claim = f"every tensor is there with the shape and type that {whose} predicts"
    kind = header.metadata.get("general.type", "model")
    if kind != "model":
        told = f"general.type is {printable(str(kind), 80)}: not a model"
        return _finding(claim, None, told, "a model", remedy=_ANOTHER)
    if not header.tensors:
        return _finding(claim, False, "no tensor: a vocabulary alone", "the tensors of a model", remedy=_ANOTHER)
    own = config_of(header)
    config = own if known.config is None else dict(known.config)
    if known.config is not None and hyperparameters.is_partial(config):
        config |= {"rope_scaling": own["rope_scaling"]}
    try:
        shape = model_shape.from_config(config)
    except BadInput as error:
        known_kind = known.config is not None and str(model_shape.architecture(config)) in model_shape.FAMILIES
        return _of_itself(header, claim, str(error), error.remedy if known_kind else BY_USE)
    if shape.family.trimmed and isinstance(rows := own["vocab_size"], int):
        shape = replace(shape, vocab_size=min(rows, shape.vocab_size))
    seen = {tensor.name: tensor for tensor in header.tensors}
    wanted = model_shape.shapes(shape)
    if shape.tie_word_embeddings and "output.weight" in seen:  # written again, as some exports do
        wanted["output.weight"] = wanted["token_embd.weight"]
    wrong = _misplaced(seen, wanted)
    model = replace(
        model_shape.quantized(shape),
        tied="output.weight" not in wanted,
        importance="quantize.imatrix.file" in header.metadata,
    )
    table = {name: seen[name] for name in wanted.keys() & seen.keys()}
    if known.quantization is not None:
        chosen = quantizations.BY_NAME[known.quantization]
        due = sum(gguf.nbytes(chosen.stored(name, dims, model), dims) for name, dims in wanted.items())
        odd = [name for name, tensor in table.items() if not chosen.may_be(tensor.type, name, tensor.shape, model)]
        wrong += [f"{name} is {_spelled(seen[name])}, expected {_due(chosen, wanted, name, model)}" for name in odd]
        mixture, expected = known.quantization, f"{len(wanted)} tensors, {due} bytes as {known.quantization}"
    else:
        wrong += [
            f"{tensor.name} is {_spelled(tensor)}: no weights" for tensor in table.values() if _no_weights(tensor)
        ]
        mixture = _mixture(header.metadata.get("general.file_type"), table, model)
        expected = f"{len(wanted)} tensors, each of a type of weights"
    there = few(sorted(wrong)) or f"{len(seen)} tensors, {header.data_bytes} bytes as {mixture}"
    return _finding(claim, not wrong, there, expected)


def few(wrong: Collection[str]) -> str:
    """The first of several defects, and how many more there are."""
    more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    return printable("; ".join(list(wrong)[:_NAMED]) + more, 600)


def _misplaced(seen: Table, wanted: Mapping[str, tuple[int, ...]]) -> list[str]:
    wrong = [f"{name} is missing" for name in wanted.keys() - seen.keys()]
    for name in seen.keys() - wanted.keys():
        stem = next((name.removesuffix(end) for end in _BESIDE if name.endswith(end)), "")
        if f"{stem}.weight" not in wanted:
            wrong.append(f"{name} is not of this model")
    wrong += [
        f"{name} is {_spelled(seen[name])}, expected {'x'.join(map(str, wanted[name]))}"
        for name in wanted.keys() & seen.keys()
        if seen[name].shape != wanted[name]
    ]
    return wrong


def _no_weights(tensor: gguf.Tensor) -> bool:
    return not gguf.SCALES[tensor.type][0] or (len(tensor.shape) == 1 and tensor.type not in _NUMBERS)


def _mixture(file_type: object, table: Table, model: quantizations.Model) -> str:
    """The mixture's name; one of llama.cpp's but for few matrices; or the types that it is made of."""
    stated = quantizations.BY_FILE_TYPE.get(file_type) if isinstance(file_type, int) else None
    named = [stated] if stated is not None else []
    for one in (*named, *quantizations.TABLE):
        others = [tensor for tensor in table.values() if not one.may_be(tensor.type, tensor.name, tensor.shape, model)]
        if not others:
            return one.name if stated is None or stated is one else f"{one.name} (general.file_type: {stated.name})"
        if one is stated and len(others) <= _FEW:
            told = ", ".join(sorted(f"{tensor.name} {tensor.type}" for tensor in others))
            return f"a mixture: {one.name} but for {told}"
    counts = Counter(tensor.type for tensor in table.values() if len(tensor.shape) > 1)
    return "a mixture: " + ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _of_itself(header: gguf.Gguf, claim: str, why: str, remedy: str) -> Finding:
    """A model whose tensors cannot be predicted: that no layer is missing is all that can be held against it."""
    kind = header.metadata.get("general.architecture")
    count, heads = (header.metadata.get(f"{kind}.{key}") for key in ("block_count", "nextn_predict_layers"))
    layers = {int(match[1]) for tensor in header.tensors if (match := _LAYER.match(tensor.name))}
    due = min(count, gguf.MAX_TENSORS) - (heads if isinstance(heads, int) else 0) if isinstance(count, int) else 0
    missing = [f"blk.{number} is missing" for number in range(due) if number not in layers]
    if missing and layers:
        return _finding(claim, False, few(missing), f"{due} layers")
    seen = f"{kind}: {len(header.tensors)} tensors in {len(layers)} layers, {header.data_bytes} bytes; {why}"
    return _finding(claim, None, printable(seen, 600), "a model whose tensors are known here", remedy=remedy)


def _due(
    chosen: quantizations.Quantization, wanted: Mapping[str, tuple[int, ...]], name: str, model: quantizations.Model
) -> str:
    return "x".join(map(str, wanted[name])) + " " + chosen.stored(name, wanted[name], model)


def _spelled(tensor: gguf.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) + " " + tensor.type


def _finding(claim: str, holds: bool | None, seen: str, expected: str, *, remedy: str = _EXPORT) -> Finding:
    return Finding.of("tensors_as_predicted", claim, holds, seen, expected, remedy=remedy)
