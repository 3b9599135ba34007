"""A job whose trainer says nothing of its own: its plan, its gates open over sound facts, and each check going red."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness.core.answers import Matches, Processes
from harness.core.lifecycle import Stage
from harness.core.observed import Observed, seen, unseen
from harness.core.verdict import Verdict
from harness.facts import epochs
from harness.facts.checkpoints import complete_steps, of_job
from harness.gates import plan
from harness.job.model import Job
from harness.log import folding
from harness.log.grammar import DPO, SFT
from harness.log.launches import LaunchLine
from harness.log.trainerstate import TrainerState
from tests.support import facts
from tests.support.facts import ENDED, assert_only, changed, judge, python, sound_job

SINGLE, COUNTS, OF_THIS_RUN = "single_process_training", "trainer_counts_to_planned_steps", "log_is_of_this_run"
DONE, STEPS, RATE = "completion_logged", "all_steps_done", "learning_rate_follows_schedule"
SEEN, COMING = "all_rows_trained", "all_rows_announced"
MARK = str(LaunchLine("forex-r1-v3", "7001", 1))


def job(**tables: Mapping[str, Any]) -> Job:
    """The first user's job with an unmodified trainer: SFT alone, no proof line, no batch size in its script."""
    tables = {"training": {}, "data": {}, **tables}
    own = {"log": "trainer", "steps": {"sft": 60}, "batch_size": 0, "device_map": "", "checkpoint_every": 20}
    files = {kind: one for kind, one in sound_job().data.model_dump()["files"].items() if one["trainer"] == "sft"}
    return sound_job(
        **{
            **tables,
            "training": {**own, **tables["training"]},
            "data": {"proof_line": None, "files": files, **tables["data"]},
        }
    )


def records(
    last: int, *, total: int = 60, rate: float | None = 1e-4, spoilt: int = 0, bars: bool = True, epochs: float = 1.0
) -> list[str]:
    lines = []
    for step in range(2, last + 1, 2):
        told: dict[str, Any] = {"loss": loss(step) + (1.0 if step == spoilt else 0.0), "grad_norm": 1.0}
        told |= ({"learning_rate": rate} if rate is not None else {}) | {"epoch": round(epochs * step / total, 3)}
        lines.append(str(told))
        lines += [f" 10%|█  | {step}/{total} [00:10<00:10,  4.40s/it]"] * bars
    return lines


def loss(step: int) -> float:
    return round(2.5 - step / 100 + (step % 7) * 1e-3, 4)


END = "{'train_runtime': 61.2, 'train_loss': 1.2, 'epoch': 1.0}"
LAST = " 100%|███| 60/60 [00:10<00:00,  4.40s/it]"
STATE = TrainerState(60, 60, {step: loss(step) for step in range(2, 61, 2)})


def log(*lines: str, planned: Mapping[Any, int] = job().training.steps) -> Any:
    return folding.fold([MARK, *lines], planned, None)


def launch(**changes: Any) -> Any:
    return changed(facts.launch(), {"log": log(*records(6)), **changes})


def training(**changes: Any) -> Any:
    saved = tuple(facts.checkpoint("sft", step) for step in (20, 40))
    mirror = facts.training().mirror.get()
    home = (replace(mirror[0], step=20), replace(mirror[1], step=40))
    sound = {"log": log(*records(50)), "checkpoints": {"sft": seen(saved)}, "mirror": home}
    return changed(facts.training(), sound | changes)


def posttrain(**changes: Any) -> Any:
    sound = {
        "log": log(*records(60), END, LAST),
        "completion": Matches(exists=True, bytes=9, count=0, matches=()),
        "states": {"sft": seen(STATE)},
        "manifest": unseen("there is none"),
    }
    ended = {name: one for name, one in (sound | changes).items() if name != "manifest"}
    return replace(changed(facts.posttrain(), ended), manifest=unseen("there is none"), run=unseen("there is none"))


