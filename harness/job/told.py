"""A job as its box is told it at the launch, and as a box tells it back: claims, each judged by itself. Pure.

Told is what the finished training is judged by. No command, no path of this machine, no provider, price, limit,
variable or consent is among the fields that a box is told, or that are taken from one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from harness.artifacts import model_shape, quantizations
from harness.artifacts.manifest import safe_path
from harness.core.canonical import Json, table
from harness.core.text import one_line
from harness.job.data import DataFile, Kind, TrainerName
from harness.job.model import Job

FILE: Final = "job.json"
"""Name of the file in the harness's own corner of the package's directory on the box."""

Place = tuple[str, str]
"""A field of a job file: its table and its name."""
FILES: Final = ("data", "files")
FOLDER: Final = ("data", "directory")


def _line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("not one line of plain text")
    return text


def _folder(text: str) -> str:
    if text != "." and any(part.startswith(("-", "~", "$", "`")) for part in safe_path(_line(text)).split("/")):
        raise ValueError("no plain path below the package's folder")
    return text


def _in_the_package(file: DataFile) -> DataFile:
    _folder(file.file)
    return file


_Line = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_line)]
_Folder = Annotated[str, AfterValidator(_folder)]
_Size = Annotated[int, Field(strict=True, ge=1, lt=1 << 40)]
_Number = Annotated[int, Field(strict=True, ge=0, lt=1 << 40)]
_Amount = Annotated[float, Field(gt=0, lt=1e6, allow_inf_nan=False)]
_Pairs = BeforeValidator(lambda told: dict(told) if isinstance(told, list) else told)
_FEW = Field(min_length=1, max_length=20)

_FIELDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "data": {
        "files": Annotated[dict[Kind, Annotated[DataFile, AfterValidator(_in_the_package)]], _FEW],
        "directory": _Folder,
        "proof_line": _Line,
        "allow_built_rows": Literal[True],
    },
    "training": {
        "steps": Annotated[dict[TrainerName, _Size], _Pairs, _FEW],
        "checkpoints": Annotated[dict[TrainerName, _Folder], _FEW],
        "batch_size": _Number,
        "accumulation": Annotated[dict[TrainerName, _Size], _FEW],
        "device_map": Annotated[str, Field(max_length=40), AfterValidator(_line)],
        "checkpoint_every": _Size,
        "log": Literal["contract", "trainer"],
        "accelerator": Literal["cpu"],
    },
    "model": {
        "base": _Line,
        "architecture": Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,80}$")],
        **dict.fromkeys(model_shape.SIZES, Annotated[int, Field(strict=True, ge=1, lt=1 << 24)]),
        "tie_word_embeddings": Annotated[bool, Field(strict=True)],
        "lora_r": _Number,
        "lora_alpha": Annotated[float, Field(ge=0, lt=1e6, allow_inf_nan=False)],
        "dtype": Literal["bfloat16", "float32"],
    },
    "limits": {"s_per_step": Annotated[dict[TrainerName, _Amount], _FEW]},
    "artifact": {
        "kind": Literal["gguf", "merged", "adapter"],
        "quantization": Literal[tuple(quantizations.ERRORS)],
        "remote_dir": _Folder,
        "base_revision": _Line,
        "predict": Literal[False],
    },
    "gates": {"context": Literal[False], "generate": Literal[False]},
}
"""Fields that a box is told and that are taken from it, by table."""

LOOSENING: Final = frozenset(
    {
        ("data", "allow_built_rows"),
        ("training", "accelerator"),
        ("artifact", "predict"),
        ("gates", "context"),
        ("gates", "generate"),
    }
)
"""Fields by which a job does without a check: a box may tell them, and a person alone sets them."""


@dataclass(frozen=True, slots=True)
class JobAccount:
    """One account of a job: fields by their place. ``where`` is whose it is, in words; ``known``: not the box's.

    ``left_out`` names what was told and is none of what it should be.
    """

    where: str
    fields: Mapping[Place, Any]
    known: bool = False
    left_out: tuple[str, ...] = ()


def told(job: Job) -> dict[str, Json]:
    """Everything that the box may know of a job, as JSON."""
    whole = job.model_dump(mode="json")
    said: dict[str, Any] = {}
    for name, field in account(whole, "the job").fields:
        said.setdefault(name, {})[field] = whole[name][field]
    return said


def account(said: object, where: str, *, known: bool = False) -> JobAccount:
    """An account of the fields that a parsed JSON tells, each as its type wants it, or left out."""
    found: dict[Place, Any] = {}
    left_out = []
    for name, fields in table(said).items():
        for field, value in table(fields).items():
            try:
                found[name, field] = TypeAdapter(_FIELDS[name][field]).validate_python(value)
            except (ValidationError, KeyError, TypeError):  # a list that is no list of pairs
                left_out.append(one_line(f"{name}.{field}", 80))
    return JobAccount(where, found, known, tuple(left_out))


def of_job(job: Job, where: str) -> JobAccount:
    """The account that a job which is known here gives."""
    return account(told(job), where, known=True)


@dataclass(frozen=True, slots=True)
class Merged:
    """Accounts of one job, put together: those that are known here go before those of the box.

    ``by``: whose account each field is; ``differing``: what another account says of it, in words.
    """

    by: Mapping[Place, JobAccount]
    differing: tuple[str, ...]

    def __getitem__(self, place: Place) -> Any:
        return self.by[place].fields[place] if place in self.by else None


def merged(accounts: Sequence[JobAccount]) -> Merged:
    """The accounts as one; of two that differ in a field, the first one's."""
    by: dict[Place, JobAccount] = {}
    differing = []
    for one in accounts:
        for place, value in one.fields.items():
            first = by.setdefault(place, one)
            differing += [
                f"{'.'.join(place)}{what}: {shown(ours)} by {first.where}, {shown(theirs)} by {one.where}"
                for what, ours, theirs in _compared(place, first.fields[place], value)
                if ours != theirs
            ]
    return Merged(by, tuple(differing))


def _compared(place: Place, first: Any, other: Any) -> Iterable[tuple[str, Any, Any]]:
    """The parts of two accounts of a field that mean the same thing."""
    if place == FILES:
        for kind in sorted({*first, *other}):
            ours, theirs = (one[kind].rows if kind in one else 0 for one in (first, other))
            yield f".{kind}.rows", ours, theirs
    elif place == ("model", "base"):  # a folder may hold any model
        if first.count("/") == other.count("/") == 1:
            yield "", first, other
    else:
        yield "", first, other


def shown(value: Any) -> str:
    """A value for a person, safe and short."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(one)}" for name, one in value.items())
    return one_line(f"{value.rows} rows" if isinstance(value, DataFile) else str(value), 200)
