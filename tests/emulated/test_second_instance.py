"""The instance dies in mid-training: another takes its place, and the training goes on from the mirror.

Real processes, a real training, the embedded service: somebody else destroys the instance, or its host goes
offline. What the service knows is held against what the job's event log says.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.core.ids import InstanceId
from harness.emulator.state import FIRST_ID
from harness.ledger.billing import paid_spans
from harness.ledger.events import CheckpointMirrored, Closed, DestroyIntended, Lost, Rented, RentIntended, Resumes
from harness.ledger.history import fold
from harness.ledger.kinds import JobEvent
from harness.providers.emulated import open_emulated
from tests.support.operator import SUPPORT, Operator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")
SLOW_STEPS = ("STEP_SECONDS = 0.15", "STEP_SECONDS = 0.8")
WAIT_S = 180.0
REPLACE = "--replace-dead-instance"
OFFLINE = r"""
about = "The host went offline in the middle of the training."

[[life]]
do = "become"
status = "offline"
status_msg = "the host is offline"
[life.when]
file = "workspace/*/training.log"
text = '\[sft\] step 12'
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The quick package, a little slower: there is time to kill something."""
    copy = tmp_path / "package"
    shutil.copytree(SUPPORT / "quick_package", copy, ignore=shutil.ignore_patterns("__pycache__"))
    script = copy / "train_quick.py"
    text = script.read_text(encoding="utf-8")
    assert SLOW_STEPS[0] in text
    script.write_text(text.replace(*SLOW_STEPS), encoding="utf-8")
    return copy


@pytest.fixture
def operator(tmp_path: Path, package: Path, request: pytest.FixtureRequest) -> Iterator[Operator]:
    scenario = tmp_path / "played.toml"
    scenario.write_text(getattr(request, "param", 'about = "Nothing goes wrong by itself."'), encoding="utf-8")
    where = (SUPPORT / "quick_package").as_posix()
    limits = ("training_deadline_s = 40", "training_deadline_s = 300")
    pace = ("sft = 0.5, dpo = 0.5", "sft = 1.0, dpo = 1.0")
    made = Operator(tmp_path, scenario.as_posix(), changes=((where, package.as_posix()), limits, pace))
    yield made
    made.close()


def _until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.1)


def _kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _kinds(operator: Operator) -> list[type[JobEvent]]:
    return [type(event) for event in operator.events()] if (operator.home / "state.db").exists() else []


def _uninterrupted(folder: Path, package: Path) -> str:
    """The digest of the model that the same package makes when nobody disturbs it."""
    shutil.copytree(package, folder)
    script = folder / "train_quick.py"
    script.write_text(script.read_text(encoding="utf-8").replace(SLOW_STEPS[1], "STEP_SECONDS = 0"), encoding="utf-8")
    for stage in ("prepare", "all"):
        subprocess.run([sys.executable, script.name, "--stage", stage], cwd=folder, check=True, capture_output=True)
    (made,) = (folder / "models/output/final").glob("*.gguf")
    return hashlib.sha256(made.read_bytes()).hexdigest()


def _is_closed_after_two(operator: Operator) -> None:
    """Two instances, the second rented when the first was proven gone; verified and closed; nothing is left."""
    world, events = operator.world(), operator.events()
    rented = [event.instance_id for event in events if isinstance(event, Rented)]
    assert rented == [InstanceId(FIRST_ID), InstanceId(world.last_id)]
    assert len(set(rented)) == 2
    assert {InstanceId(entry.instance_id) for entry in world.charges.entries} == set(rented)
    kinds = [type(event) for event in events]
    second = [at for at, kind in enumerate(kinds) if kind is RentIntended][1]
    assert kinds.index(Lost) < second
    records = operator.records()
    spans = paid_spans(records, records[-1].at)
    assert all(one.end <= two.start for one, two in itertools.pairwise(spans))
    assert kinds[-1] is Closed
    assert world.rentals == {}
    history = fold(records)
    assert history.verified is not None
    assert hashlib.sha256(Path(history.verified.path).read_bytes()).hexdigest() == history.verified.sha256


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_destroyed_by_somebody_else_the_training_goes_on_elsewhere(
    operator: Operator, package: Path, tmp_path: Path
) -> None:
    process = operator.start()
    _until(process, lambda: CheckpointMirrored in _kinds(operator))
    provider = open_emulated(operator.service, SystemClock(), scenario=operator.scenario)
    provider.destroy(InstanceId(FIRST_ID))
    assert operator.end(process) == 7, "without agreement it is held"
    assert "rents another" in operator.said[-1].stderr
    assert _kinds(operator).count(Rented) == 1

    process = operator.start(REPLACE)
    _until(process, lambda: Lost in _kinds(operator))
    _kill(process)
    process = operator.start(REPLACE)
    _until(process, lambda: Resumes in _kinds(operator))
    _kill(process)
    assert operator.run() == 0
    _is_closed_after_two(operator)

    log = (operator.directory / "companions/training.log").read_text(encoding="utf-8")
    steps = next(event.steps for event in operator.events() if isinstance(event, Resumes))
    trainer, step = list(steps.items())[-1]
    assert f"[{trainer}] RESUME from models/output/{trainer}/checkpoint-{step} at step {step}" in log
    assert f"[{trainer}] step {step}/" not in log, "it was trained again"
    verified = fold(operator.records()).verified
    assert verified is not None
    assert verified.sha256 == _uninterrupted(tmp_path / "uninterrupted", package)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("operator", [OFFLINE], indirect=True)
def test_gone_offline_it_is_given_up_for_the_sentence_alone(operator: Operator) -> None:
    assert operator.run() == 7
    assert operator.run(REPLACE) == 5
    sentence = f"I accept the loss of everything on instance {FIRST_ID}"
    assert sentence in operator.said[-1].stderr
    assert DestroyIntended not in _kinds(operator)
    assert operator.run(REPLACE, "--accept-loss", sentence) == 0
    _is_closed_after_two(operator)