SOUND = [(Stage.LAUNCH, launch), (Stage.TRAINING, training), (Stage.POSTTRAIN, posttrain)]


@pytest.mark.parametrize(("stage", "made"), SOUND)
def test_a_sound_training_opens_every_gate(stage: Stage, made: Any) -> None:
    judged = judge(stage, made(), job())
    assert_only(judged, Verdict.FAIL, {})
    assert OF_THIS_RUN not in judged or stage is Stage.POSTTRAIN


OUT = {
    "preflight": {"batch_size_is_32", "device_map_is_auto"},
    "upload": {"remote_config_as_required"},
    "launch": {"v2_forex_integration_logged", "trained_rows_are_yours", "model_is_sharded_as_planned",
               "effective_config_logged"},
    "training": {"preferences_are_learned"},
    "posttrain": {"remote_sha256_recorded"},
}  # fmt: skip


@pytest.mark.parametrize(("stage", "without"), OUT.items())
def test_what_nobody_logs_is_left_out_by_name_and_with_a_reason(stage: str, without: set[str]) -> None:
    out = plan.left_out(stage, job())
    assert without <= set(out)
    assert all(out[name] for name in without)  # type: ignore[index]
    assert not {"log_is_of_this_run", COUNTS} & set(out)


def test_the_contracts_own_lines_are_demanded_of_a_job_that_keeps_it() -> None:
    for stage, without in OUT.items():
        assert not (without - {"preferences_are_learned"}) & set(plan.left_out(stage, sound_job()))
    assert {COUNTS} <= set(plan.left_out("launch", sound_job()))
    assert {OF_THIS_RUN} <= set(plan.left_out("posttrain", sound_job()))


OTHER_JOB = str(LaunchLine("another", "7001", 1))
GONE: Observed[TrainerState] = unseen("gone")
BROKEN: list[tuple[str, Stage, Any, dict[str, str]]] = [
    ("longer", Stage.LAUNCH, lambda: launch(log=log(*records(6, total=3000))), {COUNTS: "counts to 3000"}),
    (
        "two thirds of the rows",
        Stage.LAUNCH,
        lambda: launch(log=log(*records(12, epochs=0.6))),
        {COMING: "come to 0.625 epochs"},
    ),
    (
        "two thirds of the rows, at the end",
        Stage.POSTTRAIN,
        lambda: posttrain(log=log(*records(60, epochs=0.69), END.replace("1.0", "0.69"), LAST)),
        {SEEN: "went 0.69 times through its rows"},
    ),
    (
        "two thirds of the rows, by its checkpoint",
        Stage.POSTTRAIN,
        lambda: posttrain(states={"sft": seen(replace(STATE, epochs=0.69))}),
        {SEEN: "went 0.69 times through its rows"},
    ),
    (
        "torchrun",
        Stage.LAUNCH,
        lambda: launch(processes=Processes((python("train.py"), python(pid=9, argv=("torchrun", "t.py"), env={})))),
        {SINGLE: "torchrun"},
    ),
    (
        "several, seen afterwards",
        Stage.LAUNCH,
        lambda: launch(session=ENDED, processes=Processes(()), checkpoints=(_saved("rng_state_0.pth"),)),
        {SINGLE: "rng_state_0.pth"},
    ),
    ("still", Stage.TRAINING, lambda: training(log=log(*_still(50))), {"loss_moves": "to the last digit"}),
    ("a rate of 0", Stage.TRAINING, lambda: training(log=log(*records(50, rate=0.0))), {RATE: "logged as 0"}),
    ("it diverges", Stage.TRAINING, lambda: training(log=log(*_rising(50))), {"loss_is_sane": "sft diverges"}),
    (
        "a checkpoint of fewer steps, without bars",
        Stage.POSTTRAIN,
        lambda: posttrain(log=log(*records(60, bars=False), END), states={"sft": seen(replace(STATE, step=40))}),
        {STEPS: "saved step 40 of 60"},
    ),
    (
        "a checkpoint of more steps, without bars",
        Stage.POSTTRAIN,
        lambda: posttrain(log=log(*records(60, bars=False), END), states={"sft": seen(replace(STATE, max_steps=80))}),
        {STEPS: "saved step 60 of 80"},
    ),
    (
        "unended",
        Stage.POSTTRAIN,
        lambda: posttrain(log=log(*records(50))),
        {DONE: "its end", STEPS: "did not say", SEEN: "0.833 times"},
    ),
    (
        "stopped early",
        Stage.POSTTRAIN,
        lambda: posttrain(log=log(*records(40), END, " 66%|██ | 40/60 [00:10<00:00,  4.40s/it]")),
        {STEPS: "40/60"},
    ),
    (
        "another run's log in its place",
        Stage.POSTTRAIN,
        lambda: posttrain(log=folding.fold([*records(60), END, LAST], {SFT: 60}, None)),
        {OF_THIS_RUN: "in the log's place"},
    ),
    (
        "another job's log in its place",
        Stage.POSTTRAIN,
        lambda: posttrain(log=folding.fold([OTHER_JOB, *records(60), END, LAST], {SFT: 60}, None)),
        {OF_THIS_RUN: "another job's"},
    ),
    (
        "another run's log behind it",
        Stage.POSTTRAIN,
        lambda: posttrain(log=log(*records(60), END, LAST, *records(60, spoilt=4), END, LAST)),
        {OF_THIS_RUN: "the loss of step 4 is"},
    ),
    (
        "more records than were kept",
        Stage.POSTTRAIN,
        lambda: posttrain(states={"sft": seen(replace(STATE, losses={2: loss(2), 4: loss(4)}))}),
        {OF_THIS_RUN: "tells of step 6"},
    ),
]


