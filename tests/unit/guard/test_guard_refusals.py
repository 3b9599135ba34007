"""Every precondition of the one irreversible act, broken: refused by name, nothing asked for, the instance alive."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import digest, parts
from harness.artifacts.parts import ArtifactFile
from harness.core.errors import HarnessError, HostUnreachable, ProviderUnavailable, Refused
from harness.core.ids import InstanceId, Sha256
from harness.core.lifecycle import Stage
from harness.core.observed import Observed
from harness.core.ports import InstanceStatus
from harness.core.questions import Answers, DigestOf, ProcessesUnder, Question
from harness.core.verdict import Verdict
from harness.gates import plan
from harness.guard import destroy, preconditions
from harness.ledger.events import ArtifactRecorded, Confirmed, DestroyIntended, Guarded, Opened, Released, Verified
from harness.ledger.kinds import JobEvent
from harness.release import release
from harness.runner import teardown
from tests.support.context import MemoryStore, ScriptedContext, Telling, World, make_world
from tests.support.job_histories import check, events_of, gate, judged
from tests.support.scripted_world import MODEL, BoxHost

INSTANCE = InstanceId(4711)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A job whose file is verified and released; only the operator's word is missing."""
    made = make_world(tmp_path, monkeypatch, fast=True)
    with pytest.raises(Refused, match="nobody confirmed"):
        made.run(lambda _id, _file: None)
    return made


def test_on_the_real_event_store_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch)
    world.run(until=Stage.POSTDOWNLOAD)
    _local(world).write_bytes(b"?" + MODEL[1:])
    with pytest.raises(Refused, match="no longer matches"):
        teardown.teardown(world.context(), Telling(), _agree)
    _nothing_happened(world)
    _local(world).write_bytes(MODEL)
    teardown.teardown(world.context(), Telling(), _agree)
    assert world.history.destroyed is not None
    assert world.store.verify(world.job.name) == ()


def _agree(_id: InstanceId, _file: str) -> str:
    return "the test agrees"


def _destroy(world: World) -> None:
    destroy.destroy(world.context(), _agree, lambda _: None)


def _local(world: World) -> Path:
    assert world.history.verified is not None
    return Path(world.history.verified.path)


def _statement(world: World) -> Path:
    assert world.history.release_path is not None
    return Path(world.history.release_path)


def _record(world: World, event: JobEvent) -> None:
    world.context().record(event)


def _edit_release(world: World, **fields: object) -> None:
    path = _statement(world)
    bent = dataclasses.replace(release.read(path), **fields)  # type: ignore[arg-type]  # fields of every type
    path.write_bytes(release.to_json(bent))


def _without(world: World, kind: type[JobEvent]) -> None:
    """The job's log as it would be had this event never been written, in a store of its own."""
    kept = [event for event in events_of(world.store.records(world.job.name)) if not isinstance(event, kind)]
    world.store = MemoryStore(world.clock)
    for event in kept:
        world.store.append(world.job.name, event)


def _thinner_plan(world: World) -> None:
    small = gate(Stage.POSTDOWNLOAD, world.job)
    kept = tuple(one for one in small.results if one.id != "gguf_generates")
    ids = tuple(one.id for one in kept)
    thin = dataclasses.replace(small, results=kept, required=ids, plan_digest=plan.digest("postdownload", ids))
    _record(world, judged(thin, world.job))


def _runs_on_the_box(world: World) -> None:
    python = {"pid": 9, "ppid": 1, "state": "R", "argv": ["python3", "train.py"], "cwd": "/x", "env": {}}
    world.box.processes = [python]


def _bend_gate(world: World, verdict: Verdict) -> None:
    bent = check(Stage.POSTDOWNLOAD, "local_sha256_equals_remote", verdict)
    _record(world, judged(gate(Stage.POSTDOWNLOAD, world.job, bent), world.job))


_MORE = {"gates": {"prompt": "another"}}

