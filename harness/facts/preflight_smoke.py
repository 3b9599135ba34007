"""The package's own smoke run on this machine: the real code on a tiny model, in a copy that is thrown away.

It runs ``gates.smoke_command`` to its end, verifies the model file that it made, then takes away what
a death during the last stage would have cost, runs the same command again, and wants the same file.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from harness.artifacts import adapter, checkpoint, digest, merged, parts
from harness.artifacts.expectation import Expectation
from harness.artifacts.manifest import safe_path
from harness.artifacts.verify import verify_file
from harness.core import process
from harness.core.canonical import table
from harness.core.contract import section
from harness.core.errors import BadInput, MissingExtra
from harness.core.finding import Finding
from harness.core.observed import CouldNotLook
from harness.core.process import Finished
from harness.core.text import human_bytes
from harness.core.verdict import Verdict
from harness.facts import run_file
from harness.job.model import Job
from harness.static import script
from harness.static.sources import Sources

_LARGE = 256 << 20
"""Bytes; larger files are weights of the real model, which the smoke run does without."""

_TRAINER = "torch"
_RESUMED = re.compile(r"RESUME from \S+ at step (\d+)")


@dataclass(frozen=True, slots=True)
class Resolved:
    """Configuration that the package resolved, from the ``run.json`` of the smoke run."""

    batch_size: int
    device_map: str
    world_size: int
    checkpoint_every: int
    model: str
    rows_a_step: Mapping[str, int] = field(default_factory=dict)
    """By trainer; of one that is not there, the batch size."""


@dataclass(frozen=True, slots=True)
class Smoke:
    """The outcome: exit status, last lines, the model file, what is wrong with it, and with going on after a death."""

    status: int
    tail: str
    timed_out: bool
    gguf: str | None
    gguf_bytes: int
    gguf_problem: str | None
    resume_problem: str | None
    resolved: Resolved | None
    memory_bytes: int | None = None
    """Memory of its own that it was bounded to; None where this system bounds none."""

    @property
    def memory(self) -> str:
        """The bound in words."""
        if self.memory_bytes is None:
            return "not bounded on this system: a package that ignores the tiny model would load the real one"
        return f"at most {human_bytes(self.memory_bytes)}"


def run(job: Job, package: Path, scratch: Path) -> Smoke:
    """Try the package in ``scratch``; raises CouldNotLook or a HarnessError when it cannot be tried."""
    require_command(job)
    if not package.is_dir():
        raise CouldNotLook("the package is not staged yet: harness run stages it")
    shutil.copytree(package, scratch, ignore=_large)
    _add_files(job, scratch)
    done = _command(job, scratch)
    own = run_file.read(scratch)
    resolved = _resolved(own)
    tried = Smoke(done.status, done.tail[-2000:], done.timed_out, None, 0, "it was not made", "not tried", resolved)
    tried = replace(tried, memory_bytes=_memory(job) if process.BOUNDS_MEMORY else None)
    if done.status != 0 or done.timed_out:
        return tried
    made = scratch / job.artifact.remote_dir
    if job.artifact.kind == "gguf":
        files = sorted(made.glob("*.gguf"))
        if len(files) != 1:
            several = f"{job.artifact.remote_dir} holds {len(files)} model files, expected one {section('Outputs')}"
            return replace(tried, gguf_problem=several)
        made = files[0]
    elif not made.is_dir():
        return replace(tried, gguf_problem=f"there is no {job.artifact.remote_dir} {section('Outputs')}")
    tried = replace(tried, gguf=made.name, gguf_bytes=parts.here(made)[0].size)
    problem = _wrong_with(job, made, own)
    if problem is not None:
        return replace(tried, gguf_problem=problem)
    resume = None if job.unmodified else _resumes(job, scratch, made)
    return replace(tried, gguf_problem=None, resume_problem=resume)


def require_command(job: Job) -> None:
    """Raise CouldNotLook unless the job says how to try the package."""
    if not job.gates.smoke_run:
        raise CouldNotLook("the job's plan does without a smoke run (gates.smoke_run = false)")
    if not job.gates.smoke_command:
        raise CouldNotLook("gates.smoke_command is empty: the job does not say how to try the package")


def require_trainer(job: Job, sources: Callable[[], Sources]) -> None:
    """Raise MissingExtra when the smoke run trains with torch, by this Python, which has none.

    Only what is certain beforehand is told: the command runs the package's entry, as it lies there. Another script
    may do without torch, and so may one that the smoke run changes; any other import may be done without, too.
    """
    python, *words = job.gates.smoke_command
    ran = PurePosixPath(next((word for word in words if not word.startswith("-")), ""))
    if python != process.PYTHON or ran != PurePosixPath(job.package.entry) or find_spec(_TRAINER) is not None:
        return
    package, changed = sources(), set(job.gates.smoke_files)
    if job.package.entry not in package.files:
        return  # that it lacks is another check's to tell
    reached = package.reachable(job.package.entry)
    own = any(_TRAINER in name.removesuffix(".py").split("/") for name in {*reached, *changed})
    if not own and not changed & set(reached) and any(script.needs(one, _TRAINER) for one in reached.values()):
        raise _lacks(_TRAINER)


def _lacks(module: str) -> MissingExtra:
    return MissingExtra(f"the smoke run (it imports {module})", "training")


def built_tokenizer(job: Job, smoke: Smoke, scratch: Path) -> Path | None:
    """The tokenizer that the package built on the spot, where the job's base model is no folder and not of the hub."""
    if smoke.resolved is None or "/" in job.model.base:
        return None
    try:
        path = scratch / safe_path(smoke.resolved.model) / "tokenizer.json"
    except ValueError:
        return None
    return path if path.is_file() else None


