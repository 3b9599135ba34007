"""Each check of stage training goes red, alone, when what it guards is broken; a healthy run is never held."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from harness.core.answers import Disk, Gpus, SessionState
from harness.core.lifecycle import Stage
from harness.core.observed import seen
from harness.core.ports import PendingPrice
from harness.core.verdict import Verdict
from harness.facts.checkpoints import of_job
from harness.facts.mirror import Mirrored
from harness.facts.training import TrainingFacts, steps_left_s
from harness.plugin.looking import Evidence
from tests.support.facts import (
    CRASHED,
    ENDED,
    KILLED,
    NOW,
    PLAN,
    RUNNING,
    V2,
    assert_only,
    changed,
    check_functions,
    checkpoint,
    eight_h100,
    facts_file,
    judge,
    judge_file,
    log,
    sound_job,
    step_lines,
    training,
    whole_log,
)

ALIVE, ADVANCING, SANE = "training_process_alive_or_done", "progress_is_advancing", "loss_is_sane"
DUE, ONE, MIRRORED = "checkpoints_every_100_steps", "one_complete_checkpoint_always", "checkpoints_mirrored"
PACE, GPUS, DISK = "pace_within_timeline", "gpus_are_working", "disk_has_room"
ERRORS, RESUME = "no_error_lines", "resume_is_continuous"
MOVES, RATE = "loss_moves", "learning_rate_follows_schedule"
LEARNED, HOLDS = "preferences_are_learned", "announced_plan_holds"
TERMS = "instance_stays_on_its_terms"

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
GB = 10**9
BOTH = ("sft", 100), ("sft", 200)


def logged(*lines: str) -> dict[str, Any]:
    return {"log": log(V2, PLAN, *lines)}


def resumed(at: int, *after: str, before: float = 0.8) -> dict[str, Any]:
    resume = f"[sft] RESUME from models/output/sft/checkpoint-{at} at step {at}"
    return logged(*step_lines("sft", 1, 230, loss=before), V2, PLAN, resume, *after)


def checkpoints(*found: Any) -> dict[str, Any]:
    """What a look at the training tells of the first trainer's checkpoints; the other has none."""
    return {"checkpoints": {"sft": seen(of_job(sound_job(), found)), "dpo": seen(())}}


def torn(step: int, **changes: Any) -> dict[str, Any]:
    """The newest checkpoint is not whole, and the one before it is mirrored and complete."""
    return checkpoints(checkpoint("sft", 100), checkpoint("sft", step, **changes))


def moved(trainer: str, first: int, last: int, loss: str) -> list[str]:
    """Logged steps with this very loss."""
    return [re.sub(r"loss=\S+", f"loss={loss}", line) for line in step_lines(trainer, first, last)]


def with_rates(rate: str) -> dict[str, Any]:
    return logged(*[line.replace("lr=0.0001", f"lr={rate}") for line in step_lines("sft", 1, 250)])


NEEDED_S = 80 * 4.4 + 80 * 6.0 + 300 + 2 * 900
"""Of the sound look: the steps that are left, the export and two downloads."""


def terms(**changes: Any) -> dict[str, Any]:
    return {"terms": replace(training().terms.get(), **changes)}


def pending(usd_per_hour: float, since: float | None, **changes: Any) -> dict[str, Any]:
    return terms(pending=(PendingPrice(usd_per_hour, since, NOW + 5e6),), **changes)


COSINE = "[sft] SCHEDULE cosine warmup_steps=10 lr=0.0001"

