"""An adopted job's plan: what nobody can look at any more is left out by name, the rest goes red when it is broken."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.core.answers import JsonFile
from harness.core.errors import BadInput
from harness.core.lifecycle import Stage
from harness.core.observed import seen, unseen
from harness.core.verdict import Verdict
from harness.gates import plan
from harness.job.load import load_job
from tests.support.facts import (
    CRASHED,
    DATA,
    KILLED,
    OTHER_SHA,
    PASSING,
    RUNNING,
    SHA,
    V2,
    Judged,
    assert_only,
    changed,
    judge,
    log,
    posttrain,
    run_json,
    sound_job,
    whole_log,
)

OVER, PLANNED, ROWS = "adopted_run_is_over", "adopted_run_is_as_planned", "adopted_rows_are_yours"
DONE = "all_steps_done"
STAGES = (Stage.POSTTRAIN, Stage.POSTDOWNLOAD, Stage.TEARDOWN)
JOB = sound_job().model_copy(update={"adopted": True})


def _judged(changes: Mapping[str, Any]) -> dict[str, Judged]:
    return judge(Stage.POSTTRAIN, changed(posttrain(), changes), JOB)


def _log(old: str, new: str) -> dict[str, Any]:
    lines = whole_log()
    assert any(old in line for line in lines)
    return {"log": log(*[line.replace(old, new) for line in lines])}


def _run(*path: str, value: Any) -> dict[str, Any]:
    told = json.loads(json.dumps(run_json(JOB)))
    inner = told
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return {"run": JsonFile(exists=True, json=told)}


def _manifest(**fields: Any) -> JsonFile:
    return JsonFile(exists=True, bytes=900, json={**posttrain().manifest.get().json, **fields})


def test_only_what_came_before_the_adoption_is_left_out() -> None:
    for stage in set(Stage) - set(STAGES):
        assert plan.declared(stage, JOB) == ()
    assert plan.left_out("posttrain", JOB).keys() - plan.of_other_kinds(JOB) == {"completion_logged"}
    assert ROWS in plan.left_out("posttrain", sound_job())
    assert plan.declared("postdownload", JOB) == plan.declared("postdownload", sound_job())
    assert plan.declared("teardown", JOB) == plan.declared("teardown", sound_job())
    assert {OVER, PLANNED} <= plan.left_out("posttrain", sound_job()).keys()


@pytest.mark.parametrize("stage", STAGES)
def test_a_sound_run_opens_every_gate(stage: Stage) -> None:
    judged = judge(stage, PASSING[stage](), JOB)
    assert set(judged) == set(plan.declared(stage, JOB))
    assert {name: said for name, said in judged.items() if said.verdict is not Verdict.PASS} == {}


def test_without_a_recorded_exit_status_the_log_tells_that_it_is_over() -> None:
    """Whoever launched it may have recorded none."""
    assert _judged({"session": dataclasses.replace(KILLED, started=False)})[OVER].verdict is Verdict.PASS


BROKEN: list[tuple[str, Mapping[str, Any], Mapping[str, str]]] = [
    ("it still runs", {"session": RUNNING}, {OVER: "still runs"}),
    ("something writes", {"at_work": ("71 python3 train.py",)}, {OVER: "something still runs there: 71 python3"}),
    ("it crashed", {"session": CRASHED}, {OVER: "status 1"}),
    (
        "no last line, no manifest",
        {**_log("TRAINING COMPLETE", "and so on"), "manifest": _manifest(steps={})},
        {OVER: "does not end with TRAINING COMPLETE"},
    ),
    (
        "it failed",
        {**_log("TRAINING COMPLETE", "TRAINING FAILED: no space"), "manifest": _manifest(steps={})},
        {OVER: "the training failed: no space"},
    ),
    (
        "the manifest of fewer steps",
        {**_log("TRAINING COMPLETE", "and so on"), "manifest": _manifest(steps={"sft": 33, "dpo": 80})},
        {OVER: "no MANIFEST.json lists the outputs of as many steps"},
    ),
    ("other rows", _log(f"sha256={SHA}", f"sha256={OTHER_SHA}"), {ROWS: f"the log announces {OTHER_SHA}"}),
    (
        "rows that were built",
        _log("rows=2550 built=0", "rows=2550 built=2550"),
        {ROWS: "the package built rows of pairs: they are not yours"},
    ),
    ("no proof line", _log(V2, "begun"), {PLANNED: "before it no line V2 FOREX INTEGRATION"}),
    ("other data", _log("15300 SFT", "300 SFT"), {PLANNED: "V2 FOREX INTEGRATION: sft is 300, planned 15300"}),
    ("another batch size", _log("batch_size=32", "batch_size=8"), {PLANNED: "plan: batch_size is 8, planned 32"}),
    ("another device map", _log("device_map=auto", "device_map=none"), {PLANNED: "device_map is 'none'"}),
    ("several processes", _log("world_size=1", "world_size=8"), {PLANNED: "world_size is 8"}),
    ("no run.json", {"run": JsonFile(exists=False)}, {PLANNED: "there is no run.json"}),
    ("fewer rows", _run("data", "pairs", "rows", value=255), {PLANNED: "run.json: rows is"}),
    ("no data told", _run("data", value="all of it"), {PLANNED: "run.json: rows is {}"}),
    ("another model", _run("model", "config", "hidden_size", value=1), {PLANNED: "hidden_size is 1"}),
    ("a model by name only", _run("model", value="Qwen"), {PLANNED: "architecture is None"}),
    ("other steps", _run("steps", value={"sft": 1, "dpo": 1}), {PLANNED: "run.json: steps is"}),
]


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_what_is_broken_is_named(changes: Mapping[str, Any], expected: Mapping[str, str]) -> None:
    assert_only(_judged(changes), Verdict.FAIL, expected)


RESUMED = "[sft] RESUME from models/output/sft/checkpoint-100 at step 100"
KEPT_LOGS = {
    "whole": whole_log(),
    "the first of two runs, cut by the death of the box": whole_log()[:120],
    "the first of two runs, which failed": [*whole_log()[:120], "TRAINING FAILED: no space"],
    "the second of two runs": [line for line in whole_log()[len(DATA) + 1 :] if not line.startswith("PLAN")],
    "of the export alone": whole_log()[-2:],
    "empty": [],
}


@pytest.mark.parametrize("lines", KEPT_LOGS.values(), ids=KEPT_LOGS)
def test_a_log_that_was_not_kept_is_made_up_for_by_the_files(lines: list[str]) -> None:
    """Who resumes by hand without tee has a log that ends before the training, or begins after it."""
    judged = _judged({"log": log(*lines)})
    assert {name: said for name, said in judged.items() if said.verdict is not Verdict.PASS} == {}
    complete = lines[-1:] == ["TRAINING COMPLETE"]
    assert judged[OVER].saw["rests on"] == ("the log" if complete else "MANIFEST.json, which is written last")
    assert judged[PLANNED].saw["rows rest on"] == ("the log" if V2 in lines else "run.json")


def test_without_log_and_manifest_nothing_says_that_all_steps_were_done() -> None:
    changes = {"log": log(), "manifest": _manifest(steps={"sft": 330})}
    judged = _judged(changes)
    assert {judged[OVER].verdict, judged[DONE].verdict} == {Verdict.FAIL}
    assert "neither the log nor MANIFEST.json" in judged[DONE].message


def test_rows_that_are_not_here_are_unknown_and_built_ones_may_be_allowed() -> None:
    elsewhere = dataclasses.replace(posttrain(), rows_here=unseen("no such file"))
    assert_only(judge(Stage.POSTTRAIN, elsewhere, JOB), Verdict.UNKNOWN, {ROWS: "no such file"})
    built = dataclasses.replace(elsewhere, log=seen(_log("built=0", "built=9")["log"]))
    assert_only(judge(Stage.POSTTRAIN, built, JOB), Verdict.FAIL, {ROWS: "they are not yours"})
    data = JOB.data.model_copy(update={"allow_built_rows": True})
    assert judge(Stage.POSTTRAIN, built, JOB.model_copy(update={"data": data}))[ROWS].verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("field", "blind"),
    [("log", {OVER, PLANNED}), ("session", {OVER}), ("manifest", {OVER}), ("run", {PLANNED})],
)
def test_what_was_not_seen_is_unknown(field: str, blind: set[str]) -> None:
    cut: dict[str, Any] = {field: unseen("the line was cut")}
    body: Any = dataclasses.replace(posttrain(), **cut)
    judged = judge(Stage.POSTTRAIN, body, JOB)
    assert {name for name in (OVER, PLANNED) if judged[name].verdict is Verdict.UNKNOWN} == blind


def test_a_run_that_is_no_object_is_unknown() -> None:
    assert_only(_judged({"run": JsonFile(exists=True, json=[1])}), Verdict.UNKNOWN, {PLANNED: "no JSON object"})


def test_no_job_file_declares_itself_adopted(tmp_path: Path) -> None:
    """Else it would do without every gate before the training's end."""
    path = tmp_path / "job.toml"
    path.write_text('profile = "forex-r1-v3"\nname = "x"\nadopted = true\n')
    with pytest.raises(BadInput, match="does not say whether an instance is adopted"):
        load_job(path)
