"""A release is valid for one instance, one file, one plan and one log, for a while; anything else is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.artifacts import digest, parts
from harness.core import regular_file
from harness.core.errors import BadInput, HarnessError, Refused
from harness.core.ids import CheckId, InstanceId, Sha256
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.ledger.chain import Head
from harness.ledger.events import ArtifactRecorded, GateJudged, Released, Rented, Verified
from harness.ledger.history import History
from harness.ledger.kinds import JobEvent
from harness.release import release as releases
from harness.release.release import Release, ReleasedCheck
from harness.release.statement import PREDICATE, PREDICATE_OF_FOLDER, PREDICATE_V1, PREDICATE_V2
from tests.support.job_histories import (
    DIGEST,
    INSTANCE,
    LABEL,
    LOCAL,
    REMOTE,
    SIZE,
    Log,
    check,
    events_of,
    gate,
    job,
    judged,
)

_WRITTEN_BY_0_1_0 = Path(__file__).resolve().parents[2] / "contract" / "data" / "release-0.1.0.json"


def _made(log: Log) -> Release:
    """The release of a log's job, recorded in it as the runner does."""
    release = releases.statement(log.history, "vast", log.at)
    sha256 = hashlib.sha256(releases.to_json(release)).hexdigest()
    log.add(Released(path="/home/me/release.json", sha256=sha256))
    return release


def _reopened(name: str, verdict: Verdict) -> GateJudged:
    return judged(gate(Stage.POSTDOWNLOAD, job(), check(Stage.POSTDOWNLOAD, name, verdict)))


def test_a_verified_file_releases_its_instance() -> None:
    log = Log().verified()
    release = _made(log)
    assert (release.instance_id, release.label, release.provider) == (INSTANCE, LABEL, "vast")
    assert (release.name, release.remote_path) == (Path(LOCAL).name, REMOTE)
    assert (release.size, release.sha256) == (SIZE, DIGEST)
    assert [one.stage for one in release.gates] == [stage for stage in Stage if stage is not Stage.TEARDOWN]
    last = release.gate(Stage.POSTDOWNLOAD)
    assert last is not None
    assert {one.id: one.verdict for one in last.checks}[CheckId("local_sha256_equals_remote")] is Verdict.PASS
    assert releases.problems(release, log.history, log.at) == ()


def test_the_bytes_are_an_in_toto_statement() -> None:
    told = json.loads(releases.to_json(_made(Log().verified())))
    assert told["_type"] == "https://in-toto.io/Statement/v1"
    assert told["subject"] == [{"name": "forex-r1-v3.Q8_0.gguf", "digest": {"sha256": DIGEST}}]
    assert told["predicateType"] == "https://gold-standard-harness.dev/release/v3"
    assert told["predicate"]["instance"] == {"id": INSTANCE, "label": LABEL}
    assert told["predicate"]["issuedOn"].endswith("Z")


def test_reading_gives_back_what_was_written(tmp_path: Path) -> None:
    release = _made(Log().verified())
    data = releases.to_json(release)
    (tmp_path / "release.json").write_bytes(json.dumps(json.loads(data), indent=4).encode())
    assert releases.read(data) == release
    assert releases.read(tmp_path / "release.json") == release
    assert releases.to_json(releases.read(data)) == data