BROKEN: list[tuple[str, Mapping[str, Any], Mapping[str, str]]] = [
    (
        "never started",
        {"session": SessionState(started=False, alive=False, pid=None, exit_status=None)},
        {ALIVE: "never started"},
    ),
    ("crashed", {"session": CRASHED}, {ALIVE: "status 1"}),
    ("killed", {"session": KILLED}, {ALIVE: "killed"}),
    ("silent", {"log_age_s": 301.0}, {ADVANCING: "301 s"}),
    (
        "a loss of nan",
        logged(*step_lines("sft", 1, 249), *step_lines("sft", 250, 250, loss=float("nan"))),
        {SANE: "nan"},
    ),
    (
        "a loss of inf",
        logged(*step_lines("sft", 1, 249), *step_lines("sft", 250, 250, loss=float("inf"))),
        {SANE: "inf"},
    ),
    (
        "it diverges",
        logged(*step_lines("sft", 1, 249), *step_lines("sft", 250, 250, loss=20.5)),
        {SANE: "step 250: 20.5"},
    ),
    (
        "nothing is learnt",
        logged(*step_lines("sft", 1, 250, loss=0.0)),
        {SANE: "sft step 1: 0.0", MOVES: "the loss is 0, to the last digit, from step 1 to step 250"},
    ),
    (
        "the newest is missing",
        checkpoints(checkpoint("sft", 100)),
        {DUE: "past step 200, and that checkpoint is not complete: it is not there"},
    ),
    ("a missing optimizer", torn(200, problems=("optimizer.pt is missing",)), {DUE: "optimizer.pt is missing"}),
    ("an adapter of NaN", torn(200, unfit=("q_proj holds NaN",)), {DUE: "q_proj holds NaN"}),
    ("a whole model", torn(200, files={"model.safetensors": 9}), {DUE: "adapter_model.safetensors is missing"}),
    (
        "an older one was never written",
        {
            **logged(*[line for line in step_lines("sft", 1, 250) if "checkpoint-100" not in line]),
            **checkpoints(checkpoint("sft", 200)),
        },
        {DUE: "no checkpoint at step 100"},
    ),
    ("nothing mirrored", {"mirror": ()}, {MIRRORED: "sft step 100 is not mirrored"}),
    (
        "an old mirror of a training that died",
        {"mirror": (Mirrored("sft", 100, 1000),), "session": replace(ENDED, exit_status=1)},
        {MIRRORED: "sft step 200 is not mirrored", ALIVE: "ended with status 1"},
    ),
    ("a damaged mirror", {"mirror": (Mirrored("sft", 200, 1000, "cut at byte 9"),)}, {MIRRORED: "cut at byte 9"}),
    ("a short mirror", {"mirror": (Mirrored("sft", 200, 999),)}, {MIRRORED: "999 bytes, 1000 on the box"}),
    ("a slow SFT", {**logged(*step_lines("sft", 1, 250, pace=9.0)), "spent_usd": 2.0}, {PACE: "9.00 s a step"}),
    ("over budget", {"spent_usd": 20.01, "session": ENDED}, {PACE: "$20.01 are spent"}),
    ("will be over budget", {"spent_usd": 17.0}, {PACE: "will be spent"}),
    (
        "idle GPUs",
        {"gpus": eight_h100(utilization_percent=0.0, memory_used_mib=5.0)},
        {GPUS: "at 0 %, and all hold 40 MiB"},
    ),
    ("no GPU", {"gpus": Gpus(installed=False, gpus=())}, {GPUS: "no GPU"}),
    ("a full disk", {"disk": Disk(150 * GB, 140 * GB, 10 * GB)}, {DISK: "10.0 of 150.0 GB"}),
    ("no room for the export", {"disk": Disk(150 * GB, 130 * GB, 20 * GB)}, {DISK: "the export needs 23.3 GB"}),
    ("out of memory", logged(*step_lines("sft", 1, 250), OOM), {ERRORS: "CUDA out of memory"}),
    ("a traceback", logged(*step_lines("sft", 1, 250), "Traceback (most recent call last):"), {ERRORS: "Traceback"}),
    (
        "no space",
        logged(*step_lines("sft", 1, 250), "OSError: [Errno 28] No space left on device"),
        {ERRORS: "No space"},
    ),
    ("NCCL", logged(*step_lines("sft", 1, 250), "x:1:2 [0] NCCL WARN Cuda failure"), {ERRORS: "NCCL"}),
    ("Xid", logged(*step_lines("sft", 1, 250), "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off"), {ERRORS: "Xid"}),
    ("it says it failed", logged(*step_lines("sft", 1, 250), "TRAINING FAILED: no data"), {ERRORS: "no data"}),
    ("the loss jumps", resumed(200, *step_lines("sft", 201, 250, loss=2.0)), {RESUME: "is 2.0 after it"}),
    (
        "the loss is nan after it",
        resumed(200, *step_lines("sft", 201, 250, loss=float("nan"))),
        {RESUME: "nan", SANE: "nan"},
    ),
    ("steps go back", resumed(200, *step_lines("sft", 150, 250)), {RESUME: "went back to step 150"}),
    (
        "a loss that stands still",
        logged(*step_lines("sft", 1, 100), *moved("sft", 101, 130, "0.731")),
        {MOVES: "sft: the loss is 0.731, to the last digit, from step 101 to step 130"},
    ),
    (
        "a loss that has gone",
        logged(*[line.replace("loss=0.", "loss=0.0000000") for line in step_lines("sft", 1, 250)]),
        {MOVES: "has come down to 8e-08"},
    ),
    (
        "a loss that goes up for good",
        logged(*step_lines("sft", 1, 200), *step_lines("sft", 201, 250, loss=3.5)),
        {SANE: "sft diverges: the median loss of the newest 10 steps is 3.5; it was 0.8 before"},
    ),
    ("a rate of nan", with_rates("nan"), {RATE: "sft: the learning rate of step 1 is nan"}),
    ("a rate of 0", with_rates("0"), {RATE: "0 at 250 of 250 steps, which train nothing"}),
    (
        "a rate that does not decay",
        {"log": log(V2, PLAN, COSINE, *step_lines("sft", 1, 250))},
        {RATE: "sft: the learning rate of step 1 is 0.0001; the announced schedule, cosine to 0.0001 after 10 steps"},
    ),
    (
        "another total in the middle",
        logged(*step_lines("sft", 1, 200), *[line.replace("/330 ", "/3300 ") for line in step_lines("sft", 201, 250)]),
        {HOLDS: "sft announced 330 steps, and step 201 counts to 3300"},
    ),
    (
        "another batch after a resume",
        {"log": log(V2, PLAN.replace("batch_size=32", "batch_size=8"), *step_lines("sft", 1, 230), V2, PLAN)},
        {HOLDS: "batch_size was announced as 8, then as 32"},
    ),
    ("a rental that ends before the job", terms(ends_at=NOW + 600), {TERMS: "the rental ends in 600 s, the job needs"}),
    ("a rental that has ended", terms(ends_at=NOW - 60), {TERMS: "the rental ends in -60 s"}),
    ("a rental that ends in the download", terms(ends_at=NOW + NEEDED_S - 1), {TERMS: "the job needs"}),
    ("a price above the cap", terms(usd_per_hour=16.2), {TERMS: "$16.20/h is billed"}),
    ("a price above the cap from now on", pending(99.0, NOW), {TERMS: "the host asks $99.00/h before the job's end"}),
    ("a price above the cap from before the end on", pending(99.0, NOW + 600), {TERMS: "$99.00/h"}),
    ("a price above the cap, no time told", pending(99.0, None, ends_at=None), {TERMS: "$99.00/h"}),
    ("the rental ends, and goes on for more", pending(99.0, None, ends_at=NOW + 600), {TERMS: "$99.00/h"}),
    ("steps are left out", resumed(100, *step_lines("sft", 205, 250)), {RESUME: "from step 100 to step 205"}),
]


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_what_is_broken_is_named(changes: Mapping[str, Any], expected: Mapping[str, str]) -> None:
    assert_only(judge(Stage.TRAINING, changed(training(), changes)), Verdict.FAIL, expected)


