"""Posttrain: what the training left on the box, looked at before anything is brought home."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from harness.artifacts import model_shape
from harness.artifacts.adapter import AdapterFindings
from harness.artifacts.adapter import inspect as inspect_adapter
from harness.context import JobContext
from harness.core.answers import Entry, GgufOnBox, JsonFile, Matches, Processes, SessionState
from harness.core.ids import Sha256
from harness.core.observed import Observed, unseen
from harness.core.ports import RemoteFile
from harness.core.questions import GgufOf, Glob, Grep, ProcessesUnder, ReadText, SessionOf
from harness.facts import finetune, own_rows, traininglog
from harness.facts.reading import ask, attempt, json_text, needed
from harness.log.summary import LogSummary

_NOT_LOOKED_FOR: Observed[tuple[str, ...]] = unseen("this look did not look for processes")


@dataclass(frozen=True, slots=True)
class PosttrainFacts:
    """One look at the finished run."""

    session: Observed[SessionState]
    log: Observed[LogSummary]
    completion: Observed[Matches]
    finals: Observed[tuple[Entry, ...]]
    unfinished: Observed[tuple[Entry, ...]]
    manifest: Observed[JsonFile]
    gguf: Observed[GgufOnBox]
    run: Observed[JsonFile]
    recorded: Observed[RemoteFile]
    adapter: Observed[AdapterFindings]
    predicted_bytes: Observed[int]
    carried: Observed[finetune.Comparison]
    rows_here: Observed[Mapping[str, Sha256]] = own_rows.NOT_LOOKED_AT
    at_work: Observed[tuple[str, ...]] = _NOT_LOOKED_FOR


def look(context: JobContext) -> PosttrainFacts:
    """One probe; the adapter is judged from the copy that was brought home."""
    job = context.job
    directory = job.package.remote_dir
    home = context.directory / "companions"
    final = posixpath.join(directory, job.artifact.remote_dir)
    artifact = attempt(lambda: needed(context.history.artifact, "no finished artifact was found on the box"))
    gguf = GgufOf(artifact.value.path if artifact.value is not None else "")
    log = traininglog.questions(context)
    answers = ask(
        context,
        session := SessionOf(directory),
        processes := ProcessesUnder(directory),
        completion := Grep(traininglog.log_path(context), "(COMPLETE|GGUF|Saved)", last=5),
        finals := Glob(posixpath.join(final, "*.gguf")),
        unfinished := Glob(posixpath.join(final, "*.partial")),
        manifest := ReadText(posixpath.join(directory, "MANIFEST.json"), limit=4 << 20),
        run := ReadText(posixpath.join(directory, "run.json"), limit=1 << 20),
        *log,
        *([gguf] if gguf.path else []),
        timeout=600,
    )
    return PosttrainFacts(
        session=answers[session],
        log=log.summary_of(answers, job),
        completion=answers[completion],
        finals=answers[finals],
        unfinished=answers[unfinished],
        manifest=json_text(answers[manifest]),
        run=json_text(answers[run]),
        gguf=answers[gguf],
        recorded=artifact,
        adapter=attempt(lambda: inspect_adapter(home / "models" / "output" / "adapter", job.model.model_dump())),
        predicted_bytes=attempt(lambda: _predicted(context)),
        carried=attempt(lambda: finetune.look(context)),
        at_work=answers[processes].map(Processes.at_work),
        rows_here=own_rows.look(context),
    )


def _predicted(context: JobContext) -> int:
    shape = model_shape.from_config(context.job.model.model_dump())
    return model_shape.data_bytes(shape, context.job.artifact.quantization)
