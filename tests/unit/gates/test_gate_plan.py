"""What each condition of a job leaves out of its plan: these checks by name, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from harness.core.lifecycle import Stage
from harness.gates import plan
from harness.job.model import Job
from tests.support.facts import sound_job

GGUF_ONLY = {
    "runtime_loads",
    "gguf_generates",
    "artifact_is_written_by_the_package",
    "gguf_export_ready",
    "final_gguf_exists",
    "remote_gguf_over_floor",
    "remote_gguf_size_as_predicted",
    "remote_gguf_well_formed",
    "gguf_carries_the_finetune",
    "local_gguf_well_formed",
    "gguf_tokenizer_and_template_match",
}
FOLDER_ONLY = {
    "final_model_exists",
    "remote_model_over_floor",
    "remote_model_size_as_predicted",
    "remote_model_well_formed",
    "model_carries_the_finetune",
    "adapter_base_is_as_planned",
    "local_model_well_formed",
}
TRAINER_ONLY = {"trainer_counts_to_planned_steps", "log_is_of_this_run"}
STRATEGY_ONLY = {"strategy_can_be_proven", "strategy_proven"}
ADOPTED_ONLY = {"adopted_run_is_over", "adopted_rows_are_yours", "adopted_run_is_as_planned"}
USUALLY = FOLDER_ONLY | TRAINER_ONLY | ADOPTED_ONLY | STRATEGY_ONLY
OF_DATA = {
    "dataset_counts",
    "dataset_is_yours",
    "dataset_rows_parse",
    "dataset_rows_sound",
    "dataset_fits_context",
    "remote_dataset_counts",
    "trained_rows_are_yours",
    "all_rows_planned",
    "all_rows_announced",
    "all_rows_trained",
}
OF_TALK = {
    "effective_config_logged",
    "model_is_sharded_as_planned",
    "trained_rows_are_yours",
    "remote_sha256_recorded",
}
OF_MONEY = {"image_fits_package", "cost_within_budget", "offer_meets_spec", "price_within_cap", "billing_stopped"}
OF_GPUS = {"gpus_match_offer", "driver_supports_cuda", "gpus_are_working"}
OWN = {"kind": "ssh"}

LEFT_OUT: dict[str, tuple[Mapping[str, Mapping[str, Any]], set[str]]] = {
    "nothing": ({}, USUALLY),
    "smoke run": ({"gates": {"smoke_run": False}}, USUALLY | {"smoke_run_passes"}),
    "context": ({"gates": {"context": False}}, USUALLY | {"dataset_fits_context"}),
    "generation": ({"gates": {"generate": False}}, USUALLY | {"runtime_loads", "gguf_generates"}),
    "prediction": ({"artifact": {"predict": False}}, USUALLY | {"remote_gguf_size_as_predicted"}),
    "second copy": ({"artifact": {"second_copy": None}}, USUALLY | {"second_copy_verified"}),
    "data": ({"data": {"files": ()}}, USUALLY | OF_DATA),
    "proof line": ({"data": {"proof_line": None}}, USUALLY | {"v2_forex_integration_logged"}),
    "batch size": ({"training": {"batch_size": 0}}, USUALLY | {"batch_size_is_32", "all_rows_planned"}),
    "device map": (
        {"training": {"device_map": ""}},
        USUALLY | {"device_map_is_auto", "model_is_sharded_as_planned"},
    ),
    "batch size and device map": (
        {"training": {"batch_size": 0, "device_map": ""}},
        USUALLY
        | {
            "batch_size_is_32",
            "all_rows_planned",
            "device_map_is_auto",
            "model_is_sharded_as_planned",
            "remote_config_as_required",
        },
    ),
    "preferences": ({"training": {"steps": {"sft": 330}}}, USUALLY | {"preferences_are_learned"}),
    "epochs": (
        {"limits": {"min_epochs": 0}},
        USUALLY | {"all_rows_planned", "all_rows_announced", "all_rows_trained"},
    ),
    "LoRA": ({"model": {"lora_r": 0}}, USUALLY | {"adapters_are_trained", "gguf_carries_the_finetune"}),
    "LoRA of rank 1": ({"model": {"lora_r": 1}}, USUALLY),
    "the contract": ({"training": {"log": "trainer"}}, (USUALLY - TRAINER_ONLY) | OF_TALK),
    "the contract and readiness": (
        {"training": {"log": "trainer"}, "package": {"readiness": ()}},
        (USUALLY - TRAINER_ONLY) | OF_TALK | {"base_model_available", "gguf_export_ready"},
    ),
    "nothing of a strategy": ({"training": {"strategy": "ddp"}}, USUALLY - STRATEGY_ONLY),
    "readiness alone": ({"package": {"readiness": ()}}, USUALLY),
    "GGUF for a merged model": (
        {"artifact": {"kind": "merged"}},
        GGUF_ONLY | TRAINER_ONLY | ADOPTED_ONLY | STRATEGY_ONLY | {"adapter_base_is_as_planned"},
    ),
    "prediction of a merged model": (
        {"artifact": {"kind": "merged", "predict": False}},
        GGUF_ONLY
        | TRAINER_ONLY
        | ADOPTED_ONLY
        | STRATEGY_ONLY
        | {"adapter_base_is_as_planned", "remote_model_size_as_predicted"},
    ),
    "LoRA of a merged model": (
        {"artifact": {"kind": "merged"}, "model": {"lora_r": 0}},
        GGUF_ONLY
        | TRAINER_ONLY
        | ADOPTED_ONLY
        | STRATEGY_ONLY
        | {"adapter_base_is_as_planned", "adapters_are_trained", "model_carries_the_finetune"},
    ),
    "GGUF for an adapter": (
        {"artifact": {"kind": "adapter"}},
        GGUF_ONLY | TRAINER_ONLY | ADOPTED_ONLY | STRATEGY_ONLY | {"model_carries_the_finetune"},
    ),
    "the market": ({"provider": OWN, "training": {"accelerator": "cuda"}}, USUALLY | OF_MONEY),
    "the market and GPUs": ({"provider": OWN, "training": {"accelerator": "cpu"}}, USUALLY | OF_MONEY | OF_GPUS),
    "a rented machine's GPUs": ({"training": {"accelerator": "cpu"}}, USUALLY),
}


def _job(tables: Mapping[str, Mapping[str, Any]]) -> Job:
    """A job of which only these fields are other: not every such job may be written, each condition is on its own."""
    job = sound_job()
    return job.model_copy(
        update={name: getattr(job, name).model_copy(update=dict(one)) for name, one in tables.items()}
    )


@pytest.mark.parametrize(("tables", "expected"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_job_does_without_these_checks_and_no_other(
    tables: Mapping[str, Mapping[str, Any]], expected: set[str]
) -> None:
    job = _job(tables)
    out = {check: why for stage in Stage for check, why in plan.left_out(stage, job).items()}
    assert set(out) == expected
    assert all(out.values())
    for stage in Stage:
        assert not set(plan.declared(stage, job)) & expected


def test_checks_that_others_stand_in_for_lack_nothing() -> None:
    assert plan.of_other_kinds(_job({})) == FOLDER_ONLY | TRAINER_ONLY | STRATEGY_ONLY
    assert plan.of_other_kinds(_job({"training": {"log": "trainer"}})) == FOLDER_ONLY | STRATEGY_ONLY
    assert plan.of_other_kinds(_job({"artifact": {"kind": "merged"}})) == TRAINER_ONLY | STRATEGY_ONLY
    assert plan.of_other_kinds(_job({"training": {"strategy": "ddp"}})) == FOLDER_ONLY | TRAINER_ONLY