@pytest.mark.parametrize(
    "sound",
    [
        terms(ends_at=None),
        terms(ends_at=NOW + NEEDED_S + 1),
        terms(usd_per_hour=16.0),
        terms(usd_per_hour=20.0, agreed_usd_per_hour=20.0),
        pending(99.0, NOW + NEEDED_S + 1),
        pending(99.0, None),
        pending(15.9, NOW),
        {**terms(ends_at=NOW - 60, usd_per_hour=99.0), "session": ENDED},
    ],
)
def test_terms_that_the_job_can_keep_to_hold_nothing(sound: Mapping[str, Any]) -> None:
    """A provider that tells no end is not failed for it, nor a price of a time when the job is over."""
    assert judge(Stage.TRAINING, changed(training(), sound))[TERMS].verdict is Verdict.PASS


def test_facts_of_an_earlier_version_say_nothing_of_the_terms() -> None:
    body = facts_file(Stage.TRAINING)
    told = {name: fact for name, fact in body.facts.items() if name != "terms"}
    judged = judge_file(replace(body, facts=told))
    assert_only(judged, Verdict.UNKNOWN, {TERMS: "the rental was not looked at"})


def test_before_the_first_step_no_checkpoint_is_due() -> None:
    every_step = sound_job(training={"checkpoint_every": 1})
    facts = changed(training(), {**logged(), **checkpoints(), "mirror": ()})
    judged = judge(Stage.TRAINING, facts, every_step)
    assert judged[DUE].verdict is judged[ONE].verdict is Verdict.PASS
    assert judged[ONE].wanted == {"complete checkpoints, at least": "0"}


