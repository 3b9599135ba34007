"""Verification of any GGUF without a job: the file is whole, and it is the model that was trained.

Each finding is one claim with its verdict, what was seen, what was expected and what to do. A claim that
cannot be judged (another architecture, a header that does not parse) is UNKNOWN, never a pass; a claim
about which nothing is known beforehand (no digest, no configuration) is not made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.artifacts import digest, gguf, model_shape, tokenizer
from harness.artifacts.expectation import HYPERPARAMETERS, Expectation, config_of, quantization_of
from harness.core.errors import BadInput
from harness.core.finding import Finding
from harness.core.text import printable

if TYPE_CHECKING:
    from harness.artifacts import scales

_FETCH: Final = "Fetch the file again from where its digest was recorded, and keep the instance until it verifies."
_EXPORT: Final = "Export the model again on the box; do not destroy the instance."
_NAMED: Final = 3
_WHOLE: Final = "a whole GGUF v3"


def verify_file(
    path: Path, expectation: Expectation, on_progress: Callable[[int], None] | None = None
) -> tuple[Finding, ...]:
    """Judge one file. The digest, when one is expected, and the scan of the weights go on beside the rest.

    ``on_progress`` is told the bytes hashed so far, from another thread. Raises BadInput when the file
    is not there or cannot be read.
    """
    if not path.is_file():
        raise BadInput(f"{path} is not a file")
    with ThreadPoolExecutor(2) as pool:
        return tuple(_judge(path, expectation, on_progress, pool))


def _judge(
    path: Path, known: Expectation, on_progress: Callable[[int], None] | None, pool: ThreadPoolExecutor
) -> Iterator[Finding]:
    hashed = pool.submit(digest.of_file, path, on_progress) if known.sha256 is not None else None
    size = path.stat().st_size
    if known.over_bytes is not None:
        floor = f"more than {known.over_bytes}"
        yield _finding("over_floor", "the file exceeds the floor", size > known.over_bytes, f"{size} bytes", floor)
    if known.size is not None:
        yield _finding("size", "the file has its size", size == known.size, f"{size} bytes", f"{known.size}")
    claim = "the file is a GGUF v3 whose tensors fill it to the last byte"
    try:
        header = gguf.parse(path)
        yield _finding("well_formed", claim, True, f"{len(header.tensors)} tensors, {size} bytes", _WHOLE)
        yield from _inside(path, header, known, pool)
    except gguf.GgufError as error:
        yield _finding("well_formed", claim, False, printable(str(error), 300), _WHOLE)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
    if hashed is not None:
        seen, recorded = str(hashed.result().sha256), str(known.sha256)
        yield _finding("sha256", "the file's SHA-256 is the recorded one", seen == recorded, seen, recorded)


def _inside(path: Path, header: gguf.Gguf, known: Expectation, pool: ThreadPoolExecutor) -> Iterator[Finding]:
    from harness.artifacts import scales  # noqa: PLC0415 - loads numpy

    scanned = pool.submit(scales.scan, path, header, zero_rows=known.zero_rows)
    yield _tensors(header, known)
    if known.config is not None:
        yield _hyperparameters(header, known.config)
    claim = "the tokenizer's fields fit each other and the tensors"
    yield _differences("tokenizer_consistent", claim, tokenizer.self_check(path, header))
    if known.trained is not None:
        claim = "vocabulary, special ids and chat template are those that trained"
        yield _differences("tokenizer_as_trained", claim, tokenizer.compare(path, header, known.trained))
    yield _weights(scanned.result())


def _tensors(header: gguf.Gguf, known: Expectation) -> Finding:
    """The tensor table against what the configuration predicts: names, shapes, types, and so the exact bytes."""
    whose = "its own metadata" if known.config is None else "the training's config.json"
    claim = f"every tensor is there with the shape and type that {whose} predicts"
    quantization = known.quantization or quantization_of(header)
    try:
        shape = model_shape.from_config(known.config if known.config is not None else config_of(header))
        predicted = model_shape.predict(shape, quantization or "none")
    except BadInput as error:
        problem = printable(str(error), 300)
        return _finding("tensors_as_predicted", claim, None, problem, "a model that is known", remedy=error.remedy)
    seen = {tensor.name: (tensor.shape, tensor.type) for tensor in header.tensors}
    wanted = {tensor.name: (tensor.shape, tensor.type) for tensor in predicted}
    wrong = [f"{name} is missing" for name in wanted.keys() - seen.keys()]
    wrong += [f"{name} is not of this model" for name in seen.keys() - wanted.keys()]
    wrong += [
        f"{name} is {_spelled(seen[name])}, expected {_spelled(wanted[name])}"
        for name in wanted.keys() & seen.keys()
        if seen[name] != wanted[name]
    ]
    total = sum(tensor.nbytes for tensor in predicted)
    there = _few(sorted(wrong)) or f"{len(seen)} tensors, {header.data_bytes} bytes"
    expected = f"{len(wanted)} tensors, {total} bytes as {quantization}"
    return _finding("tensors_as_predicted", claim, not wrong, there, expected, remedy=_EXPORT)


def _hyperparameters(header: gguf.Gguf, config: Mapping[str, Any]) -> Finding:
    kind = header.metadata.get("general.architecture")
    named = model_shape.architecture(config)
    wrong = []
    if kind != model_shape.ARCHITECTURES.get(str(named)):
        wrong.append(f"general.architecture is {kind}, the training's is {named}")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    stated = {"rope_theta": rope.get("rope_theta")} if isinstance(rope, dict) else {}
    for word, key in HYPERPARAMETERS.items():
        expected = stated.get(word) if config.get(word) is None else config[word]
        seen = header.metadata.get(f"{kind}.{key}")
        optional = word == "head_dim" and seen is None
        if isinstance(expected, int | float) and not optional and not _near(seen, expected):
            wrong.append(f"{key} is {seen}, expected {expected}")
    claim = "the hyperparameters are those of the training's config.json"
    return _finding("hyperparameters", claim, not wrong, _few(wrong) or "all equal", "all equal", remedy=_EXPORT)


def _weights(found: scales.Scan) -> Finding:
    claim = "every block's scale is finite, and no stretch of weights is zeros"
    seen = _few(list(map(str, found.damage))) or f"{found.blocks} blocks looked at"
    if found.unknown_types and not found.damage:
        seen = f"tensors of type {', '.join(found.unknown_types)} cannot be judged"
        return _finding("weights_present", claim, None, seen, "types that are known", remedy=_EXPORT)
    return _finding("weights_present", claim, not found.damage, seen, "no damage")


def _differences(name: str, claim: str, differences: Iterator[tokenizer.TokenizerDifference]) -> Finding:
    found = list(differences)
    seen = _few([f"{each.what}: {each.seen}" for each in found]) or "no difference"
    expected = _few([f"{each.what}: {each.expected}" for each in found]) or "no difference"
    return _finding(name, claim, not found, seen, expected, remedy=_EXPORT)


def _finding(name: str, claim: str, holds: bool | None, seen: str, expected: str, *, remedy: str = _FETCH) -> Finding:
    """One claim that holds, does not, or (None) cannot be judged."""
    return Finding.of(name, claim, holds, seen, expected, remedy=remedy)


def _few(wrong: list[str]) -> str:
    more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    return printable("; ".join(wrong[:_NAMED]) + more, 600)


def _spelled(tensor: tuple[tuple[int, ...], str]) -> str:
    return "x".join(map(str, tensor[0])) + " " + tensor[1]


def _near(seen: object, expected: float) -> bool:
    """Equal, but for what a 32-bit float loses."""
    return isinstance(seen, int | float) and abs(seen - expected) <= 1e-6 * abs(expected)
