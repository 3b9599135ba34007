"""Older spelling of a job's fields, in job files and in recorded jobs: two trainers and three files, by fixed names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_FILES: Final = (("features", "sft", "examples"), ("scenarios", "sft", "examples"), ("pairs", "dpo", "preferences"))
_TRAINERS: Final = ("sft", "dpo")


def spelled(job: Mapping[str, Any]) -> dict[str, Any]:
    """The job with ``sft_steps``, ``sft_s_per_step``, ``features``, ``features_file`` and their like in today's fields.

    What is spelled the older way stands over what is spelled in the other, which is the profile's then.
    """
    return {
        **job,
        **_by_trainer(job, "training", "steps"),
        **_by_trainer(job, "limits", "s_per_step"),
        **_files(job),
    }


def _by_trainer(job: Mapping[str, Any], table: str, field: str) -> dict[str, Any]:
    told = job.get(table)
    if not isinstance(told, dict):
        return {}
    rest = dict(told)
    older = {trainer: rest.pop(name) for trainer in _TRAINERS if (name := f"{trainer}_{field}") in rest}
    return {table: {**rest, field: {**_table(rest.get(field)), **older}}} if older else {}


def _files(job: Mapping[str, Any]) -> dict[str, Any]:
    told = job.get("data")
    if not isinstance(told, dict):
        return {}
    rest, files = dict(told), dict(_table(told.get("files")))
    for kind, trainer, rows_are in _FILES:
        older = {field: rest.pop(name) for field, name in (("rows", kind), ("file", f"{kind}_file")) if name in rest}
        if older:
            files[kind] = {"trainer": trainer, "rows_are": rows_are, **_table(files.get(kind)), **older}
    return {"data": {**rest, "files": files}} if files else {}


def _table(told: Any) -> dict[str, Any]:
    return told if isinstance(told, dict) else {}
