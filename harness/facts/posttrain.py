"""Posttrain: what the training left on the box, looked at before anything is brought home."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from pathlib import Path

from harness.artifacts import adapter
from harness.facts import traininglog
from harness.facts.box import Digest, Entry, JsonFile, Matches, SessionState
from harness.facts.desk import Desk
from harness.facts.reading import ask, attempt, typed
from harness.log.summary import LogSummary
from harness.observed import CouldNotLook, Observed
from harness.ports import Json, Question, RemoteFile


@dataclass(frozen=True, slots=True)
class GgufOnBox:
    """A GGUF file's structure as the strict parser, run on the box, describes it (bytes)."""

    size: int
    data_bytes: int
    tensors: int
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PosttrainFacts:
    """One look at the finished run."""

    session: Observed[SessionState]
    log: Observed[LogSummary]
    completion: Observed[Matches]
    finals: Observed[tuple[Entry, ...]]
    unfinished: Observed[tuple[Entry, ...]]
    manifest: Observed[JsonFile]
    gguf: Observed[Json]
    digest: Observed[Digest]
    recorded: Observed[RemoteFile]
    adapter: Observed[adapter.AdapterFindings]
    predicted_bytes: Observed[int]


def look(desk: Desk) -> PosttrainFacts:
    """One probe; the adapter is judged from the copy that was brought home."""
    job = desk.job
    directory = job.package.remote_dir
    final = posixpath.join(directory, job.artifact.remote_dir)
    recorded = attempt(lambda: _recorded(desk))
    questions = [
        Question("session", "session", {"directory": directory}),
        Question(
            "completion",
            "grep",
            {"path": traininglog.log_path(desk), "pattern": "(COMPLETE|GGUF|Saved)", "last": 5},
        ),
        Question("finals", "glob", {"pattern": posixpath.join(final, "*.gguf")}),
        Question("unfinished", "glob", {"pattern": posixpath.join(final, "*.partial")}),
        Question("manifest", "read_json", {"path": posixpath.join(directory, "MANIFEST.json")}),
        *traininglog.questions(desk),
    ]
    if recorded.value is not None:
        questions.append(Question("gguf", "gguf", {"path": recorded.value.path}))
        questions.append(Question("digest", "sha256", {"path": recorded.value.path}))
    answers = ask(desk, questions, timeout=600)
    return PosttrainFacts(
        session=typed(answers.get("session"), SessionState),
        log=traininglog.log_of(answers),
        completion=typed(answers.get("completion"), Matches),
        finals=typed(answers.get("finals"), tuple[Entry, ...]),
        unfinished=typed(answers.get("unfinished"), tuple[Entry, ...]),
        manifest=typed(answers.get("manifest"), JsonFile),
        gguf=answers.get("gguf"),
        digest=typed(answers.get("digest"), Digest),
        recorded=recorded,
        adapter=attempt(lambda: adapter.inspect(desk.directory / "companions" / "models" / "output" / "adapter")),
        predicted_bytes=attempt(lambda: _predicted(desk)),
    )


def _recorded(desk: Desk) -> RemoteFile:
    if desk.history.artifact is None:
        raise CouldNotLook("no finished artifact was found on the box")
    return desk.history.artifact
