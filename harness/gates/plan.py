"""The plan: which checks each stage's gate requires. Declared data with a digest, pure.

A check that a user adds to ``checks/<stage>/`` is required too, because it is there;
a check that is declared here is required even when its file is gone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from harness.core import shipped
from harness.core.ids import CheckId
from harness.core.lifecycle import ADOPTED, ORDER
from harness.job.model import Job

FOLDER: Final = shipped.folder("checks")
"""The built-in checks, whatever folder of that name the working directory has."""

_DECLARED: Final[Mapping[str, tuple[str, ...]]] = {
    "preflight": (
        "package_files_complete",
        "package_compiles",
        "image_fits_package",
        "dataset_counts",
        "dataset_is_yours",
        "dataset_rows_parse",
        "dataset_rows_sound",
        "dataset_fits_context",
        "batch_size_is_32",
        "device_map_is_auto",
        "no_forbidden_launcher",
        "no_forbidden_option_pairs",
        "smoke_run_passes",
        "artifact_is_written_by_the_package",
        "runtime_loads",
        "checkpoints_fit_plan",
        "disk_plan_fits",
        "artifact_size_predicted",
        "cost_within_budget",
        "credentials_work",
        "no_orphans",
        "destination_is_clean",
    ),
    "provision": (
        "offer_meets_spec",
        "price_within_cap",
        "instance_is_ours_and_single",
        "instance_running",
        "host_key_pinned",
        "ssh_answers_fresh",
        "gpus_match_offer",
        "driver_supports_cuda",
        "disk_free_as_planned",
        "bandwidth_sufficient",
    ),
    "upload": (
        "remote_package_matches_manifest",
        "remote_config_as_required",
        "remote_dataset_counts",
    ),
    "install": (
        "requirements_installed",
        "accelerator_visible",
        "libraries_import",
        "base_model_available",
        "gguf_export_ready",
        "terminal_multiplexer_ready",
    ),
    "launch": (
        "training_session_alive",
        "log_is_growing",
        "v2_forex_integration_logged",
        "trained_rows_are_yours",
        "single_process_training",
        "model_is_sharded_as_planned",
        "effective_config_logged",
        "first_losses_finite",
    ),
    "training": (
        "training_process_alive_or_done",
        "progress_is_advancing",
        "loss_is_sane",
        "loss_moves",
        "learning_rate_follows_schedule",
        "preferences_are_learned",
        "announced_plan_holds",
        "checkpoints_every_100_steps",
        "one_complete_checkpoint_always",
        "checkpoints_mirrored",
        "pace_within_timeline",
        "gpus_are_working",
        "disk_has_room",
        "instance_stays_on_its_terms",
        "no_error_lines",
        "resume_is_continuous",
    ),
    "posttrain": (
        "completion_logged",
        "all_steps_done",
        "adapters_are_trained",
        "final_gguf_exists",
        "remote_gguf_over_floor",
        "remote_gguf_size_as_predicted",
        "remote_gguf_well_formed",
        "gguf_carries_the_finetune",
        "final_model_exists",
        "remote_model_over_floor",
        "remote_model_size_as_predicted",
        "remote_model_well_formed",
        "model_carries_the_finetune",
        "adapter_base_is_as_planned",
        "remote_sha256_recorded",
        "adopted_run_is_over",
        "adopted_run_is_as_planned",
        "adopted_rows_are_yours",
    ),
    "postdownload": (
        "local_file_exists",
        "local_file_over_floor",
        "local_size_equals_remote",
        "local_sha256_equals_remote",
        "local_gguf_well_formed",
        "gguf_tokenizer_and_template_match",
        "gguf_generates",
        "local_model_well_formed",
        "companions_downloaded",
        "second_copy_verified",
    ),
    "teardown": (
        "release_is_valid",
        "file_still_matches_release",
        "nothing_still_running",
        "operator_confirmed",
        "instance_is_gone",
        "billing_stopped",
        "no_orphans_left",
    ),
}


OF_FOLDERS: Final = frozenset(
    {
        "final_model_exists",
        "remote_model_over_floor",
        "remote_model_size_as_predicted",
        "remote_model_well_formed",
        "model_carries_the_finetune",
        "adapter_base_is_as_planned",
        "local_model_well_formed",
    }
)
"""Checks of a merged model or an adapter; each stands for one of a GGUF, which lacks nothing without it."""


def _is_gguf(job: Job) -> bool:
    return job.artifact.kind == "gguf"


def _is_folder(job: Job) -> bool:
    return not _is_gguf(job)


_ONLY_WHEN: Final[Mapping[str, Callable[[Job], bool]]] = {
    "smoke_run_passes": lambda job: job.gates.smoke_run,
    "dataset_fits_context": lambda job: job.gates.context,
    "runtime_loads": lambda job: job.gates.generate and _is_gguf(job),
    "gguf_generates": lambda job: job.gates.generate and _is_gguf(job),
    # What a job's artifact is decides how it is looked at.
    "artifact_is_written_by_the_package": _is_gguf,
    "gguf_export_ready": _is_gguf,
    "final_gguf_exists": _is_gguf,
    "remote_gguf_over_floor": _is_gguf,
    "remote_gguf_size_as_predicted": lambda job: _is_gguf(job) and job.artifact.predict,
    "remote_gguf_well_formed": _is_gguf,
    "gguf_carries_the_finetune": _is_gguf,
    "local_gguf_well_formed": _is_gguf,
    "gguf_tokenizer_and_template_match": _is_gguf,
    "final_model_exists": _is_folder,
    "remote_model_over_floor": _is_folder,
    "remote_model_size_as_predicted": lambda job: _is_folder(job) and job.artifact.predict,
    "remote_model_well_formed": _is_folder,
    "model_carries_the_finetune": lambda job: job.artifact.kind == "merged",
    "adapter_base_is_as_planned": lambda job: job.artifact.kind == "adapter",
    "local_model_well_formed": _is_folder,
    "second_copy_verified": lambda job: job.artifact.second_copy is not None,
    # Whoever launched the training of an adopted instance may have recorded no exit status.
    "completion_logged": lambda job: not job.adopted,
    "adopted_run_is_over": lambda job: job.adopted,
    "adopted_rows_are_yours": lambda job: job.adopted,
    "adopted_run_is_as_planned": lambda job: job.adopted,
}
"""Checks that a job may leave out of its plan; every other one is required of every job.

