"""The runner over a scripted world: gates open and hold, files come home, and every stop has a way on."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import (
    Conflict,
    GateHeld,
    GateUnknown,
    HarnessError,
    HostUnreachable,
    LocalDiskFull,
    LocalReadOnly,
    NotProven,
    ProviderUnavailable,
    Refused,
    RemoteChanged,
    StoreFailed,
)
from harness.core.ids import JobName
from harness.core.lifecycle import ORDER, Stage
from harness.core.observed import CouldNotLook
from harness.core.ports import RemoteFile
from harness.core.verdict import Verdict
from harness.gates import judge as gates
from harness.gates import plan
from harness.gates.evidence import CheckResult, GateResult, result_from_json
from harness.ledger.events import DestroyIntended, Fetched, Held, Released, StageEntered
from harness.ledger.kinds import JobEvent
from harness.runner import postdownload
from harness.runner import run as runner
from tests.support.context import MemoryStore, Telling, World, make_world
from tests.support.job_histories import check, gate
from tests.support.scripted_world import MODEL
from tests.support.windows import behave_like_windows


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path, monkeypatch, fast=True)


def _bent(stage: Stage, name: str, verdict: Verdict) -> tuple[CheckResult, ...]:
    return (check(stage, name, verdict),)


def _local(world: World) -> Path:
    assert world.history.fetched is not None
    return Path(world.history.fetched.path)


def test_a_whole_job_passes_every_gate_once_and_in_order(world: World) -> None:
    told = world.run()
    assert world.judged == list(ORDER)
    assert told.stages == list(ORDER)
    assert world.history.closed
    assert world.history.held is None


def test_the_log_holds_the_evidence_of_every_gate(world: World) -> None:
    world.run()
    for decided in world.history.gates.values():
        assert Path(decided.facts_path).is_file()
        assert result_from_json(decided.result).verdict is Verdict.PASS


@pytest.mark.parametrize("stage", ORDER)
def test_until_stops_behind_that_gate_and_goes_no_further_the_next_time(world: World, stage: Stage) -> None:
    world.run(until=stage)
    judged = len(world.judged)
    assert world.judged[-1] is stage
    world.run(until=stage)
    world.run(until=Stage.PREFLIGHT)
    assert len(world.judged) == judged
    world.run()
    assert world.history.closed


@pytest.mark.parametrize("stage", [stage for stage in ORDER if stage is not Stage.LAUNCH])
def test_a_failed_check_holds_its_stage_and_is_not_asked_again(world: World, stage: Stage) -> None:
    name = plan.declared(stage.value, world.job)[0]
    world.gates[stage] = [_bent(stage, name, Verdict.FAIL)]
    with pytest.raises(GateHeld, match=f"stage {stage} is held: {name}"):
        world.run()
    held = world.history.held
    assert held is not None
    assert (held.stage, held.error) == (stage, "GateHeld")
    assert name in held.reason
    assert world.judged.count(stage) == 1
    if stage is not Stage.TEARDOWN:
        assert world.provider.count("destroy") == 0
    world.run()
    assert world.history.closed
    assert world.provider.count("create") == 1


def test_an_act_that_could_not_look_is_held_as_unknown_with_its_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a traceback, not a failure of the machine, and not forgotten: the log says why the job stands still."""
    world.run(until=Stage.POSTTRAIN)

    def unseen(*_: object) -> None:
        raise CouldNotLook("no artifact was recorded on the box")

    monkeypatch.setitem(runner._ACTS, Stage.POSTDOWNLOAD, unseen)
    with pytest.raises(GateUnknown, match="no artifact was recorded on the box") as raised:
        world.run()
    assert raised.value.exit_code == 4
    assert isinstance(raised.value.__cause__, CouldNotLook)
    held = world.history.held
    assert held is not None
    assert (held.stage, held.error, held.reason) == (
        Stage.POSTDOWNLOAD,
        "GateUnknown",
        "no artifact was recorded on the box",
    )


