"""A ledger that is lost with its job file, while the box has trained: the file is rebuilt, and the model comes home."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.artifacts import digest
from harness.core.clock import SystemClock
from harness.job.load import load_job
from harness.ledger.history import fold
from harness.ledger.sql import open_store
from tests.support.operator import JOB, RUN_S, SUPPORT, Operator
from tests.support.warm import warm

CLAIMED = 3

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS"),
]


def _own_package(folder: Path) -> Path:
    """The quick package with rows that are the operator's own."""
    package = folder / "package"
    shutil.copytree(SUPPORT / "quick_package", package, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "train_quick.py", "--stage", "prepare"], cwd=package, check=True)
    for file in package.rglob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        file.write_text(
            "".join(json.dumps({**row, "built_by": None}) + "\n" for row in rows).replace(', "built_by": null', "")
        )
    return package


def test_a_lost_job_is_rebuilt_from_its_box_and_brought_home(tmp_path: Path) -> None:
    package = _own_package(tmp_path)
    operator = Operator(
        tmp_path,
        "none",
        changes=(
            ('scenario = "none"\n', ""),
            (json.dumps((SUPPORT / "quick_package").as_posix()), json.dumps(package.as_posix())),
            ("allow_built_rows = true\n", ""),
            ("training_deadline_s = 40", "training_deadline_s = 1200"),
        ),
    )
    desk = tmp_path / "desk"
    desk.mkdir()

    def harness(*words: str) -> tuple[int, str]:
        done = warm().run(
            [sys.executable, "-m", "harness", *words],
            env={**os.environ, "HARNESS_HOME": str(operator.home), "HOME": str(tmp_path)},
            cwd=desk,
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        sys.stdout.write(f"{done.stdout}{done.stderr}--- exit {done.returncode}\n")
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    try:
        assert operator.run("--until", "training") == 0
        rental = fold(operator.records()).alive
        assert rental is not None
        instance = str(rental.instance_id)
        (made,) = operator.box(int(instance)).rglob("quick.Q8_0.gguf")
        meant, model = load_job(operator.file), digest.of_file(made).sha256
        words = ("adopt", "--plain", "--instance-id", instance)
        operator.file.unlink()
        shutil.rmtree(operator.home / "jobs")
        for lost in operator.home.glob("state.db*"):
            lost.rename(tmp_path / lost.name)
        code, said = harness(*words, "--provider", "emulated", "--package", str(package))
        assert code == CLAIMED
        assert "this harness's, job quick" in said
        assert "rows: features 200 rows, pairs 50 rows, scenarios 100 rows (known, by the package here)" in said
        assert "steps: sft 20, dpo 10 (CLAIMED by the box, in .harness/job.json)" in said
        assert "package: the one here is the one there, file for file" in said
        assert "DIFFERS" not in said
        file = desk / f"{JOB}-{instance}.toml"
        assert said.count(f"--job-file {file.name} --check") == 1
        rebuilt = load_job(file)
        assert (rebuilt.announced, rebuilt.data, rebuilt.model) == (meant.announced, meant.data, meant.model)

        given = ("--job-file", file.name)
        assert harness(*words, *given, "--check")[0] == 0
        # A person has looked, and means what the box says that this job does without.
        text = file.read_text(encoding="utf-8")
        text = text.replace("budget_usd =", "absence_window_s = 1\nabsence_deadline_s = 20\nbudget_usd =")
        file.write_text(re.sub(r"(?m)^# ((?:context|accelerator) = .*)$", r"\1", text), encoding="utf-8")
        assert harness(*words, *given)[0] == 0
        (name,) = open_store(operator.home / "state.db", SystemClock()).jobs()
        assert harness("destroy", name, "--yes", "--plain")[0] == 0
        history = fold(open_store(operator.home / "state.db", SystemClock()).records(name))
        assert history.closed
        assert history.verified is not None
        assert digest.of_file(Path(history.verified.path)).sha256 == model
        assert not operator.world().rentals
    finally:
        operator.close()
