"""The file is a model that loads and speaks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.core.finding import Finding
from harness.core.observed import CouldNotLook
from harness.core.verdict import Verdict
from harness.facts.postdownload import PostdownloadFacts
from harness.job.model import Job
from harness.plugin.looking import Evidence

_GONE = "the instance is gone: harness verify FILE shows every finding; put a sound copy in the file's place"
_TOKENIZER = "tokenizer_"
_AS_TRAINED = "tokenizer_as_trained"
_WHOLE = {"well_formed", "tensors_as_predicted", "weights_present"}


@pytest.mark.remedy("harness verify FILE shows every finding; harness run {job} fetches it again", gone=_GONE)
def check_local_gguf_well_formed(postdownload: PostdownloadFacts, job: Job, evidence: Evidence) -> None:
    """It parses to the last byte, its tensors are those of the model, and no block scale is zero or not finite."""
    findings = [one for one in evidence.saw("findings", postdownload.findings) if not one.id.startswith(_TOKENIZER)]
    _all_pass([one for one in findings if job.artifact.predict or not _unpredicted(one)])
    lacking = _WHOLE - {one.id for one in findings}
    assert not lacking, f"the file was not looked at for {', '.join(sorted(lacking))}"


@pytest.mark.remedy(
    "harness verify FOLDER shows every finding; harness run {job} fetches it again",
    unknown="what it must hold is not known here: where you know that it is right, artifact.predict = false leaves that"
    " out",
    gone=_GONE,
)
def check_local_model_well_formed(postdownload: PostdownloadFacts, job: Job, evidence: Evidence) -> None:
    """Its files are whole, its tensors those of the model or the adapter, every number finite, and it was trained."""
    findings = evidence.saw("findings", postdownload.findings)
    lacking = _LOOKED_AT[job.artifact.kind] - {one.id for one in findings}
    _all_pass([one for one in findings if job.artifact.predict or not _unpredicted(one)])
    assert not lacking, f"the folder was not looked at for {', '.join(sorted(lacking))}"


def _unpredicted(finding: Finding) -> bool:
    """True for a claim about tensors of a kind that is not known here: it is left out, where the job's plan says so."""
    return finding.verdict is Verdict.UNKNOWN and finding.id in _PREDICTED


_LOOKED_AT = {
    "merged": {"files_whole", "tensors_as_predicted", "weights_present", "tokenizer_there", "config_as_planned"},
    "adapter": {"adapter_config", "adapter_tensors", "adapter_numbers", "adapter_trained"},
}
_PREDICTED = {"tensors_as_predicted", "hyperparameters", "adapter_config", "adapter_tensors"}


@pytest.mark.remedy("a GGUF with another tokenizer or template speaks gibberish: export it again", gone=_GONE)
def check_gguf_tokenizer_and_template_match(postdownload: PostdownloadFacts, evidence: Evidence) -> None:
    """Its vocabulary, special ids and chat template are the ones that the training used."""
    findings = [one for one in evidence.saw("findings", postdownload.findings) if one.id.startswith(_TOKENIZER)]
    _all_pass(findings)
    assert _AS_TRAINED in {one.id for one in findings}, "the file was not compared with the training's tokenizer"


@pytest.mark.remedy(
    "the file does not work in llama.cpp, whatever its checksum: export it again before you destroy",
    unknown="nobody has seen it work: see that the file and a llama.cpp runtime are here, then look again",
    gone="nobody has seen it work, and the instance is gone: harness verify FILE shows every finding",
)
def check_gguf_generates(postdownload: PostdownloadFacts, evidence: Evidence) -> None:
    """A llama.cpp runtime loads the file and generates tokens."""
    generation = evidence.saw("generation", postdownload.generation)
    evidence.wants("tokens, more than", 0)
    assert generation.loaded, f"it does not load: {generation.error}"
    assert generation.tokens > 0, "it loads and generates nothing"


def _all_pass(findings: Sequence[Finding]) -> None:
    failed = [f"{one.claim}: {one.seen}, expected {one.expected}" for one in findings if one.verdict is Verdict.FAIL]
    assert not failed, "; ".join(failed[:3])
    unknown = [one.claim for one in findings if one.verdict is Verdict.UNKNOWN]
    if unknown or not findings:
        raise CouldNotLook("; ".join(unknown) or "nothing was found out about the file")
