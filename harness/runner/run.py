"""The loop: act, look, judge, record, next stage. What was recorded is never done twice.

Killed at any instruction, the same command goes on: every act first looks at what the
event log and the world already hold, and a stage is left only by its gate's event.
"""

from __future__ import annotations

import dataclasses
import errno
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import gate as gates
from harness.canonical import Json
from harness.errors import (
    BadInput,
    GateHeld,
    GateUnknown,
    HarnessError,
    HostUnreachable,
    InstanceDead,
    LocalDiskFull,
    StoreFailed,
)
from harness.events import Event
from harness.evidence import GateResult
from harness.guard import Confirm
from harness.job.model import Job
from harness.lifecycle import Stage
from harness.observed import CouldNotLook
from harness.ports import EventStore
from harness.runner import homecoming, leaving, packing, renting, replacing, watching
from harness.runner.desk import RunnerDesk
from harness.runner.narrator import Narrator
from harness.runner.replacing import NOBODY_AGREES, Agreement
from harness.staging import stage_package
from harness.text import printable
from harness.verdict import Verdict

_UNKNOWN_RETRIES = 2
_RETRY_AFTER_S = 3.0
_PACKAGE_MAY_CHANGE = {Stage.PROVISION, Stage.UPLOAD, Stage.INSTALL, Stage.LAUNCH}
_ELSEWHERE = {
    "provider.kind",
    "provider.server_url",
    "provider.scenario",
    "machine.ssh_user",
    "package.remote_dir",
    "training.session",
}
"""Fields of the job file that say where its instance, and what lies and runs on it, is to be found."""


def open_job(store: EventStore, job: Job, file: Path, *, accept_changes: bool) -> None:
    """Record a job's configuration before its first step; later, that it changed.

    Until something is rented, the file may be mended as preflight asks for it; from then on a change must be agreed to.
    Raises BadInput when the job is under way with another configuration, or would look elsewhere for what it has:
    an instance that is alive at one provider, a checkpoint that lies in one directory.
    """
    data: dict[str, Json] = {"job": job.model_dump(mode="json"), "file": str(file)}
    events = store.events(job.name)
    known: list[Mapping[str, Any]] = [event.data for event in events if event.kind == "opened"]
    if known and known[-1]["job"] == data["job"]:
        return
    if known and known[-1]["job"].get("adopted"):
        raise BadInput(
            f"job {job.name} took its instance over: it has no job file of its own",
            remedy=f"harness destroy {job.name} goes on with it.",
        )
    if known:
        fields = _changed(known[-1]["job"], data["job"])
        if not accept_changes and _has_rented(events):
            raise BadInput(
                f"job {job.name} is under way with another configuration; {file} changes {', '.join(fields)}",
                remedy="Undo the change, give the job another name, or agree to it with --accept-changes.",
            )
        if _ELSEWHERE & set(fields) and _may_bill(events):
            raise BadInput(
                f"job {job.name} has rented an instance; {file} changes where that, or what is on it, would be looked "
                f"for ({', '.join(sorted(_ELSEWHERE & set(fields)))})",
                remedy="Undo the change, or give the job another name.",
            )
    store.append(job.name, "opened", data)


def run(
    desk: RunnerDesk,
    narrator: Narrator,
    confirm: Confirm,
    *,
    until: Stage | None = None,
    agreement: Agreement = NOBODY_AGREES,
) -> None:
    """Drive the job to its end, or through the gate of ``until``.

    ``agreement`` is asked when the instance died, before another takes its place.

    Raises GateHeld or GateUnknown when a gate stays shut, and whatever kept an act from being done;
    each is recorded as ``held`` before it is raised. Nothing that runs is ever destroyed on that way.
    """
    commanded = True  # what stands still is started for an operator's command, not behind anybody's back later
    while (stage := desk.history.stage) is not None and not (until and desk.history.passed(until)):
        if desk.history.held is not None or stage not in desk.history.entered:
            desk.record("stage", {"stage": stage.value})
        narrator.stage(stage)
        try:
            try:
                if _needs_the_box(stage, desk):
                    renting.resume(desk, narrator, may_start=commanded)
                _act(stage, desk, narrator, confirm)
            except (InstanceDead, HostUnreachable) as error:
                if not _replaced(error, desk, narrator, agreement):
                    raise
                commanded = True
                continue
            _pass_gate(stage, desk, narrator)
            commanded = commanded and stage is Stage.PREFLIGHT
        except (HarnessError, CouldNotLook, OSError) as error:
            explained = _explained(error)
            _record_held(desk, narrator, stage, explained)
            if explained is error:
                raise
            raise explained from error
    if desk.history.stage is None and not desk.history.closed:
        desk.record("closed", {})