def test_an_unknown_gate_is_asked_three_times_over_new_connections(world: World) -> None:
    unknown = _bent(Stage.UPLOAD, "remote_package_matches_manifest", Verdict.UNKNOWN)
    world.gates[Stage.UPLOAD] = [unknown, unknown]
    world.run(until=Stage.UPLOAD)
    assert world.judged.count(Stage.UPLOAD) == 3
    world.gates[Stage.INSTALL] = [_bent(Stage.INSTALL, "libraries_import", Verdict.UNKNOWN)] * 3
    with pytest.raises(GateUnknown, match="libraries_import"):
        world.run()
    assert world.judged.count(Stage.INSTALL) == 3


@pytest.mark.parametrize("stage", [Stage.PREFLIGHT, Stage.UPLOAD])
def test_between_two_looks_of_an_unknown_gate_it_waits_and_the_long_look_is_not_repeated(
    world: World, monkeypatch: pytest.MonkeyPatch, stage: Stage
) -> None:
    name = plan.declared(stage.value, world.job)[0]
    world.gates[stage] = [_bent(stage, name, Verdict.UNKNOWN)] * 9
    at: list[float] = []
    judge = world.judge

    def looked(facts: Path) -> GateResult:
        at.append(world.clock.monotonic())
        return judge(facts)

    if stage is not Stage.PREFLIGHT:
        world.run(until=Stage.PROVISION)
    monkeypatch.setattr(gates, "judge", looked)
    with pytest.raises(GateUnknown):
        world.run()
    pauses = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert pauses == [runner._RETRY_AFTER_S] * (0 if stage is Stage.PREFLIGHT else runner._UNKNOWN_RETRIES)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (GateHeld("why"), GateHeld),
        (CouldNotLook("why"), GateUnknown),
        (OSError(errno.EIO, "why"), HarnessError),
    ],
)
def test_what_held_a_stage_is_raised_as_it_is_and_what_it_was_explained_from_is_its_cause(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception]
) -> None:
    def breaks(*_: object) -> None:
        raise error

    monkeypatch.setitem(runner._ACTS, Stage.PREFLIGHT, breaks)
    with pytest.raises(raised, match="why") as seen:
        world.run()
    assert (seen.value is error) is isinstance(error, HarnessError)
    assert seen.value.__cause__ is (None if seen.value is error else error)


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ({}, {}, []),
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a"]),
        ({"a": {"b": 1, "c": [1]}}, {"a": {"b": 1, "c": [2]}}, ["a.c"]),
        ({"z": 1, "a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, ["a.b.c", "z"]),
        ({"a": None}, {"a": {"b": 1}}, ["a"]),
        ({"a": {"b": 1}}, {"a": 1}, ["a"]),
    ],
)
def test_fields_that_changed_are_named_by_their_place(before: Any, after: Any, names: list[str]) -> None:
    assert runner._changed(before, after) == names


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.UNKNOWN])
def test_a_gate_that_stays_shut_names_every_check_that_keeps_it_so(world: World, verdict: Verdict) -> None:
    first, second, third, *rest = sorted(plan.required(Stage.UPLOAD.value, world.job, []))
    told = gate(
        Stage.UPLOAD,
        world.job,
        check(Stage.UPLOAD, first, verdict, message=" one\nline " + "x" * 300, remedy=""),
        check(Stage.UPLOAD, second, verdict, message="", remedy="do this"),
        check(Stage.UPLOAD, third, verdict, remedy="do that"),
    )
    shut = runner.shut_gate(Stage.UPLOAD, replace(told, problems=("an odd folder",)))
    assert type(shut) is {Verdict.FAIL: GateHeld, Verdict.UNKNOWN: GateUnknown}[verdict]
    text = str(shut)
    assert text.startswith(f"stage upload is held: an odd folder; {first} (one")
    assert text.endswith(f"; {second}; {third} (assert 42 == 43)")
    assert len(text) < 400
    assert not any(name in text for name in rest)
    assert shut.remedy == "do this"
    missing = replace(told, results=told.results[:-1])
    assert f"{told.results[-1].id} did not report" in str(runner.shut_gate(Stage.UPLOAD, missing))


