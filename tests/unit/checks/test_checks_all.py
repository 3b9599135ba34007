"""Of every stage's checks: sound facts open the gate, and what was not seen is UNKNOWN, never PASS and never FAIL."""

from __future__ import annotations

import ast
import dataclasses
from typing import Any

import pytest

from harness.core.lifecycle import Stage
from harness.core.observed import Observed, unseen
from harness.core.verdict import Verdict
from harness.gates import plan
from harness.static.writers import Writers
from tests.support.facts import PASSING, changed, judge, preflight, sound_job

_FOR_PEOPLE = {
    (Stage.PREFLIGHT, "prover"),
    (Stage.PREFLIGHT, "writers"),
    (Stage.TRAINING, "last_lines"),
    (Stage.POSTTRAIN, "run"),
    (Stage.POSTTRAIN, "rows_here"),
    (Stage.POSTTRAIN, "at_work"),
    (Stage.POSTTRAIN, "weights"),
    (Stage.POSTTRAIN, "config"),
    (Stage.LAUNCH, "checkpoints"),
    (Stage.LAUNCH, "strategy"),
}
"""Facts that open the gate unseen: a proof where no strategy is stated, writers where a smoke run wrote; those of
posttrain are judged of an adopted job, or of a folder, alone."""


_NEVER_BLIND = {
    "image_fits_package",
    "disk_plan_fits",
    "cost_within_budget",
    "artifact_is_written_by_the_package",
}
"""Checks of the job file alone, and one for which either of two sights will do."""


def observed_fields(stage: Stage) -> list[str]:
    facts = SOUND[stage]()
    fields = [field.name for field in dataclasses.fields(facts)]
    return [name for name in fields if isinstance(getattr(facts, name), Observed)]


def blind(stage: Stage, field: str) -> Any:
    return dataclasses.replace(SOUND[stage](), **{field: unseen("the line was cut")})


SOUND = {Stage.PREFLIGHT: lambda: changed(preflight(), {"writers": Writers(("a.py:1: save",), ())}), **PASSING}


@pytest.mark.parametrize("stage", SOUND)
def test_sound_facts_pass_every_declared_check(stage: Stage) -> None:
    judged = judge(stage, SOUND[stage]())
    assert set(judged) == set(plan.declared(stage, sound_job()))
    assert {name: said for name, said in judged.items() if said.verdict is not Verdict.PASS} == {}


@pytest.mark.parametrize(("stage", "field"), [(stage, name) for stage in SOUND for name in observed_fields(stage)])
def test_a_fact_that_was_not_seen_is_unknown(stage: Stage, field: str) -> None:
    judged = judge(stage, blind(stage, field))
    verdicts = {said.verdict for said in judged.values()}
    assert Verdict.FAIL not in verdicts, judged
    assert (Verdict.UNKNOWN in verdicts) == ((stage, field) not in _FOR_PEOPLE)
    for said in judged.values():
        assert said.verdict is Verdict.PASS or "the line was cut" in said.message


@pytest.mark.parametrize("stage", SOUND)
def test_no_check_passes_blindly(stage: Stage) -> None:
    blindfolded = [judge(stage, blind(stage, field)) for field in observed_fields(stage)]
    for check in set(plan.declared(stage, sound_job())) - _NEVER_BLIND:
        assert any(judged[check].verdict is Verdict.UNKNOWN for judged in blindfolded), check