def _replaced(
    error: InstanceDead | HostUnreachable, desk: RunnerDesk, narrator: Narrator, agreement: Agreement
) -> bool:
    """Whether another instance takes the place of the job's, which died; one that is only held is kept from billing."""
    dead = error if isinstance(error, InstanceDead) else renting.death(desk)
    if dead is None:
        return False
    replaced = False
    try:
        replaced = replacing.replace(desk, narrator, dead, agreement)
    finally:
        if not replaced and not desk.history.destroy_intended:
            watching.keep_from_billing(desk, narrator, str(dead))
    return replaced


def reopen_if_spoilt(desk: RunnerDesk, narrator: Narrator) -> None:
    """Go back to postdownload when the verified file is gone or changed and the instance still has it."""
    history, artifact = desk.history, desk.history.artifact
    if artifact is None or not history.passed(Stage.POSTDOWNLOAD) or history.destroyed is not None:
        return
    problem = homecoming.local_problem(desk, artifact)
    if problem is not None and not (history.destroy_intended and renting.gone_by_now(desk)):
        desk.record("reopened", {"stage": Stage.POSTDOWNLOAD.value, "why": problem})
        narrator.note(f"{problem}: going back to fetch and verify it again")


def reopen_if_mended(desk: RunnerDesk, narrator: Narrator) -> None:
    """Go back to preflight when package or job file were changed since, and the training has not passed launch.

    What a held gate asks to be mended is mended there; the instance is kept meanwhile.
    """
    history = desk.history
    if history.staged is None or history.stage not in _PACKAGE_MAY_CHANGE:
        return
    if stage_package(desk.job, desk.directory).manifest == history.staged["files"]:
        if _configured_since_preflight(history.events):
            desk.record("reopened", {"stage": Stage.PREFLIGHT.value, "why": "the job file has changed"})
            narrator.note("the job file has changed: preflight judges it anew")
        return
    if history.launches:
        watching.stop_training(desk, narrator, "its package has changed")
    for stage in (Stage.LAUNCH, Stage.INSTALL, Stage.UPLOAD, Stage.PREFLIGHT):
        if history.passed(stage):
            desk.record("reopened", {"stage": stage.value, "why": "the package has changed"})
    narrator.note("the package has changed: it is checked, sent and installed anew")


def judge(stage: Stage, desk: RunnerDesk, narrator: Narrator, *, kind: str = "gate") -> GateResult:
    """Take the stage's facts, judge them, and record what was decided with the facts that it rests on.

    Only a ``gate`` event opens a gate; ``poll`` is a judgement in mid-stage.
    """
    taken = desk.take_facts(stage)
    result = gates.judge(taken.path)
    body: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(result)))
    desk.record(
        kind,
        {
            "stage": stage.value,
            "verdict": result.verdict.value,
            "plan_digest": result.plan_digest,
            "result": body,
            "facts_path": str(taken.path),
            "facts_sha256": taken.sha256,
        },
    )
    narrator.judged(stage, result)
    return result


def _needs_the_box(stage: Stage, desk: RunnerDesk) -> bool:
    """Whether a stage works on the box that an earlier one has made ready: it may be stopped or gone by now."""
    if stage is Stage.POSTDOWNLOAD and desk.history.artifact is not None:
        return homecoming.local_problem(desk, desk.history.artifact) is not None
    return stage not in {Stage.PREFLIGHT, Stage.PROVISION, Stage.TEARDOWN}


def _explained(error: HarnessError | CouldNotLook | OSError) -> HarnessError:
    """What kept a stage from being passed, as an error with a remedy."""
    if isinstance(error, HarnessError):
        return error
    if isinstance(error, CouldNotLook):
        return GateUnknown(str(error))
    where = f"{error.filename}: " if error.filename else ""
    text = f"this machine failed: {where}{error.strerror or error}"
    return LocalDiskFull(text) if error.errno in {errno.ENOSPC, errno.EDQUOT} else HarnessError(text)


