"""The loop: act, look, judge, record, next stage. What was recorded is never done twice.

Killed at any instruction, the same command goes on: every act first looks at what the
event log and the world already hold, and a stage is left only by its gate's event.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from harness import gate as gates
from harness.canonical import Json
from harness.errors import BadInput, GateHeld, GateUnknown, HarnessError
from harness.evidence import GateResult
from harness.guard import Confirm
from harness.job.model import Job
from harness.lifecycle import Stage
from harness.observed import CouldNotLook
from harness.ports import EventStore
from harness.runner import homecoming, leaving, packing, renting, watching
from harness.runner.desk import RunnerDesk
from harness.runner.narrator import Narrator
from harness.verdict import Verdict

_UNKNOWN_RETRIES = 2
_RETRY_AFTER_S = 3.0


def open_job(store: EventStore, job: Job, file: Path, *, accept_changes: bool) -> None:
    """Record a job's configuration before its first step; later, that it changed, when that was agreed to.

    Raises BadInput when the job is under way with another configuration.
    """
    data: dict[str, Json] = {"job": job.model_dump(mode="json"), "file": str(file)}
    known = [event.data for event in store.events(job.name) if event.kind == "opened"]
    if known and known[-1]["job"] == data["job"]:
        return
    if known and not accept_changes:
        fields = ", ".join(_changed(known[-1]["job"], data["job"]))
        raise BadInput(
            f"job {job.name} is under way with another configuration; {file} changes {fields}",
            remedy="Undo the change, give the job another name, or agree to it with --accept-changes.",
        )
    store.append(job.name, "opened", data)


def run(desk: RunnerDesk, narrator: Narrator, confirm: Confirm, *, until: Stage | None = None) -> None:
    """Drive the job to its end, or through the gate of ``until``.

    Raises GateHeld or GateUnknown when a gate stays shut, and whatever kept an act from being done;
    each is recorded as ``held`` before it is raised. Nothing is ever destroyed on that way.
    """
    while (stage := desk.history.stage) is not None:
        if desk.history.held is not None or stage not in desk.history.entered:
            desk.record("stage", {"stage": stage.value})
        narrator.stage(stage)
        try:
            _act(stage, desk, narrator, confirm)
            _pass_gate(stage, desk, narrator)
        except (HarnessError, CouldNotLook) as error:
            desk.record("held", {"stage": stage.value, "error": type(error).__name__, "reason": str(error)})
            if isinstance(error, CouldNotLook):
                raise GateUnknown(str(error)) from error
            raise
        if stage is until:
            return
    if not desk.history.closed:
        desk.record("closed", {})


def reopen_if_spoilt(desk: RunnerDesk, narrator: Narrator) -> None:
    """Go back to postdownload when the verified file is gone or changed and the instance still has it."""
    history, artifact = desk.history, desk.history.artifact
    if artifact is None or not history.passed(Stage.POSTDOWNLOAD) or history.destroy_intended:
        return
    problem = homecoming.local_problem(desk, artifact)
    if problem is not None:
        desk.record("reopened", {"stage": Stage.POSTDOWNLOAD.value, "why": problem})
        narrator.note(f"{problem}: going back to fetch and verify it again")


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
    for _ in range(_UNKNOWN_RETRIES):
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
    names = ", ".join([*(one.id for one in result.not_passed()), *result.missing]) or "; ".join(result.problems)
    text = f"stage {stage} is held: {names}"
    raise GateHeld(text) if result.verdict is Verdict.FAIL else GateUnknown(text)


def _record_verified(desk: RunnerDesk) -> None:
    """The postdownload gate has passed on the fetched file: commit that, unless it was before the last death."""
    fetched = desk.history.fetched
    if fetched is not None and desk.history.verified != fetched:
        desk.record("verified", {"path": str(fetched.path), "size": fetched.size, "sha256": fetched.sha256})


def _changed(before: Any, after: Any, prefix: str = "") -> list[str]:
    """The names of the fields in which two configurations differ."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before == after else [prefix]
    return [
        name
        for key in sorted(set(before) | set(after))
        for name in _changed(before.get(key), after.get(key), f"{prefix}.{key}" if prefix else key)
    ]
