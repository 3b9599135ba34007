"""A release statement and its wire form: in-toto Statement v1, canonical JSON out, strict JSON in.

Strict by comparison: a statement is read for its fields, written anew, and refused unless both say the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import rfc8785

from harness.artifacts.parts import Artifact, ArtifactFile, recorded
from harness.core.canonical import canonical
from harness.core.errors import BadInput
from harness.core.ids import CheckId, InstanceId, JobName, Sha256, instance_id, job_name, plain, sha256
from harness.core.lifecycle import Stage
from harness.core.text import RFC3339, printable, rfc3339
from harness.core.verdict import Verdict
from harness.ledger.chain import Head

STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://gold-standard-harness.dev/release/v3"
PREDICATE_OF_FOLDER: Final = "https://gold-standard-harness.dev/release/v4"
"""Of an artifact that is several files: each is a subject, and the predicate has what their manifest says beside."""
PREDICATE_V2: Final = "https://gold-standard-harness.dev/release/v2"
PREDICATE_V1: Final = "https://gold-standard-harness.dev/release/v1"

_SPELLINGS: Final[dict[str, Callable[[dict[str, Any]], bytes]]] = {
    PREDICATE: rfc8785.dumps,
    PREDICATE_OF_FOLDER: rfc8785.dumps,
    PREDICATE_V2: rfc8785.dumps,
    PREDICATE_V1: canonical,
}
"""Each predicate type and its canonical JSON: RFC 8785, and before it ASCII (what is not ASCII escaped)."""

MAX_BYTES: Final = 1 << 20
"""A statement of every gate of a job is about 10 kB."""

_NAMES: Final[dict[str, tuple[str | int, ...]]] = {
    **dict.fromkeys(_SPELLINGS, ("subject", 0, "name")),
    PREDICATE_OF_FOLDER: ("predicate", "artifact", "name"),
}
"""Place of the artifact's own name, by predicate type."""

_LONGEST: Final = 4096
_LARGEST: Final = 2**53 - 1  # the largest whole number that every reader of JSON keeps

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReleasedCheck:
    """Verdict of one check."""

    id: CheckId
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class ReleasedGate:
    """One gate that opened: the plan that it was held against, the facts that it judged, each check's verdict.

    ``demand`` is the digest of all that it was judged by; None where the log, or the statement, is older than that.
    """

    stage: Stage
    verdict: Verdict
    plan_digest: str
    facts_sha256: str
    checks: tuple[ReleasedCheck, ...]
    demand: str | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """The one instance that may be destroyed, and the file for whose sake. ``size`` in bytes; times in epoch seconds.

    ``name`` is the file's name here, ``remote_path`` where it was on the box; ``log`` is the event log's head
    when the statement was made; ``predicate`` is the type that it is written as. Times are whole seconds.
    Of an artifact that is several files ``name`` is their folder's, ``sha256`` their manifest's.
    """

    job: JobName
    provider: str
    instance_id: InstanceId
    label: str
    name: str
    remote_path: str
    size: int
    sha256: Sha256
    gates: tuple[ReleasedGate, ...]
    log: Head
    issued: int
    expires: int
    predicate: str = PREDICATE
    files: tuple[ArtifactFile, ...] = ()

    @property
    def parts(self) -> tuple[ArtifactFile, ...]:
        """Every file that is released: the artifact itself when it is one."""
        return self.files or (ArtifactFile("", self.size, self.sha256),)

    def gate(self, stage: Stage) -> ReleasedGate | None:
        """The gate of one stage, None when the statement does not name it."""
        return next((gate for gate in self.gates if gate.stage is stage), None)


def to_json(release: Release) -> bytes:
    """The statement in its predicate type's canonical JSON: equal releases have equal bytes.

    Raises BadInput for what canonical JSON cannot say, as a file name that is not Unicode.
    """
    try:
        return _SPELLINGS[release.predicate](_document(release))
    except ValueError as error:
        raise BadInput(f"the release cannot be written: {error}") from error


def read(source: Path | bytes) -> Release:
    """The release in a file, or in its bytes; raises BadInput naming the file and the field that is wrong."""
    name, data = ("the release", source) if isinstance(source, bytes) else (str(source), read_bytes(source, MAX_BYTES))
    if len(data) > MAX_BYTES:
        raise BadInput(f"{name} is larger than a release can be ({MAX_BYTES} bytes)")
    try:
        told = json.loads(data.decode("utf-8"), object_pairs_hook=no_twins, parse_constant=_no_constant)
        return _strictly(told)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name} is not a release: {printable(str(error), 300)}") from error