def _record_held(desk: RunnerDesk, narrator: Narrator, stage: Stage, error: HarnessError) -> None:
    """Say in the log why the job stands still; a log that cannot be written hides no cause."""
    data: dict[str, Json] = {"stage": stage.value, "error": type(error).__name__, "reason": printable(str(error), 4000)}
    try:
        desk.record("held", data)
    except StoreFailed as failed:
        narrator.note(f"the event log does not take that the job is held: {printable(str(failed))}")


def _act(stage: Stage, desk: RunnerDesk, narrator: Narrator, confirm: Confirm) -> None:
    match stage:
        case Stage.PREFLIGHT:
            packing.preflight(desk, narrator)
        case Stage.PROVISION:
            renting.provision(desk, narrator)
        case Stage.UPLOAD:
            packing.upload(desk, narrator)
        case Stage.INSTALL:
            packing.install(desk, narrator)
        case Stage.LAUNCH:
            watching.launch(desk, narrator)
        case Stage.TRAINING:
            watching.watch(desk, narrator, lambda polled: judge(polled, desk, narrator, kind="poll"))
        case Stage.POSTTRAIN:
            homecoming.posttrain(desk, narrator)
        case Stage.POSTDOWNLOAD:
            homecoming.download(desk, narrator)
        case Stage.TEARDOWN:
            _record_verified(desk)
            leaving.teardown(desk, narrator, confirm)


def _pass_gate(stage: Stage, desk: RunnerDesk, narrator: Narrator) -> None:
    """Judge until the answer is not UNKNOWN, a few times; then the gate is open, or holds."""
    result = judge(stage, desk, narrator)
    for _ in range(0 if stage is Stage.PREFLIGHT else _UNKNOWN_RETRIES):  # whose look is long
        if result.verdict is not Verdict.UNKNOWN:
            break
        desk.clock.sleep(_RETRY_AFTER_S)
        desk.forget_connections()
        result = judge(stage, desk, narrator)
    if result.verdict is Verdict.PASS:
        if stage is Stage.POSTDOWNLOAD:
            _record_verified(desk)
        return
    if stage is Stage.LAUNCH and result.verdict is Verdict.FAIL:
        watching.stop_training(desk, narrator, "the launch gate failed")
    shut = result.not_passed()
    told = [f"{one.id} ({printable(one.message.strip(), 200)})" if one.message else one.id for one in shut]
    told += [f"{check} did not report" for check in result.missing]
    text = f"stage {stage} is held: " + "; ".join([*result.problems, *told])
    remedy = next((one.remedy for one in shut if one.remedy), None)
    raise GateHeld(text, remedy=remedy) if result.verdict is Verdict.FAIL else GateUnknown(text, remedy=remedy)


def _record_verified(desk: RunnerDesk) -> None:
    """The postdownload gate has passed on the fetched file: commit that, unless it was before the last death."""
    fetched = desk.history.fetched
    if fetched is not None and desk.history.verified != fetched:
        desk.record("verified", {"path": str(fetched.path), "size": fetched.size, "sha256": fetched.sha256})


def _configured_since_preflight(events: Sequence[Event]) -> bool:
    """Whether the job's configuration is another than the one that preflight was last judged on."""
    marks = [
        event.kind
        for event in events
        if event.kind == "opened" or (event.kind == "gate" and event.data["stage"] == Stage.PREFLIGHT.value)
    ]
    return marks[-1] == "opened"


def _has_rented(events: Sequence[Event]) -> bool:
    """Whether this job has had an instance, or may have one."""
    return _may_bill(events) or any(event.kind == "rented" for event in events)


def _may_bill(events: Sequence[Event]) -> bool:
    """Whether a rent was begun and no destruction proven since."""
    begun, over = {"rent_intended", "rented", "adopted"}, {"rent_failed", "destroyed", "abandoned", "lost"}
    kinds = [event.kind for event in events if event.kind in begun | over]
    return bool(kinds) and kinds[-1] in begun


def _changed(before: Any, after: Any, prefix: str = "") -> list[str]:
    """The names of the fields in which two configurations differ."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before == after else [prefix]
    return [
        name
        for key in sorted(set(before) | set(after))
        for name in _changed(before.get(key), after.get(key), f"{prefix}.{key}" if prefix else key)
    ]
