"""``harness fleet`` beside its workers: what it shows and what it sets, with no worker there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.fleet import app
from harness.core.errors import BadInput
from tests.support.fleets import write_fleet


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    return str(write_fleet(tmp_path / "files", 2, concurrency=3))


def _typed(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_nothing_has_begun_and_what_is_set_holds(file: str) -> None:
    shown = _typed("status", file)
    assert "fleet night: running, at most 3 at once; 2 not begun" in shown
    assert "nothing is billed" not in shown
    assert "no job begins any more" in _typed("pause", file)
    assert json.loads(_typed("status", file, "--json"))["standing"] == "paused"
    _typed("drain", file)
    assert "draining" in _typed("status", file)
    _typed("resume", file)
    told = json.loads(_typed("status", file, "--json"))
    assert told["standing"] == "running"
    assert told["jobs"][0] == {"job": "job-0", "place": "not begun", "worker": None, "why": None, "row": None}


@pytest.mark.parametrize(("job", "told"), [("job-0", "not begun, and not held"), ("jbo-0", "no job of this fleet")])
def test_only_a_held_job_is_taken_up(file: str, job: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        CliRunner().invoke(app, ["resume", file, job], catch_exceptions=False)


def test_a_database_that_does_not_answer_is_no_traceback_and_tells_no_password(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.core.errors import StoreFailed

    monkeypatch.setenv("HARNESS_STATE", "postgresql+psycopg://me:s3cret@127.0.0.1:1/fleet")
    with pytest.raises(StoreFailed) as failed:
        CliRunner().invoke(app, ["status", file], catch_exceptions=False)
    assert "s3cret" not in f"{failed.value} {failed.value.remedy}"
