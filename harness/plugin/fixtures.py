"""Fixtures that are facts: a check names the stage's facts, the job and its evidence, and does no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from harness.core.lifecycle import Stage
from harness.core.observed import CouldNotLook
from harness.facts import typed
from harness.gates.facts_file import FactsFile
from harness.job.model import Job
from harness.plugin import session
from harness.plugin.looking import Evidence
from harness.plugin.verdicts import EVIDENCE


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> Evidence:
    """What this check sees and expects: every fact is looked at through it, so that it is kept."""
    kept = Evidence()
    request.node.stash[EVIDENCE] = kept
    return kept


@pytest.fixture
def job(request: pytest.FixtureRequest) -> Job:
    """The job's configuration: the thresholds that checks compare with."""
    return _facts_file(request).job


@pytest.fixture
def facts(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """The stage's facts as plain JSON; for stages that you added."""
    return _facts_file(request).facts


@pytest.fixture
def preflight(request: pytest.FixtureRequest) -> object:
    """The facts of stage preflight: harness.facts.preflight.PreflightFacts."""
    return _typed(request, Stage.PREFLIGHT)


@pytest.fixture
def provision(request: pytest.FixtureRequest) -> object:
    """The facts of stage provision: harness.facts.provision.ProvisionFacts."""
    return _typed(request, Stage.PROVISION)


@pytest.fixture
def upload(request: pytest.FixtureRequest) -> object:
    """The facts of stage upload: harness.facts.upload.UploadFacts."""
    return _typed(request, Stage.UPLOAD)


@pytest.fixture
def install(request: pytest.FixtureRequest) -> object:
    """The facts of stage install: harness.facts.install.InstallFacts."""
    return _typed(request, Stage.INSTALL)


@pytest.fixture
def launch(request: pytest.FixtureRequest) -> object:
    """The facts of stage launch: harness.facts.launch.LaunchFacts."""
    return _typed(request, Stage.LAUNCH)


@pytest.fixture
def training(request: pytest.FixtureRequest) -> object:
    """The facts of stage training: harness.facts.training.TrainingFacts."""
    return _typed(request, Stage.TRAINING)


@pytest.fixture
def posttrain(request: pytest.FixtureRequest) -> object:
    """The facts of stage posttrain: harness.facts.posttrain.PosttrainFacts."""
    return _typed(request, Stage.POSTTRAIN)


@pytest.fixture
def postdownload(request: pytest.FixtureRequest) -> object:
    """The facts of stage postdownload: harness.facts.postdownload.PostdownloadFacts."""
    return _typed(request, Stage.POSTDOWNLOAD)


@pytest.fixture
def teardown(request: pytest.FixtureRequest) -> object:
    """The facts of stage teardown: harness.facts.teardown.TeardownFacts."""
    return _typed(request, Stage.TEARDOWN)


def _typed(request: pytest.FixtureRequest, stage: Stage) -> object:
    file = _facts_file(request)
    if file.stage != stage:
        raise CouldNotLook(f"a check of stage {file.stage} sees no facts of stage {stage}")
    return typed(file)


def _facts_file(request: pytest.FixtureRequest) -> FactsFile:
    judging = request.config.stash.get(session.KEY, None)
    stage = judging.stage_of(request.node) if judging else None
    if judging is None or stage is None:
        raise CouldNotLook("no --stage was given for this check, so nothing was looked at")
    return judging.facts[stage]
