"""A plain TRL script that knows nothing of the harness: trained on an embedded box, verified, and proven gone.

On the way the log of another run, a missing file and a flipped byte are put in place: each keeps its gate shut by name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.core.ids import JobName
from harness.ledger.events import Closed
from harness.ledger.history import History, fold
from harness.ledger.sql import open_store
from harness.providers.emulated import open_emulated, stop_emulator
from tests.support.warm import warm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS"),
]
SUPPORT = Path(__file__).resolve().parents[1] / "support"
JOB = JobName("plain")
HELD = 3
OF_ANOTHER_RUN = (
    "{'loss': '2.718', 'grad_norm': '0.31', 'learning_rate': '0.0005', 'epoch': '0.07'}\n"
    "  3%|▎         | 2/30 [00:01<00:31,  1.85it/s]\n"
)


@dataclass(slots=True)
class Scene:
    """A home with the one job in it, driven by real processes."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def type(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HARNESS_HOME": str(self.home)}
        command = [sys.executable, "-m", "harness", *words, "--plain"]
        return warm().run(command, env=environment, capture_output=True, text=True, check=False)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.type("run", str(self.folder / "job.toml"), "--yes", *words)

    def history(self) -> History:
        return fold(open_store(self.home / "state.db", SystemClock()).records(JOB))

    def alive(self) -> list[str]:
        return [str(one) for one in open_emulated(self.home / "emulator", SystemClock()).instances().ids()]

    def on_the_box(self, name: str) -> Path:
        (found,) = set(self.home.glob(f"emulator/state/boxes/*/root/workspace/plain/{name}"))
        return found

    @property
    def here(self) -> Path:
        fetched = self.history().fetched
        assert fetched is not None
        return Path(fetched.path)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    package = tmp_path / "package"
    shutil.copytree(SUPPORT / "plain_trl", package)
    subprocess.run([sys.executable, "make_base.py"], cwd=package, check=True, capture_output=True)
    text = (SUPPORT / "plain_job.toml").read_text(encoding="utf-8")
    text = text.replace('"plain_trl"', json.dumps(package.as_posix()))
    (tmp_path / "job.toml").write_text(text, encoding="utf-8")
    made = Scene(tmp_path)
    yield made
    stop_emulator(made.home / "emulator")


def _held_by(ran: subprocess.CompletedProcess[str], check: str) -> None:
    assert ran.returncode == HELD, ran.stdout + ran.stderr
    assert f"FAIL {check}" in ran.stdout + ran.stderr


def _broken(path: Path, change: Callable[[Path], object]) -> Callable[[], None]:
    """Change a file; the answer puts it back."""
    kept = path.with_name(f".kept-{path.name}")
    shutil.copy2(path, kept)
    path.chmod(0o644)
    change(path)

    def restore() -> None:
        kept.replace(path)

    return restore


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def _append(path: Path) -> None:
    with path.open("a", encoding="utf-8") as log:
        log.write(f"\n{OF_ANOTHER_RUN}{{'train_runtime': '9.1', 'epoch': '4'}}\n")


def test_an_unmodified_script_from_rental_to_proven_teardown(scene: Scene) -> None:
    trained = scene.run("--until", "training")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    log = scene.on_the_box("training.log")

    for change in (_append, lambda path: path.write_text(OF_ANOTHER_RUN * 30, encoding="utf-8")):
        restore = _broken(log, change)
        _held_by(scene.run("--until", "posttrain"), "log_is_of_this_run")
        restore()

    home = scene.run("--until", "postdownload")
    assert home.returncode == 0, home.stdout + home.stderr
    weights, config = scene.here / "model.safetensors", scene.here / "config.json"
    for path, change, check in (
        (weights, _flip, "local_sha256_equals_remote"),
        (config, Path.unlink, "local_sha256_equals_remote"),
    ):
        kept = scene.home / "kept"
        shutil.copy2(path, kept)
        path.chmod(0o644)
        change(path)
        shut = _judged(scene, "postdownload")
        assert f"FAIL {check}" in shut
        refused = scene.type("destroy", JOB, "--yes")
        assert refused.returncode != 0
        assert len(scene.alive()) == 1, "the instance still has the model"
        path.unlink(missing_ok=True)
        shutil.copy2(kept, path)
        path.chmod(0o444)

    done = scene.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert scene.alive() == []
    assert scene.history().closed
    assert any(record.kind == Closed.kind for record in scene.history().records)
    report = (scene.home / "jobs" / JOB / "GOLD_STANDARD.md").read_text(encoding="utf-8")
    told = (scene.home / "jobs" / JOB / "GOLD_STANDARD.json").read_text(encoding="utf-8")
    assert "it rests on the trainer's own records" in told
    assert re.search(r"effective_config_logged.*announces no plan", report)
    found = json.loads((scene.home / "jobs" / JOB / "companions" / "found-on-the-box.json").read_text(encoding="utf-8"))
    assert {"training.log", "out/checkpoint-30/trainer_state.json"} <= set(found)


def _judged(scene: Scene, stage: str) -> str:
    command = [sys.executable, "-m", "pytest", "checks/", f"--stage={stage}", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "HARNESS_HOME": str(scene.home)}
    ran = subprocess.run(command, env=environment, cwd=SUPPORT.parents[1], capture_output=True, text=True, check=False)
    return ran.stdout