def test_a_stranger_computes_the_digest_with_rfc_8785() -> None:
    """Sorted by UTF-16, not escaped beyond what JSON demands; written here by hand, from the parsed statement."""
    data = releases.to_json(_made(Log().verified(path="/home/me/€urusd \x7f.gguf")))
    assert data == json.dumps(json.loads(data), ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    assert "€urusd \x7f".encode() in data


def test_a_statement_of_0_1_0_keeps_its_digest() -> None:
    data = _WRITTEN_BY_0_1_0.read_bytes()
    old = releases.read(data)
    assert old.name == "forex-r1-v3 €urusd.Q8_0.gguf"
    assert releases.to_json(old) == data
    assert releases.to_json(dataclasses.replace(old, predicate=PREDICATE)) != data


def _as_before(log: Log) -> Log:
    """The same log, written before it was kept by what a gate was judged."""
    old = Log(log.job)
    for event in events_of(log.records)[1:]:
        old.add(dataclasses.replace(event, demand=None) if isinstance(event, GateJudged) else event)
    return old


@pytest.mark.parametrize("predicate", [PREDICATE_V1, PREDICATE_V2])
def test_an_older_release_of_an_older_log_reads_and_is_judged_again(predicate: str) -> None:
    log = Log().verified(path="/home/me/€urusd.gguf")
    of_today = releases.statement(log.history, "vast", log.at)
    log = _as_before(log)
    gates = tuple(dataclasses.replace(gate, demand=None) for gate in of_today.gates)
    head = Head(log.records[-1].seq, log.history.head)
    old = dataclasses.replace(of_today, predicate=predicate, gates=gates, log=head)
    log.add(Released("/home/me/r.json", Sha256(hashlib.sha256(releases.to_json(old)).hexdigest())))
    assert releases.read(releases.to_json(old)) == old
    assert releases.problems(releases.read(releases.to_json(old)), log.history, old.issued) == ()
    assert list(releases.outdated(log.history)) == [Stage.POSTTRAIN, Stage.POSTDOWNLOAD]
    with pytest.raises(Refused, match="gate postdownload was judged by another job file"):
        releases.statement(log.history, "vast", log.at)
    newer = dataclasses.replace(old, predicate=PREDICATE)
    assert releases.problems(newer, log.history, old.issued) == (
        "it is not the statement that the event log recorded last",
    )


@pytest.mark.parametrize("predicate", [PREDICATE_V1, PREDICATE_V2])
def test_an_older_release_binds_no_demand(predicate: str) -> None:
    told = json.loads(releases.to_json(_made(Log().verified())))
    assert all("demandDigest" in gate for gate in told["predicate"]["gates"])
    told["predicateType"] = predicate
    with pytest.raises(BadInput, match="demandDigest"):
        releases.read(json.dumps(told).encode())


def test_a_release_of_other_demands_than_the_log_has_is_void() -> None:
    log = Log().verified()
    release = _made(log)
    bent = _bend_gate(release, demand="00" * 32)
    assert "gate postdownload was judged by other demands than the statement says" in releases.problems(
        bent, log.history, log.at
    )


def test_a_file_name_that_is_not_unicode_releases_nothing() -> None:
    log = Log().verified(path="/home/me/\udc80.gguf")
    with pytest.raises(BadInput, match="cannot be written"):
        releases.to_json(releases.statement(log.history, "vast", log.at))


def _without(log: Log, kind: type[JobEvent]) -> History:
    from harness.ledger.history import fold

    return fold([record for record in log.records if record.kind != kind.kind])


@pytest.mark.parametrize(
    ("history", "why"),
    [
        (Log().history, "no instance"),
        (Log().trained().history, "no artifact"),
        (Log().fetched().history, "no file"),
        (_without(Log().verified(), ArtifactRecorded), "no artifact"),
        (Log().closed().history, "no instance"),
        (
            Log().verified().add(_reopened("local_file_exists", Verdict.FAIL)).history,
            "postdownload gate has not passed",
        ),
        (
            Log().verified().add(ArtifactRecorded(REMOTE, SIZE, Sha256("00" * 32))).history,
            "artifact digest",
        ),
    ],
)
def test_nothing_is_released_without_its_ground(history: History, why: str) -> None:
    with pytest.raises(Refused, match=why):
        releases.statement(history, "vast", 1_800_010_000.0)


def test_a_gate_that_passed_another_plan_than_todays_releases_nothing() -> None:
    log = Log().verified()
    small = gate(Stage.POSTDOWNLOAD, log.job)
    kept = tuple(one for one in small.results if one.id != "gguf_generates")
    from harness.gates import plan

    ids = tuple(one.id for one in kept)
    thinner = dataclasses.replace(small, results=kept, required=ids, plan_digest=plan.digest("postdownload", ids))
    log.add(judged(thinner))
    with pytest.raises(Refused, match="postdownload was judged without gguf_generates"):
        releases.statement(log.history, "vast", log.at)


def test_a_users_own_check_is_part_of_the_plan() -> None:
    log = Log().verified()
    log.add(judged(gate(Stage.POSTDOWNLOAD, log.job, extra=("ollama_loads_it",))))
    release = _made(log)
    assert releases.problems(release, log.history, log.at) == ()


def _bend_gate(release: Release, **fields: Any) -> Release:
    bent = [dataclasses.replace(one, **fields) if one.stage is Stage.POSTDOWNLOAD else one for one in release.gates]
    return dataclasses.replace(release, gates=tuple(bent))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"instance_id": 4712}, "instance: it names 4712, the event log 4711"),
        ({"label": "gsh-other-00000000"}, "label"),
        ({"job": "other"}, "job"),
        ({"sha256": "00" * 32}, "verified digest"),
        ({"size": SIZE - 1}, "artifact size"),
        ({"name": "other.gguf"}, "verified file"),
        ({"remote_path": "/tmp/other.gguf"}, "remote path"),
        ({"gates": ()}, "the postdownload gate has not passed"),
        ({"log": Head(3, "00" * 32)}, "no event 3"),
        ({"provider": "elsewhere"}, "not the statement that the event log recorded"),
        ({"expires": 4_000_000_000}, "not the statement that the event log recorded"),
    ],
)
def test_a_changed_statement_is_void(fields: dict[str, Any], why: str) -> None:
    log = Log().verified()
    bent = dataclasses.replace(_made(log), **fields)
    assert any(why in problem for problem in releases.problems(bent, log.history, log.at))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"verdict": Verdict.UNKNOWN}, "gate postdownload is not open"),
        ({"plan_digest": "00" * 32}, "passed another plan"),
        ({"facts_sha256": "00" * 32}, "other facts"),
        ({"checks": ()}, "not those of its plan"),
        ({"checks": (ReleasedCheck(CheckId("local_file_exists"), Verdict.FAIL),)}, "local_file_exists did not pass"),
    ],
)
def test_a_changed_gate_is_seen(fields: dict[str, Any], why: str) -> None:
    log = Log().verified()
    bent = _bend_gate(_made(log), **fields)
    assert any(why in problem for problem in releases.problems(bent, log.history, log.at))


