"""Every scenario, played by the whole harness in real processes: it ends as the scenario says, and nothing is lost.

What the harness says of itself (its event log, its report, its exit code) is held against what the emulated
service knows: who was billed, what is alive, what lies on the boxes' disks.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.core.ids import InstanceId
from harness.emulator.box.container import can_isolate
from harness.emulator.scenario import Scenario, load, names
from harness.emulator.state import FIRST_ID, State
from harness.ledger.events import (
    Abandoned,
    CheckpointMirrored,
    Closed,
    Destroyed,
    DestroyIntended,
    Held,
    Rented,
    Uploaded,
)
from harness.ledger.history import fold
from harness.ledger.kinds import JobEvent
from tests.support import troubleshooting_page
from tests.support.operator import ROOT, Operator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")
PACKAGE = "workspace/vastai_llm_training"
TRIES = 4
"""How often an operator types the command until the job is closed."""
DOCUMENTED = {int(code) for code in re.findall(r"(?m)^\| (\d+) \|", (ROOT / "docs/exit-codes.md").read_text("utf-8"))}


@pytest.fixture
def operator(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Operator]:
    made = Operator(tmp_path, request.getfixturevalue("name"))
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", names())
def test_a_job_ends_as_the_scenario_says(name: str, operator: Operator) -> None:
    scenario = load(name)
    if any(event.do == "disk" for event in scenario.life) and not can_isolate():
        pytest.skip("a full disk needs an isolated box")
    if scenario.ends == "held":
        assert operator.run() != 0, "it was not held"
        _is_held(operator)
        _is_told_on_the_page(name, operator.said[0])
        # Tried again it is still held, or what held it has passed and it is closed as well as any other.
        (_is_held if operator.run() else _is_closed)(operator)
    else:
        assert any(operator.run() == 0 for _ in range(TRIES)), "it was never closed"
        _is_closed(operator)
    _really_struck(scenario, operator.world())


def _is_told_on_the_page(name: str, said: subprocess.CompletedProcess[str]) -> None:
    """Whoever reads docs/troubleshooting.md by the code and the words of this end finds it."""
    told = list(troubleshooting_page.rehearsed(name))  # by more than one, where it depends on the moment
    assert not told or any(said.returncode == code and words.search(said.stderr) for code, words in told), said.stderr


def _nothing_is_unsaid(operator: Operator, events: tuple[JobEvent, ...]) -> None:
    """Every run ends with a documented code, in words, with a report; an unhappy one with its reason in the log."""
    for one in operator.said:
        assert one.returncode in DOCUMENTED
        assert "Traceback" not in one.stdout + one.stderr
        assert (one.returncode == 0) == ("exit code" not in one.stderr)
    reasons = [event.reason for event in events if isinstance(event, Held)]
    assert len(reasons) == sum(one.returncode != 0 for one in operator.said)
    assert all(reason.strip() for reason in reasons)
    for name in ("GOLD_STANDARD.md", "GOLD_STANDARD.json", "GOLD_STANDARD.html"):
        assert (operator.directory / name).stat().st_size > 0


def _billed_once(world: State, events: tuple[JobEvent, ...]) -> None:
    """One contract was ever made, and the job knows it."""
    rented = [event.instance_id for event in events if isinstance(event, Rented)]
    assert rented == [InstanceId(FIRST_ID)]
    assert world.last_id == FIRST_ID + len(world.increases), "what a host offers for it is numbered, too"
    assert {entry.instance_id for entry in world.charges.entries} == {FIRST_ID}


def _really_struck(scenario: Scenario, world: State) -> None:
    """A scenario whose faults never happened proves nothing."""
    faults = (*scenario.api, *scenario.ssh, *scenario.life)
    assert len(world.faults) == len(faults)
    missed = [fault for fault, (_, struck) in zip(faults, world.faults, strict=True) if not struck]
    assert not missed


def _is_closed(operator: Operator) -> None:
    """The file is here and is the released one; the instance is gone."""
    world, events = operator.world(), operator.events()
    _nothing_is_unsaid(operator, events)
    _billed_once(world, events)
    assert isinstance(events[-1], Closed)
    history = fold(operator.records())
    assert history.verified is not None
    assert history.release_path is not None
    local = Path(history.verified.path)
    digest = hashlib.sha256(local.read_bytes()).hexdigest()
    assert digest == history.verified.sha256
    release: dict[str, Any] = json.loads(Path(history.release_path).read_bytes())
    assert [subject["digest"]["sha256"] for subject in release["subject"]] == [digest]
    assert world.rentals == {}
    assert not operator.box(FIRST_ID).exists()


def _is_held(operator: Operator) -> None:
    """The job stands still with a reason; the instance is there, with everything that was brought to its disk."""
    world, events = operator.world(), operator.events()
    _nothing_is_unsaid(operator, events)
    _billed_once(world, events)
    kinds = [type(event) for event in events]
    assert kinds[-1] is Held
    assert not {DestroyIntended, Destroyed, Abandoned, Closed} & set(kinds)
    (rental,) = world.rentals.values()
    assert rental.gone_at is None
    if Uploaded in kinds:
        assert (operator.box(FIRST_ID) / PACKAGE / "train_quick.py").is_file()
    mirrored = [event for event in events if isinstance(event, CheckpointMirrored)]
    for one in mirrored:
        folder = f"{one.trainer}/checkpoint-{one.step}"
        assert (operator.box(FIRST_ID) / PACKAGE / "models/output" / folder / "adapter_model.safetensors").is_file()
        assert (operator.directory / "mirror" / folder / "adapter_model.safetensors").is_file()
