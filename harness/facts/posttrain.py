"""Posttrain: what the training left on the box, looked at before anything is brought home."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness.artifacts import model_shape, shards
from harness.artifacts.adapter import AdapterFindings
from harness.artifacts.adapter import inspect as inspect_adapter
from harness.artifacts.checkpoint import STATE, named
from harness.artifacts.parts import Artifact, ArtifactFile
from harness.context import JobContext
from harness.core.answers import Entry, GgufOnBox, JsonFile, Matches, Processes, SessionState, WeightsOnBox
from harness.core.ids import Sha256
from harness.core.observed import CouldNotLook, Observed, unseen
from harness.core.questions import GgufOf, Grep, ProcessesUnder, Question, ReadText, SessionOf, WeightsOf
from harness.facts import finals, finetune, own_rows, run_file, traininglog
from harness.facts.reading import ask, attempt, json_text, needed
from harness.log import trainerstate
from harness.log.summary import LogSummary
from harness.log.trainerstate import TrainerState

_NOT_LOOKED_FOR: Observed[tuple[str, ...]] = unseen("this look did not look for processes")
_NO_FOLDER: Observed[Any] = unseen("the artifact is no folder of safetensors")
_CONFIGS = {"merged": "config.json", "adapter": "adapter_config.json"}


@dataclass(frozen=True, slots=True)
class PosttrainFacts:
    """One look at the finished run."""

    session: Observed[SessionState]
    log: Observed[LogSummary]
    completion: Observed[Matches]
    finals: Observed[tuple[Entry, ...]]
    """Files that may be of the artifact."""
    unfinished: Observed[tuple[Entry, ...]]
    manifest: Observed[JsonFile]
    gguf: Observed[GgufOnBox]
    run: Observed[JsonFile]
    recorded: Observed[Artifact]
    adapter: Observed[AdapterFindings]
    predicted_bytes: Observed[int]
    carried: Observed[finetune.Comparison]
    rows_here: Observed[Mapping[str, Sha256]] = own_rows.NOT_LOOKED_AT
    at_work: Observed[tuple[str, ...]] = _NOT_LOOKED_FOR
    states: Mapping[str, Observed[TrainerState]] = field(default_factory=dict)
    """Records of an unmodified trainer in its newest checkpoint, by trainer, from the copy that was brought home."""
    weights: Observed[WeightsOnBox] = _NO_FOLDER
    config: Observed[JsonFile] = _NO_FOLDER
    """Of a merged model its ``config.json``, of an adapter its ``adapter_config.json``."""

    @property
    def run_json(self) -> Any:
        """Value that ``run.json`` holds; None where it was not seen."""
        return _json(self.run)


def look(context: JobContext) -> PosttrainFacts:
    """One probe; the adapter is judged from the copy that was brought home."""
    job = context.job
    directory = job.package.remote_dir
    final, kind = finals.place(job), job.artifact.kind
    artifact = attempt(lambda: needed(context.history.artifact, "no finished artifact was found on the box"))
    of_gguf = artifact.value.parts if artifact.value is not None and kind == "gguf" else ()
    headers = {part.path: GgufOf(_at(artifact.get(), part)) for part in of_gguf}
    config = ReadText(posixpath.join(final, _CONFIGS[kind]), limit=1 << 20) if kind in _CONFIGS else None
    folder: list[Question[Any]] = [config, WeightsOf(final)] if config is not None else []
    log = traininglog.questions(context)
    answers = ask(
        context,
        session := SessionOf(directory),
        processes := ProcessesUnder(directory),
        completion := Grep(traininglog.log_path(context), "(COMPLETE|GGUF|Saved)", last=5),
        finals.question(job),
        *([finals.partial(job)] if kind == "gguf" else []),
        manifest := ReadText(posixpath.join(directory, "MANIFEST.json"), limit=4 << 20),
        run := ReadText(posixpath.join(directory, "run.json"), limit=run_file.MAX_BYTES),
        *log,
        *headers.values(),
        *folder,
        timeout=600,
    )
    return PosttrainFacts(
        session=answers[session],
        log=log.summary_of(answers, job),
        completion=answers[completion],
        finals=finals.listed(job, answers),
        unfinished=finals.unfinished(job, answers),
        manifest=json_text(answers[manifest]),
        run=json_text(answers[run]),
        gguf=attempt(lambda: _header(artifact.get(), {path: answers[one].get() for path, one in headers.items()})),
        recorded=artifact,
        adapter=attempt(lambda: _adapter(context, _json(json_text(answers[run])))),
        predicted_bytes=attempt(lambda: _predicted(context)),
        carried=attempt(lambda: finetune.look(context)),
        at_work=answers[processes].map(Processes.at_work),
        rows_here=own_rows.look(context),
        states={trainer: attempt(partial(_state, context, trainer)) for trainer in job.trainers if job.unmodified},
        weights=answers[WeightsOf(final)] if config is not None else _NO_FOLDER,
        config=json_text(answers[config]) if config is not None else _NO_FOLDER,
    )


def _state(context: JobContext, trainer: str) -> TrainerState:
    home = context.directory / "companions" / context.job.checkpoint_folder(trainer)
    found = [path / STATE for _, path in named(home) if (path / STATE).is_file()]
    if not found:
        raise CouldNotLook(f"no checkpoint of {trainer} left a {STATE} here")
    return trainerstate.read(found[-1].read_bytes())


def _at(artifact: Artifact, part: ArtifactFile) -> str:
    return posixpath.join(artifact.path, part.path) if part.path else artifact.path


def _header(artifact: Artifact, headers: Mapping[str, GgufOnBox]) -> GgufOnBox:
    if not headers:
        raise CouldNotLook("the artifact is no GGUF")
    return shards.one(headers) if artifact.files else headers[""]


def _json(file: Observed[JsonFile]) -> Any:
    return file.value.json if file.value is not None else None


def _adapter(context: JobContext, run: Any) -> AdapterFindings:
    """The adapter that came home, held against the base model, as far as the job's plan does that."""
    job = context.job
    folder = context.directory / "companions" / finals.adapter(job)
    if not job.artifact.predict:
        return inspect_adapter(folder, None, base_matters=False)
    return inspect_adapter(folder, finals.base_config(job, run))


def _predicted(context: JobContext) -> int:
    if context.job.artifact.kind != "gguf":
        raise CouldNotLook("the artifact is no GGUF")
    shape = model_shape.from_config(context.job.model.model_dump())
    return model_shape.data_bytes(shape, context.job.artifact.quantization)
