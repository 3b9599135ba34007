"""The package proves on the box, before training starts, that its two ends work."""

from __future__ import annotations

import pytest

from harness.core.contract import section
from harness.facts.install import InstallFacts
from harness.plugin.looking import Evidence


@pytest.mark.remedy("check the model's name and the box's access to it, then: harness run {job}")
def check_base_model_available(install: InstallFacts, evidence: Evidence) -> None:
    """Configuration, tokenizer and weights of the base model resolve on the box."""
    ran = evidence.saw("readiness", install.readiness)
    evidence.wants("a line", f"READY base_model {section('Command')}")
    assert any(line.startswith("READY base_model ") for line in ran.out.splitlines()), (ran.err or ran.out)[-400:]


@pytest.mark.remedy("the error above is what the export would have ended with after the training: mend it now")
def check_gguf_export_ready(install: InstallFacts, evidence: Evidence) -> None:
    """The export path runs on the box before the training starts, not after."""
    ran = evidence.saw("readiness", install.readiness)
    evidence.wants("a line", f"READY gguf_export, exit status 0 {section('Command')}")
    assert any(line.startswith("READY gguf_export ") for line in ran.out.splitlines()), (ran.err or ran.out)[-400:]
    assert ran.status == 0, f"the readiness command ended with status {ran.status}"