@pytest.mark.parametrize(
    ("gone", "intended", "spoilt", "again"),
    [
        (False, False, True, True),
        (True, False, True, True),
        (False, True, True, True),
        (True, True, True, False),
        (False, False, False, False),
    ],
)
def test_a_verified_file_that_is_spoilt_is_fetched_again_unless_its_instance_was_asked_to_go_and_went(
    world: World, gone: bool, intended: bool, spoilt: bool, again: bool
) -> None:
    world.run(until=Stage.POSTDOWNLOAD)
    context, telling = world.context(), Telling()
    (number,) = world.market.rented
    if intended:
        context.record(DestroyIntended(number, "gsh-night-0a1b2c3d"))
    if gone:
        world.market.rented.clear()
    if spoilt:
        _local(world).unlink()
    runner.reopen_if_spoilt(context, telling)
    assert world.history.passed(Stage.POSTDOWNLOAD) is not again
    assert any("going back to fetch and verify it again" in note for note in telling.notes) is again


def test_what_kept_a_gate_from_being_judged_is_told_before_the_checks_that_are_missing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unjudged(facts: Path) -> GateResult:
        return replace(world.judge(facts), results=(), problems=("there is no folder of checks /x",))

    monkeypatch.setattr(gates, "judge", unjudged)
    with pytest.raises(GateUnknown, match=r"is held: there is no folder of checks /x; .* did not report"):
        world.run()


def test_unknown_at_postdownload_verifies_nothing_and_destroys_nothing(world: World) -> None:
    stage = Stage.POSTDOWNLOAD
    world.gates[stage] = [_bent(stage, "gguf_generates", Verdict.UNKNOWN)] * 3
    with pytest.raises(GateUnknown):
        world.run()
    assert world.history.verified is None
    assert world.provider.count("destroy") == 0


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/models/x"), LocalDiskFull),
        (PermissionError(errno.EACCES, "Permission denied", "/models/x"), LocalReadOnly),
        (HostUnreachable("cut"), HostUnreachable),
    ],
)
def test_what_keeps_a_file_from_coming_home_is_held_and_goes_on(
    world: World, raised: Exception, expected: type[HarnessError]
) -> None:
    def fail(remote: RemoteFile) -> None:
        if remote.path.endswith(".gguf"):
            raise raised

    world.box.on_fetch = fail
    with pytest.raises(expected) as seen:
        world.run()
    assert type(seen.value) is expected
    assert world.history.held is not None
    assert str(seen.value) == world.history.held.reason
    assert seen.value.__cause__ is (None if seen.value is raised else raised)
    if isinstance(raised, OSError):
        assert "/models/x" in str(seen.value)
    world.box.on_fetch = lambda _: None
    world.run()
    assert world.history.closed


