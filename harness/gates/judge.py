"""Runs a stage's checks with pytest in a clean process and decides whether its gate opens.

pytest's exit status is a hint. The gate opens when the ids that passed are exactly the
ids that the plan requires, on the very facts that were given to it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from harness import __version__
from harness.core import canonical, environment
from harness.core.ids import CheckId, Sha256
from harness.core.lifecycle import Stage
from harness.core.text import printable
from harness.core.verdict import Verdict
from harness.gates import plan
from harness.gates.evidence import CheckResult, GateResult
from harness.gates.facts_file import FactsFile, digest, digest_of, read_facts
from harness.job.model import Job

TIMEOUT_S = 300.0
_WITHOUT = ("-p", "no:cacheprovider", "-p", "no:unraisableexception")
"""Parts of pytest that a gate goes without: the second collects garbage ten times at the end, a tenth of the whole."""
_RESULTS: TypeAdapter[tuple[CheckResult, ...]] = TypeAdapter(tuple[CheckResult, ...])


def check_folders(job: Job) -> tuple[Path, ...]:
    """The folders whose checks count: the built-in ``checks/`` and the job's own."""
    return (plan.FOLDER, *job.gates.checks)


def demand(stage: str, job: Job) -> Sha256:
    """Digest of everything that a gate is judged by on this machine: the job, the plan, the checks' files, the harness.

    Raises OSError when a file of the checks cannot be read.
    """
    files: dict[str, canonical.Json] = {
        f"{number}/{path.relative_to(folder).as_posix()}": digest(path.read_bytes())
        for number, folder in enumerate(check_folders(job))
        for path in _read_by(stage, folder)
    }
    required: list[canonical.Json] = [*sorted(plan.declared(stage, job))]
    told = job.model_dump(mode="json")
    return canonical.digest(
        {"stage": stage, "harness": __version__, "job": told, "required": required, "checks": files}
    )


def _read_by(stage: str, folder: Path) -> Iterator[Path]:
    """Files of a folder that a stage's checks may rest on: all but other stages', and what the interpreter keeps."""
    others = set(Stage) - {stage}
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if parts[0] not in others and "__pycache__" not in parts and not parts[0].startswith(".") and path.is_file():
            yield path


def judge(facts_path: Path, *, timeout: float = TIMEOUT_S) -> GateResult:
    """Judge recorded facts. Whatever keeps pytest from judging is a problem in the result, never an exception."""
    facts_path = facts_path.resolve()  # pytest runs elsewhere
    facts = read_facts(facts_path)
    judged = digest_of(facts_path)
    gone = [str(folder) for folder in check_folders(facts.job) if not folder.is_dir()]
    if gone:
        return _nothing(facts, (f"there is no folder of checks {', '.join(gone)}",))
    with tempfile.TemporaryDirectory(prefix="harness-gate-") as scratch:
        verdicts = Path(scratch) / "verdicts.json"
        command = _command(facts, facts_path, verdicts, Path(scratch))
        try:
            done = subprocess.run(
                command, capture_output=True, check=False, timeout=timeout, env=environment.for_gate(), cwd=scratch
            )
        except subprocess.TimeoutExpired:
            return _nothing(facts, (f"the checks did not end within {timeout:.0f} s",))
        output = printable((done.stdout + done.stderr).decode("utf-8", "replace")[-3000:], 3000)
        result = _read(facts, judged, verdicts, done.returncode, output)
        if digest_of(facts_path) != judged:
            return _nothing(facts, ("the facts changed while they were judged",))
        return result


def _command(facts: FactsFile, facts_path: Path, verdicts: Path, scratch: Path) -> list[str]:
    ini = scratch / "gate.ini"
    ini.write_text("[pytest]\naddopts =\n", encoding="utf-8")
    folders = [str(folder / facts.stage) for folder in check_folders(facts.job) if (folder / facts.stage).is_dir()]
    options = ["-p", "harness.plugin", *_WITHOUT, "--import-mode=importlib", "-q"]
    judged = [f"--stage={facts.stage}", f"--facts={facts_path}", f"--verdicts={verdicts}"]
    return [sys.executable, "-m", "pytest", "-c", str(ini), "--rootdir", str(scratch), *options, *judged, *folders]


def _read(facts: FactsFile, judged: str, verdicts: Path, status: int, output: str) -> GateResult:
    try:
        (said,) = json.loads(verdicts.read_bytes())["gates"]
        results = _RESULTS.validate_python(said["results"])
        collected = [CheckId(check) for check in said["required"]]
        problems = [str(problem) for problem in said["problems"]]
        seconds, judged_facts = float(said["seconds"]), said["facts_sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError):
        return _nothing(facts, (f"pytest left no verdicts (exit status {status}): {output}",))
    required = plan.required(facts.stage, facts.job, collected)
    if judged_facts != judged:
        problems.append("other facts than these were judged")
    result = GateResult(
        stage=facts.stage,
        plan_digest=plan.digest(facts.stage, required),
        required=required,
        results=tuple(result for result in results if result.id in required),
        problems=tuple(problems),
        seconds=seconds,
    )
    if (status == 0) == (result.verdict is Verdict.PASS):
        return result
    return _nothing(facts, (*problems, f"pytest's exit status {status} and its verdicts disagree: {output}"))


def _nothing(facts: FactsFile, problems: Iterable[str]) -> GateResult:
    required = plan.declared(facts.stage, facts.job)
    return GateResult(facts.stage, plan.digest(facts.stage, required), required, (), tuple(problems))
