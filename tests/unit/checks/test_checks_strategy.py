"""The strategy's checks: what a job needs to have one tried, what a proof must say, and what then may be launched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness.core.answers import JsonFile, Processes
from harness.core.lifecycle import Stage
from harness.core.observed import unseen
from harness.core.verdict import Verdict
from harness.job import estimate, strategy
from harness.job.model import Job
from harness.ledger.settled import StrategySettled
from tests.support import facts
from tests.support.facts import V2, assert_only, changed, judge, launch, log, python, sound_job, step_lines

CAN, PROVEN, SINGLE, SHARDED = (
    "strategy_can_be_proven",
    "strategy_proven",
    "single_process_training",
    "model_is_sharded_as_planned",
)
OF = "ab" * 32
PLAN = "\n".join((facts.PLAN, *facts.EPOCHS))
GPUS = [f"NVIDIA H100 {number}" for number in range(8)]
LAUNCHER = ("python3", "-m", strategy.LAUNCHER, "--standalone", "--nproc-per-node", "8", "train_deepseek_forex.py")
PROOF: Mapping[str, Any] = {
    "strategy": "ddp",
    "ranks": 8,
    "of": OF,
    "proven": True,
    "problems": {},
    "speedup": 6.4,
    "versions": {"torch": "2.13.0"},
    "gpus": GPUS,
}


def asked(stated: str = "ddp", **tables: Mapping[str, Any]) -> Job:
    return sound_job(**{**tables, "training": {"strategy": stated, **tables.get("training", {})}})


def settled(used: str = "ddp", stated: str = "ddp", why: str = "proven", **changes: Any) -> StrategySettled:
    return StrategySettled(stated, used, why, OF, {**PROOF, "strategy": stated, **changes})


def said(world: int, devices: int) -> Any:
    plan = PLAN.replace("world_size=1", f"world_size={world}")
    return log(
        V2,
        *facts.DATA,
        plan.replace("cuda:0,cuda:1,cuda:2", ",".join(f"cuda:{at}" for at in range(devices))),
        *step_lines("sft", 1, 5),
    )


def tree(count: int = 8, **env: str) -> Processes:
    ranks = [
        python("train_deepseek_forex.py", pid=5000 + at, env={"WORLD_SIZE": str(count), "RANK": str(at), **env})
        for at in range(count)
    ]
    return Processes((python(pid=4999, argv=LAUNCHER), *ranks))


def launched_as_ddp(**changes: Any) -> Any:
    told: dict[str, Any] = {"strategy": settled(), "log": said(8, 8), "processes": tree()}
    return changed(launch(), told | changes)


def test_a_proven_strategy_opens_the_launch() -> None:
    assert_only(judge(Stage.LAUNCH, launched_as_ddp(), asked()), Verdict.PASS, {})


def test_one_gpu_opens_the_launch() -> None:
    one = settled("single", "single", ranks=1, gpus=GPUS[:1])
    assert_only(
        judge(Stage.LAUNCH, changed(launch(), {"strategy": one, "log": said(1, 1)}), asked("single")), Verdict.PASS, {}
    )


def test_two_ranks_on_two_gpus_open_the_launch() -> None:
    two = {"strategy": settled(ranks=2, gpus=GPUS[:2], speedup=1.9), "log": said(2, 2), "processes": tree(2)}
    own = asked(machine={"gpus": 2})
    assert_only(judge(Stage.LAUNCH, launched_as_ddp(**two), own), Verdict.PASS, {})
    lonely = launched_as_ddp(**two | {"processes": Processes(tree(2).processes[:2])})
    assert_only(judge(Stage.LAUNCH, lonely, own), Verdict.FAIL, {SINGLE: "of 2 ranks 0 is at work"})


@pytest.mark.parametrize("stated", ["ddp", "single"])
def test_the_lesson_of_several_processes_is_shown_where_several_are_asked_for(stated: str) -> None:
    shown = judge(Stage.LAUNCH, launched_as_ddp(strategy=settled(stated, stated)), asked(stated))[PROVEN].saw
    assert ("lesson" in shown) == (stated == "ddp")


@pytest.mark.parametrize(
    ("prover", "verdict", "words"),
    [("proving.py", Verdict.PASS, ""), ("", Verdict.FAIL, "the package has no forex/proving.py")],
)
def test_a_strategy_is_planned_with_a_command_that_proves_it(prover: str, verdict: Verdict, words: str) -> None:
    facts_ = changed(facts.preflight(), {"prover": prover})
    judged = judge(Stage.PREFLIGHT, facts_, asked())
    assert_only(judged, verdict, {CAN: words} if words else {})
    assert judged[CAN].wanted == {"strategy": "ddp"}
    refused = judge(Stage.PREFLIGHT, facts_, asked(machine={"gpus": 3}))[CAN]
    assert (refused.verdict, "share the rows of a step" in refused.message) == (Verdict.FAIL, True)


def test_what_fell_back_opens_the_launch_in_the_rules_way_and_the_evidence_says_why() -> None:
    fell = settled("seeds", why="losses_differ: rank 1, step 2", proven=False)
    judged = judge(Stage.LAUNCH, changed(launch(), {"strategy": fell}), asked())
    assert_only(judged, Verdict.PASS, {})
    assert "fell back: losses_differ: rank 1, step 2" in judged[PROVEN].saw["launched"]


SHUT: list[tuple[str, Any, dict[str, str]]] = [
    ("settled for another strategy", {"strategy": settled("single", "single")}, {PROVEN: "single was tried"}),
    ("fell back for no reason", {"strategy": settled("seeds", why=""), "log": said(1, 3)}, {PROVEN: "nobody says why"}),
    ("launched by another", {"strategy": settled("single")}, {PROVEN: "launched by single"}),
    ("its proof is of another package", {"strategy": settled(of="cd" * 32)}, {PROVEN: "proof_of_something_else"}),
    ("its proof says no", {"strategy": settled(proven=False)}, {PROVEN: "not_proven"}),
    ("its proof names a problem", {"strategy": settled(problems={"too_slow": "1.1"})}, {PROVEN: "too_slow: 1.1"}),
    ("its proof is none", {"strategy": replace(settled(), proof=None)}, {PROVEN: "no_proof"}),
    ("seven GPUs", {"strategy": settled(gpus=GPUS[:7])}, {PROVEN: "on 7 GPUs"}),
    ("a rank is missing", {"processes": tree(7)}, {SINGLE: "WORLD_SIZE=7"}),
    ("a rank twice", {"processes": tree(RANK="1")}, {SINGLE: "of 8 ranks 1 is at work"}),
    ("started alone", {"log": said(1, 8)}, {SINGLE: "world_size=1"}),
    ("another launcher", {"processes": Processes((*tree().processes, python(pid=6, argv=("deepspeed", "t.py"))))},
     {SINGLE: "deepspeed"}),
    ("torchrun by its other name", {"processes": Processes((*tree().processes, python(pid=6, argv=("torchrun",))))},
     {SINGLE: "torchrun"}),
    ("weights on seven", {"log": said(8, 7)}, {SHARDED: "only"}),
    ("trains with another torch", {"run": "2.12.0"}, {PROVEN: "another torch"}),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), [one[1:] for one in SHUT], ids=[one[0] for one in SHUT])
def test_what_is_not_as_it_was_proven_shuts_the_launch(changes: dict[str, Any], expected: dict[str, str]) -> None:
    run = launch().run.get()
    assert isinstance(run.json, dict)
    if "run" in changes:
        changes = {"run": JsonFile(exists=True, bytes=300, json={**run.json, "versions": {"torch": changes["run"]}})}
    failed = judge(Stage.LAUNCH, launched_as_ddp(**changes), asked())
    shut = {name: one for name, one in failed.items() if one.verdict is not Verdict.PASS}
    for name, words in expected.items():
        assert words in shut[name].message


@pytest.mark.parametrize("used", ["seeds", "none"])
def test_several_processes_that_nobody_proved_are_refused_as_ever(used: str) -> None:
    told = {"log": said(8, 8), "processes": tree()}
    fell = {"strategy": settled("seeds", why="too_slow: 1.1", proven=False)} if used == "seeds" else {}
    job = asked() if used == "seeds" else sound_job()
    judged = judge(Stage.LAUNCH, changed(launch(), told | fell), job)
    assert_only(judged, Verdict.FAIL, {SINGLE: "world_size=8"})


def test_what_nobody_settled_is_unknown() -> None:
    judged = judge(Stage.LAUNCH, replace(launch(), strategy=unseen("nothing was settled")), asked())
    assert_only(judged, Verdict.UNKNOWN, {PROVEN: "nothing was settled"})


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("no command", {"package": {"prove": ()}}, "docs/contract.md, section 'A strategy'"),
    ("one GPU", {"machine": {"gpus": 1}}, "machine.gpus = 1"),
    ("three GPUs", {"machine": {"gpus": 3}}, "share the rows of a step evenly: 128 of sft, 32 of dpo"),
    ("a shell", {"training": {"command": ("sh", "train.sh")}}, "python3 and a script"),
    ("a module", {"training": {"command": ("python3", "-m", "train")}}, "python3 and a script"),
]  # fmt: skip


@pytest.mark.parametrize(("tables", "words"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED])
def test_a_job_that_cannot_have_it_is_told_why(tables: dict[str, Any], words: str) -> None:
    assert words in str(strategy.refusal(asked(**tables)))


@pytest.mark.parametrize("stated", ["seeds", "single", "ddp"])
def test_a_job_that_can_have_it_is_not_refused(stated: str) -> None:
    assert strategy.refusal(asked(stated)) is None


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (("python3", "-m", "forex.proving"), "forex/proving.py"),
        (("python3", "tools/prove.py", "--fast"), "tools/prove.py"),
        (("python3", "-u", "prove.py"), "prove.py"),
        (("./prove",), None),
        ((), None),
    ],
)
def test_the_file_that_proves(command: tuple[str, ...], file: str | None) -> None:
    assert strategy.prover(command) == file


def test_the_proof_is_paid_for_by_the_estimate() -> None:
    proof = estimate.timeline(asked()).setup - estimate.timeline(sound_job()).setup
    assert proof == asked().package.prove_timeout_s > 0


def test_the_plan_tells_a_strategy_in_one_line() -> None:
    assert not strategy.planned(sound_job())
    assert strategy.planned(asked()).startswith("strategy ddp (8 processes) is tried on the box")
