"""The plan: which checks each stage's gate requires. Declared data with a digest, pure.

A check that a user adds to ``checks/<stage>/`` is required too, because it is there;
a check that is declared here is required even when its file is gone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from harness.core import shipped
from harness.core.ids import CheckId
from harness.core.lifecycle import ADOPTED, ORDER
from harness.job.model import Job
from harness.job.strategy import SEEDS
from harness.log.grammar import DPO

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
        "all_rows_planned",
        "device_map_is_auto",
        "no_forbidden_launcher",
        "strategy_can_be_proven",
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
        "strategy_proven",
        "log_is_growing",
        "v2_forex_integration_logged",
        "trained_rows_are_yours",
        "single_process_training",
        "model_is_sharded_as_planned",
        "effective_config_logged",
        "all_rows_announced",
        "trainer_counts_to_planned_steps",
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
        "all_rows_trained",
        "log_is_of_this_run",
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


OF_GGUF: Final = frozenset(
    {
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
)
"""Checks of a GGUF alone."""

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

OF_RECORDS: Final = frozenset({"trainer_counts_to_planned_steps", "log_is_of_this_run"})
"""Checks of an unmodified trainer's own records; a log with the contract's lines lacks nothing without them."""


OF_STRATEGIES: Final = frozenset({"strategy_can_be_proven", "strategy_proven"})
"""Checks of a strategy that the job file states; the operating rules' way has been proven, and lacks nothing."""


def _is_gguf(job: Job) -> bool:
    return job.artifact.kind == "gguf"


def _is_folder(job: Job) -> bool:
    return not _is_gguf(job)


@dataclass(frozen=True, slots=True)
class _When:
    """A condition of the job under which some checks are required, and why they are left out where it does not hold."""

    holds: Callable[[Job], bool]
    otherwise: str
    checks: tuple[str, ...]


_OF_EPOCHS: Final = ("all_rows_planned", "all_rows_announced", "all_rows_trained")

