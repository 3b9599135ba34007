"""Upload: what lies on the box where the package should be."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from harness.context import JobContext
from harness.core.ids import Sha256
from harness.core.observed import CouldNotLook, Observed
from harness.core.ports import Answers, Question
from harness.facts.box import Matches, Text, Tree
from harness.facts.preflight import RowCounts
from harness.facts.reading import ask, attempt, typed
from harness.remote.box.outputs import OURS, is_written_there
from harness.static.script import batch_size, device_maps


@dataclass(frozen=True, slots=True)
class Difference:
    """How the box's package differs from the local manifest; ``same`` counts the files that are equal."""

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
    counts: Observed[RowCounts]


def look(context: JobContext) -> UploadFacts:
    """One probe: digests of the package's files, the entry script's text, the data files' rows."""
    job = context.job
    root = job.package.remote_dir
    data = {
        name: posixpath.join(root, job.data.directory, file)
        for name, file in (
            ("features", job.data.features_file),
            ("scenarios", job.data.scenarios_file),
            ("pairs", job.data.pairs_file),
        )
    }
    entry = posixpath.join(root, job.package.entry)
    questions = [
        Question("tree", "tree", {"path": root, "digests": [*sorted(_wanted(context))], "without": OURS}),
        Question("entry", "read_text", {"path": entry, "limit": 1 << 18}),
        *(Question(name, "grep", {"path": path, "pattern": r"\S", "last": 1}) for name, path in data.items()),
    ]
    answers = ask(context, questions)
    text = typed(answers.get("entry"), Text)
    return UploadFacts(
        difference=attempt(lambda: _difference(context, typed(answers.get("tree"), Tree).get())),
        script_batch_size=attempt(lambda: batch_size(_whole(text.get()))),
        script_device_maps=attempt(lambda: device_maps(_whole(text.get()))),
        counts=attempt(lambda: _counts(answers)),
    )


def _wanted(context: JobContext) -> dict[str, Sha256]:
    """What was to be sent, by path; nothing before a package was staged."""
    staged, resumes = context.history.staged, context.history.resumes
    return {**(staged.files if staged else {}), **(resumes.files if resumes else {})}


def _difference(context: JobContext, tree: Tree) -> Difference:
    wanted = _wanted(context)
    if not wanted:
        raise CouldNotLook("no package was staged")
    there = {entry.path: entry for entry in tree.entries}
    different = [path for path, digest in wanted.items() if path in there and there[path].sha256 != digest]
    missing = sorted(set(wanted) - set(there))
    unexpected = [path for path in sorted(set(there) - set(wanted)) if not is_written_there(path)]
    same = len(wanted) - len(missing) - len(different)
    return Difference(same, tuple(missing), tuple(sorted(different)), tuple(unexpected))


def _whole(text: Text) -> str:
    if not text.exists:
        raise CouldNotLook("the entry script is not on the box")
    if text.truncated:
        raise CouldNotLook(f"the entry script is too large to read: {text.bytes} bytes")
    return text.text


def _counts(answers: Answers) -> RowCounts:
    found = {}
    for name in ("features", "scenarios", "pairs"):
        rows = typed(answers.get(name), Matches).get()
        if not rows.exists:
            raise CouldNotLook(f"the file of {name} is not on the box")
        found[name] = rows.count
    return RowCounts(**found)