def test_no_complete_checkpoint_at_all() -> None:
    bare = [checkpoint("sft", step, files={}) for step in (100, 200)]
    expected = {DUE: "adapter_model.safetensors is missing", ONE: "no complete checkpoint"}
    assert_only(judge(Stage.TRAINING, changed(training(), checkpoints(*bare))), Verdict.FAIL, expected)


def test_a_finished_trainer_has_its_last_checkpoint() -> None:
    facts = changed(
        training(),
        {
            "session": ENDED,
            "log": log(*whole_log()),
            **on_box(sft=(300,), dpo=(80,)),
            "mirror": (Mirrored("dpo", 80, 1000),),
        },
    )
    assert_only(judge(Stage.TRAINING, facts), Verdict.FAIL, {DUE: "sft is past step 330"})


def test_the_newest_adapter_is_that_of_dpo() -> None:
    facts = changed(
        training(),
        {
            "log": log(*whole_log()[:-3]),
            **on_box(sft=(330,), dpo=(80,)),
            "mirror": (Mirrored("sft", 330, 1000),),
            "session": replace(ENDED, exit_status=None),
        },
    )
    expected = {MIRRORED: "dpo step 80 is not mirrored", ALIVE: "it was killed"}
    assert_only(judge(Stage.TRAINING, facts), Verdict.FAIL, expected)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"log": log(V2, PLAN)}, dict.fromkeys((SANE, MOVES, RATE), "no loss is logged yet")),
        (
            {"gpus": eight_h100(utilization_percent=None, memory_used_mib=None)},
            {GPUS: "neither utilisation nor memory"},
        ),
    ],
)
def test_what_says_nothing_yet_is_unknown(changes: Mapping[str, Any], expected: Mapping[str, str]) -> None:
    assert_only(judge(Stage.TRAINING, changed(training(), changes)), Verdict.UNKNOWN, expected)