def _saved(name: str) -> Any:
    one = facts.checkpoint("sft", 20)
    return replace(one, files={**one.files, name: 10})


def _rising(last: int) -> list[str]:
    """The last losses are twice as high as all before."""
    again = [line.replace("'loss': 2.", "'loss': 9.") for line in records(last)]
    return [*records(last)[:30], *again[30:]]


def _still(last: int) -> list[str]:
    return [line if "loss" not in line else line.replace(line.split(",")[0], "{'loss': 1.25") for line in records(last)]


@pytest.mark.parametrize(("stage", "made", "shut"), [pytest.param(*case[1:], id=case[0]) for case in BROKEN])
def test_a_broken_one_shuts_the_gate_by_name(stage: Stage, made: Any, shut: dict[str, str]) -> None:
    assert_only(judge(stage, made(), job()), Verdict.FAIL, shut)


UNSEEN: list[tuple[str, Stage, Any, dict[str, str]]] = [
    (
        "ended, and nothing tells its processes",
        Stage.LAUNCH,
        lambda: launch(session=ENDED, processes=Processes(())),
        {SINGLE: "did not look for checkpoints"},
    ),
    (
        "ended, and its checkpoint does not tell its processes",
        Stage.LAUNCH,
        lambda: launch(session=ENDED, processes=Processes(()), checkpoints=(_saved("optimizer.pt"),)),
        {SINGLE: "no checkpoint tells their number"},
    ),
    ("no rates", Stage.TRAINING, lambda: training(log=log(*records(50, rate=None))), {RATE: "no learning rate"}),
    ("no state", Stage.POSTTRAIN, lambda: posttrain(states={"sft": GONE}), {OF_THIS_RUN: "gone"}),
    (
        "neither bars nor state",
        Stage.POSTTRAIN,
        lambda: posttrain(log=log(*records(60, bars=False), END), states={"sft": GONE}),
        {OF_THIS_RUN: "gone", STEPS: "gone"},
    ),
]


@pytest.mark.parametrize(("stage", "made", "shut"), [pytest.param(*case[1:], id=case[0]) for case in UNSEEN])
def test_what_nobody_saw_is_unknown(stage: Stage, made: Any, shut: dict[str, str]) -> None:
    assert_only(judge(stage, made(), job()), Verdict.UNKNOWN, shut)


