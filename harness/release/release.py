"""The release statement: names the verified file, or files, for whose sake one instance may go. Pure, but for reading.

An in-toto Statement v1 (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md):
the subject is the file by its SHA-256, the predicate says which instance it came from and what
was verified. It is short-lived, binds one instance to one file, and is void as soon as either
changed. The predicate's fields are described in docs/release.md.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Final

from harness.artifacts import digest, parts
from harness.artifacts.parts import Artifact, Part
from harness.core import regular_file
from harness.core.errors import BadInput, Refused
from harness.core.lifecycle import ORDER, Stage
from harness.core.text import printable
from harness.core.verdict import Verdict
from harness.gates import judge, plan
from harness.gates.evidence import result_from_json
from harness.ledger.chain import Head
from harness.ledger.events import GateJudged
from harness.ledger.history import History, LocalFile, Rental
from harness.release.statement import (
    PREDICATE,
    PREDICATE_OF_FOLDER,
    Release,
    ReleasedCheck,
    ReleasedGate,
    read,
    to_json,
)

__all__ = ["Release", "ReleasedCheck", "file_problem", "outdated", "problems", "read", "statement", "to_json"]

JUDGED_AGAIN: Final = (Stage.POSTTRAIN, Stage.POSTDOWNLOAD)
"""Gates whose world is there until the destruction: what is demanded of it by now can be looked at."""

_NAMED: Final = 3


def statement(history: History, provider_name: str, now: float) -> Release:
    """The release of the job's instance, valid from ``now`` for the job's ``release_valid_s`` seconds.

    Raises Refused when no instance is rented, no file is verified, or the postdownload gate
    is not open on what is demanded of it today.
    """
    rental, artifact, verified = _subjects(history)
    gates = tuple(_released(stage, history.gates[stage]) for stage in ORDER if history.passed(stage))
    issued = math.floor(now)
    release = Release(
        job=history.job.name,
        provider=provider_name,
        instance_id=rental.instance_id,
        label=rental.label,
        name=verified.path.name,
        remote_path=artifact.path,
        size=verified.size,
        sha256=verified.sha256,
        gates=gates,
        log=Head(history.records[-1].seq, history.head),
        issued=issued,
        expires=issued + math.ceil(history.job.limits.release_valid_s),
        files=artifact.files,
        predicate=PREDICATE_OF_FOLDER if artifact.files else PREDICATE,
    )
    found = (
        *_gate_problems(release, history),
        *_subject_problems(release, history),
        *outdated(history, (Stage.POSTDOWNLOAD,)).values(),
    )
    if found:
        raise Refused("nothing is released: " + "; ".join(found))
    return release


def outdated(history: History, stages: Sequence[Stage] = JUDGED_AGAIN) -> dict[Stage, str]:
    """Open gates that were judged by anything else than what is demanded today, each with the difference in words."""
    found = {}
    for stage in stages:
        if not history.passed(stage):
            continue
        missing = set(plan.declared(stage, history.job)) - {
            check.id for check in _released(stage, history.gates[stage]).checks
        }
        if missing or history.gates[stage].demand != judge.demand(stage, history.job):
            by = "by another job file, other checks or another harness than today's"
            found[stage] = f"gate {stage} was judged " + (f"without {', '.join(sorted(missing))}" if missing else by)
    return found


def problems(release: Release, history: History, now: float) -> tuple[str, ...]:
    """Everything that keeps a release from being used at ``now``, in words; empty when it is valid. Pure."""
    return (
        *_time_problems(release, now),
        *_subject_problems(release, history),
        *_gate_problems(release, history),
        *_log_problems(release, history),
    )


def file_problem(release: Release, place: Path) -> str | None:
    """Problem of what lies at a place, every file's size and SHA-256 read from the disk now; None when it is released.

    A folder is the released one when it holds its files, and no other.
    """
    return folder_problem(release, place) or next(
        filter(None, (_file_problem(part, part.at(place)) for part in release.parts)), None
    )


def folder_problem(release: Release, place: Path) -> str | None:
    """Problem of a folder that shows without reading its files: one more, one less, a link in the place of one."""
    if not release.files:
        return None
    if not place.is_dir() or place.is_symlink():
        return f"{place} is no folder" if place.exists() or place.is_symlink() else f"{place} does not exist"
    try:
        found = set(parts.listed(place))
    except BadInput as error:
        return str(error)
    due = {part.path for part in release.files}
    told = [f"{place / path} does not exist" for path in sorted(due - found)]
    told += [f"{place / path} is a link, and not the file itself" for path in found if (place / path).is_symlink()]
    told += [f"{place / path} is in the folder, and the release does not name it" for path in sorted(found - due)]
    return "; ".join(told[:_NAMED]) or None


def _file_problem(part: Part, path: Path) -> str | None:
    try:
        with regular_file.opened(path) as file:
            return size_problem(part, path, file) or bytes_problem(part, path, file)
    except (FileNotFoundError, NotADirectoryError):
        return f"{path} does not exist"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}"


def size_problem(part: Part, path: Path, file: FileIO) -> str | None:
    """Problem of an open file that shows without reading it."""
    size = os.fstat(file.fileno()).st_size
    return f"{path} has {size} bytes, the release names {part.size}" if size != part.size else None


def bytes_problem(part: Part, path: Path, file: FileIO) -> str | None:
    """Problem of an open file's bytes, every one read now."""
    try:
        hashed = digest.of_open(file)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}"
    if hashed.size != part.size or hashed.sha256 != part.sha256:
        return f"{path} has the SHA-256 {hashed.sha256}, the release names {part.sha256}"
    return None


