"""Every command of the page about writing checks runs, in the project that the page builds."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.gates import judge
from harness.job.load import load_job
from harness.job.model import Job
from harness.ledger.events import Opened
from harness.ledger.sql import open_store
from tests.support.facts import facts_file, sound_job

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "writing-checks.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, _, text in BLOCKS if kind == "bash" for line in text.splitlines()]


def small_job() -> Job:
    return sound_job(artifact={"floors": {"Q8_0": 1}})


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the page, a job that has begun, recorded facts."""
    for kind, title, text in BLOCKS:
        if title:
            assert kind == "python"
            path = tmp_path / title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    job = small_job()
    home = tmp_path / "home"
    home.mkdir()
    open_store(home / "state.db", SystemClock()).append(
        job.name, Opened(job=job.model_dump(mode="json"), file="job.toml")
    )
    (tmp_path / "training.json").write_bytes(facts_file(Stage.TRAINING, job=job).dump())
    monkeypatch.setenv("HARNESS_HOME", str(home))
    monkeypatch.setenv("FACTS", str(tmp_path / "training.json"))
    monkeypatch.setenv("JOB", job.name)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    return tmp_path


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) == 5
    assert {title for _, title, _ in BLOCKS if title} == {
        "checks/training/check_rate.py",
        "conftest.py",
        "checks/desk/check_room.py",
    }


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the page's commands are for a POSIX shell")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_runs(shop: Path, command: str) -> None:
    ran = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=shop, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "--stage" not in command or "HELD" not in ran.stdout
    if "--facts" in command:
        assert "gate training: OPEN, 17 of 17 checks passed" in ran.stdout


def test_the_page_s_job_table_makes_the_runner_require_the_check(shop: Path) -> None:
    (table,) = [text for kind, _, text in BLOCKS if kind == "toml"]
    assert tomllib.loads(table) == {"gates": {"checks": ["checks"]}}
    example = (DOCS.parent / "examples" / "forex-r1-v3.toml").read_text(encoding="utf-8")
    assert "\n[gates]" not in example
    (shop / "job.toml").write_text(example + "\n" + table, encoding="utf-8")
    job = load_job(shop / "job.toml")
    assert job.gates.checks == (shop / "checks",)
    path = shop / "facts.json"
    path.write_bytes(facts_file(Stage.TRAINING, job=job).dump())
    result = judge.judge(path)
    assert "learning_rate_is_small" in result.required
    assert result.verdict is Verdict.PASS, result