def test_it_is_valid_until_it_expires_and_not_before_it_was_issued() -> None:
    log = Log().verified()
    release = _made(log)
    assert release.expires - release.issued == log.job.limits.release_valid_s
    assert releases.problems(release, log.history, release.expires - 0.1) == ()
    assert releases.problems(release, log.history, release.expires) == ("it expired 0 s ago",)
    assert "clock went back" in releases.problems(release, log.history, release.issued - 100)[0]


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (Rented(InstanceId(99), LABEL, {}, usd_per_hour=1.0, owner=7), "instance"),
        (ArtifactRecorded(REMOTE, SIZE, Sha256("11" * 32)), "artifact digest"),
        (Verified(LOCAL, SIZE, Sha256("11" * 32)), "verified digest"),
        (Released("/elsewhere", "22" * 32), "not the statement"),
        (_reopened("gguf_generates", Verdict.UNKNOWN), "gate postdownload is not open"),
    ],
)
def test_what_happens_afterwards_voids_it(event: JobEvent, why: str) -> None:
    log = Log().verified()
    release = _made(log)
    log.add(event)
    assert any(why in problem for problem in releases.problems(release, log.history, log.at))


def test_another_log_has_not_its_head() -> None:
    log, other = Log().verified(), Log()
    release = _made(log)
    other.at += 5
    other.verified().add(events_of(log.records)[-1])
    found = releases.problems(release, other.history, other.at)
    assert found == (f"the event log has no event {release.log.seq} with the digest that the statement names",)


def test_the_file_is_read_anew(tmp_path: Path) -> None:
    path, data = tmp_path / "model.gguf", b"GGUF" * 1000
    path.write_bytes(data)
    log = Log().verified(path=str(path), size=len(data), sha256=Sha256(hashlib.sha256(data).hexdigest()))
    release = _made(log)
    assert releases.file_problem(release, path) is None
    path.write_bytes(b"X" + data[1:])
    assert "has the SHA-256" in str(releases.file_problem(release, path))
    path.write_bytes(data[:-1])
    assert f"has {len(data) - 1} bytes" in str(releases.file_problem(release, path))
    path.unlink()
    assert "does not exist" in str(releases.file_problem(release, path))
    path.mkdir()
    assert "is not a file" in str(releases.file_problem(release, path))


def _add(name: str) -> Callable[[Path], object]:
    return lambda place: (place / name).write_bytes(b"more")


def _link_file(place: Path) -> None:
    (place / "a").rename(place.parent / "a")
    (place / "a").symlink_to(place.parent / "a")


def _link_folder(place: Path) -> None:
    place.rename(place.with_name("elsewhere"))
    place.symlink_to(place.with_name("elsewhere"))


def _dangle(place: Path) -> None:
    _link_folder(place)
    shutil.rmtree(place.with_name("elsewhere"))


