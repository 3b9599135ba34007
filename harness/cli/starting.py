"""Training packages to begin with: a script, the contract's one file beside it, requirements, settings and rows."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from harness.core import durable, shipped
from harness.core.errors import BadInput
from harness.job import estimate, profiles
from harness.job.load import parse_job
from harness.job.writing import JobAnswers, job_file, with_fields

PROFILE: Final = profiles.ANY
BASE: Final = "HuggingFaceTB/SmolLM2-1.7B"
"""The base model that the shipped files name."""

ROWS: Final = "data/train.jsonl"
"""The data file of every kind; one that is there is kept."""

_EVERYWHERE: Final = {"harness_contract.py": "shared/harness_contract.py", ROWS: "shared/train.jsonl"}
_ON_ANY_MACHINE: Final = {
    "tiny_model.py": "shared/tiny_model.py",
    "tiny.json": "shared/tiny.json",
    "settings.json": "shared/settings.json",
}
_OF_A_KIND: Final[Mapping[str, Mapping[str, str]]] = {
    "trl": _ON_ANY_MACHINE,
    "unsloth": {"settings.json": "shared/settings.json"},
    "axolotl": {"config.yml": "axolotl/config.yml"},
    "own": _ON_ANY_MACHINE,
}
KINDS: Final = tuple(_OF_A_KIND)

_SMOKE: Final = 'smoke_command = ["python3", "train.py", "--settings", "tiny.json"]\n'
_SHARE: Final = 0.4
"""Share of the predicted size that an adapter must exceed: it may be saved in half the width that trains."""


def usual(kind: str, *, embedded: bool) -> dict[str, Any]:
    """The tables that a job file of this kind begins with, the profile's below them."""
    told, below = tomllib.loads(_job(kind, embedded=embedded)), profiles.tables(PROFILE)
    return {name: {**below.get(name, {}), **table} for name, table in told.items() if isinstance(table, dict)}


def write(kind: str, answers: JobAnswers, path: Path, *, embedded: bool) -> str:
    """Write the package into its folder; the text of its job file, for a path.

    Raises BadInput, before anything is written, for a file that is there or that could not be written.
    """
    folder, base = answers.package, str((answers.model or {}).get("base", BASE))
    files = _texts(kind, base)
    taken = [name for name in files if name != ROWS and (folder / name).exists()]
    if taken:
        raise BadInput(
            f"{folder} holds {', '.join(taken)} already, and nothing is overwritten",
            remedy="Give the job another name (--name), or move what is there out of the way.",
        )
    rows = (folder / ROWS).read_text(encoding="utf-8") if (folder / ROWS).exists() else files[ROWS]
    text = job_file(answers, path.parent, _job(kind, embedded=embedded))
    text = text.replace("rows = 120,", f"rows = {sum(bool(line.strip()) for line in rows.splitlines())},")
    floor = int(estimate.artifact_bytes(parse_job(text, path)) * _SHARE)
    text = with_fields(text, "artifact", {"floor": max(floor, 1)})
    parse_job(text, path)
    for name, told in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        durable.create(folder / name, told.encode())
    return text


def _texts(kind: str, base: str) -> dict[str, str]:
    places = {
        **_EVERYWHERE,
        **_OF_A_KIND[kind],
        **{name: f"{kind}/{name}" for name in ("train.py", "requirements.txt")},
    }
    return {name: _read(place).replace(BASE, base) for name, place in places.items()}


def _job(kind: str, *, embedded: bool) -> str:
    """The job file of a kind, before any answer."""
    if _OF_A_KIND[kind] is _ON_ANY_MACHINE:
        return _read("rehearsal.toml" if embedded else "job.toml")
    if embedded:
        raise BadInput(
            f"{kind} trains on a GPU, and an embedded machine has none",
            remedy="Rehearse with harness init --package trl --embedded, which is the same road.",
        )
    return with_fields(_read("job.toml").replace(_SMOKE, ""), "gates", {"smoke_run": False})


def _read(name: str) -> str:
    return (shipped.folder("examples") / "starts" / name).read_text(encoding="utf-8")
