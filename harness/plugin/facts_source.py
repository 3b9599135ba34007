"""Sources of a run's facts: files that were given, a hook, or one look at the job's world."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.context import JobContext
from harness.core.errors import BadInput, GateUnknown
from harness.core.lifecycle import ORDER, Stage
from harness.core.observed import CouldNotLook
from harness.core.text import did_you_mean
from harness.gates.facts_file import UNTOLD, FactsFile, digest, name_of, read_facts, recorded
from harness.job.model import Job
from harness.plugin.arguments import ALL, asked_stages

if TYPE_CHECKING:
    from harness.wiring import OpenContext

_OUTLIVE = (Stage.POSTDOWNLOAD, Stage.TEARDOWN)
"""Stages whose world is there when the instance is gone: the file on this machine, the provider."""

_NOT_BUNDLED = ("companions", "second_copy", "generation")
"""Facts of what is not on a machine that has a bundle and the artifact; the last may be seen there all the same."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """The facts files by stage; the age of those that are of an earlier look, in words; what else is to be said."""

    paths: Mapping[str, Path]
    recorded: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def _age(path: Path, *looked_at: str) -> str:
    """Sentence about facts that were recorded, by this machine's clock."""
    facts = read_facts(path)
    return recorded(facts.stage, "seen", facts.taken_at, time.time(), *looked_at)


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
        if config.option.bundle is not None:
            raise BadInput("--facts and --bundle: the facts of a bundle are its own")
        return Gathered({stage: given[stage] for stage in stages}, {stage: _age(given[stage]) for stage in stages})
    return _look(stages, config, scratch, every=any(ALL in option.split(",") for option in options))


def _look(stages: Sequence[str], config: pytest.Config, scratch: Path, *, every: bool) -> Gathered:
    """Facts of now; of the stages of an instance that is gone, those that their gates were judged by.

    ``every``: all stages of the lifecycle were asked for, and those that the job goes without are left out.
    """
    artifact = config.option.artifact
    with _opened(config, scratch) as context:
        bundled = context.ran_elsewhere
        name, goes_through = context.name, set(context.history.stages)
        without = [stage for stage in stages if every and stage in set(ORDER) - goes_through]
        asked = [stage for stage in stages if stage not in without]
        found = {stage: _own_stage(stage, context.job, config, scratch) for stage in asked if stage not in set(ORDER)}
        of_the_gone = set(ORDER) - set(_OUTLIVE) if context.history.destroyed is not None else set()
        ages: dict[str, str] = {}
        if bundled:
            of_the_gone = set(ORDER) - ({Stage.POSTDOWNLOAD} if artifact else set())
            if artifact and Stage.POSTDOWNLOAD in asked:
                found[Stage.POSTDOWNLOAD], ages[Stage.POSTDOWNLOAD] = _artifact_here(context, scratch)
        anew: list[str] = []
        for stage in (one for one in asked if one in of_the_gone):
            try:
                path = _judged_by(context, Stage(stage), bundled=bundled)
            except CouldNotLook as error:
                found[stage] = _written(scratch, FactsFile(stage, context.job, time.time(), 0.0, {UNTOLD: str(error)}))
                continue
            if path is None:
                anew.append(stage)
            else:
                found[stage], ages[stage] = path, _age(path)
        found |= {stage: context.take_facts(stage).path for stage in asked if stage not in found}
    notes = []
    if anew:
        notes.append(f"no gate of {', '.join(anew)} was judged in job {name}: it is looked at now, as things are today")
    if without:
        notes.append(f"job {name} took its instance over: what {', '.join(without)} would look at, nobody can tell")
    if bundled:
        notes.append(f"job {name} is judged by its bundle: by what its gates saw then, and nobody is asked")
    elif ages:
        notes.append(f"the instance of job {name} is gone: what was on it is judged by what its gates saw then")
    return Gathered({stage: found[stage] for stage in asked}, ages, tuple(notes))


def _opened(config: pytest.Config, scratch: Path) -> AbstractContextManager[OpenContext]:
    """The job that is meant; raises BadInput where that is not clear."""
    from harness import wiring  # noqa: PLC0415 - adapters load only when the world is looked at
    from harness.ledger.jobs import sole  # noqa: PLC0415 - see above

    job, file, artifact = config.option.job, config.option.bundle, config.option.artifact
    if file is None:
        return wiring.open_context(job, choose=sole, artifact=artifact)
    if job is not None:
        raise BadInput(f"--bundle has one job: leave out --job={job}")
    folder = scratch / "bundle"
    folder.mkdir()
    return wiring.open_bundle(file, artifact, folder)


def _artifact_here(context: OpenContext, scratch: Path) -> tuple[Path, str]:
    """Facts of the artifact on this machine; of what else came home, as the gate saw it. And the age of that."""
    taken = context.take_facts(Stage.POSTDOWNLOAD).facts
    then: Mapping[str, Any] = {}
    told = "recorded facts of stage postdownload: there are none, and nothing but the artifact is looked at here"
    try:
        path = _judged_by(context, Stage.POSTDOWNLOAD, bundled=True)
    except CouldNotLook:
        path = None
    if path is not None:
        then = read_facts(path).facts
        told = _age(path, "the artifact alone is looked at here, now")
    untold = {"value": None, "problem": "it is not in the bundle, and its gate did not see it"}
    seen = {name: then.get(name, untold) for name in _NOT_BUNDLED}
    if taken.facts["generation"]["value"] is not None:
        del seen["generation"]
    return _written(
        scratch, FactsFile(taken.stage, taken.job, taken.taken_at, taken.seconds, {**taken.facts, **seen})
    ), told


def _judged_by(context: JobContext, stage: Stage, *, bundled: bool = False) -> Path | None:
    """The facts that a stage's gate was judged by, of a job whose instance is gone; None where a look is due.

    They count only as the event log names them, by their digest. Raises CouldNotLook where they do not, and where
    nothing is left to look at.
    """
    judged = context.history.gates.get(stage)
    if judged is None:
        if bundled:
            raise CouldNotLook("its gate was not judged before the bundle was made")
        if stage is Stage.PREFLIGHT:  # the package is on this machine
            return None
        raise CouldNotLook("its gate was never judged, and the instance is gone")
    path = context.directory / "evidence" / name_of(judged.facts_path)
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