DPO = ["[sft] COMPLETE 330/330 steps", "[dpo] first loss=0.693147"]
NOISY = [f"[dpo] step {n}/80 (1%) loss={0.05 if n % 3 else 0.4} lr=0.0001 s/step=6.0" for n in range(1, 41)]
JUMPY = "[dpo] RESUME from models/output/dpo/checkpoint-38 at step 38"
HEALTHY: list[tuple[str, Mapping[str, Any]]] = [
    ("before the first checkpoint", {**logged(*step_lines("sft", 1, 100)), **checkpoints(), "mirror": ()}),
    (
        "a checkpoint that is being written",
        torn(200, files={}) | logged(*step_lines("sft", 1, 200)) | {"mirror": (Mirrored("sft", 100, 1000),)},
    ),
    ("the newest one is on its way home", {"mirror": (Mirrored("sft", 100, 1000),)}),
    ("the first one is on its way home", {**checkpoints(checkpoint("sft", 200)), "mirror": ()}),
    ("what it made comes home next", {"mirror": (), "session": ENDED}),
    ("older ones removed again", checkpoints(checkpoint("sft", 200))),
    (
        "a loss that is the same in two records of many steps",
        logged(*step_lines("sft", 1, 100), *moved("sft", 101, 101, "0.731"), *moved("sft", 150, 150, "0.731")),
    ),
    (
        "a loss that is the same in many records of few steps",
        logged(*step_lines("sft", 1, 100), *moved("sft", 101, 106, "0.731"), *step_lines("sft", 107, 250)),
    ),
    ("losses logged every ten steps", logged(*step_lines("sft", 1, 250, every=10))),
    ("ended a while ago", {"session": ENDED, "log_age_s": 9000.0}),
    (
        "one GPU works",
        {
            "gpus": Gpus(
                installed=True,
                gpus=(*eight_h100(utilization_percent=0.0, memory_used_mib=5.0).gpus[:7], eight_h100().gpus[7]),
            )
        },
    ),
    ("between two steps", {"gpus": eight_h100(utilization_percent=0.0)}),
    ("no GPU is needed when it has ended", {"gpus": Gpus(installed=False, gpus=()), "session": ENDED}),
    ("a resume that goes on", resumed(200, *step_lines("sft", 201, 250, loss=0.85))),
    ("a resume that has logged nothing yet", resumed(200)),
    ("an error of an earlier attempt", logged(*step_lines("sft", 1, 230), OOM, V2, PLAN, *step_lines("sft", 201, 250))),
]


@pytest.mark.parametrize("changes", [case[1] for case in HEALTHY], ids=[case[0] for case in HEALTHY])
def test_a_healthy_run_is_not_held(changes: Mapping[str, Any]) -> None:
    assert_only(judge(Stage.TRAINING, changed(training(), changes)), Verdict.FAIL, {})


@pytest.mark.parametrize("untold", ["utilization_percent", "memory_used_mib"])
def test_a_driver_that_tells_one_sign_of_life_has_told_enough(untold: str) -> None:
    facts = changed(training(), {"gpus": eight_h100(**{untold: None})})
    assert_only(judge(Stage.TRAINING, facts), Verdict.UNKNOWN, {})


def in_dpo(*lines: str, **changes: Any) -> TrainingFacts:
    facts = {**on_box(sft=(330,)), "mirror": (Mirrored("sft", 330, 1000),)}
    return changed(training(), {**facts, **logged(*step_lines("sft", 1, 330), *lines), **changes})


def on_box(**steps: tuple[int, ...]) -> dict[str, Any]:
    """Checkpoints on the box, by trainer."""
    made = {name: seen(tuple(checkpoint(name, step) for step in steps.get(name, ()))) for name in ("sft", "dpo")}
    return {"checkpoints": made}


def ended_in_dpo(facts: TrainingFacts) -> TrainingFacts:
    return replace(facts, **on_box(sft=(330,), dpo=(80,)), mirror=seen((Mirrored("dpo", 80, 1000),)))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["[dpo] first loss=5.7", *step_lines("dpo", 1, 5)], "the first loss is 5.7, not ln 2"),
        (["[dpo] first loss=nan"], "the first loss is nan"),
        ([*step_lines("dpo", 1, 80, loss=0.6931)], "told apart no better than before"),
        ([*step_lines("dpo", 1, 80, loss=0.6931, every=10)], "told apart no better than before"),
        ([*step_lines("dpo", 1, 79, loss=0.6931), "[dpo] COMPLETE 80/80 steps"], "told apart no better than before"),
    ],
)
def test_preferences_that_are_not_learned(lines: list[str], said: str) -> None:
    facts = in_dpo("[sft] COMPLETE 330/330 steps", *lines)
    facts = ended_in_dpo(facts)
    assert_only(judge(Stage.TRAINING, facts), Verdict.FAIL, {LEARNED: said})


