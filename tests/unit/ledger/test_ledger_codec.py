"""Events and what is stored of them: nothing is lost either way, and what does not read is said."""

from __future__ import annotations

import ast
import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.canonical import canonical
from harness.core.errors import LogDamaged
from harness.core.ids import InstanceId, JobName
from harness.core.lifecycle import Stage
from harness.ledger.chain import Record
from harness.ledger.codec import decode, encode
from harness.ledger.events import (
    Adopted,
    ArtifactRecorded,
    Closed,
    DestroyIntended,
    Fetched,
    Held,
    Launched,
    Rented,
    StageEntered,
    Uploaded,
)
from harness.ledger.jobs import folded
from harness.ledger.kinds import JobEvent
from tests.support.job_histories import DIGEST, INSTANCE, KINDS, Log, any_of

ROOT = Path(__file__).resolve().parents[3]
JOB = JobName("night")


def _stored(kind: str, data: dict[str, Any]) -> Record:
    return Record(3, JOB, 1.0, kind, data, "", "")


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
def test_what_is_stored_gives_the_event_back(kind: type[JobEvent], data: st.DataObject) -> None:
    event = data.draw(any_of(kind))
    stored = json.loads(canonical(encode(event)[1]))
    assert decode(_stored(kind.kind, stored)) == event


def test_an_artifacts_files_are_stored_and_of_one_file_none() -> None:
    files = ({"path": "a", "bytes": 1, "sha256": DIGEST}, {"path": "b/c", "bytes": 2, "sha256": DIGEST})
    event = ArtifactRecorded("/box/final", 3, DIGEST, files)
    stored = json.loads(canonical(encode(event)[1]))
    assert decode(_stored("artifact", stored)) == event
    assert "files" not in encode(ArtifactRecorded("/box/m.gguf", 3, DIGEST))[1]


def test_every_kind_is_stored_under_a_name_of_its_own() -> None:
    assert len({kind.kind for kind in KINDS}) == len(KINDS) == 46


def test_a_key_is_stored_for_every_field_but_the_unknown_ones_that_older_logs_lack() -> None:
    assert encode(Closed()) == ("closed", {})
    assert encode(StageEntered(Stage.UPLOAD)) == ("stage", {"stage": "upload"})
    assert encode(Launched(("sh", "-c"), "launch")) == ("launched", {"command": ["sh", "-c"], "why": "launch"})
    assert encode(Fetched("/m", 4, DIGEST, None))[1]["bytes_per_s"] is None
    intent: dict[str, Any] = {"instance_id": INSTANCE, "release": None, "volumes": []}
    assert encode(DestroyIntended(INSTANCE, None))[1] == intent
    assert encode(DestroyIntended(INSTANCE, None, ran=False))[1] == {**intent, "ran": False}
    assert "since" not in encode(Adopted(INSTANCE, "", 7, 1.0, {}, "running"))[1]


def test_keys_that_older_logs_lack_have_their_defaults() -> None:
    data = {"path": "/m", "size": 4, "sha256": DIGEST}
    assert decode(_stored("fetched", data)) == Fetched("/m", 4, DIGEST, bytes_per_s=None)
    assert decode(_stored("destroy_intended", {"instance_id": 1, "release": None})) == DestroyIntended(
        InstanceId(1), None, volumes=(), ran=None
    )


def test_keys_of_other_versions_are_read_over() -> None:
    assert decode(_stored("uploaded", {"files": 3, "seconds": 1.5})) == Uploaded(3)
    assert decode(_stored("sang", {"what": "a song"})) is None


def test_a_whole_number_of_dollars_is_a_price() -> None:
    data = {"instance_id": 1, "label": "", "offer": {}, "usd_per_hour": 16, "owner": None}
    event = decode(_stored("rented", data))
    assert event == Rented(InstanceId(1), "", {}, 16, None)
    assert encode(event) == ("rented", data)


@pytest.mark.parametrize(
    ("kind", "data", "why"),
    [
        ("uploaded", {}, "files is missing"),
        ("uploaded", {"files": "3"}, "files is '3', not int"),
        ("uploaded", {"files": True}, "files is True, not int"),
        ("uploaded", {"files": None}, "files is None, not int"),
        ("trained", {"at": "noon"}, "at is 'noon', not float"),
        ("trained", {"at": False}, "at is False, not float"),
        ("stage", {"stage": "lunch"}, "stage is 'lunch' is not a valid Stage"),
        ("stage", {"stage": ["upload"]}, "stage is "),
        ("pinned", {"keys": "ssh-ed25519", "how": ""}, "keys is 'ssh-ed25519', not tuple"),
        ("pinned", {"keys": [1], "how": ""}, "keys is 1, not str"),
        ("staged", {"path": "/p", "files": ["a"]}, "files is ['a'], not Mapping"),
        ("staged", {"path": "/p", "files": {"a": 1}}, "files is 1, not str"),
        ("destroyed", {"instance_id": 1, "absence": {}, "billing": 9}, "billing is 9, not Mapping"),
    ],
)
def test_what_does_not_read_names_its_field(kind: str, data: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=r"event 3 ") as refused:
        decode(_stored(kind, data))
    assert str(refused.value).startswith(f"event 3 ({kind}): {why}")


def test_a_log_with_such_an_event_is_damaged() -> None:
    log = Log().stored("held", {"stage": "training", "error": "GateHeld"})
    with pytest.raises(LogDamaged, match=r"the event log of job night does not read: event 2 \(held\): reason is miss"):
        folded(JOB, tuple(log.records))


def test_a_payload_that_is_misspelt_or_not_whole_is_no_event() -> None:
    wrong: Any = {"stage": Stage.UPLOAD, "eror": "GateHeld", "reason": "x"}
    with pytest.raises(TypeError, match="eror"):
        Held(**wrong)
    with pytest.raises(TypeError, match="reason"):
        Held(Stage.UPLOAD, "GateHeld")  # type: ignore[call-arg]  # mypy sees it, too: this comment must be needed


def test_a_field_that_may_be_left_out_when_stored_is_one_that_may_be_none() -> None:
    for kind in KINDS:
        for one in fields(kind):
            assert one.default is MISSING or one.default in {None, ()}, (kind, one.name)


def test_no_other_room_names_a_kind_in_a_string() -> None:
    """An event is a class everywhere but in the store."""
    for written in (
        'it.record("held", {})',
        'it.append(job, "held")',
        'one.kind in {"held", "lost"}',
        'one.kind == "held"',
    ):
        assert _names_a_kind(written), written
    for path in sorted((ROOT / "harness").rglob("*.py")):
        if path.parent != ROOT / "harness" / "ledger":
            assert not _names_a_kind(path.read_text(encoding="utf-8")), path


def _names_a_kind(source: str) -> list[str]:
    """The kinds that a source passes to a log as strings, or compares a record's kind with."""
    found: list[Any] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr="record" | "append" | "seal"), args=[*parts]):
                found += [one.value for one in parts if isinstance(one, ast.Constant)]
            case ast.Compare(left=ast.Attribute(attr="kind")) | ast.Match(subject=ast.Attribute(attr="kind")):
                found += [one.value for one in ast.walk(node) if isinstance(one, ast.Constant)]
            case _:
                pass
    return sorted({kind.kind for kind in KINDS} & {one for one in found if isinstance(one, str)})