def test_a_log_that_cannot_be_written_hides_no_cause(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run(until=Stage.LAUNCH)
    append = type(world.store).append

    def full(store: MemoryStore, job: JobName, event: JobEvent, **words: Any) -> Any:
        if isinstance(event, Held):
            raise StoreFailed("the disk is full")
        return append(store, job, event, **words)

    monkeypatch.setattr(type(world.store), "append", full)
    world.gates[Stage.TRAINING] = [_bent(Stage.TRAINING, "loss_is_sane", Verdict.FAIL)]
    with pytest.raises(GateHeld, match="loss_is_sane"):
        runner.run(world.context(), telling := Telling(), lambda _id, _file: "yes")
    assert "the event log does not take that the job is held: the disk is full" in telling.notes
    assert world.history.held is None


def test_another_writer_is_a_conflict_and_not_overwritten(world: World) -> None:
    world.open()
    with pytest.raises(Conflict):
        world.store.append(world.job.name, StageEntered(stage=Stage.PREFLIGHT), expected_seq=0)


def test_a_spoilt_local_file_is_put_aside_and_fetched_again(world: World) -> None:
    world.run(until=Stage.POSTDOWNLOAD)
    local = _local(world)
    local.write_bytes(b"X" + MODEL[1:])
    told = world.run(until=Stage.POSTDOWNLOAD)
    assert local.read_bytes() == MODEL
    assert [path.read_bytes() for path in local.parent.glob("*.rejected-*")] == [b"X" + MODEL[1:]]
    assert any("takes its place" in note for note in told.notes)
    world.run()
    assert world.history.closed


def test_a_file_that_came_home_unrecorded_is_not_fetched_twice(world: World) -> None:
    world.run(until=Stage.POSTTRAIN)
    fetched: list[str] = []
    world.box.on_fetch = lambda remote: fetched.append(remote.path)
    local = world.context().destination / "model.Q8_0.gguf"
    local.parent.mkdir(parents=True)
    local.write_bytes(MODEL)
    world.run(until=Stage.POSTDOWNLOAD)
    assert not [path for path in fetched if path.endswith(".gguf")]
    assert _local(world) == local


@pytest.mark.parametrize("what", ["directory", "link", "shorter"])
def test_something_else_in_the_files_place_is_put_aside(world: World, what: str) -> None:
    world.run(until=Stage.POSTTRAIN)
    local = world.context().destination / "model.Q8_0.gguf"
    local.parent.mkdir(parents=True)
    if what == "directory":
        local.mkdir()
    elif what == "link":
        local.symlink_to(world.box.artifact)
    else:
        local.write_bytes(MODEL[:-1])
    world.run(until=Stage.POSTDOWNLOAD)
    assert local.is_file()
    assert not local.is_symlink()
    assert local.read_bytes() == MODEL


def test_a_companion_that_changed_takes_the_place_of_the_read_only_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run(until=Stage.POSTTRAIN)
    here = world.context().directory / "companions" / "training.log"
    here.chmod(0o444)
    there = world.box.root / "training.log"
    there.write_text(there.read_text() + "one line more\n")
    behave_like_windows(monkeypatch)
    postdownload._fetch_companions(world.context())
    assert here.read_text() == there.read_text()


def test_a_lost_companion_is_brought_again_before_the_file_is_judged(world: World) -> None:
    def fail(remote: RemoteFile) -> None:
        if remote.path.endswith("run.json"):
            raise HostUnreachable("cut")

    world.box.on_fetch = fail
    told = world.run(until=Stage.POSTTRAIN)
    assert any("companions could not all be fetched" in note for note in told.notes)
    world.box.on_fetch = lambda _: None
    world.run(until=Stage.POSTDOWNLOAD)
    assert (world.context().directory / "companions" / "run.json").is_file()


def test_an_artifact_that_changed_on_the_box_is_judged_again_there(world: World) -> None:
    world.run(until=Stage.POSTTRAIN)
    world.box.artifact.write_bytes(MODEL + b"more")
    with pytest.raises(RemoteChanged):
        world.run()
    assert world.provider.count("destroy") == 0
    world.run()
    assert world.judged.count(Stage.POSTTRAIN) == 2
    assert _local(world).read_bytes() == MODEL + b"more"
    assert world.history.closed


def test_an_artifact_with_a_hostile_name_is_not_recorded(world: World) -> None:
    world.run(until=Stage.TRAINING)
    world.box.artifact.rename(world.box.artifact.with_name("con.gguf"))
    told = world.run(until=Stage.POSTTRAIN)
    assert world.history.artifact is None
    assert any("'con.gguf' is refused" in note and "rename it on the box" in note for note in told.notes)


def test_a_second_copy_is_made_and_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, monkeypatch, fast=True, artifact={"second_copy": str(tmp_path / "copy")})
    copy = tmp_path / "copy" / "model.Q8_0.gguf"
    copy.parent.mkdir()
    copy.write_bytes(b"last month's model, of which this is the only copy")
    told = world.run(until=Stage.POSTDOWNLOAD)
    assert copy.read_bytes() == MODEL
    (aside,) = set(copy.parent.iterdir()) - {copy}
    assert aside.read_bytes() == b"last month's model, of which this is the only copy"
    assert any(aside.name in note for note in told.notes)


def test_a_release_that_expired_meanwhile_is_renewed(world: World) -> None:
    with pytest.raises(Refused):
        world.run(lambda _id, _file: None)
    world.clock.turn(world.job.limits.release_valid_s + 1)
    world.run()
    assert world.kinds().count(Released) == 2
    assert world.history.closed