LINE = "V2 FOREX INTEGRATION: 15300 SFT + 2550 DPO samples from YOUR data"
SECTION = "(docs/contract.md, section"
WANTED: dict[Stage, list[tuple[str, str, str]]] = {
    Stage.PREFLIGHT: [
        ("credentials_work", "credit in USD at least", "18.05"),
        ("dataset_counts", "log line", LINE),
        ("dataset_counts", "rows", "features=10200 scenarios=5100 pairs=2550"),
        ("dataset_is_yours", "allow_built_rows", "False"),
        ("dataset_rows_sound", "share of repeated rows at most", "0.01"),
        ("dataset_rows_sound", "share of the largest class at most", "0.9"),
        ("dataset_rows_sound", "share of rows with suspect words at most", "0.01"),
        ("dataset_fits_context", "share of rows cut at most", "0.02"),
        ("dataset_fits_context", "tokens a row at most", "1024"),
        ("package_files_complete", "files", "8: train_deepseek_forex.py …"),
        ("image_fits_package", "at least", "python=3.11 torch=2.6"),
        ("checkpoints_fit_plan", "USD gone at the first checkpoint, at most", "6.67"),
        ("checkpoints_fit_plan", "steps between checkpoints", "100"),
        ("disk_plan_fits", "bytes at most", "135000000000"),
        ("artifact_size_predicted", "bytes more than", "5000000000"),
        ("artifact_size_predicted", "free bytes here at least", "25873985536"),
        ("cost_within_budget", "USD at most", "20"),
        ("batch_size_is_32", "BATCH_SIZE", "32"),
        ("all_rows_planned", "epochs, at least", "1"),
        ("device_map_is_auto", "device_map", "auto"),
        ("smoke_run_passes", "exit status", "0"),
        ("artifact_is_written_by_the_package", "the artifact", "models/output/final/*.Q8_0.gguf"),
    ],
    Stage.PROVISION: [
        ("instance_running", "seconds of the plan", "3912"),
        ("host_key_pinned", "how", "container log over the provider's TLS API, or first use"),
        ("gpus_match_offer", "GPUs", "8x H100 SXM"),
        ("driver_supports_cuda", "min_driver", "560"),
        ("offer_meets_spec", "machine", "gpu='H100_SXM' gpus=8"),
        ("offer_meets_spec", "seconds, more than", "3912"),
        ("price_within_cap", "max_usd_per_hour", "16"),
    ],
    Stage.UPLOAD: [
        ("remote_config_as_required", "device_map", "auto"),
        ("remote_dataset_counts", "rows", "features=1"),
    ],
    Stage.INSTALL: [
        ("accelerator_visible", "GPUs, at least", "8"),
        ("base_model_available", "a line", f"READY base_model {SECTION} 'Command')"),
        ("gguf_export_ready", "a line", f"READY gguf_export, exit status 0 {SECTION} 'Command')"),
    ],
    Stage.LAUNCH: [
        ("v2_forex_integration_logged", "line", LINE),
        ("model_is_sharded_as_planned", "devices, at least", "2"),
        ("effective_config_logged", "plan", "steps=(sft=330 dpo=80) batch_size=32 checkpoint_every=100"),
        ("first_losses_finite", "max_loss", "20"),
        ("single_process_training", "world_size", "1"),
    ],
    Stage.TRAINING: [
        ("one_complete_checkpoint_always", "complete checkpoints, at least", "1"),
        ("loss_moves", "loss in nats, at least", "1e-05"),
        ("learning_rate_follows_schedule", "distance from the schedule, as a share of its peak, at most", "0.02"),
        ("preferences_are_learned", "nats below ln 2 at the end, at least", "0.001"),
        ("loss_is_sane", "median loss over its lowest, at most", "2"),
        ("gpus_are_working", "or MiB held in all, at least", "14525"),
        ("pace_within_timeline", "sft s/step, at most", "8.8"),
        ("pace_within_timeline", "budget_usd", "20"),
    ],
    Stage.POSTTRAIN: [
        ("final_gguf_exists", "files", "one, or all of one split"),
        ("remote_sha256_recorded", "sha256 in the manifest", "ab" * 32),
        ("gguf_carries_the_finetune", "share of the adapter's change", "0.5, 1.5"),
        ("gguf_carries_the_finetune", "relative error, at most", "0.02"),
        ("completion_logged", "exit status", "0"),
        ("all_steps_done", "last steps", "sft=330 dpo=80"),
        ("all_rows_trained", "epochs, at least", "1"),
    ],
    Stage.POSTDOWNLOAD: [
        ("local_file_exists", "written by this job", "True"),
        ("local_sha256_equals_remote", "sha256", "ab" * 32),
        ("gguf_generates", "tokens, more than", "0"),
    ],
    Stage.TEARDOWN: [
        ("instance_is_gone", "looks that agree, at least", "3"),
        ("billing_stopped", "looks with the same sum, at least", "2"),
    ],
}


@pytest.mark.parametrize("stage", WANTED)
def test_a_check_shows_beside_what_it_saw_what_it_wanted(stage: Stage) -> None:
    judged = judge(stage, SOUND[stage]())
    for check, name, value in WANTED[stage]:
        assert judged[check].wanted.get(name, "not said").startswith(value), (check, name)


def test_every_assertion_says_what_is_wrong() -> None:
    """Without words of its own a check would say what pytest's rewriting adds, and nothing where none is rewritten."""
    found = [
        (file, node) for file in plan.FOLDER.rglob("*.py") for node in ast.walk(ast.parse(file.read_text("utf-8")))
    ]
    assertions = [(file, node) for file, node in found if isinstance(node, ast.Assert)]
    assert len(assertions) > 60
    assert [f"{file.name}:{node.lineno}" for file, node in assertions if node.msg is None] == []