def _file_instead(place: Path) -> None:
    shutil.rmtree(place)
    place.write_bytes(b"a")


FOLDERS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "as it was": (lambda _: None, ()),
    "one file less": (lambda place: (place / "a").unlink(), ("model/a does not exist",)),
    "one file more": (_add("z"), ("model/z is in the folder, and the release does not name it",)),
    "a link in the place of a file": (_link_file, ("model/a is a link, and not the file itself",)),
    "a link in the place of the folder": (_link_folder, ("model is no folder",)),
    "a link to nothing": (_dangle, ("model is no folder",)),
    "a file in the place of the folder": (_file_instead, ("model is no folder",)),
    "no folder": (shutil.rmtree, ("model does not exist",)),
    "one byte": (lambda place: (place / "sub" / "b").write_bytes(b"c"), ("sub/b has the SHA-256",)),
    "one byte more": (lambda place: (place / "a").write_bytes(b"aa"), ("model/a has 2 bytes, the release names 1",)),
    "five files more": (
        lambda place: [_add(name)(place) for name in "vwxyz"],
        ("model/v is in", "model/w is in", "model/x is in"),
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_is_the_released_one_when_it_holds_its_files_and_no_other(name: str, tmp_path: Path) -> None:
    place = tmp_path / "model"
    (place / "sub").mkdir(parents=True)
    (place / "a").write_bytes(b"a")
    (place / "sub" / "b").write_bytes(b"b")
    hashed, files = parts.here(place)
    release = dataclasses.replace(_made(Log().verified()), sha256=hashed.sha256, files=files)
    spoil, said = FOLDERS[name]
    spoil(place)
    told = releases.file_problem(release, place)
    assert bool(told) is bool(said)
    assert len((told or "").split("; ")) == max(1, len(said))
    assert all(words in (told or "") for words in said), told


def test_a_folder_that_cannot_be_listed_is_not_the_released_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"a")
    hashed, files = parts.here(tmp_path)
    release = dataclasses.replace(_made(Log().verified()), sha256=hashed.sha256, files=files)

    def failing(_: Path) -> list[str]:
        raise BadInput("it holds too many files")

    monkeypatch.setattr(parts, "listed", failing)
    assert releases.file_problem(release, tmp_path) == "it holds too many files"