_CONDITIONS: Final = (
    _When(lambda job: job.gates.smoke_run, "gates.smoke_run = false", ("smoke_run_passes",)),
    _When(lambda job: job.gates.context, "gates.context = false", ("dataset_fits_context",)),
    _When(lambda job: job.gates.generate, "gates.generate = false", ("runtime_loads", "gguf_generates")),
    _When(_is_gguf, "the artifact is no GGUF", tuple(sorted(OF_GGUF))),
    _When(_is_folder, "the artifact is a GGUF", tuple(sorted(OF_FOLDERS))),
    _When(
        lambda job: job.artifact.kind == "merged", "the artifact is no merged model", ("model_carries_the_finetune",)
    ),
    _When(
        lambda job: job.artifact.kind == "adapter", "the artifact is no adapter alone", ("adapter_base_is_as_planned",)
    ),
    _When(
        lambda job: job.artifact.predict,
        "artifact.predict = false",
        ("remote_gguf_size_as_predicted", "remote_model_size_as_predicted"),
    ),
    _When(
        lambda job: bool(job.data.files),
        "the job names no data files: the package brings its own",
        (
            "dataset_counts",
            "dataset_is_yours",
            "dataset_rows_parse",
            "dataset_rows_sound",
            "dataset_fits_context",
            "remote_dataset_counts",
            "trained_rows_are_yours",
            "adopted_rows_are_yours",
            *_OF_EPOCHS,
        ),
    ),
    _When(lambda job: job.limits.min_epochs > 0, "limits.min_epochs = 0", _OF_EPOCHS),
    _When(lambda job: job.data.proof is not None, "the job states no proof line", ("v2_forex_integration_logged",)),
    _When(
        lambda job: job.training.strategy != SEEDS,
        'training.strategy = "seeds"',
        tuple(sorted(OF_STRATEGIES)),
    ),
    _When(lambda job: job.training.batch_size > 0, "training.batch_size = 0", ("batch_size_is_32", "all_rows_planned")),
    _When(lambda job: DPO in job.trainers, "no dpo is trained", ("preferences_are_learned",)),
    _When(
        lambda job: bool(job.training.device_map),
        'training.device_map = ""',
        ("device_map_is_auto", "model_is_sharded_as_planned"),
    ),
    _When(
        lambda job: bool(job.training.batch_size or job.training.device_map),
        'training.batch_size = 0 and training.device_map = ""',
        ("remote_config_as_required",),
    ),
    _When(
        lambda job: job.model.lora_r > 0,
        "model.lora_r = 0: there is no adapter",
        ("adapters_are_trained", "gguf_carries_the_finetune", "model_carries_the_finetune"),
    ),
    _When(
        lambda job: bool(job.package.readiness) or not job.unmodified,
        "an unmodified trainer has no readiness command",
        ("base_model_available", "gguf_export_ready"),
    ),
    _When(
        lambda job: not job.unmodified,
        "an unmodified trainer announces no plan",
        ("effective_config_logged", "model_is_sharded_as_planned", "adopted_run_is_as_planned"),
    ),
    _When(
        lambda job: not job.unmodified,
        "an unmodified trainer states no digest of the rows that it reads; those on the box are held against yours",
        ("trained_rows_are_yours", "adopted_rows_are_yours"),
    ),
    _When(
        lambda job: not job.unmodified,
        "an unmodified trainer states no digest of its model; the one that the box computes is what it is held against",
        ("remote_sha256_recorded",),
    ),
    _When(
        lambda job: job.unmodified,
        "the log has the contract's own lines",
        tuple(OF_RECORDS),
    ),
    _When(
        lambda job: job.artifact.second_copy is not None or job.artifact.second_copy_url is not None,
        "the job asks for none",
        ("second_copy_verified",),
    ),
    _When(
        lambda job: job.is_billed,
        "a machine of one's own has no image, no price, no term, and no market that would tell them",
        ("image_fits_package", "cost_within_budget", "offer_meets_spec", "price_within_cap", "billing_stopped"),
    ),
    _When(
        lambda job: job.is_billed or job.training.accelerator != "cpu",
        "a machine of one's own that is to train on its processor shows no GPU",
        ("gpus_match_offer", "driver_supports_cuda", "gpus_are_working"),
    ),
    _When(
        lambda job: not job.adopted,
        "whoever launched an adopted training may have recorded no exit status",
        ("completion_logged",),
    ),
    _When(
        lambda job: job.adopted,
        "the job rented its instance itself",
        ("adopted_run_is_over", "adopted_rows_are_yours", "adopted_run_is_as_planned"),
    ),
)
"""Checks that a job may leave out of its plan; every other one is required of every job."""

_BEFORE_ADOPTION: Final = "before its adoption: what was true then, nobody can look at any more"


def of_other_kinds(job: Job) -> frozenset[str]:
    """Checks that lack nothing where they are left out: others stand in their place for this job's kind."""
    folders = OF_FOLDERS if _is_gguf(job) else frozenset()
    strategies = OF_STRATEGIES if job.training.strategy == SEEDS else frozenset()
    return folders | strategies | (frozenset() if job.unmodified else OF_RECORDS)


def declared(stage: str, job: Job) -> tuple[CheckId, ...]:
    """The checks that the stage's gate requires of this job; none for a stage that a user added."""
    without = left_out(stage, job)
    return tuple(CheckId(check) for check in _DECLARED.get(stage, ()) if check not in without)


def left_out(stage: str, job: Job) -> dict[CheckId, str]:
    """Built-in checks that this job's plan does without, and why."""
    checks = _DECLARED.get(stage, ())
    if job.adopted and stage in set(ORDER) - set(ADOPTED):
        return dict.fromkeys(map(CheckId, checks), _BEFORE_ADOPTION)
    return {
        CheckId(check): when.otherwise
        for when in _CONDITIONS
        if not when.holds(job)
        for check in when.checks
        if check in checks
    }


def required(stage: str, job: Job, collected: Iterable[CheckId]) -> tuple[CheckId, ...]:
    """The declared checks, and every further one that was found in the stage's folder."""
    plan = declared(stage, job)
    return plan + tuple(sorted(set(collected) - set(plan) - left_out(stage, job).keys()))


def digest(stage: str, checks: Iterable[CheckId]) -> str:
    """The plan's SHA-256: equal digests mean that equal sets of checks were demanded."""
    body = json.dumps({"stage": stage, "required": sorted(checks)}, separators=(",", ":"))
    return hashlib.sha256(body.encode()).hexdigest()