An adopted job also leaves out every stage before its adoption: what was true then, nobody can look at any more.
"""


def declared(stage: str, job: Job) -> tuple[CheckId, ...]:
    """The checks that the stage's gate requires of this job; none for a stage that a user added."""
    checks = () if job.adopted and stage in set(ORDER) - set(ADOPTED) else _DECLARED.get(stage, ())
    return tuple(CheckId(check) for check in checks if _ONLY_WHEN.get(check, _always)(job))


def left_out(stage: str, job: Job) -> frozenset[CheckId]:
    """The built-in checks that this job's plan does without."""
    return frozenset(CheckId(check) for check in _DECLARED.get(stage, ())) - set(declared(stage, job))


def required(stage: str, job: Job, collected: Iterable[CheckId]) -> tuple[CheckId, ...]:
    """The declared checks, and every further one that was found in the stage's folder."""
    plan = declared(stage, job)
    return plan + tuple(sorted(set(collected) - set(plan) - left_out(stage, job)))


def digest(stage: str, checks: Iterable[CheckId]) -> str:
    """The plan's SHA-256: equal digests mean that equal sets of checks were demanded."""
    body = json.dumps({"stage": stage, "required": sorted(checks)}, separators=(",", ":"))
    return hashlib.sha256(body.encode()).hexdigest()


def _always(_: Job) -> bool:
    return True
