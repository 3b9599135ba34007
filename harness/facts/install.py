"""Install: whether the box can do what it will be asked for, found out before it costs training time."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from harness.context import JobContext
from harness.core import canonical
from harness.core.answers import Packages, Ran, Terminals
from harness.core.observed import CouldNotLook, Observed
from harness.core.questions import Command, PackagesOf, TmuxSessions
from harness.facts.reading import ask, attempt
from harness.remote.probe.typed import typed

_LIBRARIES = ("transformers", "peft", "trl", "datasets")
"""Libraries that a training imports together with torch, where its requirements name them."""

_IMPORTS = """
import json, importlib, sys
import torch
found = {name: str(importlib.import_module(name).__version__) for name in ("torch", *sys.argv[1:])}
cuda = torch.cuda.is_available()
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []
print("IMPORTS " + json.dumps({"versions": found, "cuda": cuda, "devices": names}))
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
    required = attempt(lambda: wanted(context))
    names = tuple(requirement.name for requirement in required.value or ())
    python = job.package.install[0] if job.package.install else "python3"
    libraries = [name for name in _LIBRARIES if required.value is None or name in names]
    readiness = Command(job.package.readiness, job.package.remote_dir, job.package.readiness_timeout_s)
    answers = ask(
        context,
        packages := PackagesOf(python, names),
        imports := Command((python, "-c", _IMPORTS, *libraries), timeout=240.0),
        tmux := TmuxSessions(),
        *([readiness] if readiness.argv else []),
        timeout=300.0 + job.package.readiness_timeout_s,
    )
    return InstallFacts(
        requirements=attempt(lambda: held_against(required.get(), answers[packages].get())),
        imports=answers[imports],
        libraries=attempt(lambda: _libraries(answers[imports].get())),
        readiness=answers[readiness],
        multiplexer=answers[tmux],
    )


def wanted(context: JobContext) -> tuple[Requirement, ...]:
    """The staged package's requirements on Linux. Raises CouldNotLook for a line that is none."""
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


def held_against(required: tuple[Requirement, ...], there: Packages) -> Requirements:
    """The requirements beside what is installed."""
    unsatisfied = []
    for requirement in required:
        version = there.packages.get(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            unsatisfied.append(Unsatisfied(str(requirement), version))
    return Requirements(len(required) - len(unsatisfied), tuple(unsatisfied))


def _libraries(ran: Ran) -> Libraries:
    line = next((line for line in ran.out.splitlines() if line.startswith("IMPORTS ")), None)
    if ran.status != 0 or line is None:
        raise CouldNotLook(f"the import ended with status {ran.status}: {ran.err[-600:]}")
    return typed(canonical.parse(line.removeprefix("IMPORTS ")), Libraries).get()
