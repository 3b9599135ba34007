"""Verification of any GGUF without a job: the file is whole, and it is the model that was trained.

Each finding is one claim with its verdict, what was seen, what was expected and what to do. A claim that
cannot be judged (another architecture, another version of the format) is UNKNOWN, never a pass; a claim
about which nothing is known beforehand (no digest, no configuration) is not made. Of a split file all are judged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.artifacts import digest, gguf, hyperparameters, shards, tensors, tokenizer
from harness.artifacts.expectation import Expectation
from harness.artifacts.tensors import BY_USE, few
from harness.artifacts.tokenizer import TrainedTokenizer
from harness.core.errors import BadInput
from harness.core.finding import Finding
from harness.core.text import printable

if TYPE_CHECKING:
    from harness.artifacts import scales

_FETCH: Final = "Fetch the file again from where its digest was recorded, and keep the instance until it verifies."
_EXPORT: Final = "Export the model again on the box; do not destroy the instance."
_CONVERT: Final = "Write it again with the present llama.cpp (llama-quantize with COPY); nothing in it is damaged."
_READABLE: Final = "Make the file readable for this user, and run the command again."
_TEMPLATE: Final = (
    "Name the training's own folder (the finished adapter's, or the package's) with --config: it has the template that"
    " trained. A base model's folder has its own, and does not say."
)
_WHOLE: Final = "a whole GGUF v3"


def verify_file(path: Path, expectation: Expectation) -> tuple[Finding, ...]:
    """Judge one file. The digest, when one is expected, and the scan of the weights go on beside the rest.

    Raises BadInput when the file is not there or cannot be read.
    """
    if not path.is_file():
        raise BadInput(f"{path} is not a file")
    with ThreadPoolExecutor(2) as pool:
        return tuple(_judge(path, expectation, pool))


def _judge(path: Path, known: Expectation, pool: ThreadPoolExecutor) -> Iterator[Finding]:
    hashed = pool.submit(digest.of_file, path) if known.sha256 is not None else None
    size = sum(part.stat().st_size for part in shards.siblings(path) if part.is_file())
    if known.over_bytes is not None:
        floor = f"more than {known.over_bytes}"
        yield _finding("over_floor", "the file exceeds the floor", size > known.over_bytes, f"{size} bytes", floor)
    if known.size is not None:
        yield _finding("size", "the file has its size", size == known.size, f"{size} bytes", f"{known.size}")
    claim = "the file is a GGUF v3 whose tensors fill it to the last byte"
    try:
        whole = shards.parse(path)
        seen = f"{len(whole.header.tensors)} tensors, {sum(part.size for part in whole.parts.values())} bytes"
        yield _finding("well_formed", claim, True, seen, _WHOLE)
        yield from _inside(whole, known, pool)
    except gguf.GgufVersionError as error:
        yield _finding("well_formed", claim, None, printable(str(error), 300), _WHOLE, remedy=_CONVERT)
    except gguf.GgufError as error:
        yield _finding("well_formed", claim, False, printable(str(error), 300), _WHOLE)
    except OSError as error:
        seen = f"{path} cannot be read: {error.strerror or error}"
        yield _finding("well_formed", claim, None, seen, _WHOLE, remedy=_READABLE)
    if hashed is not None:
        seen, recorded = str(hashed.result().sha256), str(known.sha256)
        yield _finding("sha256", "the file's SHA-256 is the recorded one", seen == recorded, seen, recorded)


def _inside(whole: shards.Whole, known: Expectation, pool: ThreadPoolExecutor) -> Iterator[Finding]:
    from harness.artifacts import scales  # noqa: PLC0415 - loads numpy

    header = whole.header

    def scan(part: tuple[Path, gguf.Gguf]) -> scales.Scan:
        unused = partial(tokenizer.unused, whole.first, header)
        return scales.scan(*part, zero_rows=known.zero_rows, unused=unused)

    scanned = pool.submit(lambda: list(map(scan, whole.parts.items())))
    if whole.count > 1 or whole.problems:
        claim, files = "every file of the split is there, each in its place", f"{whole.count} files"
        yield _finding("split_complete", claim, not whole.problems, few(list(whole.problems)) or files, files)
    if not whole.problems:
        yield from _model(whole, known)
    if header.tensors:
        yield _weights(scanned.result())


def _model(whole: shards.Whole, known: Expectation) -> Iterator[Finding]:
    """The header of a model that is all there."""
    header = whole.header
    yield tensors.judge(header, known)
    if header.metadata.get("general.type", "model") != "model" or "tokenizer.ggml.model" not in header.metadata:
        return
    if known.config is not None and header.tensors:
        yield _hyperparameters(whole, known.config)
    claim = "the tokenizer's fields fit each other and the tensors"
    found = list(tokenizer.self_check(whole.first, header))
    yield _differences("tokenizer_consistent", claim, found, tuple(tokenizer.remarks(header)))
    if known.trained is not None:
        yield _as_trained(whole, known.trained, certain=known.certain_template)


def _as_trained(whole: shards.Whole, trained: TrainedTokenizer, *, certain: bool) -> Finding:
    """The tokenizer beside the one that trained. Of a base model's own template nobody knows that it trained."""
    claim = "vocabulary, special ids and chat template are those that trained"
    found = list(tokenizer.compare(whole.first, whole.header, trained))
    template = list(tokenizer.compare_template(whole.header, trained))
    if found or certain or not template:
        return _differences("tokenizer_as_trained", claim, found + template)
    seen = f"{template[0].what}: {template[0].seen}"
    return _finding(
        "tokenizer_as_trained", claim, None, seen, f"{template[0].what}: {template[0].expected}", remedy=_TEMPLATE
    )


