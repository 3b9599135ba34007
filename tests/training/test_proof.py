"""A strategy of two processes is proven as it is, and refused by name when its training is sabotaged."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from forex import proof
from forex.proof import Witness

from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.job import strategy
from harness.job.model import Job
from harness.ledger.settled import StrategySettled
from tests.support.facts import Judged, changed, judge, launch, sound_job

PACKAGE = Path(proof.__file__).parents[1]
ALONE = Witness(0, 1, "PeftModelForCausalLM", (4.0, 3.5), {"b": True}, {"b": True}, "aa", 1.0)
RANKS = tuple(
    Witness(rank, 2, "DistributedDataParallel", (4.0, 3.5), {"b": True}, {"b": True}, "bb", 0.5) for rank in (0, 1)
)


OF = "ab" * 32


def job() -> Job:
    """A job of two processes on a box without a GPU, that states this strategy."""
    return sound_job(machine={"gpus": 2}, training={"strategy": "ddp", "accelerator": "cpu"})


def launch_gate(found: dict[str, Any]) -> Judged:
    """What the launch's gate says of a proof that has come home, and of the launch that follows it."""
    settled = StrategySettled("ddp", "seeds", strategy.shortfall(found, job(), OF), OF, found)
    gate = judge(Stage.LAUNCH, changed(launch(), {"strategy": settled}), job())
    assert all(one.verdict is Verdict.PASS for one in gate.values())
    return gate["strategy_proven"]


def judged(ranks: Any = RANKS, resumed: Any = RANKS, alone: Witness = ALONE) -> proof.Proof:
    return proof.judge("ddp", alone, ranks, resumed, tolerance=1e-3, demanded=2)


def second(**changes: Any) -> tuple[Witness, ...]:
    return (RANKS[0], dataclasses.replace(RANKS[1], **changes))


@pytest.mark.parametrize(
    ("ranks", "resumed", "problems"),
    [
        (RANKS, RANKS, []),
        (RANKS[:1], RANKS[:1], ["ranks_missing"]),
        ((), (), ["ranks_missing"]),
        (second(world=1), RANKS, ["ranks_missing"]),
        (second(rank=0), RANKS, ["ranks_missing"]),
        (second(grads={"b": False}), RANKS, ["lora_b_without_gradient"]),
        (second(grads={}, moved={}), RANKS, ["lora_b_without_gradient"]),
        (second(moved={"b": False}), RANKS, ["lora_b_did_not_move"]),
        (second(wrapped="PeftModelForCausalLM"), RANKS, ["wrapped_otherwise"]),
        (second(weights="cc"), RANKS, ["ranks_disagree", "resume_drifts"]),
        (second(losses=(4.0, 3.6)), RANKS, ["losses_differ"]),
        (second(losses=(4.0, math.nan)), RANKS, ["losses_differ"]),
        (second(losses=(4.0,)), RANKS, ["losses_differ"]),
        (second(losses=(4.0, 3.5001)), RANKS, []),
        (RANKS, (), ["resume_drifts"]),
        (RANKS, RANKS[:1], ["resume_drifts"]),
        (RANKS, second(weights="cc"), ["resume_drifts"]),
    ],
)
def test_each_way_to_be_wrong_has_its_name(ranks: Any, resumed: Any, problems: list[str]) -> None:
    found = judged(ranks, resumed)
    assert sorted(found.problems) == problems
    assert found.proven is (not problems)
    assert ("one process, device_map" in found.sentence) is bool(problems)


def test_losses_that_are_none_prove_nothing() -> None:
    silent = tuple(dataclasses.replace(one, losses=()) for one in RANKS)
    assert "losses_differ" in judged(silent, silent, dataclasses.replace(ALONE, losses=())).problems


@pytest.mark.parametrize(
    ("step_s", "accelerator", "problems"),
    [
        (0.5, "cuda", []),
        (0.62, "cuda", []),
        (0.63, "cuda", ["too_slow"]),
        (0.9, "cpu", []),
        (math.inf, "cuda", ["too_slow"]),
    ],
)
def test_speed_is_demanded_where_each_rank_has_a_gpu(step_s: float, accelerator: str, problems: list[str]) -> None:
    ranks = tuple(dataclasses.replace(one, step_s=step_s, accelerator=accelerator) for one in RANKS)
    assert sorted(judged(ranks, ranks).problems) == problems
    assert proof.least_speedup(8) == 3.0
    assert proof.least_speedup(4) == pytest.approx(3.2)


def test_two_ranks_on_one_gpu_prove_nothing() -> None:
    shared = tuple(dataclasses.replace(one, accelerator="cuda", gpu="H100 a") for one in RANKS)
    assert list(judged(shared, shared).problems) == ["gpu_shared"]
    own = tuple(dataclasses.replace(one, accelerator="cuda", gpu=f"H100 {one.rank}") for one in RANKS)
    assert judged(own, own).proven


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    from transformers import Qwen2Config

    folder = tmp_path_factory.mktemp("base")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 5, "vocab_size": 64}
    Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=False).save_pretrained(
        folder
    )
    return str(folder)


def told(folder: Path, base: str, *options: str) -> tuple[dict[str, Any], str]:
    """What the command writes and says; its exit status agrees with both."""
    environ = {**os.environ, "PYTHONPATH": f"{PACKAGE}{os.pathsep}{Path(__file__).parent}", "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-m", "forex.proving", "--base", base, "--out", "proof.json", "--of", OF, *options]
    done = subprocess.run(argv, cwd=folder, env=environ, capture_output=True, text=True, timeout=290, check=False)
    written: dict[str, Any] = json.loads((folder / "proof.json").read_text(encoding="utf-8"))
    assert (written["of"], written["base"], written["gpus"]) == (OF, base, [])
    assert written["versions"]["torch"] == importlib.metadata.version("torch")
    said = done.stdout.splitlines()[-1]
    assert (done.returncode, said.startswith("PROVEN")) == ((0, True) if written["proven"] else (1, False)), done.stderr
    return written, said


@pytest.mark.slow
def test_ddp_is_proven(base: str, tmp_path: Path) -> None:
    found, said = told(tmp_path, base)
    assert found["proven"], said
    assert strategy.shortfall(found, job(), OF) == ""
    assert len(found["losses"]["alone"]) == len(found["losses"]["rank 1"]) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["proof.json"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sabotage", "name"),
    [
        ("frozen_lora_b", "lora_b_without_gradient"),
        ("other_data", "losses_differ"),
        ("not_wrapped", "wrapped_otherwise"),
        ("drifting_resume", "resume_drifts"),
    ],
)
def test_a_sabotaged_training_is_refused_by_name(base: str, tmp_path: Path, sabotage: str, name: str) -> None:
    found, said = told(tmp_path, base, "--build", f"proof_sabotage:{sabotage}")
    assert name in found["problems"], said
    assert 'the operating rules demand: one process, device_map="auto"' in said
    judged = launch_gate(found)
    assert name in judged.saw["launched"]
    assert "fell back: " in judged.saw["launched"]
    if sabotage == "drifting_resume":
        assert list(found["problems"]) == [name]