def read_bytes(path: Path, most: int) -> bytes:
    """A release file's bytes, and no more than one over ``most``; raises BadInput when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except OSError as error:
        raise BadInput(f"cannot read the release {path}: {error.strerror or error}") from error


def _document(release: Release) -> dict[str, Any]:
    binds = release.predicate in {PREDICATE, PREDICATE_OF_FOLDER}
    named = [(part.path or release.name, part.sha256) for part in release.parts]
    of_folder = {
        "name": release.name,
        "manifestDigest": {"sha256": release.sha256},
        "bytes": {part.path: part.size for part in release.files},
    }
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in named],
        "predicateType": release.predicate,
        "predicate": {
            "job": release.job,
            "provider": release.provider,
            "instance": {"id": plain(release.instance_id), "label": release.label},
            "artifact": {
                "remotePath": release.remote_path,
                "size": release.size,
                **(of_folder if release.files else {}),
            },
            "gates": [
                {
                    "stage": gate.stage.value,
                    "verdict": gate.verdict.value,
                    "planDigest": {"sha256": gate.plan_digest},
                    "factsDigest": {"sha256": gate.facts_sha256},
                    "checks": [{"id": check.id, "verdict": check.verdict.value} for check in gate.checks],
                    **({"demandDigest": {"sha256": gate.demand}} if gate.demand and binds else {}),
                }
                for gate in release.gates
            ],
            "eventLog": {"seq": release.log.seq, "digest": {"sha256": release.log.digest}},
            "issuedOn": rfc3339(release.issued),
            "expiresOn": rfc3339(release.expires),
        },
    }


def _strictly(told: Any) -> Release:
    release = _release(told)
    if odd := set(_leaves(told)) ^ set(_leaves(_document(release))):
        where = min(".".join(map(str, path)) for path, _ in odd)
        raise ValueError(f"{where}: not as a release has it")
    return release


def _release(told: Any) -> Release:
    predicate = _field(told, "predicateType", read=_predicate)
    artifact = _folder(told) if predicate == PREDICATE_OF_FOLDER else _file(told)
    return Release(
        job=_field(told, "predicate", "job", read=job_name),
        provider=_field(told, "predicate", "provider", read=_name),
        instance_id=_field(told, "predicate", "instance", "id", read=_instance),
        label=_field(told, "predicate", "instance", "label", read=_text),
        name=_field(told, *_NAMES[predicate], read=_name),
        remote_path=artifact.path,
        size=artifact.size,
        sha256=artifact.sha256,
        files=artifact.files,
        gates=_field(told, "predicate", "gates", read=_each(_gate)),
        log=Head(
            _field(told, "predicate", "eventLog", "seq", read=_natural),
            _field(told, "predicate", "eventLog", "digest", "sha256", read=sha256),
        ),
        issued=_field(told, "predicate", "issuedOn", read=_seconds),
        expires=_field(told, "predicate", "expiresOn", read=_seconds),
        predicate=predicate,
    )


def _file(told: Any) -> Artifact:
    return Artifact(
        _field(told, "predicate", "artifact", "remotePath", read=_name),
        _field(told, "predicate", "artifact", "size", read=_natural),
        _field(told, "subject", 0, "digest", "sha256", read=sha256),
    )


def _folder(told: Any) -> Artifact:
    """The files that are subjects, with their bytes; raises ValueError when the manifest's digest is not theirs."""
    bytes_of = _field(told, "predicate", "artifact", "bytes", read=dict)
    named = _field(told, "subject", read=_each(lambda one: (one["name"], one["digest"]["sha256"])))
    return recorded(
        _field(told, "predicate", "artifact", "remotePath", read=_name),
        _field(told, "predicate", "artifact", "size", read=_natural),
        _field(told, "predicate", "artifact", "manifestDigest", "sha256", read=sha256),
        [{"path": path, "bytes": _natural(bytes_of.get(path)), "sha256": digest} for path, digest in named],
    )


def _gate(told: Any) -> ReleasedGate:
    return ReleasedGate(
        stage=_field(told, "stage", read=Stage),
        verdict=_field(told, "verdict", read=Verdict),
        plan_digest=_field(told, "planDigest", "sha256", read=sha256),
        facts_sha256=_field(told, "factsDigest", "sha256", read=sha256),
        checks=_field(told, "checks", read=_each(_check)),
        demand=_field(told, "demandDigest", "sha256", read=sha256) if "demandDigest" in told else None,
    )


def _check(told: Any) -> ReleasedCheck:
    return ReleasedCheck(CheckId(_field(told, "id", read=_name)), _field(told, "verdict", read=Verdict))


def _field(told: Any, *path: str | int, read: Callable[[Any], T]) -> T:
    """The value at a path, read; raises ValueError naming the path when it is not there or does not read."""
    try:
        for step in path:
            told = told[step]
        return read(told)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        problem = str(error) if isinstance(error, ValueError) else "missing, or of another type"
        raise ValueError(f"{'.'.join(map(str, path))}: {problem}") from error


def _each(read: Callable[[Any], T]) -> Callable[[Any], tuple[T, ...]]:
    def every(told: Any) -> tuple[T, ...]:
        return tuple(_field(told, at, read=read) for at in range(len(told)))

    return every


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise ValueError("not a whole number from 0 to 2^53 - 1")
    return value


def _instance(value: Any) -> InstanceId:
    return instance_id(value) if type(value) is str else InstanceId(_natural(value))


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > _LONGEST:
        raise ValueError(f"not a text of at most {_LONGEST} characters")
    value.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError
    return value


def _name(value: Any) -> str:
    if not _text(value):
        raise ValueError("empty")
    return str(value)


def _seconds(text: Any) -> int:
    return int(datetime.strptime(text, RFC3339).replace(tzinfo=UTC).timestamp())


def _predicate(value: Any) -> str:
    if value not in _SPELLINGS:
        raise ValueError(f"not one of {', '.join(_SPELLINGS)}")
    return str(value)


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every scalar and empty container within a JSON value, with its path, spelled so that 1, 1.0 and true differ."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not inner or not value:
        yield path, repr(value)
    for key, deeper in inner:
        yield from _leaves(deeper, (*path, key))


def no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of a JSON object, for ``object_pairs_hook``; raises ValueError where readers would differ."""
    told = dict(pairs)
    if len(told) != len(pairs):
        raise ValueError("a field is there twice")
    return told


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
