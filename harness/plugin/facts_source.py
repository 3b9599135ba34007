"""Sources of a run's facts: files that were given, a hook, or one look at the job's world."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import pytest

from harness.context import JobContext
from harness.core.errors import BadInput, GateUnknown
from harness.core.lifecycle import ORDER, Stage
from harness.core.observed import CouldNotLook
from harness.core.text import did_you_mean, human_seconds
from harness.gates.facts_file import UNTOLD, FactsFile, digest, read_facts
from harness.job.model import Job
from harness.plugin.arguments import ALL, asked_stages
from harness.release.statement import rfc3339

_OUTLIVE = (Stage.POSTDOWNLOAD, Stage.TEARDOWN)
"""Stages whose world is there when the instance is gone: the file on this machine, the provider."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """The facts files by stage; the stages whose facts are of an earlier look; what is to be said about that."""

    paths: Mapping[str, Path]
    recorded: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def age(facts: FactsFile) -> str:
    """Sentence about facts that were given: when they were seen, and how long ago by this machine's clock."""
    seconds = time.time() - facts.taken_at
    ago = f"{human_seconds(seconds)} ago" if seconds >= 0 else f"{human_seconds(-seconds)} from now, by this clock"
    return f"recorded facts of stage {facts.stage}, seen {rfc3339(facts.taken_at)}, {ago}: the world is not looked at"


def gather(options: Sequence[str], config: pytest.Config, scratch: Path) -> Gathered:
    """The facts of every stage that the values of ``--stage`` name; raises a HarnessError when some cannot be had."""
    stages = asked_stages(options)
    given: dict[str, Path] = {}
    for path in config.option.facts:
        stage = read_facts(path).stage
        if stage in given:
            raise BadInput(f"--facts has two files for stage {stage}: {given[stage]} and {path}")
        given[stage] = path
    unwanted = sorted(set(given) - set(stages))
    if unwanted:
        raise BadInput(f"--facts has stage {', '.join(unwanted)}, --stage asks for {', '.join(stages)}")
    missing = [stage for stage in stages if stage not in given]
    if given and missing:
        raise BadInput(f"--facts has no file for stage {', '.join(missing)}")
    if given:
        return Gathered({stage: given[stage] for stage in stages}, tuple(stages))
    return _look(stages, config, scratch, every=any(ALL in option.split(",") for option in options))


def _look(stages: Sequence[str], config: pytest.Config, scratch: Path, *, every: bool) -> Gathered:
    """Facts of now; of the stages of an instance that is gone, those that their gates were judged by.

    ``every``: all stages of the lifecycle were asked for, and those that the job goes without are left out.
    """
    from harness.wiring import open_context  # noqa: PLC0415 - adapters load only when the world is looked at

    with open_context(config.option.job) as context:
        name, goes_through = context.name, set(context.history.stages)
        without = [stage for stage in stages if every and stage in set(ORDER) - goes_through]
        asked = [stage for stage in stages if stage not in without]
        found = {stage: _own_stage(stage, context.job, config, scratch) for stage in asked if stage not in set(ORDER)}
        of_the_gone = set(ORDER) - set(_OUTLIVE) if context.history.destroyed is not None else set()
        recorded: list[str] = []
        anew: list[str] = []
        for stage in (one for one in asked if one in of_the_gone):
            try:
                path = _judged_by(context, Stage(stage))
            except CouldNotLook as error:
                found[stage] = _written(scratch, FactsFile(stage, context.job, time.time(), 0.0, {UNTOLD: str(error)}))
                continue
            (anew if path is None else recorded).append(stage)
            if path is not None:
                found[stage] = path
        found |= {stage: context.take_facts(stage).path for stage in asked if stage not in found}
    notes = []
    if anew:
        notes.append(f"no gate of {', '.join(anew)} was judged in job {name}: it is looked at now, as things are today")
    if without:
        notes.append(f"job {name} took its instance over: what {', '.join(without)} would look at, nobody can tell")
    if recorded:
        notes.append(f"the instance of job {name} is gone: what was on it is judged by what its gates saw then")
    return Gathered({stage: found[stage] for stage in asked}, tuple(recorded), tuple(notes))


def _judged_by(context: JobContext, stage: Stage) -> Path | None:
    """The facts that a stage's gate was judged by, of a job whose instance is gone; None where a look is due.

    They count only as the event log names them, by their digest. Raises CouldNotLook where they do not, and where
    nothing is left to look at.
    """
    judged = context.history.gates.get(stage)
    if judged is None:
        if stage is Stage.PREFLIGHT:  # the package is on this machine
            return None
        raise CouldNotLook("its gate was never judged, and the instance is gone")
    path = context.directory / "evidence" / PurePath(judged.facts_path).name
    try:
        kept = digest(path.read_bytes())
    except OSError as error:
        raise CouldNotLook(f"what its gate was judged by cannot be read: {path}: {error.strerror or error}") from error
    if kept != judged.facts_sha256:
        raise CouldNotLook(f"{path} is not what its gate was judged by: the event log names another SHA-256")
    return path


def _own_stage(stage: str, job: Job, config: pytest.Config, scratch: Path) -> Path:
    began = time.time()
    try:
        facts = config.hook.pytest_harness_look(stage=stage, job=job)
    except CouldNotLook as error:
        raise GateUnknown(f"stage {stage} could not be looked at: {error}") from error
    if facts is None:
        raise BadInput(
            f"no stage is named {stage!r}: the stages are {', '.join(ORDER)}",
            remedy=f"{did_you_mean(stage, ORDER)}For a stage of your own, answer the hook pytest_harness_look in your "
            "conftest.py.",
        )
    if not isinstance(facts, Mapping):
        raise BadInput(f"pytest_harness_look answered no JSON object for stage {stage}: {str(facts)[:80]}")
    try:
        return _written(scratch, FactsFile(stage, job, began, time.time() - began, dict(facts)))
    except (TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"pytest_harness_look answered no JSON object for stage {stage}: {error}") from error


def _written(scratch: Path, facts: FactsFile) -> Path:
    path = scratch / f"{facts.stage}.json"
    path.write_bytes(facts.dump())
    return path
