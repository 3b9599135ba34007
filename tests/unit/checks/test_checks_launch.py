"""Each check of stage launch goes red, alone, when what it guards is broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness.core.answers import JsonFile, Match, Matches, Processes, SessionState
from harness.core.lifecycle import Stage
from harness.core.observed import seen
from harness.core.verdict import Verdict
from tests.support import facts
from tests.support.facts import (
    CRASHED,
    DATA,
    ENDED,
    EPOCHS,
    KILLED,
    OTHER_SHA,
    SHA,
    V2,
    assert_only,
    changed,
    judge,
    launch,
    log,
    python,
    sound_job,
    step_lines,
)

ALIVE, GROWING, SAID = "training_session_alive", "log_is_growing", "v2_forex_integration_logged"
SINGLE, SHARDED, CONFIG = "single_process_training", "model_is_sharded_as_planned", "effective_config_logged"
LOSSES = "first_losses_finite"
ROWS, SEEN = "trained_rows_are_yours", "all_rows_announced"
PLAN = "\n".join((facts.PLAN, *EPOCHS))
OTHER_ROWS = [line.replace(SHA, OTHER_SHA) for line in DATA]
STEPS = step_lines("sft", 1, 5)
SHORT = "V2 FOREX INTEGRATION: 15299 SFT + 2550 DPO samples from YOUR data"
RESUMED = "[sft] RESUME from models/output/sft/checkpoint-100 at step 100"


def said(*lines: str) -> Matches:
    return Matches(exists=True, bytes=900, count=len(lines), matches=tuple(Match(n, t) for n, t in enumerate(lines)))


def with_plan(old: str, new: str) -> dict[str, Any]:
    assert old in PLAN
    return {"log": log(V2, PLAN.replace(old, new), *STEPS)}


def with_process(*argv: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    tree = (python("train_deepseek_forex.py"), python(pid=5000, argv=tuple(argv), env=env or {}))
    return {"processes": Processes(tree)}


BROKEN: list[tuple[str, Mapping[str, Any], Mapping[str, str]]] = [
    ("never started", {"session": SessionState(False, False, None, None, None)}, {ALIVE: "never started"}),
    ("crashed", {"session": CRASHED}, {ALIVE: "status 1"}),
    ("killed", {"session": KILLED}, {ALIVE: "killed"}),
    ("silent", {"log_age_s": 301.0}, {GROWING: "301 s"}),
    ("crashed and silent", {"session": CRASHED, "log_age_s": 301.0}, {ALIVE: "status 1", GROWING: "301 s"}),
    ("the log of another run", {"log": log(SHORT, PLAN, *STEPS)}, {SAID: "15299 sft + 2550 dpo"}),
    ("no line", {"proof": said()}, {SAID: "did not appear within 240 s"}),
    ("no log file", {"proof": Matches(exists=False)}, {SAID: "no training.log"}),
    ("a row short", {"proof": said(SHORT), "log": log(SHORT, PLAN, *STEPS)}, {SAID: "15299"}),
    ("more than the line", {"proof": said(V2 + " and more")}, {SAID: "and more"}),
    ("a good line, then a bad one", {"proof": said(V2, SHORT)}, {SAID: "15299"}),
    ("said by an earlier attempt only", {"log": log(V2, PLAN, *STEPS, PLAN, RESUMED)}, {SAID: "an earlier attempt"}),
    ("two processes planned", with_plan("world_size=1", "world_size=8"), {SINGLE: "world_size=8"}),
    (
        "torchrun",
        with_process("/usr/bin/python3", "/opt/conda/bin/torchrun", "--nproc_per_node=8", "t.py"),
        {SINGLE: "torchrun"},
    ),
    ("torchrun behind an option", with_process("python3", "-u", "/usr/bin/torchrun", "t.py"), {SINGLE: "torchrun"}),
    ("accelerate", with_process("accelerate", "launch", "t.py"), {SINGLE: "accelerate launch"}),
    ("a module", with_process("python3", "-m", "torch.distributed.run", "t.py"), {SINGLE: "torch.distributed.run"}),
    ("deepspeed", with_process("python3", "-m", "deepspeed.launcher.launch", "t.py"), {SINGLE: "deepspeed"}),
    ("a world of eight", with_process("python3", "t.py", env={"WORLD_SIZE": "8"}), {SINGLE: "WORLD_SIZE=8"}),
    ("another device map", with_plan("device_map=auto", "device_map=None"), {SHARDED: "device_map=None"}),
    ("no devices", with_plan("devices=cuda:0,cuda:1,cuda:2", "devices="), {SHARDED: "no device"}),
    ("weights on the CPU", with_plan("cuda:0,", "cuda:0,cpu,"), {SHARDED: "not on a GPU"}),
    ("weights nowhere", with_plan("cuda:0,", "cuda:0,meta,"), {SHARDED: "weights are on meta, not on a GPU"}),
    ("weights on the disk", with_plan("cuda:0,", "cuda:0,disk,"), {SHARDED: "not on a GPU"}),
    ("another batch size", with_plan("batch_size=32", "batch_size=8"), {CONFIG: "batch_size"}),
    (
        "an older package: it announces no epochs",
        {"log": log(V2, facts.PLAN, *STEPS)},
        {SEEN: "takes 32 rows, 128 are"},
    ),
    ("half the accumulation", with_plan("rows_a_step=128", "rows_a_step=64"), {SEEN: "takes 64 rows, 128 are planned"}),
    ("a tenth split off", with_plan("rows=15300", "rows=13770"), {SEEN: "it has 13770 rows, the job has 15300"}),
    ("another rank", with_plan("lora_r=64", "lora_r=8"), {CONFIG: "lora_r"}),
    ("another dtype", with_plan("bfloat16", "float16"), {CONFIG: "dtype"}),
    ("fewer steps", with_plan("sft_steps=330", "sft_steps=33"), {CONFIG: "differs in steps"}),
    ("rare checkpoints", with_plan("checkpoint_every=100", "checkpoint_every=500"), {CONFIG: "checkpoint_every"}),
    (
        "other rows with the same counts",
        {"log": log(V2, *OTHER_ROWS, PLAN, *STEPS)},
        {ROWS: f"features: the log announces {OTHER_SHA}, here it is {SHA}"},
    ),
    ("no run.json", {"run": JsonFile(exists=False), "log": log(V2, *DATA, PLAN, *STEPS)}, {CONFIG: "no run.json"}),
    (
        "run.json of another run",
        {
            "run": JsonFile(exists=True, json={"steps": {"sft": 1, "dpo": 80}}),
            "log": log(V2, *DATA, PLAN, *STEPS),
        },
        {CONFIG: "announces"},
    ),
    (
        "run.json is a list",
        {"run": JsonFile(exists=True, json=[1]), "log": log(V2, *DATA, PLAN, *STEPS)},
        {CONFIG: "announces None"},
    ),
    (
        "a loss that is nan",
        {"log": log(V2, PLAN, *step_lines("sft", 1, 5, loss=float("nan")))},
        {LOSSES: "sft step 1: nan"},
    ),
    ("a loss that is inf", {"log": log(V2, PLAN, *step_lines("sft", 1, 5, loss=float("inf")))}, {LOSSES: "inf"}),
    ("a loss that is huge", {"log": log(V2, PLAN, *step_lines("sft", 1, 5, loss=21.0))}, {LOSSES: "21.0"}),
    (
        "nan in the first DPO steps",
        {"log": log(V2, PLAN, *STEPS, *step_lines("dpo", 1, 2, loss=float("nan")))},
        {LOSSES: "dpo step 1"},
    ),
    ("no loss yet", {"log": log(V2, PLAN)}, {LOSSES: "no loss"}),
]


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_what_is_broken_is_named(changes: Mapping[str, Any], expected: Mapping[str, str]) -> None:
    facts = changed(launch(), changes)
    assert_only(judge(Stage.LAUNCH, facts), Verdict.FAIL, expected)


def test_a_training_that_announces_nothing_fails_all_that_read_its_plan() -> None:
    judged = judge(Stage.LAUNCH, replace(launch(), log=seen(log(V2, *STEPS))))
    assert_only(judged, Verdict.FAIL, dict.fromkeys((SINGLE, SHARDED, CONFIG, SEEN), "announces no plan"))


def test_fewer_devices_than_the_job_asks_for() -> None:
    judged = judge(Stage.LAUNCH, launch(), sound_job(training={"devices": 4}))
    assert_only(judged, Verdict.FAIL, {SHARDED: "weights are on cuda:0, cuda:1, cuda:2 only"})


def test_a_training_whose_processes_cannot_be_seen_is_unknown() -> None:
    judged = judge(Stage.LAUNCH, replace(launch(), processes=seen(Processes(()))))
    assert_only(judged, Verdict.UNKNOWN, {SINGLE: "none of its processes was seen"})


@pytest.mark.parametrize(
    "argv",
    [
        ("python3", "train.py", "--config", "configs/accelerate.yaml"),
        ("python3", "/workspace/deepspeed_forex/train.py"),
        ("vim", "torchrun_notes.md"),
    ],
)
def test_a_name_that_merely_holds_a_launchers_name_is_none(argv: tuple[str, ...]) -> None:
    assert_only(judge(Stage.LAUNCH, changed(launch(), with_process(*argv))), Verdict.FAIL, {})


def test_a_run_that_has_ended_well_need_not_write_on() -> None:
    facts = replace(launch(), session=seen(ENDED), log_age_s=seen(9000.0), processes=seen(Processes(())))
    assert_only(judge(Stage.LAUNCH, facts), Verdict.FAIL, {})


def test_a_relaunch_in_the_second_trainer_passes() -> None:
    again = [V2, PLAN, "[dpo] RESUME from models/output/dpo/checkpoint-50 at step 50", *step_lines("dpo", 51, 55)]
    facts = replace(launch(), log=seen(log(V2, PLAN, *step_lines("sft", 1, 330), *again)), proof=seen(said(V2, V2)))
    assert_only(judge(Stage.LAUNCH, facts), Verdict.FAIL, {})


def test_rows_that_only_run_json_tells_are_compared() -> None:
    """A package of somebody else's need not print DATA lines."""
    silent = changed(launch(), {"log": log(V2, PLAN, *STEPS)})
    assert judge(Stage.LAUNCH, silent)[ROWS].verdict is Verdict.PASS
    told = {"steps": {"sft": 330, "dpo": 80}, "data": {kind: {"sha256": OTHER_SHA} for kind in ("pairs", "scenarios")}}
    other = changed(launch(), {"run": JsonFile(exists=True, json=told)})
    assert_only(judge(Stage.LAUNCH, other), Verdict.FAIL, {ROWS: f"run.json announces {OTHER_SHA}"})