def test_a_release_that_expired_after_the_request_is_not_renewed(world: World) -> None:
    """The instance is gone already: what is judged is the release that the guard used."""
    world.market.lag = 1000
    with pytest.raises(NotProven):
        world.run()
    world.market.lag = 0
    world.clock.turn(world.job.limits.release_valid_s + 1)
    world.run()
    assert world.kinds().count(Released) == 1
    assert world.history.closed


@pytest.mark.parametrize("until", [Stage.LAUNCH, Stage.TRAINING])
def test_a_package_that_changes_once_it_trains_is_left_alone(world: World, until: Stage) -> None:
    """What runs is what was staged: the work for the next job touches nothing of this one."""
    world.run(until=until)
    (Path(world.job.package.source) / "train_deepseek_forex.py").write_text("# of the next job\n")
    world.run()
    assert world.history.closed
    assert world.judged == list(ORDER)


def test_a_provider_that_is_away_is_held_and_destroys_nothing(world: World) -> None:
    world.run(until=Stage.POSTDOWNLOAD)
    world.provider.break_("instance", ProviderUnavailable("502"), times=1)
    with pytest.raises(ProviderUnavailable):
        world.run()
    assert world.provider.count("destroy") == 0
    world.run()
    assert world.history.closed


def test_what_came_home_is_told_with_the_rate_of_what_came(world: World) -> None:
    """The first word of a transfer tells what was here before it: that did not come now."""
    world.box.transfer_s = 100.0
    world.run(until=Stage.POSTDOWNLOAD)
    (fetched,) = world.history.all(Fetched)
    assert fetched.bytes_per_s == pytest.approx((len(MODEL) - len(MODEL) // 100) / 100.0, rel=0.01)


def test_what_was_here_before_has_no_rate(world: World) -> None:
    world.run(until=Stage.POSTTRAIN)
    artifact = world.history.artifact
    assert artifact is not None
    local = world.context().destination / Path(artifact.path).name
    local.parent.mkdir(parents=True)
    local.write_bytes(MODEL)
    world.run(until=Stage.POSTDOWNLOAD)
    assert [one.bytes_per_s for one in world.history.all(Fetched)] == [None]


@pytest.mark.parametrize(
    ("name", "small"),
    [
        ("adapter_model.safetensors", True),
        ("model.safetensors", False),
        ("optimizer.pt", False),
        ("trainer_state.json", True),
        ("chat_template.jinja", True),
        ("tokenizer.model", True),
        ("merges.txt", True),
        ("ref/adapter_config.json", False),
        ("global_step1/state.txt", False),
    ],
)
def test_of_an_unlisted_checkpoint_what_speaks_of_the_training_comes_home(name: str, small: bool) -> None:
    assert postdownload._is_small(name) is small


def _cut(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(MODEL[:-1])


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [(lambda _: None, None), (_cut, "has changed"), (Path.unlink, "is gone"), (_folder, "is gone")],
    ids=["as it was", "shorter", "gone", "a folder"],
)
def test_what_is_here_is_looked_at_now_and_not_believed_of_the_log(
    world: World, spoil: Callable[[Path], object], told: str | None
) -> None:
    world.run(until=Stage.POSTTRAIN)
    artifact = world.history.artifact
    assert artifact is not None
    assert postdownload.local_problem(world.context(), artifact) == "the artifact was never fetched"
    world.run(until=Stage.POSTDOWNLOAD)
    spoil(_local(world))
    found = postdownload.local_problem(world.context(), artifact)
    assert found == (None if told is None else f"{_local(world)} {told}")


def test_without_a_recorded_artifact_nothing_is_brought_home(world: World) -> None:
    world.run(until=Stage.TRAINING)
    with pytest.raises(CouldNotLook, match="no artifact was recorded on the box"):
        postdownload.download(world.context(), Telling())
    assert not world.context().destination.exists()


def test_a_job_that_is_over_is_not_closed_again(world: World) -> None:
    world.run()
    over = world.store.records(world.job.name)
    world.run()
    assert world.store.records(world.job.name) == over