def test_without_bars_the_checkpoint_tells_the_steps() -> None:
    judged = judge(Stage.POSTTRAIN, posttrain(log=log(*records(60, bars=False), END)), job())
    assert_only(judged, Verdict.FAIL, {})
    assert "max_steps=60" in judged[STEPS].saw["sft trainer_state.json"]


def test_one_process_is_told_by_the_checkpoint_of_an_ended_training() -> None:
    ended = launch(session=ENDED, processes=Processes(()), checkpoints=(_saved("rng_state.pth"),))
    assert_only(judge(Stage.LAUNCH, ended, job()), Verdict.FAIL, {})


def test_preferences_are_judged_by_margins_whatever_the_loss() -> None:
    """IPO's loss begins nowhere near ln 2, and its margins tell that it learned."""
    both = job(training={"steps": {"sft": 60, "dpo": 60}})
    more = {at: f", 'rewards/margins': {round(at / 300 + at % 3 * 0.001, 4)}}}" for at in range(2, 61, 2)}
    dpo = []
    for at, line in zip([step for step in range(2, 61, 2) for _ in (0, 1)], records(60), strict=True):
        told = line.replace("'loss': 2", "'loss': 0").replace("'loss': 1", "'loss': 0") if "loss" in line else line
        dpo.append(told.replace("}", more[at]) if "loss" in told else told)
    seen_log = log(*records(60), END, LAST, *dpo, END, LAST, planned=both.training.steps)
    assert seen_log.of(DPO).records.margins
    facts_ = training(log=seen_log, checkpoints={"sft": seen(()), "dpo": seen(())}, session=ENDED)
    assert judge(Stage.TRAINING, facts_, both)["preferences_are_learned"].verdict is Verdict.PASS


@pytest.mark.parametrize("reward", ["", ", 'reward': 0.5, 'reward_std': 0.1}"])
def test_a_mean_of_advantages_may_rise(reward: str) -> None:
    """A loss that doubles diverges, but for a trainer by rewards: of its loss nobody asks a course."""
    lines = [line.replace("}", reward or "}") if "loss" in line else line for line in _rising(50)]
    said = judge(Stage.TRAINING, training(log=log(*lines)), job())["loss_is_sane"]
    assert said.verdict is (Verdict.PASS if reward else Verdict.FAIL)


def test_a_log_that_does_not_number_its_steps_has_the_whole_training_to_come() -> None:
    untold = "the whole training is counted as still to come"
    for bars in (True, False):
        shown = judge(Stage.TRAINING, training(log=log(*records(50, bars=bars))), job())["pace_within_timeline"].saw
        assert (untold in shown.get("steps", "")) != bars


def test_the_log_tells_whose_launches_are_wanted_in_it() -> None:
    said = judge(Stage.POSTTRAIN, posttrain(), job())[OF_THIS_RUN]
    assert (said.wanted["launches of"], "forex-r1-v3" in said.saw["launches"]) == ("forex-r1-v3", True)


def test_a_run_that_comes_to_just_the_epochs_that_are_wanted_sees_its_rows() -> None:
    least = epochs.coming(launch().log.get().of(SFT))
    assert least is not None
    for more, verdict in ((0.0, Verdict.PASS), (1e-9, Verdict.FAIL)):
        own = job(limits={"min_epochs": least + more})
        assert judge(Stage.LAUNCH, launch(), own)[COMING].verdict is verdict


def test_a_checkpoint_of_a_whole_model_is_complete_where_no_adapter_is_trained() -> None:
    one = replace(facts.checkpoint("sft", 20), files={"model.safetensors": 9000, "optimizer.pt": 2000})
    assert complete_steps(of_job(job(model={"lora_r": 0}), (one,))) == (20,)
    assert complete_steps(of_job(job(), (one,))) == ()
