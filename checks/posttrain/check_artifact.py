"""The artifact lies on the box, finished, well formed, of the right size, and its digest is known."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Mapping
from typing import Any

import pytest

from harness.artifacts import adapter, finals, merged, model_shape, quantizations, safetensors
from harness.core.answers import Entry
from harness.core.canonical import table
from harness.core.errors import BadInput
from harness.core.observed import CouldNotLook
from harness.facts.finals import base_config, place
from harness.facts.posttrain import PosttrainFacts
from harness.job.model import Job
from harness.plugin.looking import Evidence


@pytest.mark.remedy(
    "harness ssh {job}: ls -la models/output/final; export again there if need be, then: harness run {job}"
)
@pytest.mark.seed("vastai-training-agent.md", "step 1")
@pytest.mark.seed("vastai-training-agent.md", "download script")
@pytest.mark.seed("vastai-training-agent.md", "quick reference")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "step 1")
def check_final_gguf_exists(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """Exactly one GGUF lies in the final folder, or every file of one split, and nothing unfinished beside it."""
    found = evidence.saw("*.gguf", posttrain.finals)
    unfinished = evidence.saw("*.partial", posttrain.unfinished)
    evidence.wants("files", "one, or all of one split")
    _require_pick(job, found)
    for one in found:
        assert one.kind == "file", f"it is a {one.kind}"
        assert not one.is_symlink, "it is a symbolic link"
    assert not unfinished, f"still being written: {', '.join(one.path for one in unfinished)}"


@pytest.mark.remedy("a file under the floor is not the model: look at the export's log lines")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "step 1")
def check_remote_gguf_over_floor(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """The file on the box is larger than its quantization's floor (> 5 GB for Q8_0, > 3 GB for Q4_K_M)."""
    recorded = evidence.saw("artifact", posttrain.recorded)
    floor = evidence.wants(f"bytes, more than ({job.artifact.quantization})", job.artifact.floor_bytes)
    assert recorded.size > floor, f"{recorded.size} bytes"


@pytest.mark.remedy("the file is not the model of the job file: cut short, or another base")
def check_remote_gguf_size_as_predicted(posttrain: PosttrainFacts, evidence: Evidence) -> None:
    """Its tensor data has exactly the bytes that the model's configuration gives."""
    header = evidence.saw("header", posttrain.gguf).gguf
    predicted = evidence.wants("bytes of tensor data", evidence.saw("predicted", posttrain.predicted_bytes))
    recorded = evidence.saw("artifact", posttrain.recorded)
    if header is None:
        raise CouldNotLook("the file's header was not read, see remote_gguf_well_formed")
    assert header.data_bytes == predicted, f"{header.data_bytes} bytes of tensors"
    assert header.size == recorded.size, f"the file has {header.size} bytes, {recorded.size} were recorded"


@pytest.mark.remedy("the parser names the place; export again there (harness ssh {job}), then: harness run {job}")
def check_remote_gguf_well_formed(posttrain: PosttrainFacts, evidence: Evidence) -> None:
    """Magic, version, metadata are whole, and every tensor lies inside the file."""
    answer = evidence.saw("header", posttrain.gguf)
    assert answer.exists, "the file is no longer there"
    assert answer.malformed is None, str(answer.malformed)
    assert answer.gguf is not None, "the parser says nothing about it"
    assert answer.gguf.tensors, "it holds no tensor"
    evidence.note("tensors", len(answer.gguf.tensors))


