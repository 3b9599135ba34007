"""Install: whether the box can do what it will be asked for, found out before it costs training time."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from harness.context import JobContext
from harness.core import canonical
from harness.core.observed import CouldNotLook, Observed, seen
from harness.core.ports import Json, Question
from harness.facts.box import Ran, Terminals
from harness.facts.reading import ask, attempt, typed

_LIBRARIES = ("torch", "transformers", "peft", "trl", "datasets")
_IMPORTS = f"""
import json, importlib
found = {{}}
for name in {_LIBRARIES!r}:
    found[name] = str(importlib.import_module(name).__version__)
import torch
cuda = torch.cuda.is_available()
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []
print("IMPORTS " + json.dumps({{"versions": found, "cuda": cuda, "devices": names}}))
"""


@dataclass(frozen=True, slots=True)
class Unsatisfied:
    """A requirement that the box does not meet; ``found`` is None when the package is absent."""

    requirement: str
    found: str | None


@dataclass(frozen=True, slots=True)
class Requirements:
    """requirements.txt held against what is installed on the box."""

    satisfied: int
    unsatisfied: tuple[Unsatisfied, ...]


@dataclass(frozen=True, slots=True)
class Libraries:
    """The training libraries imported together in one process on the box."""

    versions: Mapping[str, str]
    cuda: bool
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InstallFacts:
    """One look at the installed box."""

    requirements: Observed[Requirements]
    imports: Observed[Ran]
    libraries: Observed[Libraries]
    readiness: Observed[Ran]
    multiplexer: Observed[Terminals]


def look(context: JobContext) -> InstallFacts:
    """One probe: versions, an import of everything together, the package's own readiness command, tmux."""
    job = context.job
    wanted = attempt(lambda: _wanted(context))
    names: list[Json] = [requirement.name for requirement in wanted.value or ()]
    directory = job.package.remote_dir
    python = job.package.install[0] if job.package.install else "python3"
    questions = [
        Question("packages", "python_packages", {"names": names, "python": python}),
        Question("imports", "python_check", {"code": _IMPORTS, "python": python, "timeout": 240.0}),
        Question("tmux", "tmux_sessions"),
    ]
    if job.package.readiness:
        arguments: dict[str, Json] = {
            "argv": list(job.package.readiness),
            "cwd": directory,
            "timeout": job.package.readiness_timeout_s,
        }
        questions.append(Question("readiness", "command", arguments))
    answers = ask(context, questions, timeout=300.0 + job.package.readiness_timeout_s)
    imports = typed(answers.get("imports"), Ran)
    return InstallFacts(
        requirements=attempt(lambda: _requirements(wanted.get(), typed(answers.get("packages"), _Packages).get())),
        imports=imports,
        libraries=attempt(lambda: _libraries(imports.get())),
        readiness=typed(answers.get("readiness"), Ran),
        multiplexer=typed(answers.get("tmux"), Terminals),
    )


@dataclass(frozen=True, slots=True)
class _Packages:
    python: str
    packages: Mapping[str, str | None]


def _wanted(context: JobContext) -> tuple[Requirement, ...]:
    path = context.directory / "package" / Path(context.job.package.requirements)
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.split("#")[0].strip()
        if not text:
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise CouldNotLook(f"{posixpath.basename(path.name)}: cannot read {text!r}: {error}") from error
        if requirement.marker is None or requirement.marker.evaluate({"sys_platform": "linux", "os_name": "posix"}):
            found.append(requirement)
    return tuple(found)


def _requirements(wanted: tuple[Requirement, ...], there: _Packages) -> Requirements:
    unsatisfied = []
    for requirement in wanted:
        version = there.packages.get(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            unsatisfied.append(Unsatisfied(str(requirement), version))
    return Requirements(len(wanted) - len(unsatisfied), tuple(unsatisfied))


def _libraries(ran: Ran) -> Libraries:
    line = next((line for line in ran.out.splitlines() if line.startswith("IMPORTS ")), None)
    if ran.status != 0 or line is None:
        raise CouldNotLook(f"the import ended with status {ran.status}: {ran.err[-600:]}")
    told: Observed[Libraries] = typed(seen(canonical.parse(line.removeprefix("IMPORTS "))), Libraries)
    return told.get()