@pytest.mark.parametrize("fails", ["opened", "of_open"])
def test_a_file_that_cannot_be_read_is_not_the_released_one(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, data = tmp_path / "model.gguf", b"GGUF"
    path.write_bytes(data)
    release = _made(Log().verified(path=str(path), size=4, sha256=Sha256(hashlib.sha256(data).hexdigest())))

    def failing(*_: object) -> object:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(regular_file if fails == "opened" else digest, fails, failing)
    assert releases.file_problem(release, path) == f"{path} cannot be read: Input/output error"


def test_a_statement_that_the_log_has_not_recorded_is_void() -> None:
    log = Log().verified()
    release = releases.statement(log.history, "vast", log.at)
    assert releases.problems(release, log.history, log.at) == ("the event log records no release",)


def test_a_gate_whose_record_does_not_read_releases_nothing() -> None:
    log = Log().verified()
    passed = log.history.gates[Stage.POSTDOWNLOAD]
    log.add(dataclasses.replace(passed, result={"verdict": "pass"}))
    with pytest.raises(Refused, match="the record of gate postdownload does not read: "):
        releases.statement(log.history, "vast", log.at)


@pytest.mark.parametrize("over", [0, 1])
def test_a_statement_may_have_a_mebibyte_and_not_a_byte_more(over: int, tmp_path: Path) -> None:
    data = releases.to_json(_made(Log().verified()))
    data += b" " * ((1 << 20) - len(data) + over)
    (tmp_path / "release.json").write_bytes(data)
    for source in (data, tmp_path / "release.json"):
        if not over:
            assert releases.read(source).sha256 == DIGEST
            continue
        with pytest.raises(BadInput, match="is larger than a release can be"):
            releases.read(source)


@pytest.mark.parametrize(
    "fields",
    [
        {"size": 0},
        {"size": 2**53 - 1},
        {"label": "x" * 4096},
        {"label": ""},
        {"instance_id": InstanceId("5x8jq2m1kz0p9w")},
        {"log": Head(0, "ab" * 32)},
    ],
)
def test_what_is_just_within_its_bounds_reads(fields: dict[str, Any]) -> None:
    release = dataclasses.replace(_made(Log().verified()), **fields)
    assert releases.read(releases.to_json(release)) == release


def test_a_release_of_a_folder_reads_with_every_file_and_no_other_sum(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a", "sub/b"):
        (tmp_path / name).write_bytes(name.encode())
    hashed, files = parts.here(tmp_path)
    single = _made(Log().verified())
    release = dataclasses.replace(
        single, predicate=PREDICATE_OF_FOLDER, files=files, sha256=hashed.sha256, size=hashed.size
    )
    data = releases.to_json(release)
    assert releases.read(data) == release
    for wrong in (data.replace(hashed.sha256.encode(), DIGEST.encode()), data.replace(b'"sub/b":5', b'"sub/b":6')):
        assert wrong != data
        with pytest.raises(BadInput):
            releases.read(wrong)


def test_a_number_that_json_has_not_is_named() -> None:
    with pytest.raises(BadInput, match="NaN is not JSON"):
        releases.read(b'{"a": NaN}')


def _told() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(releases.to_json(_made(Log().verified())))
    return told


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        (("_type",), "https://in-toto.io/Statement/v0.1", "_type"),
        (("predicateType",), "https://slsa.dev/provenance/v1", "predicateType"),
        (("predicateType",), [], "predicateType"),
        (("subject", 0, "surprise"), {}, "subject.0.surprise"),
        (("subject", 0, "name"), "", "subject.0.name"),
        (("subject", 0, "name"), "\udc80", "subject.0.name"),
        (("predicate", "artifact", "remotePath"), "", "remotePath: empty"),
        (("predicate", "instance", "label"), 7, "label: not a text of at most 4096 characters"),
        (("predicateType",), "https://gold-standard-harness.dev/release/v9", "predicateType: not one of https"),
        (("predicate", "eventLog", "seq"), "1", "seq: not a whole number"),
        (("subject", 0, "digest", "sha256"), DIGEST.upper(), "subject.0.digest.sha256"),
        (("subject",), [], "subject"),
        (("subject", 0, "digest", "sha256"), "abc", "SHA-256"),
        (("predicate", "artifact", "size"), -1, "size"),
        (("predicate", "artifact", "size"), "8098524992", "size"),
        (("predicate", "artifact", "size"), 2**53, "size"),
        (("predicate", "artifact", "size"), 8098524992.0, "size"),
        (("predicate", "instance", "id"), True, "id"),
        (("predicate", "instance", "label"), "x" * 5000, "label"),
        (("predicate.job",), "night", "predicate.job"),
        (("predicate", "gates"), {"0": 1}, "gates"),
        (("predicate", "gates"), "", "gates"),
        (("predicate", "gates", 0, "checks", 0), "local_file_exists", "gates: 0: checks: 0: id"),
        (("predicate", "job"), "../../etc", "job"),
        (("predicate", "issuedOn"), "yesterday", "issuedOn"),
        (("predicate", "expiresOn"), "2027-1-2T3:4:5Z", "expiresOn"),
        (("predicate", "gates", 0, "stage"), "holiday", "stage"),
        (("predicate", "gates", 0, "verdict"), "PASS", "verdict"),
        (("predicate", "surprise"), 1, "surprise"),
    ],
)
def test_what_is_not_a_release_is_named(place: tuple[str | int, ...], value: Any, why: str) -> None:
    told: Any = _told()
    inner = told
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    with pytest.raises(BadInput, match=why):
        releases.read(json.dumps(told).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"_type": 1, "_type": 2}',
        b"[" * 100_000,
        b" " * (2 << 20),
        b"1" * 5000,
    ],
)
def test_rubbish_is_bad_input(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "release.json").write_bytes(data)
    with pytest.raises(BadInput):
        releases.read(data)
    with pytest.raises(BadInput):
        releases.read(tmp_path / "release.json")


def test_a_field_that_is_there_twice_is_bad_input() -> None:
    data = releases.to_json(_made(Log().verified()))
    twice = data.replace(b'"expiresOn":', b'"expiresOn":"2099-01-01T00:00:00Z","expiresOn":')
    with pytest.raises(BadInput, match="twice"):
        releases.read(twice)


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot read"):
        releases.read(tmp_path / "none.json")


@given(st.binary(max_size=200))
def test_no_bytes_give_a_traceback(data: bytes) -> None:
    with pytest.raises(HarnessError):
        releases.read(data)
