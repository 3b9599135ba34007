"""What lies exactly at a limit of a check, and on which side it falls; and how much of a long list a check names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness.artifacts.adapter import AdapterFindings
from harness.core.answers import Disk
from harness.core.lifecycle import Stage
from harness.core.money import usd
from harness.core.ports import Account, PendingPrice
from harness.core.verdict import Verdict
from harness.facts.install import Requirements
from harness.facts.postdownload import Companions
from harness.facts.preflight import Context
from harness.facts.training import steps_left_s
from harness.facts.upload import Difference
from harness.job import estimate
from harness.release.absence import BillingLook
from harness.static.writers import Writers
from tests.support.facts import (
    ENDED,
    EPOCHS,
    NOW,
    PASSING,
    PLAN,
    V2,
    changed,
    eight_h100,
    finding,
    install,
    instance,
    judge,
    log,
    offer,
    posttrain,
    preflight,
    sound_job,
    step_lines,
    teardown,
    training,
)

JOB = sound_job()
PLANNED_S = estimate.timeline(JOB).total
COMING_USD = usd(steps_left_s(JOB, training().log.get()), JOB.most_usd_per_hour)
LEFT_S = steps_left_s(JOB, training().log.get()) + JOB.limits.export_s + 2 * JOB.limits.download_s
NEEDED = estimate.disk(JOB)
HERE = 2 * estimate.artifact_bytes(JOB) + estimate.mirror_bytes(JOB)
TO_EXPORT = NEEDED.merged + NEEDED.gguf
WEIGHTS_MIB = estimate.base_bytes(JOB) >> 20
NAN = float("nan")
GB = 10**9


def logged(*lines: str) -> dict[str, Any]:
    return {"log": log(V2, PLAN, *EPOCHS, *lines)}


def resumed(first: int, *, loss: float = 0.5, before: float = 0.5, spike: int = 0) -> dict[str, Any]:
    """A resume at step 200 of a run that got to step 230, with one loss of 2.0 before it."""
    lines = step_lines("sft", 1, 230, loss=before)
    lines = [re.sub(r"loss=\S+", "loss=2.0", line) if f" step {spike}/" in line else line for line in lines]
    resume = "[sft] RESUME from models/output/sft/checkpoint-200 at step 200"
    return logged(*lines, V2, PLAN, *EPOCHS, resume, *step_lines("sft", first, max(first, 250), loss=loss))


def terms(**changes: Any) -> dict[str, Any]:
    return {"terms": replace(training().terms.get(), **changes)}


def price(since: float, asked: float = 99.0) -> dict[str, Any]:
    return terms(pending=(PendingPrice(asked, since, NOW + 5e6),))


def carried(**changes: float) -> dict[str, Any]:
    sound = posttrain().carried.get()
    return {"carried": replace(sound, tensors={name: replace(one, **changes) for name, one in sound.tensors.items()})}


def bills(last: float) -> dict[str, Any]:
    proof = teardown().billing.get()
    return {"billing": replace(proof, looks=(BillingLook(NOW, 0.0, 3), BillingLook(NOW + 60, last, 3)))}


def held(mib: float, percent: float = 0.0) -> dict[str, Any]:
    """The first GPU holds all that is held."""
    shown = eight_h100(utilization_percent=percent, memory_used_mib=0.0)
    return {"gpus": replace(shown, gpus=(replace(shown.gpus[0], memory_used_mib=mib), *shown.gpus[1:]))}


PASS, FAIL = Verdict.PASS, Verdict.FAIL
Limit = tuple[str, Stage, Mapping[str, Any], str, Verdict]
LIMITS: list[Limit] = [
    ("all the credit", Stage.PREFLIGHT, {"account": Account(7, 18.05)}, "credentials_work", PASS),
    ("a cent less", Stage.PREFLIGHT, {"account": Account(7, 18.04)}, "credentials_work", FAIL),
    ("the share cut", Stage.PREFLIGHT, {"context": Context(100, 2, "")}, "dataset_fits_context", PASS),
    ("a row more cut", Stage.PREFLIGHT, {"context": Context(100, 3, "")}, "dataset_fits_context", FAIL),
    ("the room here", Stage.PREFLIGHT, {"local_free_bytes": HERE}, "artifact_size_predicted", PASS),
    ("a byte less here", Stage.PREFLIGHT, {"local_free_bytes": HERE - 1}, "artifact_size_predicted", FAIL),
    ("the disk", Stage.PROVISION, {"offer": offer(disk_gb=150)}, "offer_meets_spec", PASS),
    ("the reliability", Stage.PROVISION, {"offer": offer(reliability=0.95)}, "offer_meets_spec", PASS),
    ("the CUDA", Stage.PROVISION, {"offer": offer(cuda_max=12.6)}, "offer_meets_spec", PASS),
    ("one port", Stage.PROVISION, {"offer": offer(direct_ports=1)}, "offer_meets_spec", PASS),
    ("the plan's time", Stage.PROVISION, {"offer": offer(duration_s=PLANNED_S)}, "offer_meets_spec", FAIL),
    ("the cap", Stage.PROVISION, {"instance": instance(usd_per_hour=16.0)}, "price_within_cap", PASS),
    (
        "a rounded price",
        Stage.PROVISION,
        {"instance": instance(usd_per_hour=10.1), "offer": offer(usd_per_hour=10.0)},
        "price_within_cap",
        PASS,
    ),
    (
        "more than rounded",
        Stage.PROVISION,
        {"instance": instance(usd_per_hour=10.11), "offer": offer(usd_per_hour=10.0)},
        "price_within_cap",
        FAIL,
    ),
    ("the contract", Stage.PROVISION, {"instance": instance(ends_at=NOW + PLANNED_S)}, "instance_running", FAIL),
    ("the driver", Stage.PROVISION, {"gpus": eight_h100(driver="560.35.03")}, "driver_supports_cuda", PASS),
    ("an older driver", Stage.PROVISION, {"gpus": eight_h100(driver="559.9")}, "driver_supports_cuda", FAIL),
    ("the disk's room", Stage.PROVISION, {"disk": Disk(GB, 0, NEEDED.needed)}, "disk_free_as_planned", PASS),
    ("a byte less room", Stage.PROVISION, {"disk": Disk(GB, 0, NEEDED.needed - 1)}, "disk_free_as_planned", FAIL),
    (
        "the rate",
        Stage.PROVISION,
        {"download_bytes_per_s": math.nextafter(estimate.artifact_bytes(JOB) / JOB.limits.download_s, math.inf)},
        "bandwidth_sufficient",
        PASS,
    ),
    ("one file", Stage.UPLOAD, {"difference": Difference(1, (), (), ())}, "remote_package_matches_manifest", PASS),
    ("one requirement", Stage.INSTALL, {"requirements": Requirements(1, ())}, "requirements_installed", PASS),
    (
        "a GPU more",
        Stage.INSTALL,
        {"libraries": replace(install().libraries.get(), devices=("NVIDIA H100",) * 9)},
        "accelerator_visible",
        PASS,
    ),
    ("as silent as may be", Stage.LAUNCH, {"log_age_s": 300.0}, "log_is_growing", PASS),
    ("the highest loss", Stage.LAUNCH, logged(*step_lines("sft", 1, 1, loss=20.0)), "first_losses_finite", PASS),
    (
        "the tenth loss",
        Stage.LAUNCH,
        logged(*step_lines("sft", 1, 9), *step_lines("sft", 10, 10, loss=NAN)),
        "first_losses_finite",
        FAIL,
    ),
    (
        "the eleventh, of which the next stage judges",
        Stage.LAUNCH,
        logged(*step_lines("sft", 1, 10), *step_lines("sft", 11, 11, loss=NAN)),
        "first_losses_finite",
        PASS,
    ),
    ("silent in mid-run", Stage.TRAINING, {"log_age_s": 300.0}, "progress_is_advancing", PASS),
    ("a loss so high", Stage.TRAINING, logged(*step_lines("sft", 1, 1, loss=20.0)), "loss_is_sane", PASS),
    (
        "the pace",
        Stage.TRAINING,
        {**logged(*step_lines("sft", 1, 250, pace=8.8)), "spent_usd": 2.0},
        "pace_within_timeline",
        PASS,
    ),
    (
        "a pace that is over",
        Stage.TRAINING,
        {**logged(*step_lines("sft", 1, 250, pace=9.0)), "session": ENDED},
        "pace_within_timeline",
        PASS,
    ),
    ("all is spent", Stage.TRAINING, {"spent_usd": 20.0, "session": ENDED}, "pace_within_timeline", PASS),
    ("all will be spent", Stage.TRAINING, {"spent_usd": 20.0 - COMING_USD}, "pace_within_timeline", PASS),
    ("a cent too much", Stage.TRAINING, {"spent_usd": 20.01 - COMING_USD}, "pace_within_timeline", FAIL),
    ("hardly at work", Stage.TRAINING, held(0.0, percent=5.0), "gpus_are_working", PASS),
    ("less at work", Stage.TRAINING, held(0.0, percent=4.96), "gpus_are_working", FAIL),
    ("the model is held", Stage.TRAINING, held(WEIGHTS_MIB), "gpus_are_working", PASS),
    ("a part is held", Stage.TRAINING, held(WEIGHTS_MIB - 1), "gpus_are_working", FAIL),
    ("the free share", Stage.TRAINING, {"disk": Disk(300 * GB, 270 * GB, 30 * GB)}, "disk_has_room", PASS),
    ("less than that", Stage.TRAINING, {"disk": Disk(300 * GB, 271 * GB, 29 * GB)}, "disk_has_room", FAIL),
    ("the export's room", Stage.TRAINING, {"disk": Disk(150 * GB, 0, TO_EXPORT)}, "disk_has_room", PASS),
    ("a byte short of it", Stage.TRAINING, {"disk": Disk(150 * GB, 0, TO_EXPORT - 1)}, "disk_has_room", FAIL),
    ("resumed on its step", Stage.TRAINING, resumed(200), "resume_is_continuous", FAIL),
    ("resumed a step on", Stage.TRAINING, resumed(201), "resume_is_continuous", PASS),
    ("resumed far on", Stage.TRAINING, resumed(300), "resume_is_continuous", PASS),
    ("resumed farther on", Stage.TRAINING, resumed(301), "resume_is_continuous", FAIL),
    ("a loss half as high again", Stage.TRAINING, resumed(201, loss=0.85), "resume_is_continuous", PASS),
    ("a higher loss", Stage.TRAINING, resumed(201, loss=0.86), "resume_is_continuous", FAIL),
    ("as high as 20 steps ago", Stage.TRAINING, resumed(201, loss=2.0, spike=180), "resume_is_continuous", PASS),
    ("as high as 21 steps ago", Stage.TRAINING, resumed(201, loss=2.0, spike=179), "resume_is_continuous", FAIL),
    ("as high as the newest step", Stage.TRAINING, resumed(201, loss=2.0, spike=200), "resume_is_continuous", PASS),
    ("high after the resume's step", Stage.TRAINING, resumed(201, loss=2.0, spike=201), "resume_is_continuous", FAIL),
    ("the cap, rounded", Stage.TRAINING, terms(usd_per_hour=16.16), "instance_stays_on_its_terms", PASS),
    ("above the cap", Stage.TRAINING, terms(usd_per_hour=16.17), "instance_stays_on_its_terms", FAIL),
    ("it ends with the job", Stage.TRAINING, terms(ends_at=NOW + LEFT_S), "instance_stays_on_its_terms", FAIL),
    ("the cap is asked", Stage.TRAINING, price(NOW, 16.0 * 1.01), "instance_stays_on_its_terms", PASS),
    ("a price at the job's end", Stage.TRAINING, price(NOW + LEFT_S), "instance_stays_on_its_terms", FAIL),
    (
        "one matrix",
        Stage.POSTTRAIN,
        {"adapter": AdapterFindings(1, 64, 1, ())},
        "adapters_are_trained",
        PASS,
    ),
    ("half the change", Stage.POSTTRAIN, carried(projection=0.5, noise=0.0), "gguf_carries_the_finetune", PASS),
    ("noise as large", Stage.POSTTRAIN, carried(projection=1.0, noise=0.5 / 3), "gguf_carries_the_finetune", PASS),
    ("its largest error", Stage.POSTTRAIN, carried(relative_error=0.02), "gguf_carries_the_finetune", PASS),
    ("a larger error", Stage.POSTTRAIN, carried(relative_error=0.021), "gguf_carries_the_finetune", FAIL),
    ("a change", Stage.POSTTRAIN, carried(change=1e-9), "gguf_carries_the_finetune", PASS),
    ("the bill's rounding", Stage.TEARDOWN, bills(0.99e-4), "billing_stopped", PASS),
    ("a hundredth of a cent", Stage.TEARDOWN, bills(1e-4), "billing_stopped", FAIL),
]


def facts_of(stage: Stage, changes: Mapping[str, Any]) -> Any:
    return changed(preflight() if stage is Stage.PREFLIGHT else PASSING[stage](), changes)


@pytest.mark.parametrize(
    ("stage", "changes", "check", "verdict"), [one[1:] for one in LIMITS], ids=[one[0] for one in LIMITS]
)
def test_what_lies_at_a_limit_falls_on_its_side(
    stage: Stage, changes: Mapping[str, Any], check: str, verdict: Verdict
) -> None:
    said = judge(stage, facts_of(stage, changes))[check]
    assert said.verdict is verdict, said


COST = estimate.cost(JOB).total
PREDICTED = estimate.artifact_bytes(JOB)
TO_FIRST_USD = round(usd(estimate.first_checkpoint_s(JOB), JOB.most_usd_per_hour), 2)
PLANS: list[tuple[str, Mapping[str, Mapping[str, Any]], str, Verdict]] = [
    ("all the budget", {"limits": {"budget_usd": COST}}, "cost_within_budget", PASS),
    ("a cent over it", {"limits": {"budget_usd": COST - 0.01}}, "cost_within_budget", FAIL),
    ("the floor", {"artifact": {"floors": {"Q8_0": PREDICTED}}}, "artifact_size_predicted", FAIL),
    ("a byte over it", {"artifact": {"floors": {"Q8_0": PREDICTED - 1}}}, "artifact_size_predicted", PASS),
    (
        "the share of the first checkpoint",
        {"limits": {"budget_usd": 2 * TO_FIRST_USD, "first_checkpoint_share": 0.5}},
        "checkpoints_fit_plan",
        PASS,
    ),
    (
        "a cent more than that",
        {"limits": {"budget_usd": 2 * TO_FIRST_USD - 0.02, "first_checkpoint_share": 0.5}},
        "checkpoints_fit_plan",
        FAIL,
    ),
    (
        "the whole disk",
        {"machine": {"disk_gb": NEEDED.needed / GB}, "limits": {"min_disk_free_share": 0.0}},
        "disk_plan_fits",
        PASS,
    ),
    (
        "all but the free share",
        {"machine": {"disk_gb": NEEDED.needed / GB}, "limits": {"min_disk_free_share": 0.01}},
        "disk_plan_fits",
        FAIL,
    ),
    ("too few steps", {"training": {"steps": {"sft": 119, "dpo": 80}}}, "all_rows_planned", FAIL),
    ("just enough", {"training": {"steps": {"sft": 120, "dpo": 80}}}, "all_rows_planned", PASS),
    ("an old image", {"machine": {"image": "pytorch/pytorch:2.1.0-cuda12.1"}}, "image_fits_package", FAIL),
]


@pytest.mark.parametrize(("tables", "check", "verdict"), [one[1:] for one in PLANS], ids=[one[0] for one in PLANS])
def test_a_plan_at_a_limit_falls_on_its_side(
    tables: Mapping[str, Mapping[str, Any]], check: str, verdict: Verdict
) -> None:
    said = judge(Stage.PREFLIGHT, preflight(), sound_job(**tables))[check]
    assert said.verdict is verdict, said


MANY = tuple(f"item {number}" for number in range(1, 10))
SPOILT = [re.sub(r"loss=\S+", "loss=nan", line) for line in step_lines("sft", 1, 9)]
ERRORS = [f"NVRM: Xid (PCI:0000:01:00): 79, {one} {'x' * 200}" for one in MANY]
SMOKE = preflight().smoke.get()


LONG: list[tuple[Stage, Mapping[str, Any], str, int]] = [
    (
        Stage.PREFLIGHT,
        {"writers": Writers((), MANY), "smoke": replace(SMOKE, gguf=None)},
        "artifact_is_written_by_the_package",
        3,
    ),
    (Stage.UPLOAD, {"difference": Difference(1, MANY, (), ())}, "remote_package_matches_manifest", 5),
    (Stage.UPLOAD, {"difference": Difference(1, (), MANY, ())}, "remote_package_matches_manifest", 5),
    (Stage.UPLOAD, {"difference": Difference(1, (), (), MANY)}, "remote_package_matches_manifest", 5),
    (Stage.POSTTRAIN, {"adapter": AdapterFindings(1, 64, 1, MANY)}, "adapters_are_trained", 3),
    (Stage.POSTTRAIN, {"adapter": AdapterFindings(1, 64, 1, (), doubts=MANY)}, "adapters_are_trained", 3),
    (Stage.POSTDOWNLOAD, {"companions": Companions(1, MANY)}, "companions_downloaded", 5),
    (
        Stage.POSTDOWNLOAD,
        {"findings": tuple(finding(one, Verdict.FAIL) for one in MANY)},
        "local_gguf_well_formed",
        3,
    ),
    (Stage.TEARDOWN, {"running": MANY}, "nothing_still_running", 3),
    (Stage.LAUNCH, logged(*SPOILT), "first_losses_finite", 3),
    (Stage.TRAINING, logged(*SPOILT), "loss_is_sane", 3),
    (Stage.TRAINING, logged(*step_lines("sft", 1, 9), *ERRORS), "no_error_lines", 3),
]


@pytest.mark.parametrize(("stage", "changes", "check", "shown"), LONG)
def test_a_long_list_is_told_by_its_first(stage: Stage, changes: Mapping[str, Any], check: str, shown: int) -> None:
    told = judge(stage, facts_of(stage, changes))[check]
    assert told.verdict is not Verdict.PASS
    named = re.findall(r"item (\d)|sft step (\d): nan", told.message)
    assert ["".join(one) for one in named] == [str(number) for number in range(1, shown + 1)]