BREAKS: dict[str, tuple[Callable[[World], object], str]] = {
    "no release": (lambda w: _without(w, Released), "there is no release"),
    "no release file": (lambda w: _statement(w).unlink(), "the release cannot be read"),
    "a release of rubbish": (lambda w: _statement(w).write_bytes(b"{}"), "the release cannot be read"),
    "an expired release": (lambda w: w.clock.turn(w.job.limits.release_valid_s + 1), "it expired"),
    "a clock that went back": (lambda w: w.clock.turn(-7200), "clock went back"),
    "a release of another instance": (lambda w: _edit_release(w, instance_id=InstanceId(1)), "instance: it names 1,"),
    "a release of another file": (lambda w: _edit_release(w, sha256="00" * 32), "artifact digest"),
    "a release edited to live longer": (
        lambda w: _edit_release(w, expires=4_000_000_000),
        "not the statement that the event log recorded",
    ),
    "a release of another provider": (lambda w: setattr(w.market, "name", "elsewhere"), "of scripted, .* is elsewhere"),
    "another artifact recorded since": (
        lambda w: _record(w, ArtifactRecorded(str(w.box.artifact), len(MODEL), Sha256("11" * 32))),
        "artifact digest",
    ),
    "a gate that failed since": (lambda w: _bend_gate(w, Verdict.FAIL), "gate postdownload is not open"),
    "a gate that could not look since": (lambda w: _bend_gate(w, Verdict.UNKNOWN), "gate postdownload is not open"),
    "a gate of another plan": (_thinner_plan, "gate postdownload"),
    "another job file since": (
        lambda w: _record(w, Opened(w.job.model_copy(update={"name": "night"}).model_dump(mode="json") | _MORE, "/x")),
        "gate posttrain was judged by another job file",
    ),
    "no verified file": (lambda w: _without(w, Verified), "verified"),
    "the local file gone": (lambda w: _local(w).unlink(), "does not exist"),
    "the local file's byte flipped": (lambda w: _local(w).write_bytes(MODEL[:-1] + b"?"), "has the SHA-256"),
    "the local file's first byte flipped": (lambda w: _local(w).write_bytes(b"?" + MODEL[1:]), "has the SHA-256"),
    "the local file truncated": (lambda w: _local(w).write_bytes(MODEL[:-1]), f"has {len(MODEL) - 1} bytes"),
    "the local file grown": (lambda w: _local(w).write_bytes(MODEL + b"?"), f"has {len(MODEL) + 1} bytes"),
    "the local file empty": (lambda w: _local(w).write_bytes(b""), "has 0 bytes"),
    "a label that is not ours": (lambda w: w.market.change(INSTANCE, label="gsh-night-ffffffff"), "carries the label"),
    "no label": (lambda w: w.market.change(INSTANCE, label=None), "carries the label None"),
    "another account's key": (lambda w: setattr(w.market, "user", 8), "rented by user 7, the API key is user 8's"),
    "a box that does not answer": (lambda w: setattr(w.box, "reachable", lambda: False), "could not be looked at"),
    "a box with another host key": (
        lambda w: setattr(w.box, "host_key", "ssh-ed25519 Other"),
        "could not be looked at",
    ),
    "a process on the box": (_runs_on_the_box, "still runs on the box: 9 python3 train.py"),
    "the artifact changed on the box": (lambda w: w.box.artifact.write_bytes(MODEL + b"!"), "has changed"),
}


def _nothing_happened(world: World) -> None:
    assert world.provider.count("destroy") == 0
    assert DestroyIntended not in world.kinds()
    assert Guarded not in world.kinds()
    assert not world.history.destroy_intended


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_precondition_is_refused_by_name(world: World, name: str) -> None:
    spoil, why = BREAKS[name]
    spoil(world)
    with pytest.raises(Refused, match=why) as refused:
        _destroy(world)
    assert refused.value.exit_code == 5
    assert refused.value.remedy
    _nothing_happened(world)


def test_unbroken_it_destroys(world: World) -> None:
    """The control of all the others: the very same job, nothing spoilt."""
    _destroy(world)
    assert world.provider.count("destroy") == 1
    assert world.history.destroyed is not None


@pytest.mark.parametrize("answer", [None, ""])
def test_without_a_word_nothing_goes(world: World, answer: str | None) -> None:
    with pytest.raises(Refused, match="nobody confirmed"):
        destroy.destroy(world.context(), lambda _id, _file: answer, lambda _: None)
    _nothing_happened(world)


def test_the_operator_is_told_what_goes_and_what_stays(world: World) -> None:
    asked: list[tuple[InstanceId, str]] = []

    def confirm(instance_id: InstanceId, file: str) -> None:
        asked.append((instance_id, file))

    with pytest.raises(Refused):
        destroy.destroy(world.context(), confirm, lambda _: None)
    assert asked == [(InstanceId(4711), str(_local(world)))]


def test_nobody_is_asked_about_what_will_be_refused(world: World) -> None:
    _local(world).unlink()
    with pytest.raises(Refused, match="does not exist"):
        destroy.destroy(world.context(), lambda _id, _file: pytest.fail("asked"), lambda _: None)


