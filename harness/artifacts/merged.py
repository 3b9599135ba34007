"""A model's folder as Transformers saves it: ``config.json``, safetensors in one file or in many, the tokenizer.

The weights are looked at as those of a GGUF are. What lies there as a merge that was never merged (an adapter's
matrices, a compiled module's names) is what Transformers would leave out without a word and fill with noise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from harness.artifacts import gguf, model_shape, parameters, safetensors, tokenizer
from harness.artifacts.expectation import Expectation
from harness.artifacts.safetensors import INDEX, SINGLE
from harness.artifacts.tensors import BY_USE, few
from harness.core.errors import BadInput
from harness.core.finding import Finding
from harness.core.text import printable

_SAVE: Final = "Save the merged model again (merge_and_unload, then save_pretrained of model and tokenizer)."
_FETCH: Final = "Fetch the files that are named again."
_READ: Final = "safetensors is what is read here: save the model with safe_serialization=True."
_UNMERGED: Final = re.compile(r"lora_[AB]|lora_magnitude|\.base_layer\.|^base_model\.|_orig_mod\.|^module\.")
_IGNORED: Final = re.compile(r"rotary_emb\.inv_freq$|\.masked_bias$|\.attn\.bias$")
_FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})
Entries = dict[Path, tuple[safetensors.TensorEntry, ...]]


def judge(folder: Path, known: Expectation) -> tuple[Finding, ...]:
    """Judge a model's folder; the configuration is its own. Raises BadInput when ``config.json`` cannot be read."""
    config = model_shape.read_config(folder / "config.json")
    return tuple(_judge(folder, config, known))


def judge_as_planned(folder: Path, known: Expectation) -> tuple[Finding, ...]:
    """Judge a model's folder, and hold it against the planned model's configuration and the tokenizer that trained.

    Raises as ``judge``.
    """
    config = model_shape.read_config(folder / "config.json")
    found = list(_judge(folder, config, known))
    wrong = other_model(config, known.config or {})
    claim = "config.json is that of the planned model"
    found.append(
        Finding.of("config_as_planned", claim, not wrong, few(wrong) or "all equal", "all equal", remedy=_SAVE)
    )
    if known.trained is not None and (folder / "tokenizer.json").is_file():
        claim, differing = "vocabulary, special ids and chat template are those that trained", []
        own = tokenizer.read_trained(folder)
        for field in ("tokens", "merges", "special", "chat_template"):
            here, there = getattr(own, field), getattr(known.trained, field)
            if there is not None and here != there:
                differing.append(f"{field} differ")
        seen = few(differing) or "no difference"
        found.append(Finding.of("tokenizer_as_trained", claim, not differing, seen, "no difference", remedy=_SAVE))
    return tuple(found)


def other_model(config: Mapping[str, Any], planned: Mapping[str, Any]) -> list[str]:
    """Fields of a ``config.json`` that state another model than the planned one; a field that either lacks is none."""
    own = {**config, "architecture": model_shape.architecture(config)}
    return [
        f"{name} is {own[name]!r}, planned {planned[name]!r}"
        for name in _STATED
        if own.get(name) is not None and planned.get(name) is not None and own[name] != planned[name]
    ]


_STATED: Final = ("architecture", *model_shape.SIZES, "tie_word_embeddings")


def _judge(folder: Path, config: Mapping[str, Any], known: Expectation) -> Iterator[Finding]:
    files, problems, unread = _files(folder)
    claim = "every file that the index names is there, whole, and holds what the index says"
    if unread:
        yield Finding.of("files_whole", claim, None, unread, "safetensors", remedy=_READ)
        return
    seen = few(problems) or f"{len(files)} files, {sum(map(len, files.values()))} tensors"
    yield Finding.of("files_whole", claim, not problems, seen, "all of them", remedy=_FETCH)
    if files and not problems:
        yield _tensors(config, files)
        yield _weights(files, known)
    yield _tokenizer(folder, config)


def _files(folder: Path) -> tuple[Entries, list[str], str]:
    """Tensors by file, what is wrong with the files, and why none of them can be read."""
    index: dict[str, str] = {}
    problems: list[str] = []
    if (folder / INDEX).is_file():
        stated = model_shape.read_config(folder / INDEX).get("weight_map")
        if not isinstance(stated, dict) or not all(isinstance(name, str) for name in stated.values()):
            return {}, [f"{INDEX} has no weight_map"], ""
        index = stated
    names = sorted(set(index.values())) or ([SINGLE] if (folder / SINGLE).is_file() else [])
    if not names:
        parts, pickled = (sorted(path.name for path in folder.glob(f"*.{end}")) for end in ("safetensors", "bin"))
        missing = f"{INDEX} is missing, {len(parts)} files lie there" if parts else "no weights"
        return {}, [missing], "" if parts else few(pickled)
    files: Entries = {}
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            problems.append(f"{printable(name, 80)} is missing")
            continue
        try:
            files[folder / name] = safetensors.parse(folder / name)
        except safetensors.SafetensorsError as error:
            problems.append(f"{name}: {printable(str(error), 200)}")
        except OSError as error:
            return {}, [], f"{name} cannot be read: {error.strerror or error}"
    held = {entry.name: path.name for path, entries in files.items() for entry in entries}
    if not problems and index:
        problems += [f"{name} is not in {index[name]}" for name in sorted(index) if held.get(name) != index[name]]
        problems += [
            f"{name} is in {held[name]}, and the index does not say so" for name in sorted(held.keys() - index)
        ]
    return files, problems, ""


