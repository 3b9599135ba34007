"""A stranger's small project with a stage of its own, and what its gate said when pytest ran there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.gates.facts_file import FactsFile
from harness.job.model import Job
from tests.support.facts import NOW, sound_job

STAGE = "mine"

FIRST = '''
def check_first(facts, evidence):
    """The answer is right."""
    assert evidence.note("answer", facts["answer"]) == 42
'''

SECOND = '''
def check_second(facts, evidence):
    """The question is short."""
    length = evidence.note("length", len(facts["question"]))
    assert length < evidence.wants("at most", 20), f"{length} letters"
'''


@dataclass(frozen=True, slots=True)
class Said:
    """What a run left: pytest's exit status, what it printed, and the gate of the stage (None when not judged)."""

    status: int
    output: str
    gate: Mapping[str, Any] | None

    def verdicts(self) -> dict[str, str]:
        """Verdict by check; a required check that did not report is ``missing``."""
        if self.gate is None:
            return {}
        said = {result["id"]: str(result["verdict"]) for result in self.gate["results"]}
        return {check: said.get(check, "missing") for check in self.gate["required"]}


@dataclass(frozen=True, slots=True)
class Project:
    """The project in pytester's folder."""

    pytester: pytest.Pytester

    def write(self, path: str, text: str) -> Path:
        """Put a file there."""
        file = self.pytester.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def facts(self, *, job: Job | None = None, stage: str = STAGE, **facts: Any) -> str:
        """The option that judges these facts."""
        body = {"answer": 42, "question": "how many roads?", **facts}
        file = self.pytester.path / f"facts-{stage}.json"
        file.write_bytes(FactsFile(stage, job or sound_job(), NOW, 0.5, body).dump())
        return f"--facts={file}"

    def judge(self, *options: str, stage: str = STAGE, folder: str = "checks", workers: int = 0) -> Said:
        """Run pytest with ``--stage``; in this process without workers, in its own with them."""
        verdicts = self.pytester.path / "verdicts.json"
        verdicts.unlink(missing_ok=True)
        given = [f"--stage={stage}", f"--verdicts={verdicts}", *options, *([folder] if folder else [])]
        ran = self.run(*given, workers=workers)
        gates = json.loads(verdicts.read_bytes())["gates"] if verdicts.exists() else []
        gate = next((gate for gate in gates if gate["stage"] == stage), None)
        return Said(int(ran.ret), ran.stdout.str() + ran.stderr.str(), gate)

    def run(self, *options: str, workers: int = 0) -> pytest.RunResult:
        """Run pytest with our plugin and the project's own settings, which are none."""
        ini = self.write("pytest.ini", "[pytest]\n")
        run = self.pytester.runpytest_subprocess if workers else self.pytester.runpytest_inprocess
        ours = ("-pharness.plugin", f"-c{ini}", f"--rootdir={self.pytester.path}")
        return run(*ours, *options, *(["-pxdist", f"-n{workers}"] if workers else []))


def project(pytester: pytest.Pytester) -> Project:
    """Two files of one check each, in the folder of the stage; no plugin but ours is loaded."""
    pytester._monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    made = Project(pytester)
    made.write(f"checks/{STAGE}/check_a.py", FIRST)
    made.write(f"checks/{STAGE}/check_b.py", SECOND)
    return made
