"""Upload: what lies on the box where the package should be."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from harness.context import JobContext
from harness.core.answers import Text, Tree
from harness.core.ids import Sha256
from harness.core.observed import CouldNotLook, Observed
from harness.core.questions import Answers, Grep, ReadText, TreeOf
from harness.facts.reading import ask, attempt
from harness.remote.box.outputs import OURS, is_written_there
from harness.static.device_maps import device_maps
from harness.static.script import batch_size


@dataclass(frozen=True, slots=True)
class Difference:
    """Differences of the box's package from the local manifest; ``same`` counts the files that are equal."""

    same: int
    missing: tuple[str, ...]
    different: tuple[str, ...]
    unexpected: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UploadFacts:
    """One look at the uploaded package."""

    difference: Observed[Difference]
    script_batch_size: Observed[int]
    script_device_maps: Observed[tuple[str, ...]]
    counts: Observed[Mapping[str, int]]


def look(context: JobContext) -> UploadFacts:
    """One probe: digests of the package's files, the entry script's text, the data files' rows."""
    job = context.job
    root = job.package.remote_dir
    rows = {kind: Grep(posixpath.join(root, file), r"\S", last=1) for kind, file in job.data.paths.items()}
    answers = ask(
        context,
        tree := TreeOf(root, digests=tuple(sorted(_wanted(context))), without=OURS),
        entry := ReadText(posixpath.join(root, job.package.entry), limit=1 << 18),
        *rows.values(),
    )
    return UploadFacts(
        difference=attempt(lambda: _difference(context, answers[tree].get())),
        script_batch_size=attempt(lambda: batch_size(_whole(answers[entry].get()))),
        script_device_maps=attempt(lambda: device_maps(_whole(answers[entry].get()))),
        counts=attempt(lambda: _counts(answers, rows)),
    )


def _wanted(context: JobContext) -> dict[str, Sha256]:
    """Digests of the files to be sent, by path; none before a package was staged."""
    staged, resumes = context.history.staged, context.history.resumes
    return {**(staged.files if staged else {}), **(resumes.files if resumes else {})}


def _difference(context: JobContext, tree: Tree) -> Difference:
    wanted = _wanted(context)
    if not wanted:
        raise CouldNotLook("no package was staged")
    there = {entry.path: entry for entry in tree.entries}
    different = [path for path, digest in wanted.items() if path in there and there[path].sha256 != digest]
    missing = sorted(set(wanted) - set(there))
    written = context.job.output_folders
    unexpected = [path for path in sorted(set(there) - set(wanted)) if not is_written_there(path, written)]
    same = len(wanted) - len(missing) - len(different)
    return Difference(same, tuple(missing), tuple(sorted(different)), tuple(unexpected))


def _whole(text: Text) -> str:
    if not text.exists:
        raise CouldNotLook("the entry script is not on the box")
    if text.truncated:
        raise CouldNotLook(f"the entry script is too large to read: {text.bytes} bytes")
    return text.text


def _counts(answers: Answers, rows: Mapping[str, Grep]) -> Mapping[str, int]:
    found = {}
    for name, question in rows.items():
        matches = answers[question].get()
        if not matches.exists:
            raise CouldNotLook(f"the file of {name} is not on the box")
        found[name] = matches.count
    return found
