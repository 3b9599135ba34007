"""README.md beside the model: its card, as the Hugging Face Hub reads one. Pure, but for ``leave``.

The head is YAML whose values are JSON strings, which YAML reads as they are; words of a stranger stand in it and below
it without a meaning of their own. Nothing that is not known is filled in.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from harness.artifacts import digest
from harness.core import durable
from harness.core.text import one_line, printable
from harness.job.model import Job
from harness.ledger.history import History
from harness.report import numbers
from harness.report.markdown import cell, code, fence, path, words
from harness.report.model import ArtifactReport, EvaluationReport, Report

NAME: Final = "README.md"
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_MARK: Final = "<!-- gold-standard-harness"
_SETTINGS: Final = 60
_MODELFILE: Final = 16_000
"""Rows of a table, and characters of a Modelfile, at most."""
_LIBRARIES: Final = {"gguf": "gguf", "merged": "transformers", "adapter": "peft"}
_RELATIONS: Final = {"gguf": "finetune", "merged": "finetune", "adapter": "adapter"}


def render(report: Report, history: History, modelfile: str | None) -> str | None:
    """The card of a verified model, ``modelfile`` the package's own; None while there is no such model."""
    artifact = report.artifact
    if artifact is None or not artifact.verified or artifact.local_path is None:
        return None
    name = Path(artifact.local_path).name
    parts = (
        _head(history.job),
        _title(report, history.job, name),
        _file(artifact, name),
        _running(artifact, history.job, name, modelfile),
        _data(history),
        _settings(report),
        _evaluation(report.evaluation),
        _release(report),
        _limits(report.evaluation),
    )
    return "\n".join(line for part in parts for line in part) + "\n"


def leave(text: str, folder: Path, name: str, job: str) -> Path | None:
    """Write the card beside the model; None where a person's own words lie there.

    A README.md that is not this job's, or that a person has changed since, is left as it is: the card is then
    ``<name>.README.md``. Raises OSError.
    """
    mark = f"{_MARK} {job} "
    sealed = f"{text}{mark}{digest.of_bytes(text.encode())} -->\n".encode()
    for place in (folder / NAME, folder / f"{name}.{NAME}"):
        try:
            there = place.read_bytes()
        except FileNotFoundError:
            there = b""
        if there == sealed:
            return place
        if not there or _is_untouched(there, mark):
            durable.write(place, sealed)
            return place
    return None


def _is_untouched(data: bytes, mark: str) -> bool:
    """True for this job's card, as it was written."""
    text, _, seal = data.rpartition(mark.encode())
    return seal == f"{digest.of_bytes(text)} -->\n".encode()


def _head(job: Job) -> Iterator[str]:
    card, kind = job.card, job.artifact.kind
    said: dict[str, Any] = {
        "license": card.license or "other",
        "license_name": card.license_name or (None if card.license else "unknown"),
        "license_link": card.license_link,
        "base_model": job.model.base if _HUB_ID.fullmatch(job.model.base) else None,
        "base_model_relation": _RELATIONS[kind] if _HUB_ID.fullmatch(job.model.base) else None,
        "library_name": _LIBRARIES[kind],
        "datasets": list(card.datasets),
        "language": list(card.language),
        "tags": list(dict.fromkeys((kind, *_quantized(job), *(["lora"] if job.model.lora_r else []), *card.tags))),
    }
    yield "---"
    yield from (f"{key}: {json.dumps(_clean(value), ensure_ascii=False)}" for key, value in said.items() if value)
    yield "---"


def _clean(value: Any) -> Any:
    return printable(value, 400) if isinstance(value, str) else [printable(one, 400) for one in value]


def _quantized(job: Job) -> list[str]:
    return [job.artifact.quantization] if job.artifact.kind == "gguf" else []


def _title(report: Report, job: Job, name: str) -> Iterator[str]:
    yield from ("", f"# {words(name)}", "")
    how = f"with LoRA of rank {job.model.lora_r}" if job.model.lora_r else "in all of its weights"
    of = f"{code(job.model.base)} ({code(job.model.architecture)})"
    yield f"{of}, trained further {how}: {words(job.artifact.described)}. Job {path(report.job)}."
    yield "Every number below was recorded when it was seen; nothing that is not known is filled in."
    if job.card.license is None:
        yield from ("", "**License: unknown.** The job file states none; that of the base model and of the data bind.")


