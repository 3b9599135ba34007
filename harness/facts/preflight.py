"""Preflight: what is true of the staged package, this machine and the account before a cent is spent.

The first look takes, in seconds, those of its facts that need nothing to be staged, hashed or trained.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, Final

from harness.artifacts import elsewhere
from harness.artifacts.dataset.sound import Flaw
from harness.context import JobContext
from harness.core import durable
from harness.core.contract import section
from harness.core.durable import PART_SUFFIX
from harness.core.observed import CouldNotLook, Observed, unseen
from harness.core.ports import Account
from harness.core.rate import SECONDS, Meter
from harness.facts import preflight_data, preflight_smoke, runtime, teardown
from harness.facts.preflight_data import Context, Data
from harness.facts.preflight_smoke import Smoke
from harness.facts.reading import attempt
from harness.job import staging, strategy
from harness.job.model import Job
from harness.ledger.events import ArtifactRecorded, Fetched
from harness.static import device_maps, launchers, options, script, sources, writers
from harness.static.sources import Sources
from harness.static.writers import Writers

__all__ = ["Context", "DeviceMaps", "PreflightFacts", "Smoke", "look"]

_NAMED = 20
NOT_YET: Final = "not looked at yet: preflight does, once the package is staged"
"""Problem of every fact that the first look leaves for later."""
_TRIED: Final = Meter("smoke run: the package trains a tiny model here, twice", SECONDS)
_NOT_COUNTED: Observed[dict[str, int]] = unseen("this look did not count them")


@dataclass(frozen=True, slots=True)
class DeviceMaps:
    """Every device map that the package loads a model with: ``found`` by place, and places that cannot be read."""

    found: dict[str, str]
    unreadable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PreflightFacts:
    """One look at the staged package, at this machine and at the provider. Findings are ``place: what``."""

    missing_files: Observed[tuple[str, ...]]
    compile_errors: Observed[tuple[str, ...]]
    counts: Observed[Mapping[str, int]]
    unreadable_rows: Observed[tuple[str, ...]]
    unsound_rows: Observed[tuple[str, ...]]
    suspect_rows: Observed[tuple[str, ...]]
    context: Observed[Context]
    script_batch_size: Observed[int]
    device_maps: Observed[DeviceMaps]
    launchers: Observed[tuple[str, ...]]
    option_pairs: Observed[tuple[str, ...]]
    save_steps: Observed[dict[str, int]]
    smoke: Observed[Smoke]
    runtime: Observed[str]
    local_free_bytes: Observed[int]
    account: Observed[Account]
    public_key: Observed[str]
    orphans: Observed[tuple[str, ...]]
    destination_files: Observed[tuple[str, ...]]
    built_rows: Observed[dict[str, int]] = _NOT_COUNTED
    prover: Observed[str] = field(default_factory=lambda: unseen("the job states no strategy"))
    """File of the package that proves the job's strategy, as far as it is there; empty where it is not."""
    writers: Observed[Writers] = field(default_factory=lambda: unseen("facts of an earlier version do not tell"))


def first_look(context: JobContext, **told: Observed[Any]) -> PreflightFacts:
    """The facts that are to be had in seconds, before anything is staged; all others are NOT_YET.

    ``told`` are facts, by their names, that the caller has seen already. Raises BadInput, as staging does, for a
    package that is no folder or that cannot be listed.
    """
    job = context.job
    staging.require_source(job, context.directory)
    names = frozenset(name for name, _ in staging.package_files(job.package.source))
    later: Observed[Any] = unseen(NOT_YET)
    if "account" not in told:
        told["account"] = attempt(lambda: context.provider().account())
    if told["account"].problem is not None:  # one cause, waited for and told once
        told["orphans"] = later
    if not job.gates.generate:
        told.setdefault("runtime", later)
    return replace(
        PreflightFacts(**dict.fromkeys(PreflightFacts.__slots__, later)),
        missing_files=attempt(lambda: _lacking(job, names)),
        smoke=attempt(lambda: _untried(job, names)),
        prover=attempt(lambda: _prover(job, names)),
        **_at_once(context, told),
    )


def _lacking(job: Job, names: frozenset[str]) -> tuple[str, ...]:
    if staging.must_be_prepared(job, names):
        raise CouldNotLook(NOT_YET)
    return _missing(job, job.package.source, names)


def _prover(job: Job, names: Collection[str]) -> str:
    file = strategy.prover(job.package.prove)
    if file not in names and staging.must_be_prepared(job, names):
        raise CouldNotLook(NOT_YET)
    return file if file is not None and file in names else ""


def _untried(job: Job, names: frozenset[str]) -> Smoke:
    preflight_smoke.require_command(job)
    preflight_smoke.require_trainer(job, lambda: sources.read(job.package.source, names))
    raise CouldNotLook(NOT_YET)


def _at_once(context: JobContext, told: Mapping[str, Observed[Any]]) -> dict[str, Observed[Any]]:
    """Facts of this machine and of the account, each looked at now unless it is told."""
    looks: dict[str, Callable[[], object]] = {
        "runtime": runtime.ready,
        "local_free_bytes": lambda: _free_bytes(context),
        "destination_files": lambda: _older(context),
        "public_key": lambda: context.public_key,
        "account": lambda: context.provider().account(),
        "orphans": lambda: teardown.orphans(context),
    }
    return {name: told.get(name) or attempt(look) for name, look in looks.items()}


