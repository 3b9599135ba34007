"""Fixtures that are facts: a check names the stage's facts, the job and its evidence, and does no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from harness.facts import typed
from harness.job.model import Job
from harness.lifecycle import ORDER
from harness.observed import CouldNotLook
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


def _facts_file(request: pytest.FixtureRequest) -> session.FactsFile:
    judging = request.config.stash.get(session.KEY, None)
    stage = judging.stage_of(request.node) if judging else None
    if judging is None or stage is None:
        raise CouldNotLook("no --stage was given for this check, so nothing was looked at")
    return judging.facts[stage]


def _stage_fixture(stage: str) -> Any:
    @pytest.fixture(name=stage)
    def facts_of_stage(request: pytest.FixtureRequest) -> object:
        return typed(_facts_file(request))

    facts_of_stage.__doc__ = f"The typed facts of stage {stage}."
    return facts_of_stage


STAGE_FIXTURES = {f"{stage}_facts": _stage_fixture(str(stage)) for stage in ORDER}
"""One fixture a stage, by the stage's name: ``preflight`` ... ``teardown``."""
