"""The command guard beside the ledger: it names the very line for the job whose instance is meant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.judging import instead, way_out
from harness.core.clock import SystemClock
from harness.core.ids import JobName
from harness.ledger.sql import open_store
from harness.shellguard import rules
from harness.shellguard.judge import judge
from tests.support.job_histories import INSTANCE, Log, events_of

API = "https://console.vast.ai/api/v0"


@pytest.mark.parametrize(
    ("log", "line", "told"),
    [
        (Log().verified(), f"vastai destroy instance {INSTANCE}", "harness destroy night (instance"),
        (Log().verified(), f"curl -X DELETE {API}/instances/{INSTANCE}/", "harness destroy night ("),
        (Log().verified(), 'vastai destroy instance "$ID"', "harness destroy night ("),
        (Log().verified(), f"vastai stop instance {INSTANCE}", "harness destroy night ("),
        (Log().rented(), f"vastai destroy instance {INSTANCE}", "harness run night brings the model"),
        (Log().verified(), "vastai destroy instance 999999", rules.DESTROY.instead),
        (Log().closed(), f"vastai destroy instance {INSTANCE}", rules.DESTROY.instead),
    ],
)  # fmt: skip
def test_the_line_for_the_very_job_is_named(log: Log, line: str, told: str) -> None:
    leading = judge(line).leading
    assert leading is not None
    assert way_out(leading, [log.history]).startswith(told)


def _home(tmp_path: Path, log: Log) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    store = open_store(home / "state.db", SystemClock())
    for event in events_of(log.records):
        store.append(JobName(log.job.name), event)
    return home


def _typed(home: Path, words: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "HARNESS_HOME": str(home)}
    command = [sys.executable, *words]
    return subprocess.run(command, input=stdin, env=environment, capture_output=True, check=False, timeout=60)


def test_hook_shim_and_command_name_the_same_line(tmp_path: Path) -> None:
    home = _home(tmp_path, Log().verified())
    told = f"harness destroy night (instance {INSTANCE}".encode()
    line = f"vastai destroy instance {INSTANCE}"
    asked = json.dumps({"tool_name": "Bash", "tool_input": {"command": line}}).encode()
    start = "import sys; sys.argv = ['harness', 'guard', '--hook']; from harness.cli.entry import main; main()"
    hook = _typed(home, ["-c", start], asked)
    assert (hook.returncode, b'"deny"' in hook.stdout, told in hook.stdout) == (0, True, True)
    shim = _typed(home, ["-m", "harness.cli.judging", "--shim", *line.split()[1:]])
    assert (shim.returncode, told in b" ".join(shim.stderr.split())) == (5, True)
    typed = _typed(home, ["-m", "harness", "guard", "--", *line.split()])
    assert (typed.returncode, told in b" ".join(typed.stderr.split())) == (5, True)


def test_a_ledger_that_does_not_read_holds_the_line_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state.db").write_bytes(b"no database")
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
    leading = judge("vastai destroy instance 5").leading
    assert leading is not None
    assert instead(leading) == rules.DESTROY.instead


def test_without_a_ledger_none_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "none"))
    leading = judge("vastai destroy instance 5").leading
    assert leading is not None
    instead(leading)
    assert not (tmp_path / "none").exists()