def look(context: JobContext) -> PreflightFacts:
    """Read the staged package once, try it, ask the provider once."""
    job = context.job
    root = context.directory / staging.PACKAGE
    sources = attempt(lambda: _sources(root))
    with (
        tempfile.TemporaryDirectory(prefix="harness-preflight-", ignore_cleanup_errors=True) as scratch,
        ThreadPoolExecutor(1) as beside,
    ):
        rows = beside.submit(_rows, context, root)  # while the smoke run, in this thread, can be interrupted
        tried = Path(scratch) / "package"
        if job.gates.smoke_run:
            context.show(_TRIED, 0, 2 * math.ceil(job.gates.smoke_timeout_s))
        smoke = attempt(lambda: preflight_smoke.run(job, root, tried))
        built = preflight_smoke.built_tokenizer(job, smoke.value, tried) if smoke.value else None
        files, data, flaws = rows.result()
        cut_off = attempt(lambda: preflight_data.context(job, data.get(), root, built))
    return PreflightFacts(
        missing_files=attempt(lambda: _missing(job, root, sources.get().files)),
        compile_errors=attempt(lambda: sources.get().broken),
        counts=attempt(lambda: data.get().counts()),
        unreadable_rows=attempt(lambda: _first(files.get().unreadable())),
        built_rows=attempt(lambda: data.get().built()),
        unsound_rows=flaws.map(lambda found: _first(tuple(str(flaw) for flaw in found if flaw.beyond))),
        suspect_rows=flaws.map(lambda found: _first(tuple(str(flaw) for flaw in found if not flaw.beyond))),
        context=cut_off,
        script_batch_size=attempt(lambda: _batch_size(sources.get(), job.package.entry)),
        device_maps=attempt(lambda: _device_maps(sources.get(), job.package.entry)),
        launchers=attempt(lambda: _first(launchers.find(sources.get().whole(), _commands(job)))),
        option_pairs=attempt(lambda: _first(options.find(sources.get().whole(), job.package.entry))),
        save_steps=attempt(lambda: options.save_steps(sources.get(), job.package.entry)),
        writers=attempt(lambda: writers.find(sources.get(), job.package.entry)),
        smoke=smoke,
        prover=attempt(lambda: _prover(job, sources.get().files)),
        **_at_once(context, {}),
    )


def _rows(context: JobContext, root: Path) -> tuple[Observed[Data], Observed[Data], Observed[tuple[Flaw, ...]]]:
    """The data files, the same with a short reason where they could not be read, and what is wrong with their rows."""
    files = attempt(lambda: preflight_data.read(context.job, root, context.show))
    data = files if files.problem is None else unseen("see dataset_rows_parse")
    return files, data, attempt(lambda: preflight_data.judged(context.job, data.get()))


def _sources(root: Path) -> Sources:
    if not root.is_dir():
        raise CouldNotLook("the package is not staged yet: harness run stages it")
    return sources.read(root, [name for name, _ in staging.package_files(root)])


def _missing(job: Job, root: Path, names: frozenset[str]) -> tuple[str, ...]:
    wanted = (job.package.entry, job.package.requirements, *job.package.documents, *job.data.paths.values())
    absent = [name for name in wanted if name not in names]
    empty = [f"{name} (empty)" for name in wanted if name in names and not (root / name).stat().st_size]
    return tuple(dict.fromkeys([*absent, *empty]))


def _batch_size(sources: Sources, entry: str) -> int:
    scripts = sources.reachable(entry)
    if not script.batch_size_settings(scripts[entry]):
        raise CouldNotLook(f"{entry} does not set {script.BATCH_SIZE} {section('run.json')}")
    return script.one_batch_size(tuple(found for one in scripts.values() for found in script.batch_size_settings(one)))


def _device_maps(sources: Sources, entry: str) -> DeviceMaps:
    found: dict[str, str] = {}
    unreadable = []
    for name, one in sources.reachable(entry).items():
        for setting in device_maps.settings(one):
            if setting.value is None:
                unreadable.append(f"{name}:{setting.line}: {setting.source}")
            else:
                found[f"{name}:{setting.line}"] = setting.value
    return DeviceMaps(found, tuple(unreadable[:_NAMED]))


def _commands(job: Job) -> dict[str, tuple[str, ...]]:
    return {
        "training.command": job.training.command,
        "package.prepare": job.package.prepare,
        "package.install": job.package.install,
        "gates.smoke_command": job.gates.smoke_command,
    }


def _free_bytes(context: JobContext) -> int:
    """The room where the artifact is to arrive, when something can be written there and where its copy goes."""
    if context.job.artifact.second_copy is not None:
        writable(context.job.artifact.second_copy)
    if context.job.artifact.second_copy_url is not None:
        elsewhere.require(context.job.artifact.second_copy_url)
    return shutil.disk_usage(writable(context.destination)).free


def writable(folder: Path) -> Path:
    """The folder, or the nearest one above that is there."""
    if (refusal := durable.refusal(folder)) is not None:
        raise CouldNotLook(refusal)
    return next(one for one in (folder, *folder.parents) if one.exists())


def _older(context: JobContext) -> tuple[str, ...]:
    """Model files and unfinished ones, or a folder that bears this job's name, that this job did not bring there."""
    # Earlier instances' too: a download may have been under way when one died.
    recorded = context.history.all(ArtifactRecorded) + context.history.all(Fetched)
    own = {PurePath(one.path).name for one in recorded}
    folder = None if context.job.artifact.kind == "gguf" else context.job.name
    return _first(
        tuple(
            path.name
            for path in (sorted(context.destination.iterdir()) if context.destination.is_dir() else ())
            if (path.name.lower().endswith((".gguf", PART_SUFFIX)) or path.name == folder)
            and path.name not in own
            and not (path.name.endswith(PART_SUFFIX) and any(name in path.name for name in own))
        )
    )


def _first(findings: tuple[str, ...]) -> tuple[str, ...]:
    """Enough findings to act on; how many more there are is said, so that none is left out in silence."""
    more = len(findings) - _NAMED
    return findings if more <= 0 else (*findings[:_NAMED], f"and {more} more")
