"""Fixtures that are facts: a check names the stage's facts, the job and its evidence, and does no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from harness.core.lifecycle import Stage
from harness.core.observed import CouldNotLook
from harness.facts import typed
from harness.gates.facts_file import UNTOLD, FactsFile
from harness.job.model import Job
from harness.plugin import session
from harness.plugin.looking import Evidence
from harness.plugin.verdicts import EVIDENCE


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> Evidence:
    """Evidence of this check, what it sees and expects: every fact is looked at through it, so that it is kept."""
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


def _facts_of(stage: Stage) -> object:
    def facts_of_stage(request: pytest.FixtureRequest) -> object:
        file = _facts_file(request)
        if file.stage != stage:
            raise CouldNotLook(f"a check of stage {file.stage} sees no facts of stage {stage}")
        return typed(file)

    facts_of_stage.__doc__ = f"The facts of stage {stage}: harness.facts.{stage}.{stage.capitalize()}Facts."
    return pytest.fixture(name=stage.value)(facts_of_stage)


def _facts_file(request: pytest.FixtureRequest) -> FactsFile:
    judging = request.config.stash.get(session.KEY, None)
    stage = judging.stage_of(request.node) if judging else None
    if judging is None or stage is None:
        raise CouldNotLook("no --stage was given for this check, so nothing was looked at")
    facts = judging.facts[stage]
    if UNTOLD in facts.facts:
        raise CouldNotLook(str(facts.facts[UNTOLD]))
    return facts


preflight = _facts_of(Stage.PREFLIGHT)
provision = _facts_of(Stage.PROVISION)
upload = _facts_of(Stage.UPLOAD)
install = _facts_of(Stage.INSTALL)
launch = _facts_of(Stage.LAUNCH)
training = _facts_of(Stage.TRAINING)
posttrain = _facts_of(Stage.POSTTRAIN)
postdownload = _facts_of(Stage.POSTDOWNLOAD)
teardown = _facts_of(Stage.TEARDOWN)