@pytest.mark.remedy("harness run {job} records it again")
def check_remote_sha256_recorded(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """The artifact's SHA-256, each of its files', was computed on the box and equals what the manifest states."""
    recorded = evidence.saw("recorded", posttrain.recorded)
    told = evidence.saw("MANIFEST.json", posttrain.manifest)
    assert told.exists, "there is no MANIFEST.json"
    files = table(told.json).get("files", [])
    evidence.wants("sha256 in the manifest", [part.sha256 for part in recorded.parts])
    for part in recorded.parts:
        relative = posixpath.join(job.artifact.remote_dir, part.path or posixpath.basename(recorded.path))
        stated = [one.get("sha256") for one in files if isinstance(one, dict) and one.get("path") == relative]
        assert stated == [part.sha256], f"the manifest states {stated} for {relative}"
    if job.artifact.kind != "gguf":
        there = {posixpath.join(job.artifact.remote_dir, part.path) for part in recorded.parts}
        listed = [str(one.get("path")) for one in files if isinstance(one, dict)]
        absent = [path for path in listed if path.startswith(f"{job.artifact.remote_dir}/") and path not in there]
        assert not absent, f"the manifest lists {', '.join(absent[:3])}, which was not there to be recorded"


@pytest.mark.remedy(
    "the file is not the merged model: export it again on the box, harness run {job} fetches the new one"
)
def check_gguf_carries_the_finetune(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """Rows of every adapted tensor equal the merged weights within the quantizer's error, and differ from the base."""
    _carries(posttrain, job, evidence, job.limits.quantizer_error[job.artifact.quantization])


@pytest.mark.remedy(
    "the folder is not the merged model: merge and save it again on the box, harness run {job} fetches the new one"
)
def check_model_carries_the_finetune(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """Rows of every adapted tensor equal the merged weights within its type's rounding, and differ from the base."""
    _carries(posttrain, job, evidence, quantizations.ERRORS["F16"])


def _carries(posttrain: PosttrainFacts, job: Job, evidence: Evidence, most: float) -> None:
    comparison = evidence.saw("comparison", posttrain.carried)
    evidence.note("looked at, of each tensor", f"{comparison.elements} numbers, in rows spread evenly over it")
    off_by = job.limits.carried_off_by
    evidence.wants("share of the adapter's change", (1 - off_by, 1 + off_by))
    evidence.wants("relative error, at most", most)
    wrong, unsure = [], [f"{name}: {why}" for name, why in comparison.unknown.items()]
    for name, one in comparison.tensors.items():
        off = abs(one.projection - 1)
        if one.change <= 0:
            wrong.append(f"{name}: the adapter changes nothing there")
        elif off > off_by + _DEVIATIONS * one.noise:
            wrong.append(f"{name} carries {one.projection:.2f} of the adapter's change")
        elif one.relative_error > most:
            wrong.append(f"{name} is {one.relative_error:.4f} away from the merged weights")
        elif max(off, _DEVIATIONS * one.noise) > off_by:
            unsure.append(f"{name}: the quantizer's rounding hides the adapter's change")
    evidence.note("tensors", f"{len(comparison.tensors)} compared, {len(wrong)} wrong, {len(unsure)} unsure")
    if wrong and comparison.doubt:
        raise CouldNotLook(
            f"{comparison.doubt}, which is not the one beside the adapter. Save the adapter as a plain LoRA "
            f"(save_pretrained with path_initial_model_for_weight_conversion), or name the base that it was trained on "
            f"in base_model_name_or_path of adapter_config.json: {wrong[0]}"
        )
    assert not wrong, f"{len(wrong)} of {len(comparison.tensors)} tensors: " + "; ".join(wrong[:3])
    if unsure:
        raise CouldNotLook(
            f"{len(unsure)} tensors cannot be compared, {'; '.join(unsure[:3])}. Compare the answers of this file with "
            "those of the merged model, or export the adapter as a plain LoRA in F16 or Q8_0"
        )
    assert comparison.tensors, "no tensor was compared"


_DEVIATIONS = 3
"""Standard errors that a share may be off by for its noise."""


_PREDICT = (
    "what it must hold is not known here: if you know that it is right, artifact.predict = false in the job file leaves"
    " this out by the plan"
)


@pytest.mark.remedy(
    "harness ssh {job}: look into artifact.remote_dir; save the model again there, then: harness run {job}"
)
def check_final_model_exists(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """Configuration and weights lie in the artifact's folder, the very files that were recorded, none unfinished."""
    found = evidence.saw("files", posttrain.finals)
    unfinished = evidence.saw("unfinished", posttrain.unfinished)
    assert not unfinished, f"still being written: {', '.join(one.path for one in unfinished[:3])}"
    names = _require_pick(job, found)
    recorded = evidence.saw("recorded", posttrain.recorded)
    due = evidence.wants("files", {part.path: part.size for part in recorded.parts})
    there = {name: one.bytes for name, one in zip(names, sorted(found, key=lambda one: one.path), strict=True)}
    changed = sorted(name for name in there.keys() | due.keys() if there.get(name) != due.get(name))
    assert not changed, f"no longer as recorded: {', '.join(changed[:3])}"


@pytest.mark.remedy("files under the floor are not the model: look at what the training saved, and at the floor")
def check_remote_model_over_floor(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """The files on the box are larger together than the job's floor."""
    recorded = evidence.saw("artifact", posttrain.recorded)
    floor = evidence.wants(f"bytes, more than ({job.artifact.described})", job.artifact.floor_bytes)
    assert recorded.size > floor, f"{recorded.size} bytes"


@pytest.mark.remedy("the weights are not those of the job file's model: save them again", unknown=_PREDICT)
def check_remote_model_size_as_predicted(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """Every tensor that the configuration makes is there in its shape, and no other: so the exact bytes."""
    weights = evidence.saw("headers", posttrain.weights)
    config = evidence.saw("configuration", posttrain.config).json
    base = base_config(job, posttrain.run_json)
    if not weights.tensors or not isinstance(config, dict):
        raise CouldNotLook("there are no headers and no configuration, see remote_model_well_formed")
    bytes_here = sum(safetensors.WIDTHS[kind] * math.prod(shape) for kind, shape in weights.tensors.values())
    evidence.note("bytes of tensors", bytes_here)
    if job.artifact.kind == "adapter":
        wrong, doubts = map(list, adapter.mismatches(config, base, weights.tensors))
    else:
        wrong, doubts = _of_merged(config, base, {name: shape for name, (_, shape) in weights.tensors.items()})
    assert not wrong, "; ".join(wrong[:3])
    if doubts:
        raise CouldNotLook("; ".join(doubts[:3]))


def _of_merged(
    config: Mapping[str, Any], base: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[list[str], list[str]]:
    """Faults of a merged model's tensors, and what cannot be told of them."""
    if wrong := merged.other_model(config, base):
        return wrong, []
    if left := merged.unmerged(shapes):
        return [f"{left[0]} is of an adapter that was not merged"], []
    try:
        return merged.mismatches(model_shape.from_config(config), shapes)[0], []
    except BadInput as error:
        return [], [str(error)]


@pytest.mark.remedy(
    "the message names the file; save the model again there (harness ssh {job}), then: harness run {job}"
)
def check_remote_model_well_formed(posttrain: PosttrainFacts, evidence: Evidence) -> None:
    """Every file of weights is whole, holds what the index says, and is named by it; the configuration is there."""
    weights = evidence.saw("headers", posttrain.weights)
    config = evidence.saw("configuration", posttrain.config)
    recorded = evidence.saw("recorded", posttrain.recorded)
    assert weights.exists, "the folder is no longer there"
    assert weights.malformed is None, str(weights.malformed)
    assert weights.tensors, "it holds no tensor"
    assert config.exists, "there is no configuration"
    assert isinstance(config.json, dict), "the configuration is no JSON object"
    sizes = {part.path: part.size for part in recorded.parts}
    changed = [f"{name} has {size} bytes" for name, size in weights.files.items() if sizes.get(name) != size]
    assert not changed, f"no longer as recorded: {changed[0]}"
    evidence.note("tensors", len(weights.tensors))


@pytest.mark.remedy(
    "an adapter works on the base that it was trained on alone: name that one in the job file ([model] base,"
    " artifact.base_revision), or save the adapter with its base's name, then: harness run {job}"
)
def check_adapter_base_is_as_planned(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """The adapter's configuration names the base model of the job file, and the revision where the job demands one."""
    config = evidence.saw("adapter_config.json", posttrain.config).json
    if not isinstance(config, dict):
        raise CouldNotLook("adapter_config.json is no JSON object, see remote_model_well_formed")
    named, revision = adapter.base_of(config)
    evidence.note("names", {"base": named, "revision": revision})
    wanted = evidence.wants("base", job.model.base)
    assert named, "it names no base model"
    assert named == wanted.rstrip("/"), f"it names {named}"
    if job.artifact.base_revision is not None:
        demanded = evidence.wants("revision", job.artifact.base_revision)
        assert revision == demanded, f"it names the revision {revision}"


def _require_pick(job: Job, found: tuple[Entry, ...]) -> tuple[str, ...]:
    try:
        return finals.pick(job.artifact.kind, place(job), found)
    except BadInput as error:
        raise AssertionError(str(error)) from error