def test_rows_that_nobody_tells_are_unknown() -> None:
    silent = {"log": log(V2, PLAN, *STEPS), "run": JsonFile(exists=True, json={"steps": {"sft": 330, "dpo": 80}})}
    judged = judge(Stage.LAUNCH, changed(launch(), silent))
    assert_only(judged, Verdict.UNKNOWN, {ROWS: "gives the digest of features, scenarios, pairs"})


@pytest.mark.parametrize(
    ("gpus", "asked", "placed", "least"),
    [
        (8, 2, "cuda:0,cuda:1,cuda:2", None),
        (8, 2, "cuda:0", 2),
        (8, 2, "cuda:0,cuda:0", 2),
        (8, None, "cuda:0", 2),  # "auto" spreads over what it sees: a GPU that is paid for is hidden from it
        (2, None, "cuda:0,cuda:1", None),
        (2, 8, "cuda:0,cuda:1", None),  # all that there are
        (1, 2, "cuda:0", None),
        (1, None, "cuda:0", None),
        (1, 2, "cpu", 0),
        (1, 2, "cuda:0,cpu", 0),
    ],
)
def test_weights_are_on_as_many_gpus_as_the_machine_can_give(
    gpus: int, asked: int | None, placed: str, least: int | None
) -> None:
    placed_so = changed(launch(), with_plan("devices=cuda:0,cuda:1,cuda:2", f"devices={placed}"))
    job = sound_job(machine={"gpus": gpus}, training={"devices": asked})
    judged = judge(Stage.LAUNCH, placed_so, job)
    because = "weights are on " + (", ".join(placed.split(",")) + " only" if least else "cpu, not on a GPU")
    assert_only(judged, Verdict.FAIL, {} if least is None else {SHARDED: because})