def test_a_file_spoilt_while_the_operator_thinks_is_their_last_chance(world: World) -> None:
    """The word is given on what was looked at; a kill in between means that everything is looked at again."""
    with pytest.raises(Refused):
        destroy.destroy(world.context(), lambda _id, _file: None, lambda _: None)
    _local(world).write_bytes(b"?" + MODEL[1:])
    with pytest.raises(Refused, match="has the SHA-256"):
        _destroy(world)
    _nothing_happened(world)


WHILE_ASKED: dict[str, tuple[Callable[[World], object], str]] = {
    "the file goes": (lambda w: _local(w).unlink(), "does not exist"),
    "the file changes": (lambda w: _local(w).write_bytes(MODEL[:-1] + b"?"), "has the SHA-256"),
    "a training is started": (_runs_on_the_box, "still runs on the box"),
    "the label changes": (lambda w: w.market.change(INSTANCE, label="mine"), "carries the label"),
    "the instance goes": (lambda w: w.market.rented.clear(), "no longer shows"),
    "the release runs out": (lambda w: w.clock.turn(w.job.limits.release_valid_s + 1), "it expired"),
}


@pytest.mark.parametrize("name", WHILE_ASKED)
def test_what_happens_while_the_operator_thinks_is_seen(world: World, name: str) -> None:
    """A word that was waited for may come hours after the look that it rests on."""
    spoil, why = WHILE_ASKED[name]

    def confirm(_id: InstanceId, _file: str) -> str:
        world.clock.turn(60)
        spoil(world)
        return "typed at the terminal"

    with pytest.raises(Refused, match=why):
        destroy.destroy(world.context(), confirm, lambda _: None)
    _nothing_happened(world)


def test_a_release_that_runs_out_while_the_operator_thinks_is_made_anew(world: World) -> None:
    def confirm(_id: InstanceId, _file: str) -> str:
        world.clock.turn(world.job.limits.release_valid_s + 1)
        return "typed at the terminal"

    teardown.teardown(world.context(), Telling(), confirm)
    assert world.history.destroyed is not None
    kinds = world.kinds()
    assert kinds.index(Confirmed) < len(kinds) - kinds[::-1].index(Released) - 1 < kinds.index(Guarded)


def test_a_training_where_the_package_lay_before_is_seen(world: World) -> None:
    """Agreeing to a changed job file does not make the guard look away from the old place."""
    moved = world.job.package.model_copy(update={"remote_dir": "/elsewhere"})
    changed = world.job.model_copy(update={"package": moved})
    old = world.job.package.remote_dir
    _record(world, Opened(changed.model_dump(mode="json"), "/x"))
    for stage in (Stage.POSTTRAIN, Stage.POSTDOWNLOAD):
        _record(world, judged(gate(stage, changed), changed))
    with pytest.raises(Refused, match="nobody confirmed"):
        teardown.teardown(world.context(), Telling(), lambda _id, _file: None)
    asked: list[str] = []
    probe = BoxHost.probe

    def ask(host: BoxHost, questions: Sequence[Question[Any]], *, timeout: float = 120.0) -> Answers:
        asked.extend(one.directory for one in questions if isinstance(one, ProcessesUnder))
        return probe(host, questions, timeout=timeout)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(BoxHost, "probe", ask)
        _destroy(world)
    assert asked == [old, "/elsewhere"]


@pytest.mark.parametrize("method", ["instance", "account"])
def test_a_provider_that_cannot_be_looked_at_is_no_yes(world: World, method: str) -> None:
    world.provider.break_(method, ProviderUnavailable("404 auth_error"))
    with pytest.raises(ProviderUnavailable):
        _destroy(world)
    _nothing_happened(world)


def test_a_box_that_tells_only_half_is_no_yes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for unanswered in (ProcessesUnder, DigestOf):

        def half(
            self: BoxHost, questions: list[Question[Any]], *, timeout: float, missing: type[Any] = unanswered
        ) -> Answers:
            del timeout
            lost: Observed[Any] = Observed(problem="the probe ended early")
            return Answers({one: lost if isinstance(one, missing) else self._answer(one) for one in questions})

        monkeypatch.setattr(BoxHost, "probe", half)
        with pytest.raises(Refused, match="the probe ended early"):
            _destroy(world)
    _nothing_happened(world)


def test_a_stopped_box_runs_nothing_and_need_not_be_asked(world: World) -> None:
    world.market.change(INSTANCE, status=InstanceStatus.STOPPED)
    world.box.reachable = lambda: False
    _destroy(world)
    assert world.history.guarded is not None
    assert world.history.guarded.remote == "not asked: the instance is stopped"


