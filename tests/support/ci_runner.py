"""Runs workflow files as their services do, as far as the shipped ones need: their commands, in a clean directory.

GitHub: https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax (a step is ``bash -e FILE``; one
without ``if`` runs only while all before it went well) and actions/runner, src/Runner.Worker/ActionCommandManager.cs
(which printed lines are obeyed). GitLab: https://docs.gitlab.com/ci/yaml/ (the lines of ``script`` end at the first
that fails; variables are expanded in each other).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from ruamel.yaml import YAML

_COMMAND = re.compile(r"\s*::(?P<name>[^ :]+)(?: (?P<properties>[^:]*(?::(?!:)[^:]*)*))?::(?P<message>.*)")
_KEPT = frozenset({"HOME", "LANG", "LC_ALL", "PATH", "TMPDIR"})


@dataclass(frozen=True, slots=True)
class Step:
    """A command that was run: its exit status, all that it printed, what it left as the step's summary."""

    name: str
    status: int
    output: str
    summary: str = ""


@dataclass(slots=True)
class Ran:
    """One run: its steps, and the files that it uploads."""

    steps: list[Step] = field(default_factory=list)
    uploaded: frozenset[str] = frozenset()

    @property
    def green(self) -> bool:
        """True when no step failed."""
        return all(step.status == 0 for step in self.steps)

    def step(self, name: str) -> Step:
        """A step by its name."""
        return next(step for step in self.steps if step.name == name)

    @property
    def output(self) -> str:
        """All that was printed."""
        return "\n".join(step.output for step in self.steps)


@dataclass(frozen=True, slots=True)
class Annotation:
    """A workflow command that GitHub obeys, with its words unescaped."""

    name: str
    properties: Mapping[str, str]
    message: str


def load(file: Path) -> Any:
    """A workflow file, by YAML 1.2: ``on`` is no truth value there."""
    return YAML(typ="safe").load(file.read_text(encoding="utf-8"))


def github(file: Path, folder: Path, bin_: Path, **changes: str) -> Ran:
    """The only job of a GitHub workflow; ``changes`` of its environment stand for an edited copy of the file."""
    (job,) = load(file)["jobs"].values()
    told = {name: _expressions(text, folder) for name, text in job["env"].items()} | changes
    ran = Ran()
    for number, step in enumerate(job["steps"]):
        asked = step.get("if", "${{ success() }}")
        assert asked in {"${{ success() }}", "${{ !cancelled() }}"}, asked
        if "uses" in step:
            if step["uses"].startswith("actions/upload-artifact@"):
                ran.uploaded = _matching(folder, step["with"]["path"].splitlines())
            continue
        if not ran.green and asked == "${{ success() }}":
            continue
        summary = folder.parent / f"summary-{number}.md"
        summary.touch()
        own = {"GITHUB_ACTIONS": "true", "CI": "true", "GITHUB_STEP_SUMMARY": str(summary)}
        status, output = _bash(_expressions(step["run"], folder), folder, bin_, {**told, **own}, "-e")
        ran.steps.append(Step(step["name"], status, output, summary.read_text(encoding="utf-8")))
    return ran


def gitlab(file: Path, folder: Path, bin_: Path, **changes: str) -> Ran:
    """The only job of a GitLab file."""
    (job,) = (one for one in load(file).values() if "script" in one)
    own = {"CI": "true", "GITLAB_CI": "true", "CI_PROJECT_DIR": str(folder)}
    told = {name: Template(str(text)).safe_substitute(own) for name, text in job["variables"].items()} | changes
    status, output = _bash("\n".join(job["script"]), folder, bin_, {**told, **own}, "-eo", "pipefail")
    assert job["artifacts"]["when"] == "always"
    return Ran([Step("script", status, output)], _matching(folder, job["artifacts"]["paths"]))


def obeyed(output: str) -> Iterator[Annotation]:
    """The workflow commands in a step's output that GitHub obeys: none between ``stop-commands`` and its word."""
    word = ""
    for line in output.splitlines():
        told = _COMMAND.fullmatch(line)
        if told is None:
            continue
        if word:
            word = "" if told["name"] == word else word
        elif told["name"] == "stop-commands":
            word = told["message"]
        else:
            pairs = (one.partition("=") for one in (told["properties"] or "").split(",") if one)
            properties = {name.strip(): _unescaped(text, of_property=True) for name, _, text in pairs}
            yield Annotation(told["name"], properties, _unescaped(told["message"]))


def _unescaped(text: str, *, of_property: bool = False) -> str:
    for code, meant in (("%0D", "\r"), ("%0A", "\n"), *((("%3A", ":"), ("%2C", ",")) if of_property else ())):
        text = text.replace(code, meant)
    return text.replace("%25", "%")


def _expressions(text: str, folder: Path) -> str:
    told = str(text).replace("${{ github.workspace }}", str(folder))
    assert "${{" not in told, told
    return told


def _matching(folder: Path, patterns: list[str]) -> frozenset[str]:
    found = {path for pattern in patterns for path in folder.glob(pattern.strip())}
    files = {one for path in found for one in (path.rglob("*") if path.is_dir() else (path,)) if one.is_file()}
    return frozenset(one.relative_to(folder).as_posix() for one in files)


def _bash(text: str, folder: Path, bin_: Path, told: Mapping[str, str], *options: str) -> tuple[int, str]:
    kept = {name: value for name, value in os.environ.items() if name in _KEPT}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", *options, "-c", text],
        cwd=folder,
        env={**kept, "PATH": f"{bin_}{os.pathsep}{kept['PATH']}", **told},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=300,
        check=False,
    )
    sys.stdout.write(f"$ {text}\n{done.stdout}--- exit {done.returncode}\n")
    return done.returncode, done.stdout
