"""The one door, with real processes: today's demands, leftovers of a kill, an instance that somebody else destroyed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.core.ids import InstanceId
from harness.ledger.events import Closed, Destroyed, DestroyIntended, Fetched, Reopened
from harness.providers.emulated import open_emulated
from tests.support.operator import JOB, ROOT, Operator
from tests.support.warm import warm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS"),
]
RAISED = ("floors = { Q8_0 = 1_000_000 }", "floors = { Q8_0 = 900_000_000 }")


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    scenario = tmp_path / "quiet.toml"
    scenario.write_text('about = "Nothing happens."\n', encoding="utf-8")
    made = Operator(tmp_path, scenario.as_posix())
    yield made
    made.close()


def _type(operator: Operator, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of the harness, typed."""
    done = warm().run(
        [sys.executable, "-m", "harness", *words],
        env={**os.environ, "HARNESS_HOME": str(operator.home)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    sys.stdout.write(f"{done.stdout}{done.stderr}--- exit {done.returncode}\n")
    return done


def test_demands_are_todays_leftovers_are_swept_and_what_others_destroyed_is_closed(operator: Operator) -> None:
    assert operator.run("--until", "postdownload") == 0
    text = operator.file.read_text(encoding="utf-8")
    operator.file.write_text(text.replace(*RAISED), encoding="utf-8")
    assert operator.run("--accept-changes") == 3
    assert "over_floor" in operator.said[-1].stderr
    assert DestroyIntended not in map(type, operator.events())
    refused = _type(operator, "destroy", JOB, "--yes")
    assert refused.returncode == 5
    assert len(open_emulated(operator.service, SystemClock(), scenario=operator.scenario).instances().ids()) == 1

    operator.file.write_text(text, encoding="utf-8")
    (fetched,) = [event for event in operator.events() if isinstance(event, Fetched)]
    home = Path(fetched.path)
    left = [f"{home.name}.part.journal", f"{home.name}.part.lock", f".{home.name}.part.journal.0123abcd.part"]
    for name in left:
        (home.parent / name).touch()
    assert operator.run("--accept-changes", "--until", "postdownload") == 0
    assert {path.name for path in home.parent.iterdir()} == {home.name, "README.md"}
    assert Reopened in map(type, operator.events())

    provider = open_emulated(operator.service, SystemClock(), scenario=operator.scenario)
    (alive,) = provider.instances().ids()
    provider.destroy(InstanceId(alive))
    closed = _type(operator, "destroy", JOB, "--yes")
    assert closed.returncode == 0, closed.stderr
    (gone,) = [event for event in operator.events() if isinstance(event, Destroyed)]
    assert gone.by is not None
    assert gone.billing is not None
    assert DestroyIntended not in map(type, operator.events())
    assert Closed in map(type, operator.events())
    assert "nothing bills" in _type(operator, "status").stdout
    report = (operator.directory / "GOLD_STANDARD.md").read_text(encoding="utf-8")
    assert "destroyed by somebody else" in report
