"""The job file that is written from accounts of a job: each field below a comment that says whose word it is. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from harness.core.errors import BadInput
from harness.job import estimate, profiles, told
from harness.job.load import parse_job
from harness.job.writing import Stated, Value, stated_file, with_fields

_SHARES: Final = {"gguf": 0.6, "merged": 0.6, "adapter": 0.4}
"""Share of the predicted size that the model must exceed, by its kind; as ``harness init`` sets it."""
_LOOSE: Final = "The box claims this, by which a check is done without. Only where you meant it:"
_PACE: Final = ("Nobody has told; a training that has ended is not judged by it.",)
_FLOOR: Final = ("Bytes that the model must exceed, reckoned from the shape that is stated.",)


def text(merged: told.Merged, name: str, path: Path, around: Sequence[Stated]) -> str:
    """The text of a job file at a path; ``around`` is what no account tells. Raises BadInput when none comes of it."""
    usual = profiles.tables(profiles.FIRST)
    first = told.account(usual, profiles.FIRST).fields
    files, its_files = (
        {kind: one.file for kind, one in (by or {}).items()} for by in (merged[told.FILES], first[told.FILES])
    )
    profile = profiles.FIRST if files == its_files or not any(at[0] == "training" for at in merged.by) else profiles.ANY
    kind = merged["artifact", "kind"] or ("gguf" if profile == profiles.FIRST else "adapter")
    quantization = merged["artifact", "quantization"] or usual["artifact"]["quantization"]
    head = Stated("", {"name": name, "profile": profile}, ("What nobody has told is the profile's.",))
    paces = {} if profile == profiles.FIRST else dict.fromkeys(merged["training", "steps"] or (), 1.0)
    pace = [Stated("limits", {"s_per_step": paces}, _PACE)] if paces and not merged["limits", "s_per_step"] else []
    stated = [head, *around, *pace, *_by_account(merged)]
    another = any(merged[at] not in (None, one) for at, one in first.items() if at[0] == "model")
    if profile == profiles.FIRST and kind == "gguf" and not another and quantization in usual["artifact"]["floors"]:
        return _loading(stated_file("", stated), path)

    def floor(size: int) -> dict[str, Value]:
        return {"floors": {quantization: size}} if kind == "gguf" else {"floor": size}

    told_all = _loading(stated_file("", [*stated, Stated("artifact", floor(1), _FLOOR)]), path)
    try:
        least = int(estimate.artifact_bytes(parse_job(told_all, path)) * _SHARES[kind])
    except BadInput:
        return told_all  # nobody predicts the size of this architecture
    return _loading(with_fields(told_all, "artifact", floor(max(least, 1))), path)


def _by_account(merged: told.Merged) -> Iterator[Stated]:
    """The fields by table and account; those that loosen a gate by the box's word alone as comments."""
    groups: dict[tuple[str, bool, str], dict[str, Any]] = {}
    for (table, field), account in merged.by.items():
        value = account.fields[table, field]
        if (table, field) in told.LOOSENING and not account.known:
            yield Stated(table, {}, (_LOOSE, with_fields("", "", {field: value}).strip()))
            continue
        values = value.items() if field == "files" else ()
        group = groups.setdefault((table, account.known, account.where), {})
        group |= {f"files.{kind}": file.model_dump(mode="json") for kind, file in values} or {field: value}
    for (table, known, where), fields in groups.items():
        yield Stated(
            table, fields, (f"Known here, by {where}." if known else f"CLAIMED by the box, in {where}: compare.",)
        )


def _loading(text: str, path: Path) -> str:
    try:
        parse_job(text, path)
    except BadInput as error:
        raise BadInput(
            f"no job file comes of what is told: {error}",
            remedy="Write one by hand (harness init), or say what is wrong there by its option: harness adopt --help.",
        ) from error
    return text
