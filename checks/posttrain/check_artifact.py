"""The artifact lies on the box, finished, well formed, of the right size, and its digest is known."""

from __future__ import annotations

import posixpath

import pytest

from harness.core.observed import CouldNotLook
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
def check_final_gguf_exists(posttrain: PosttrainFacts, evidence: Evidence) -> None:
    """Exactly one GGUF lies in the final folder, and nothing unfinished beside it."""
    finals = evidence.saw("*.gguf", posttrain.finals)
    unfinished = evidence.saw("*.partial", posttrain.unfinished)
    evidence.wants("files", 1)
    assert len(finals) == 1, f"{len(finals)} files match"
    assert finals[0].kind == "file", f"it is a {finals[0].kind}"
    assert not finals[0].is_symlink, "it is a symbolic link"
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
    """The artifact's SHA-256 was computed on the box and equals what the package's manifest states."""
    recorded = evidence.saw("recorded", posttrain.recorded)
    told = evidence.saw("MANIFEST.json", posttrain.manifest)
    assert told.exists, "there is no MANIFEST.json"
    relative = posixpath.join(job.artifact.remote_dir, posixpath.basename(recorded.path))
    files = told.json.get("files", []) if isinstance(told.json, dict) else []
    stated = [one.get("sha256") for one in files if isinstance(one, dict) and one.get("path") == relative]
    evidence.wants("sha256 in the manifest", recorded.sha256)
    assert stated == [recorded.sha256], f"the manifest states {stated} for {relative}"


@pytest.mark.remedy(
    "the file is not the merged model: export it again on the box, harness run {job} fetches the new one"
)
def check_gguf_carries_the_finetune(posttrain: PosttrainFacts, job: Job, evidence: Evidence) -> None:
    """Rows of every adapted tensor equal the merged weights within the quantizer's error, and differ from the base."""
    comparison = evidence.saw("comparison", posttrain.carried)
    evidence.note("looked at, of each tensor", f"{comparison.elements} numbers, in rows spread evenly over it")
    off_by = job.limits.carried_off_by
    evidence.wants("share of the adapter's change", (1 - off_by, 1 + off_by))
    most = evidence.wants("relative error, at most", job.limits.quantizer_error[job.artifact.quantization])
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