@pytest.mark.parametrize(
    "status", [status for status in InstanceStatus if status not in {InstanceStatus.STOPPED, InstanceStatus.EXITED}]
)
def test_any_other_state_needs_the_boxs_own_word(world: World, status: InstanceStatus) -> None:
    world.market.change(INSTANCE, status=status)
    world.box.reachable = lambda: False
    with pytest.raises(Refused, match="could not be looked at"):
        _destroy(world)
    _nothing_happened(world)


def test_a_zombie_is_no_process(world: World) -> None:
    world.box.processes = [{"pid": 9, "ppid": 1, "state": "Z", "argv": [], "cwd": "", "env": {}}]
    _destroy(world)
    assert world.history.destroyed is not None


def test_a_job_that_rented_nothing_destroys_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.open()
    world.market.add(4711, "gsh-night-00000000")
    with pytest.raises(Refused, match="rented no instance"):
        _destroy(world)
    assert world.market.rented


@pytest.mark.parametrize("until", [Stage.PROVISION, Stage.LAUNCH, Stage.POSTTRAIN])
def test_a_job_without_a_verified_file_destroys_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Stage
) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True)
    world.run(until=until)
    with pytest.raises(HarnessError) as refused:
        teardown.teardown(world.context(), Telling(), _agree)
    assert isinstance(refused.value, Refused)
    with pytest.raises(Refused):
        _destroy(world)
    _nothing_happened(world)
    assert world.market.rented


def test_what_the_box_says_reaches_no_terminal_unprinted(world: World) -> None:
    world.box.processes = [
        {"pid": 9, "ppid": 1, "state": "R", "argv": ["\x1b]0;owned\x07python3\x1b[2J"], "cwd": "/x", "env": {}}
    ]
    with pytest.raises(Refused) as refused:
        _destroy(world)
    assert "\x1b" not in str(refused.value)


def test_a_connection_that_fails_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: ScriptedContext) -> None:
        raise HostUnreachable("the provider shows no instance 4711")

    monkeypatch.setattr(ScriptedContext, "host", away)
    with pytest.raises(Refused, match="shows no instance"):
        _destroy(world)
    _nothing_happened(world)


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ((True, True, True), "unchanged"),
        ((True, False, True), "unchanged, but for 1 of 3 files that are no longer there"),
        ((False, False, True), "unchanged, but for 2 of 3 files that are no longer there"),
        ((False, False, False), "no longer there"),
    ],
)
def test_files_that_went_from_the_box_since_are_told_and_change_nothing(
    there: tuple[bool, ...], said: str, world: World
) -> None:
    """They are at home: that they went there is no doubt about them."""
    files = tuple(ArtifactFile(f"{at}", 1, digest.of_bytes(b"a")) for at in range(len(there)))
    folder = world.box.root / "models" / "folder"
    folder.mkdir(parents=True)
    for part, is_there in zip(files, there, strict=True):
        if is_there:
            part.at(folder).write_bytes(b"a")
    told = [{"path": part.path, "bytes": part.size, "sha256": part.sha256} for part in files]
    _record(world, ArtifactRecorded(str(folder), 3, parts.manifest_digest(files), tuple(told)))
    context, instance = world.context(), world.market.rented[INSTANCE]
    assert preconditions._box(context, instance) == ((), said)
    (folder / "1").write_bytes(b"b")
    with pytest.raises(Refused, match="folder/1 on the box has changed since it was verified"):
        preconditions._box(context, instance)


@pytest.mark.parametrize(("owner", "user", "refused"), [(7, 7, False), (7, 8, True), (None, 8, False)])
def test_a_log_that_does_not_tell_who_rented_is_not_held_against_the_key(
    owner: int | None, user: int, refused: bool, world: World
) -> None:
    assert world.history.rental is not None
    rental = dataclasses.replace(world.history.rental, owner=owner)
    world.market.user = user
    if not refused:
        preconditions.require_ours(world.context(), rental, world.market.rented[INSTANCE])
        return
    with pytest.raises(Refused, match="was rented by user 7, the API key is user 8's"):
        preconditions.require_ours(world.context(), rental, world.market.rented[INSTANCE])


def test_a_job_that_recorded_no_artifact_has_nothing_on_its_box_to_hold_against(world: World) -> None:
    _without(world, ArtifactRecorded)
    with pytest.raises(Refused, match="no artifact was recorded on the box"):
        preconditions._box(world.context(), world.market.rented[INSTANCE])


def test_only_the_first_few_processes_are_told(world: World) -> None:
    one = {"ppid": 1, "state": "R", "argv": ["python3"], "cwd": "/x", "env": {}}
    world.box.processes = [{**one, "pid": 100 + at} for at in range(9)]
    with pytest.raises(Refused) as refused:
        _destroy(world)
    assert str(refused.value).count("python3") == 5