def _file(artifact: ArtifactReport, name: str) -> Iterator[str]:
    yield from ("", "## The file, and how to check it", "")
    yield f"{path(name)}, {numbers.exactly(artifact.remote_size)}, SHA-256 {path(artifact.remote_sha256)}"
    if artifact.files:
        yield from ("", "The digest is that of the manifest of these files; `harness verify` computes it.", "")
        yield from ("| file | bytes | SHA-256 |", "|---|---|---|")
        yield from (f"| {cell(one.path)} | {one.size} | `{one.sha256}` |" for one in artifact.files)
        return
    yield from ("", "```sh", f"sha256sum -- {_quoted(name)}", "```")


def _running(artifact: ArtifactReport, job: Job, name: str, modelfile: str | None) -> Iterator[str]:
    if job.artifact.kind != "gguf":
        return
    first = f"{name}/{artifact.files[0].path}" if artifact.files else name
    yield from ("", "## Running it", "", "With llama.cpp:", "", "```sh", f"llama-cli -m {_quoted(first)}", "```", "")
    if modelfile is None:
        yield "With Ollama: the package wrote no Modelfile; without the turns of its training a model answers badly."
        return
    if len(modelfile) > _MODELFILE or printable(modelfile, _MODELFILE) != modelfile:
        yield "With Ollama: the package's Modelfile is too long, or too odd, to be shown here."
        return
    behind = fence(modelfile)
    yield "With Ollama: this is the package's own Modelfile, as it came from the box. Put it beside the file, then"
    yield f"`ollama create {_word(job.name)} -f Modelfile`."
    yield from ("", behind, *modelfile.splitlines(), behind)


def _data(history: History) -> Iterator[str]:
    job = history.job
    yield from ("", "## Data", "")
    if not job.data.files:
        yield "The package brings its own data; the job file names no file of it."
        return
    staged = history.staged.files if history.staged else {}
    yield from ("| file | rows | for | SHA-256 |", "|---|---|---|---|")
    for kind, one in job.data.files.items():
        place = job.data.paths[kind]
        yield f"| {cell(place)} | {one.rows} | {cell(one.trainer)} | {cell(staged.get(place) or 'not recorded')} |"


def _settings(report: Report) -> Iterator[str]:
    told = report.training
    yield from ("", "## Settings and versions", "")
    if told is None or not (told.settings or told.versions):
        yield "The package's account of them (`run.json`) is not here."
        return
    if told.commit:
        yield from (f"Package's git commit {code(told.commit)}.", "")
    for table in (told.settings, told.versions):
        yield from _table(table)


def _table(table: Mapping[str, str]) -> Iterator[str]:
    if table:
        yield from ("| | |", "|---|---|")
        yield from (f"| {cell(key)} | {cell(value)} |" for key, value in list(table.items())[:_SETTINGS])
        yield ""


def _evaluation(found: EvaluationReport | None) -> Iterator[str]:
    yield from ("", "## Evaluation", "")
    if found is None or found.missing:
        yield f"Not evaluated: {code(found.missing if found else 'nothing is recorded')}"
    for kind, one in (found.decisions if found else {}).items():
        yield from (f"Right decisions on {one.rows} rows later than any it learned from, kind {code(kind)}:", "")
        yield from ("| model | right | 95 % interval |", "|---|---|---|")
        for name, share in (("this model", one.trained), ("base model", one.base), ("majority class", one.majority)):
            low, high = numbers.share(share.low), numbers.share(share.high)
            yield f"| {name} | {numbers.share(share.accuracy)} | {low} to {high} |"
        better = "Better than the majority class, by its whole interval."
        yield from ("", better if one.beats_majority else "**Not shown to be better than the majority class.**")
        yield "Leak scan: nothing to doubt." if not one.doubts else "Leak scan, doubts:"
        yield from (f"- {code(doubt)}" for doubt in one.doubts)


def _release(report: Report) -> Iterator[str]:
    yield from ("", "## Release statement", "")
    if report.release is None:
        yield "None was issued when this card was written."
        return
    file = re.split(r"[\\/]", report.release.path)[-1]
    yield f"{path(file)}, SHA-256 {path(report.release.sha256)}. With it,"
    yield f"`harness release check {_word(file)}` holds the file against its digest on any machine."


def _limits(found: EvaluationReport | None) -> Iterator[str]:
    yield from ("", "## Limits", "")
    yield "The file is the one that was trained and judged: whole, of the stated shape, every number finite. That says"
    yield "nothing of what its answers are good for, of bias, or of safety; that was not looked at."
    if found is None or found.missing:
        yield "How good its answers are was not measured."
    yield ""


def _word(text: str) -> str:
    return re.sub(r"[^\w.-]", "_", text)


def _quoted(text: str) -> str:
    return shlex.quote(one_line(text, 400).replace("`", "_"))