def test_the_evidence_shows_what_was_judged() -> None:
    facts = in_dpo("[sft] COMPLETE 330/330 steps", "[dpo] first loss=0.693147", *step_lines("dpo", 1, 5, loss=0.69))
    judged = judge(Stage.TRAINING, facts)
    shown = {
        LEARNED: {"first loss": "0.693147", "too few steps to judge their course, which takes": "20"},
        MOVES: {"too few steps to judge their course, which takes": "20"},
        RATE: {"sft schedule": "none is announced"},
        "loss_is_sane": {"newest loss": "0.689997"},
        "no_error_lines": {"errors of earlier attempts": "0"},
        "pace_within_timeline": {
            "sft s/step": "4.4",
            "dpo samples/s": "7.3",
            "spent USD": "",
            "spent USD at the last step": "",
        },
    }
    for check, notes in shown.items():
        for name, value in notes.items():
            assert value in judged[check].saw[name], (check, name, judged[check].saw)
    again = judge(Stage.TRAINING, changed(training(), resumed(200, *step_lines("sft", 201, 250, loss=0.85))))
    assert again["resume_is_continuous"].saw["sft resumed at"] == "200"


def test_steps_that_a_resume_spares_are_not_to_come() -> None:
    resume = "[sft] RESUME from models/output/sft/checkpoint-300 at step 300"
    job = sound_job()
    assert steps_left_s(job, log(V2, PLAN, resume)) == pytest.approx(30 * 4.4 + 80 * 6.0)


def test_what_a_log_tells_too_coarsely_is_unknown() -> None:
    """A gain that may be noise, and a rate of which no digit is printed, are neither good nor bad."""
    noise = [re.sub(r"loss=\S+", f"loss={0.685 + 0.02 * (-1) ** at}", line) for at, line in enumerate(DPO_STEPS)]
    facts = in_dpo("[sft] COMPLETE 330/330 steps", *noise)
    facts = ended_in_dpo(facts)
    assert_only(judge(Stage.TRAINING, facts), Verdict.UNKNOWN, {LEARNED: "may be noise alone"})
    coarse = [re.sub(r"lr=\S+", "lr=0.0000", line) for line in step_lines("sft", 1, 250)]
    facts = changed(training(), logged(*coarse))
    assert_only(judge(Stage.TRAINING, facts), Verdict.UNKNOWN, {RATE: "every learning rate is printed as 0.0000"})
    exact = [re.sub(r"lr=\S+", "lr=0.0", line) for line in step_lines("sft", 1, 250)]
    assert_only(judge(Stage.TRAINING, changed(training(), logged(*exact))), Verdict.FAIL, {RATE: "is logged as 0 at"})


DPO_STEPS = step_lines("dpo", 1, 80)


def test_a_job_may_set_its_own_limits_of_a_course() -> None:
    facts = in_dpo("[sft] COMPLETE 330/330 steps", "[dpo] first loss=0.72")
    assert_only(judge(Stage.TRAINING, facts), Verdict.FAIL, {LEARNED: "the first loss is 0.72"})
    limits = sound_job().limits.model_dump() | {"course": {"dpo_start_nats": 0.05}}
    assert_only(judge(Stage.TRAINING, facts, sound_job(limits=limits)), Verdict.FAIL, {})
    with pytest.raises(ValidationError, match="dpo_start_nats is more than 0"):
        sound_job(limits={"course": {"dpo_start_nats": 0}})
    with pytest.raises(ValidationError, match="dpo_start"):
        sound_job(limits={"course": {"dpo_start": 1}})


