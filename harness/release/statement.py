"""A release statement and its wire form: in-toto Statement v1, canonical JSON out, strict JSON in. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from harness.core.canonical import canonical
from harness.core.errors import BadInput
from harness.core.ids import CheckId, InstanceId, JobName, Sha256, job_name, sha256
from harness.core.lifecycle import Stage
from harness.core.text import printable
from harness.core.verdict import Verdict
from harness.ledger.chain import Head

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://gold-standard-harness.dev/release/v1"
"""Names the predicate's meaning; a new meaning gets a new number."""

MAX_BYTES = 1 << 20
"""A statement of every gate of a job is about 10 kB."""

_RFC3339 = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class ReleasedCheck:
    """What one check said."""

    id: CheckId
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class ReleasedGate:
    """One gate that opened: the plan that it was held against, the facts that it judged, what each check said."""

    stage: Stage
    verdict: Verdict
    plan_digest: str
    facts_sha256: str
    checks: tuple[ReleasedCheck, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """What may be destroyed, and for which file's sake. ``size`` in bytes; times in whole seconds since the epoch.

    ``name`` is the file's name here, ``remote_path`` where it was on the box; ``log`` is the
    event log's head when the statement was made.
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

    def gate(self, stage: Stage) -> ReleasedGate | None:
        """The gate of one stage, None when the statement does not name it."""
        return next((gate for gate in self.gates if gate.stage is stage), None)


_Digest = Annotated[str, AfterValidator(sha256)]
_Natural = Annotated[int, Field(ge=0)]
_Name = Annotated[str, Field(min_length=1, max_length=4096)]
_Label = Annotated[str, Field(max_length=4096)]


def _moment(text: str) -> str:
    if rfc3339(seconds(text)) != text:
        raise ValueError("not a time like 2026-11-22T03:25:23Z")
    return text


_Moment = Annotated[str, AfterValidator(_moment)]


class _Wire(BaseModel):
    """A JSON object of the statement: exact types, and no field that this version does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel)


class _Sha256(_Wire):
    sha256: _Digest


class _Subject(_Wire):
    name: _Name
    digest: _Sha256


class _Instance(_Wire):
    id: _Natural
    label: _Label


class _Artifact(_Wire):
    remote_path: _Name
    size: _Natural


class _Check(_Wire):
    id: _Name
    verdict: Literal["pass", "unknown", "fail"]


class _Gate(_Wire):
    stage: Literal[tuple(stage.value for stage in Stage)]  # type: ignore[valid-type]  # the stages are listed once
    verdict: Literal["pass", "unknown", "fail"]
    plan_digest: _Sha256
    facts_digest: _Sha256
    checks: list[_Check]


class _Log(_Wire):
    seq: _Natural
    digest: _Sha256


class _Predicate(_Wire):
    job: Annotated[str, AfterValidator(job_name)]
    provider: _Name
    instance: _Instance
    artifact: _Artifact
    gates: list[_Gate]
    event_log: _Log
    issued_on: _Moment
    expires_on: _Moment


class _Statement(_Wire):
    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[list[_Subject], Field(min_length=1, max_length=1)]
    predicate_type: Literal["https://gold-standard-harness.dev/release/v1"]
    predicate: _Predicate


def rfc3339(moment: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, whole seconds."""
    return datetime.fromtimestamp(int(moment), UTC).strftime(_RFC3339)


def seconds(text: str) -> int:
    """Seconds since the epoch; raises ValueError for anything but ``2026-11-22T03:25:23Z``."""
    return int(datetime.strptime(text, _RFC3339).replace(tzinfo=UTC).timestamp())


def encode(release: Release) -> bytes:
    """The statement's canonical JSON."""
    return canonical(
        {
            "_type": STATEMENT,
            "subject": [{"name": release.name, "digest": {"sha256": release.sha256}}],
            "predicateType": PREDICATE,
            "predicate": {
                "job": release.job,
                "provider": release.provider,
                "instance": {"id": release.instance_id, "label": release.label},
                "artifact": {"remotePath": release.remote_path, "size": release.size},
                "gates": [
                    {
                        "stage": gate.stage.value,
                        "verdict": gate.verdict.value,
                        "planDigest": {"sha256": gate.plan_digest},
                        "factsDigest": {"sha256": gate.facts_sha256},
                        "checks": [{"id": check.id, "verdict": check.verdict.value} for check in gate.checks],
                    }
                    for gate in release.gates
                ],
                "eventLog": {"seq": release.log.seq, "digest": {"sha256": release.log.digest}},
                "issuedOn": rfc3339(release.issued),
                "expiresOn": rfc3339(release.expires),
            },
        }
    )


def decode(data: bytes, source: str) -> Release:
    """The release in a statement's bytes; raises BadInput naming ``source`` and the field that is wrong."""
    if len(data) > MAX_BYTES:
        raise BadInput(f"{source} is larger than a release can be ({MAX_BYTES} bytes)")
    try:
        told = json.loads(data.decode("utf-8"), object_pairs_hook=_no_twins, parse_constant=_no_constant)
        statement = _Statement.model_validate(told)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the statement"
        raise BadInput(f"{source} is not a release: {printable(where, 200)}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{source} is not a release: {printable(str(error), 300)}") from error
    return _release(statement)


def _release(statement: _Statement) -> Release:
    subject, told = statement.subject[0], statement.predicate
    return Release(
        job=JobName(told.job),
        provider=told.provider,
        instance_id=InstanceId(told.instance.id),
        label=told.instance.label,
        name=subject.name,
        remote_path=told.artifact.remote_path,
        size=told.artifact.size,
        sha256=Sha256(subject.digest.sha256),
        gates=tuple(_gate(gate) for gate in told.gates),
        log=Head(told.event_log.seq, told.event_log.digest.sha256),
        issued=seconds(told.issued_on),
        expires=seconds(told.expires_on),
    )


def _gate(gate: _Gate) -> ReleasedGate:
    return ReleasedGate(
        stage=Stage(gate.stage),
        verdict=Verdict(gate.verdict),
        plan_digest=gate.plan_digest.sha256,
        facts_sha256=gate.facts_digest.sha256,
        checks=tuple(ReleasedCheck(CheckId(check.id), Verdict(check.verdict)) for check in gate.checks),
    )


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    told = dict(pairs)
    if len(told) != len(pairs):
        raise ValueError("a field is there twice")
    return told


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