def _command(job: Job, scratch: Path) -> Finished:
    gates = job.gates
    done = process.run(gates.smoke_command, cwd=scratch, timeout=gates.smoke_timeout_s, memory=_memory(job))
    absent = re.search(r"ModuleNotFoundError: No module named '([\w.]+)'", done.tail)
    if done.status != 0 and absent and not list(scratch.glob(f"{absent.group(1).split('.')[0]}*")):
        raise _lacks(absent.group(1))
    return done


def _memory(job: Job) -> int:
    return int(job.gates.smoke_memory_gb * 1e9)


def _add_files(job: Job, scratch: Path) -> None:
    for name, text in job.gates.smoke_files.items():
        try:
            path = scratch / safe_path(name)
        except ValueError as error:
            raise BadInput(f"gates.smoke_files: {error}") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _wrong_with(job: Job, made: Path, run: Mapping[str, Any]) -> str | None:
    """The first claim about the model that does not hold, in words; None when all hold."""
    known = Expectation(config=table(run.get("model")).get("config"))
    judges: dict[str, Callable[[], tuple[Finding, ...]]] = {
        "gguf": lambda: verify_file(made, known),
        "merged": lambda: merged.judge(made, known),
        "adapter": lambda: adapter.judge(made, known.config),
    }
    for finding in judges[job.artifact.kind]():
        if finding.verdict is Verdict.FAIL or (finding.verdict is Verdict.UNKNOWN and job.artifact.predict):
            return f"{made.name}: {finding.claim}: saw {finding.seen}, expected {finding.expected}"
    return None


def _resumes(job: Job, scratch: Path, made: Path) -> str | None:
    """Problem of the run that goes on after a death in the last stage; None when it makes the same file."""
    before = _weights(made)
    folders = [job.checkpoint_folder(trainer) for trainer in reversed(job.trainers)]
    found = next((found for folder in folders if len(found := checkpoint.find(scratch / folder)) > 1), ())
    if not found:
        where = " or ".join(reversed(folders))
        return f"there are no two checkpoints in {where}, so there is none to go on from {section('Outputs')}"
    for path in (scratch / "MANIFEST.json", *([made] if made.is_file() else made.glob("*.safetensors"))):
        path.unlink(missing_ok=True)
    shutil.rmtree(found[-1].path)
    done = _command(job, scratch)
    if done.status != 0 or done.timed_out:
        ended = f"it ended with status {done.status} {section('Command')}: {done.tail[-500:]}"
        return f"run again without {found[-1].path.name}, {ended}"
    resumed = _RESUMED.search(done.tail)
    if resumed is None or int(resumed.group(1)) != found[-2].step:
        said = f"it did not say that it goes on at step {found[-2].step} {section('training.log')}"
        return f"run again without {found[-1].path.name}, {said}"
    if not made.exists() or _weights(made) != before:
        another = f"it made another model file than without the death {section('Command')}"
        return f"run again without {found[-1].path.name}, {another}"
    return None


def _weights(made: Path) -> dict[str, str]:
    """Digests of the model's file, or of the files of weights in its folder: what lies beside may tell the time."""
    files = [made] if made.is_file() else sorted(made.glob("*.safetensors"))
    return {file.name: digest.of_file(file).sha256 for file in files}


def _resolved(body: Mapping[str, Any]) -> Resolved | None:
    try:
        return Resolved(
            batch_size=int(body["batch_size"]),
            device_map=str(body["device_map"])[:100],
            world_size=int(body["world_size"]),
            checkpoint_every=int(body["checkpoint_every"]),
            model=str(body["model"]["name"])[:200],
            rows_a_step={str(trainer): int(rows) for trainer, rows in body.get("rows_a_step", {}).items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _large(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if os.path.getsize(os.path.join(folder, name)) > _LARGE]  # noqa: PTH118, PTH202 - copytree speaks in strings
