"""Sources of a run's facts: files that were given, a hook, or one look at the job's world."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from harness.core.errors import BadInput, GateUnknown
from harness.core.lifecycle import ORDER
from harness.core.observed import CouldNotLook
from harness.core.text import human_seconds
from harness.gates.facts_file import FactsFile, read_facts
from harness.job.model import Job
from harness.release.statement import rfc3339


def age(facts: FactsFile) -> str:
    """Sentence about facts that were given: when they were seen, and how long ago by this machine's clock."""
    seconds = time.time() - facts.taken_at
    ago = f"{human_seconds(seconds)} ago" if seconds >= 0 else f"{human_seconds(-seconds)} from now, by this clock"
    return f"recorded facts of stage {facts.stage}, seen {rfc3339(facts.taken_at)}, {ago}: the world is not looked at"


def gather(stages: Sequence[str], config: pytest.Config, scratch: Path) -> dict[str, Path]:
    """The facts file of every stage; raises a HarnessError when one cannot be had."""
    given: dict[str, Path] = {}
    for path in config.option.facts:
        stage = read_facts(path).stage
        if stage in given:
            raise BadInput(f"--facts has two files for stage {stage}: {given[stage]} and {path}")
        given[stage] = path
    unwanted = sorted(set(given) - set(stages))
    if unwanted:
        raise BadInput(f"--facts has stage {', '.join(unwanted)}, --stage asks for {', '.join(stages)}")
    found = {stage: given[stage] for stage in stages if stage in given}
    missing = [stage for stage in stages if stage not in given]
    if config.option.facts and missing:
        raise BadInput(f"--facts has no file for stage {', '.join(missing)}")
    return found | _look(missing, config, scratch) if missing else found


def _look(stages: Sequence[str], config: pytest.Config, scratch: Path) -> dict[str, Path]:
    from harness.wiring import open_context  # noqa: PLC0415 - adapters load only when the world is looked at

    paths = {}
    with open_context(config.option.job) as context:
        for stage in stages:
            if stage in set(ORDER):
                paths[stage] = context.take_facts(stage).path
            else:
                paths[stage] = _own_stage(stage, context.job, config, scratch)
    return paths


def _own_stage(stage: str, job: Job, config: pytest.Config, scratch: Path) -> Path:
    began = time.time()
    try:
        facts = config.hook.pytest_harness_look(stage=stage, job=job)
    except CouldNotLook as error:
        raise GateUnknown(f"stage {stage} could not be looked at: {error}") from error
    if facts is None:
        raise BadInput(
            f"no stage is named {stage!r}: the stages are {', '.join(ORDER)}",
            remedy="For a stage of your own, answer the hook pytest_harness_look in your conftest.py.",
        )
    path = scratch / f"{stage}.json"
    if not isinstance(facts, Mapping):
        raise BadInput(f"pytest_harness_look answered no JSON object for stage {stage}: {str(facts)[:80]}")
    try:
        path.write_bytes(FactsFile(stage, job, began, time.time() - began, dict(facts)).dump())
    except (TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"pytest_harness_look answered no JSON object for stage {stage}: {error}") from error
    return path