def _hyperparameters(whole: shards.Whole, config: Mapping[str, Any]) -> Finding:
    raw = whole.data("rope_freqs.weight")
    factors = struct.unpack(f"<{len(raw) // 4}f", raw[: len(raw) // 4 * 4]) or None
    found = hyperparameters.compare(whole.header, config, factors)
    claim = "the hyperparameters are those of the training's config.json"
    holds = False if found.wrong else None if found.unknown else True
    seen = few([*found.wrong, *found.unknown]) or "; ".join(["all equal", *found.remarks])
    remedy = _EXPORT if found.wrong else BY_USE
    return _finding("hyperparameters", claim, holds, seen, "all equal", remedy=remedy)


def _weights(scans: list[scales.Scan]) -> Finding:
    claim = "every block's scale is finite, and no stretch of weights is zeros"
    damage = [str(defect) for scan in scans for defect in scan.damage]
    seen = few(damage) or f"{sum(scan.blocks for scan in scans)} blocks looked at"
    unknown = sorted({name for scan in scans for name in scan.unknown_types})
    if unknown and not damage:
        seen = f"tensors of type {', '.join(unknown)} cannot be judged"
        return _finding("weights_present", claim, None, seen, "types that are known", remedy=BY_USE)
    remedy = _FETCH
    if damage and all(defect.is_row for scan in scans for defect in scan.damage):
        remedy = f"{_FETCH} If the base model has them too: --expect zero_rows=yes."
    return _finding("weights_present", claim, not damage, seen, "no damage", remedy=remedy)


def _differences(
    name: str, claim: str, found: list[tokenizer.TokenizerDifference], remarks: tuple[str, ...] = ()
) -> Finding:
    seen = few([f"{each.what}: {each.seen}" for each in found]) or "; ".join(["no difference", *remarks])
    expected = few([f"{each.what}: {each.expected}" for each in found]) or "no difference"
    return _finding(name, claim, not found, seen, expected, remedy=_EXPORT)


def _finding(name: str, claim: str, holds: bool | None, seen: str, expected: str, *, remedy: str = _FETCH) -> Finding:
    """One claim that holds, does not, or (None) cannot be judged."""
    return Finding.of(name, claim, holds, seen, expected, remedy=remedy)