def test_noisy_losses_of_dpo_are_no_jump() -> None:
    again = [V2, PLAN, JUMPY, *[line for line in NOISY if " step 39/" in line]]
    assert_only(judge(Stage.TRAINING, in_dpo(*DPO, *NOISY, *again)), Verdict.FAIL, {})


def test_an_export_may_be_silent_as_long_as_it_is_planned() -> None:
    ended = [*DPO, *step_lines("dpo", 1, 80, loss=0.4, pace=6.0), "[dpo] COMPLETE 80/80 steps"]
    here = {**on_box(sft=(330,), dpo=(80,)), "session": RUNNING}
    mirror = (Mirrored("dpo", 80, 1000),)
    quiet = replace(in_dpo(*ended, **here, log_age_s=590.0), mirror=seen(mirror))
    assert_only(judge(Stage.TRAINING, quiet), Verdict.FAIL, {})
    hung = replace(quiet, log_age_s=seen(601.0))
    assert_only(judge(Stage.TRAINING, hung), Verdict.FAIL, {ADVANCING: "601 s"})


def test_the_exports_own_files_may_take_the_room_that_was_kept_for_them() -> None:
    ended = [*DPO, *step_lines("dpo", 1, 80, loss=0.4, pace=6.0), "[dpo] COMPLETE 80/80 steps"]
    facts = in_dpo(*ended, **on_box(sft=(330,), dpo=(80,)), disk=Disk(150 * GB, 130 * GB, 20 * GB))
    facts = replace(facts, mirror=seen((Mirrored("dpo", 80, 1000),)))
    assert_only(judge(Stage.TRAINING, facts), Verdict.FAIL, {})


def test_a_rehearsal_without_a_gpu_is_not_asked_for_one() -> None:
    facts = changed(training(), {"gpus": Gpus(installed=False, gpus=())})
    assert_only(judge(Stage.TRAINING, facts, sound_job(training={"accelerator": "cpu"})), Verdict.FAIL, {})


def test_a_checkpoint_that_could_not_be_read_is_neither_whole_nor_damaged() -> None:
    """Shards of several processes, or a file of another user's: the gate stays shut, and calls nothing damaged."""
    unread = checkpoint("sft", 200, unread=("rng_state.pth lies elsewhere, in rng_state_0.pth",))
    judged = judge(Stage.TRAINING, changed(training(), checkpoints(unread)))
    told = {name: said for name, said in judged.items() if said.verdict is not Verdict.PASS}
    assert {name: said.verdict for name, said in told.items()} == dict.fromkeys((DUE, ONE), Verdict.UNKNOWN), told
    assert all("rng_state_0.pth" in said.message for said in told.values())


def test_what_is_damaged_and_partly_unread_is_damaged() -> None:
    torn_one = checkpoint("sft", 200, unread=("scheduler.pt cannot be read",), problems=("optimizer.pt is empty",))
    judged = judge(Stage.TRAINING, changed(training(), checkpoints(torn_one)))
    assert judged[DUE].verdict is judged[ONE].verdict is Verdict.FAIL


@pytest.mark.parametrize(("pace", "samples"), [(4.4, "7.3"), (6.0, "5.3"), (0.25, "128"), (0.0, "None")])
def test_the_pace_is_shown_as_samples_a_second_too(pace: float, samples: str) -> None:
    evidence = Evidence()
    seen = {**logged(*step_lines("sft", 1, 250, pace=pace)), "spent_usd": 2.0}
    dict(check_functions(Stage.TRAINING))["pace_within_timeline"](changed(training(), seen), sound_job(), evidence)
    shown = {sight.name: sight.value for sight in evidence.sights}
    assert shown["sft samples/s"] == samples
    assert "dpo samples/s" not in shown
