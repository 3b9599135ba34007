"""Posttrain: what the training left on the box, looked at before anything is brought home."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.artifacts import model_shape
from harness.artifacts.adapter import AdapterFindings
from harness.artifacts.adapter import inspect as inspect_adapter
from harness.context import JobContext
from harness.core.observed import CouldNotLook, Observed
from harness.core.ports import Question, RemoteFile
from harness.facts import finetune, traininglog
from harness.facts.box import Entry, JsonFile, Matches, Text
from harness.facts.reading import ask, attempt, json_text, typed
from harness.log.summary import LogSummary
from harness.remote.session import SessionState


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What the strict parser, run on the box, read there (bytes); tensors as name, shape, type, offset, bytes."""

    size: int
    data_start: int
    data_bytes: int
    metadata: Mapping[str, Any]
    tensors: tuple[tuple[str, tuple[int, ...], str, int, int], ...]


@dataclass(frozen=True, slots=True)
class GgufOnBox:
    """The artifact's header as it lies on the box, or what is wrong with it."""

    exists: bool
    gguf: GgufHeader | None = None
    malformed: str | None = None


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
    carried: Observed[dict[str, finetune.Carried]]


def look(context: JobContext) -> PosttrainFacts:
    """One probe; the adapter is judged from the copy that was brought home."""
    job = context.job
    directory = job.package.remote_dir
    final = posixpath.join(directory, job.artifact.remote_dir)
    recorded = attempt(lambda: _recorded(context))
    questions = [
        Question("session", "session", {"directory": directory}),
        Question(
            "completion",
            "grep",
            {"path": traininglog.log_path(context), "pattern": "(COMPLETE|GGUF|Saved)", "last": 5},
        ),
        Question("finals", "glob", {"pattern": posixpath.join(final, "*.gguf")}),
        Question("unfinished", "glob", {"pattern": posixpath.join(final, "*.partial")}),
        Question("manifest", "read_text", {"path": posixpath.join(directory, "MANIFEST.json"), "limit": 4 << 20}),
        Question("run", "read_text", {"path": posixpath.join(directory, "run.json"), "limit": 1 << 20}),
        *traininglog.questions(context),
    ]
    if recorded.value is not None:
        questions.append(Question("gguf", "gguf", {"path": recorded.value.path}))
    answers = ask(context, questions, timeout=600)
    return PosttrainFacts(
        session=typed(answers.get("session"), SessionState),
        log=traininglog.log_of(context, answers),
        completion=typed(answers.get("completion"), Matches),
        finals=typed(answers.get("finals"), tuple[Entry, ...]),
        unfinished=typed(answers.get("unfinished"), tuple[Entry, ...]),
        manifest=json_text(typed(answers.get("manifest"), Text)),
        run=json_text(typed(answers.get("run"), Text)),
        gguf=typed(answers.get("gguf"), GgufOnBox),
        recorded=recorded,
        adapter=attempt(lambda: inspect_adapter(context.directory / "companions" / "models" / "output" / "adapter")),
        predicted_bytes=attempt(lambda: _predicted(context)),
        carried=attempt(lambda: _carried(context, typed(answers.get("gguf"), GgufOnBox).get())),
    )


def _carried(context: JobContext, answer: GgufOnBox) -> dict[str, finetune.Carried]:
    if answer.gguf is None:
        raise CouldNotLook("the file is no longer there")
    return finetune.look(context, answer.gguf.tensors, answer.gguf.data_start)


def _predicted(context: JobContext) -> int:
    shape = model_shape.from_config(context.job.model.model_dump())
    return model_shape.data_bytes(shape, context.job.artifact.quantization)


def _recorded(context: JobContext) -> RemoteFile:
    if context.history.artifact is None:
        raise CouldNotLook("no finished artifact was found on the box")
    return context.history.artifact