def _subjects(history: History) -> tuple[Rental, Artifact, LocalFile]:
    if history.alive is None:
        raise Refused("this job has no instance that could be released")
    if history.artifact is None:
        raise Refused("no artifact of this job was recorded on the box")
    if history.verified is None:
        raise Refused("no file of this job was verified on this machine")
    return history.alive, history.artifact, history.verified


def _released(stage: Stage, gate: GateJudged) -> ReleasedGate:
    try:
        result = result_from_json(gate.result)
    except ValueError as error:
        raise Refused(f"the record of gate {stage} does not read: {error}") from error
    checks = tuple(ReleasedCheck(one.id, one.verdict) for one in sorted(result.results, key=lambda one: one.id))
    return ReleasedGate(stage, result.verdict, gate.plan_digest, gate.facts_sha256, checks, gate.demand)


def _time_problems(release: Release, now: float) -> tuple[str, ...]:
    if now < release.issued:
        return (f"it was issued {release.issued - now:.0f} s from now: this machine's clock went back",)
    if now >= release.expires:
        return (f"it expired {now - release.expires:.0f} s ago",)
    return ()


def _subject_problems(release: Release, history: History) -> tuple[str, ...]:
    """Differences between the statement and this job's instance and file."""
    rental, artifact, verified = history.rental, history.artifact, history.verified
    named = [
        ("job", release.job, history.job.name),
        ("instance", release.instance_id, rental.instance_id if rental else None),
        ("label", release.label, rental.label if rental else None),
        ("remote path", release.remote_path, artifact.path if artifact else None),
        ("artifact size", release.size, artifact.size if artifact else None),
        ("artifact digest", release.sha256, artifact.sha256 if artifact else None),
        ("verified file", release.name, verified.path.name if verified else None),
        ("verified size", release.size, verified.size if verified else None),
        ("verified digest", release.sha256, verified.sha256 if verified else None),
    ]
    return tuple(
        f"{what}: it names {_shown(told)}, the event log {_shown(known)}"
        for what, told, known in named
        if told != known
    )


def _gate_problems(release: Release, history: History) -> tuple[str, ...]:
    """Gates of the statement that are not open in the log."""
    found = [problem for gate in release.gates for problem in _one_gate(gate, history)]
    if release.gate(Stage.POSTDOWNLOAD) is None:
        found.append("the postdownload gate has not passed")
    return tuple(found)


def _one_gate(gate: ReleasedGate, history: History) -> list[str]:
    found = []
    known = history.gates.get(gate.stage)
    if gate.verdict is not Verdict.PASS or known is None or known.verdict is not Verdict.PASS:
        found.append(f"gate {gate.stage} is not open")
    elif known.plan_digest != gate.plan_digest:
        found.append(f"gate {gate.stage} passed another plan than the statement says")
    elif known.facts_sha256 != gate.facts_sha256:
        found.append(f"gate {gate.stage} has judged other facts since")
    elif known.demand != gate.demand:
        found.append(f"gate {gate.stage} was judged by other demands than the statement says")
    shut = ", ".join(_shown(check.id) for check in gate.checks if check.verdict is not Verdict.PASS)
    if shut:
        found.append(f"gate {gate.stage}: {shut} did not pass")
    if plan.digest(gate.stage, {check.id for check in gate.checks}) != gate.plan_digest:
        found.append(f"gate {gate.stage}: its checks are not those of its plan")
    return found


def _log_problems(release: Release, history: History) -> tuple[str, ...]:
    """Problems with the log: it must contain the head that the statement names, and have recorded this statement."""
    found = []
    if not any(one.seq == release.log.seq and one.digest == release.log.digest for one in history.records):
        found.append(f"the event log has no event {release.log.seq} with the digest that the statement names")
    if history.release_sha256 is None:
        found.append("the event log records no release")
    elif hashlib.sha256(to_json(release)).hexdigest() != history.release_sha256:
        found.append("it is not the statement that the event log recorded last")
    return tuple(found)


def _shown(value: object) -> str:
    return "nothing" if value is None else printable(str(value), 200)
