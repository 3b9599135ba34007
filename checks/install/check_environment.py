"""The box has what the training imports."""

from __future__ import annotations

import pytest

from harness.facts.install import InstallFacts
from harness.job.model import Job
from harness.plugin.looking import Evidence


@pytest.mark.remedy("run the package's install command there to see why (harness ssh {job}), then: harness run {job}")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "quick start 3")
def check_requirements_installed(install: InstallFacts, evidence: Evidence) -> None:
    """Versions on the box satisfy requirements.txt."""
    requirements = evidence.saw("requirements", install.requirements)
    lacking = [f"{one.requirement} (found {one.found or 'nothing'})" for one in requirements.unsatisfied]
    assert not lacking, f"not satisfied: {', '.join(lacking)}"
    assert requirements.satisfied > 0, "requirements.txt names nothing"


@pytest.mark.remedy("harness ssh {job} -- nvidia-smi; a torch of another CUDA does not see the driver's GPUs")
def check_accelerator_visible(install: InstallFacts, job: Job, evidence: Evidence) -> None:
    """The devices that the job trains on are visible to torch."""
    libraries = evidence.saw("torch", install.libraries)
    wanted = evidence.wants("accelerator", job.training.accelerator)
    if wanted == "cuda":
        assert libraries.cuda, "torch sees no CUDA"
        evidence.wants("GPUs, at least", job.machine.gpus)
        assert len(libraries.devices) >= job.machine.gpus, f"torch sees {len(libraries.devices)} GPUs"
    else:
        assert "torch" in libraries.versions, "torch does not import"


@pytest.mark.remedy("the error above names the package; pin it in requirements.txt")
def check_libraries_import(install: InstallFacts, evidence: Evidence) -> None:
    """Torch imports in one process with what the requirements name of transformers, peft, trl and datasets."""
    ran = evidence.saw("import", install.imports)
    assert ran.status == 0, f"the import ended with status {ran.status}: {ran.err[-400:]}"
    assert any(line.startswith("IMPORTS ") for line in ran.out.splitlines()), "the import never came to its end"


@pytest.mark.remedy("install tmux there (harness ssh {job}), or use an image that has it")
@pytest.mark.seed("VASTAI_MAX_SPEED_AGENT.md", "quick start 5")
def check_terminal_multiplexer_ready(install: InstallFacts, evidence: Evidence) -> None:
    """A terminal multiplexer runs on the box."""
    terminals = evidence.saw("tmux", install.multiplexer)
    assert terminals.installed, "there is no tmux on the box"
