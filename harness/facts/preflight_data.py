"""The data files of the staged package, each read once: rows, defects, and what the context cuts off."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from harness.artifacts.dataset import rows, sound, texts
from harness.artifacts.dataset.contract import Teaching
from harness.artifacts.dataset.rows import Rows
from harness.artifacts.dataset.sound import Flaw
from harness.core.errors import BadInput, MissingExtra
from harness.core.observed import CouldNotLook
from harness.core.rate import Meter, Show, unwatched
from harness.job.model import Job

EVALUATION = "eval_*.jsonl"
"""Rows that are later in time than every training row stand in files so named."""

_READ = Meter("rows", "rows")
_MAX_TOKENIZER_BYTES = 256 << 20
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Context:
    """Number of rows that exceed the model's context of ``max_length`` tokens, and the way it was counted."""

    rows: int
    cut: int
    how: str

    @property
    def share(self) -> float:
        """The share of rows that lose their end."""
        return self.cut / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class Data:
    """The rows of every data file, those that are trained on by their kind."""

    by_kind: Mapping[str, Rows]
    evaluation: tuple[Rows, ...]

    @property
    def training(self) -> tuple[Rows, ...]:
        """The files that are trained on."""
        return tuple(self.by_kind.values())

    def counts(self) -> dict[str, int]:
        """Well-formed rows by kind."""
        return {kind: len(file.rows) for kind, file in self.by_kind.items()}

    def built(self) -> dict[str, int]:
        """Training rows that a program made and no person gave, by file; a file without any is left out."""
        counts = {file.path.name: sum("built_by" in row for row in file.rows) for file in self.training}
        return {name: count for name, count in counts.items() if count}

    def unreadable(self) -> tuple[str, ...]:
        """Lines that are no rows of their file, once for each reason."""
        files = (*self.training, *self.evaluation)
        lines = {file.name: len(file.rows) + len(file.defects) for file in files}
        return tuple(map(str, sound.flaws(chain(*(file.defects for file in files)), lines)))


def read(job: Job, root: Path, show: Show = unwatched) -> Data:
    """Read every data file once; raises CouldNotLook for one that is not there, BadInput for an unreadable one."""
    folder = root / job.data.directory
    counted, total = 0, sum(job.data.counts.values())
    show(_READ, 0, total)

    def rows_of(name: str, teaching: Teaching) -> Rows:
        nonlocal counted
        if not (folder / name).exists():
            raise CouldNotLook(f"{job.data.directory}/{name} is not there: see package_files_complete")
        found = rows.read(folder / name, teaching)
        counted += len(found.rows)
        show(_READ, counted, total)
        return found

    alike = next((one.rows_are for one in job.data.files.values()), Teaching.EXAMPLES)
    return Data(
        by_kind={kind: rows_of(one.file, one.rows_are) for kind, one in job.data.files.items()},
        evaluation=tuple(rows.read(path, alike) for path in sorted(folder.glob(EVALUATION))),
    )


def judged(job: Job, data: Data) -> tuple[Flaw, ...]:
    """Rows that parse but must not be trained on, and those that only look like it, by file and rule."""
    limits = sound.DatasetLimits(
        max_duplicate_share=job.data.max_duplicate_share,
        max_class_share=job.data.max_class_share,
        max_flawed_share=job.data.max_flawed_share,
        ignore=frozenset(job.data.ignored_rules),
    )
    return sound.judge(data.training, data.evaluation, limits)


def context(job: Job, data: Data, package: Path, built: Path | None) -> Context:
    """Count training rows that exceed ``model.max_length`` tokens.

    A tokenizer that falls back to bytes never makes more tokens than there are bytes: what fits by
    its bytes fits. Only longer rows are tokenised, with the tokenizer of ``model.base`` as it is
    found in the package, in the local cache of the hub, or ``built`` by the package's own smoke run.
    Raises CouldNotLook when there is none.
    """
    limit = job.model.max_length - job.model.template_tokens
    total = sum(len(file.rows) for file in data.training)
    long = [turns for file in data.training for turns in _long(file, limit)]
    if not total:
        raise CouldNotLook("no row could be read: see dataset_rows_parse")
    if not long:
        return Context(total, 0, f"no row has more than {limit} bytes, so none has more tokens")
    path = _tokenizer(job.model.base, package) or built
    if path is None:
        base = job.model.base
        fetch = f"hf download {base} tokenizer.json (hf comes with the training extra)"
        on_hub = _HUB_ID.fullmatch(base) and not (package / base).is_dir()
        put = f"put its tokenizer.json into {package / base}"
        raise CouldNotLook(
            f"{len(long)} of {total} rows have more than {limit} bytes, and the tokenizer of {base} "
            f"is neither in the package nor in the local cache of the hub: {fetch if on_hub else put}"
        )
    cut = sum(length > limit for length in _lengths(path, long))
    return Context(
        total, cut, f"{len(long)} rows with more than {limit} bytes counted with {path.parent.name}/{path.name}"
    )


def _long(file: Rows, limit: int) -> Iterator[tuple[str, ...]]:
    """The texts of each row that has more bytes than the limit; of two answers the longer one."""
    columns = texts.of(file)
    systems = list(map(_system, file.rows)) if any("system" in row for row in file.rows) else [""] * len(file.rows)
    read = (systems, columns.prompts, [*columns.answers, *columns.rejected])
    if sum(max(map(len, column), default=0) for column in read) <= limit and all(map(str.isascii, chain(*read))):
        return
    learned = columns.answers or [""] * len(columns.prompts)
    answers = zip(learned, columns.rejected or learned, strict=True)
    for system, prompt, two in zip(systems, columns.prompts, answers, strict=True):
        turns = (system, prompt, max(two, key=_bytes))
        if sum(map(_bytes, turns)) > limit:
            yield turns


def _system(row: dict[str, object]) -> str:
    system = row.get("system")
    return system if isinstance(system, str) else ""


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _lengths(path: Path, long: list[tuple[str, ...]]) -> Iterator[int]:
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415 - part of the training extra, needed for long rows only
    except ImportError as error:
        raise MissingExtra("counting the tokens of long rows", "training") from error
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception for a file that it cannot read
        raise BadInput(f"{path} is not a tokenizer: {error}") from error
    for turns in long:
        yield sum(len(encoded.ids) for encoded in tokenizer.encode_batch(list(turns), add_special_tokens=False))


def _tokenizer(base: str, package: Path) -> Path | None:
    path = package / base / "tokenizer.json"
    if path.is_file() and path.stat().st_size <= _MAX_TOKENIZER_BYTES:
        return path
    return cached(base, path.name)


def cached(base: str, name: str) -> Path | None:
    """A model's file in the local cache of the Hugging Face hub; nothing is fetched."""
    try:
        from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - part of the training extra
        from huggingface_hub.errors import HFValidationError  # noqa: PLC0415
    except ImportError:
        return None
    try:
        found = try_to_load_from_cache(base, name)
    except HFValidationError:  # a path, not the name of a repository
        return None
    return Path(found) if isinstance(found, str) else None