def _tensors(config: Mapping[str, Any], files: Entries) -> Finding:
    claim = "every tensor that config.json predicts is there with its shape, and nothing of an adapter"
    name = "tensors_as_predicted"
    seen = {entry.name: entry for entries in files.values() for entry in entries if not _IGNORED.search(entry.name)}
    if left := unmerged(seen):
        told = f"{len(left)} names of an adapter or a wrapped module: {few(left)}"
        return Finding.of(name, claim, False, told, "a merged model", remedy=_SAVE)
    if config.get("quantization_config"):
        told = f"{len(seen)} tensors, quantized as quantization_config says"
        return Finding.of(name, claim, None, told, "weights as numbers", remedy=BY_USE)
    try:
        shape = model_shape.from_config(config)
    except BadInput as error:
        told = f"{len(seen)} tensors; {error}"
        return Finding.of(name, claim, None, told, "a model whose tensors are known here", remedy=BY_USE)
    wrong, count = mismatches(shape, {one: entry.shape for one, entry in seen.items()})
    told = few(wrong) or f"{len(seen)} tensors"
    return Finding.of(name, claim, not wrong, told, f"{count} tensors", remedy=_SAVE)


def unmerged(names: Iterable[str]) -> list[str]:
    """Names of an adapter's matrices, or of a wrapped module's: Transformers would leave them out without a word."""
    return sorted(filter(_UNMERGED.search, names))


def mismatches(shape: model_shape.ModelShape, found: Mapping[str, tuple[int, ...]]) -> tuple[list[str], int]:
    """How the tensors that were found, by name and shape, differ from the model's, and how many it has."""
    found = {name: size for name, size in found.items() if not _IGNORED.search(name)}
    wanted = parameters.of(shape)
    if not any(one.startswith("model.") for one in found):  # a base model's class was saved, without its head
        wanted = {one.removeprefix("model."): size for one, size in wanted.items() if one != "lm_head.weight"}
    optional = {"lm_head.weight"} if shape.tie_word_embeddings else set()
    wrong = [f"{one} is missing" for one in sorted(wanted.keys() - found.keys() - optional)]
    wrong += [f"{one} is not of this model" for one in sorted(found.keys() - wanted.keys())]
    wrong += [
        f"{one} is {list(found[one])}, expected {list(size)}"
        for one, size in sorted(wanted.items())
        if one in found and found[one] != size
    ]
    return wrong, len(wanted.keys() - optional)


def _weights(files: Entries, known: Expectation) -> Finding:
    from harness.artifacts import scales  # noqa: PLC0415 - loads numpy

    claim = "every weight is finite, and no stretch of weights is zeros"
    damage, count, unread = [], 0, set()
    for path, entries in files.items():
        numbers = [
            # A lone number is a row of one.
            gguf.Tensor(
                entry.name, tuple(reversed(entry.shape)) or (1,), entry.dtype, entry.start, entry.end - entry.start
            )
            for entry in entries
            if entry.dtype in _FLOATS and entry.end > entry.start
        ]
        unread |= {entry.dtype for entry in entries if entry.dtype not in _FLOATS}
        found = scales.look(scales.map_bytes(path), 0, numbers, zero_rows=known.zero_rows)
        damage += [f"{path.name}: {defect}" for defect in found.damage]
        count += found.blocks
    if unread and not damage:
        told = f"tensors of type {', '.join(sorted(unread))} cannot be judged"
        return Finding.of("weights_present", claim, None, told, "floating-point numbers", remedy=BY_USE)
    told = few(damage) or f"{count} numbers looked at"
    return Finding.of("weights_present", claim, not damage, told, "no damage", remedy=_FETCH)


def _tokenizer(folder: Path, config: Mapping[str, Any]) -> Finding:
    claim = "the tokenizer is there, and the model has a row for each of its tokens"
    name = "tokenizer_there"
    if not (folder / "tokenizer.json").is_file() and (folder / "tokenizer.model").is_file():
        return Finding.of(name, claim, True, "tokenizer.model", "a tokenizer", remedy=_SAVE)
    try:
        trained = tokenizer.read_trained(folder)
    except BadInput as error:
        return Finding.of(name, claim, False, printable(str(error), 300), "a tokenizer", remedy=_SAVE)
    most, rows = max(trained.tokens), config.get("vocab_size")
    fits = not isinstance(rows, int) or most < rows
    return Finding.of(name, claim, fits, f"ids up to {most}", f"ids below {rows}", remedy=_SAVE)
