"""The rows on this machine that a training was to be given, against those that it says it has read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from harness.artifacts import digest
from harness.context import JobContext
from harness.core.canonical import table
from harness.core.contract import section
from harness.core.ids import Sha256
from harness.core.observed import CouldNotLook, Observed, unseen
from harness.facts.reading import attempt
from harness.log.summary import LogSummary

NOT_LOOKED_AT: Final[Observed[Mapping[str, Sha256]]] = unseen("this look did not digest them")


def look(context: JobContext) -> Observed[Mapping[str, Sha256]]:
    """Digest of each data file, by kind: as it was staged or, where nothing was, as it lies in the package here."""
    return attempt(lambda: dict(_digests(context)))


def _digests(context: JobContext) -> Iterator[tuple[str, Sha256]]:
    job, staged = context.job, context.history.staged
    for kind, name in job.data.paths.items():
        file = job.package.source / name
        if staged is not None and name in staged.files:
            yield kind, staged.files[name]
        elif staged is None and file.is_file():
            yield kind, digest.of_file(file).sha256
        else:
            raise CouldNotLook(f"{name} is not among the files of {job.package.source} on this machine")


def built(log: LogSummary, run: Any) -> tuple[str, ...]:
    """The kinds of which the log or run.json says that a program made rows of them."""
    told = {kind for kind, file in _files(run).items() if file.get("built")}
    return tuple(sorted(told | {kind for kind, rows in log.rows.items() if rows.built}))


def differing(here: Mapping[str, Sha256], log: LogSummary, run: Any) -> tuple[str, ...]:
    """The kinds whose rows the log or run.json announces with another digest; raises CouldNotLook when neither does."""
    announced: dict[str, Mapping[str, str]] = {
        "the log": {kind: rows.sha256 for kind, rows in log.rows.items()},
        "run.json": _announced(run),
    }
    silent = [kind for kind in here if not any(kind in told for told in announced.values())]
    if silent:
        raise CouldNotLook(
            f"neither a DATA line of the log nor data in run.json gives the digest of {', '.join(silent)} "
            f"{section('training.log')}"
        )
    return tuple(
        f"{kind}: {where} announces {told[kind]}, here it is {digest}"
        for where, told in announced.items()
        for kind, digest in here.items()
        if told.get(kind, digest) != digest
    )


def _announced(run: Any) -> dict[str, str]:
    return {kind: file["sha256"] for kind, file in _files(run).items() if isinstance(file.get("sha256"), str)}


def _files(run: Any) -> dict[str, dict[str, Any]]:
    """The data files that run.json tells of, by kind."""
    return {kind: file for kind, file in table(table(run).get("data")).items() if isinstance(file, dict)}
