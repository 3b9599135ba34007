"""The finished artifact's place on the box, and everything in it that may be of the artifact."""

from __future__ import annotations

import posixpath
from typing import Any

from harness.artifacts import finals
from harness.core.answers import Entry, Tree
from harness.core.canonical import table
from harness.core.observed import Observed
from harness.core.questions import Answers, Glob, TreeOf
from harness.job.model import Job

Finals = Glob | TreeOf


def place(job: Job) -> str:
    """Folder on the box that the artifact lies in, or is."""
    return posixpath.join(job.package.remote_dir, job.artifact.remote_dir)


def question(job: Job) -> Finals:
    """The question that the box is asked: of a GGUF its own folder's model files, else everything below it."""
    return Glob(posixpath.join(place(job), "*.gguf")) if job.artifact.kind == "gguf" else TreeOf(place(job))


def listed(job: Job, answers: Answers) -> Observed[tuple[Entry, ...]]:
    """Files that may be of the artifact, finished ones; paths as they are on the box."""
    asked = question(job)
    return answers[asked] if isinstance(asked, Glob) else answers[asked].map(lambda tree: _entries(job, tree))


def unfinished(job: Job, answers: Answers) -> Observed[tuple[Entry, ...]]:
    """Files among them that are still being written."""
    if job.artifact.kind == "gguf":
        return answers[partial(job)]
    asked = TreeOf(place(job))
    return answers[asked].map(lambda tree: _entries(job, tree, finished=False))


def partial(job: Job) -> Glob:
    """Question for a GGUF that is still being written."""
    return Glob(posixpath.join(place(job), "*.partial"))


def adapter(job: Job) -> str:
    """Folder of the finished adapter in the package: the artifact itself, or where the training leaves it."""
    return job.artifact.remote_dir if job.artifact.kind == "adapter" else job.adapter_folder


def base_config(job: Job, run: Any) -> dict[str, Any]:
    """The base model's configuration: what the job file states, for the rest what run.json says of it."""
    stated = {name: value for name, value in job.model.model_dump().items() if value is not None}
    return {**table(table(table(run).get("model")).get("config")), **stated}


def _entries(job: Job, tree: Tree, *, finished: bool = True) -> tuple[Entry, ...]:
    return tuple(
        Entry(posixpath.join(place(job), one.path), one.kind, one.bytes, one.mtime, one.kind == "link")
        for one in tree.entries
        if finals.belongs(one.path) and finals.unfinished(one.path) is not finished
    )
