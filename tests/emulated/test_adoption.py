"""An instance rented behind the harness's back: taken over, its model home, verified, destroyed; or it stays alive."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import harness.cli.adopt as command
from harness import wiring
from harness.cli import main
from harness.core.clock import SystemClock
from harness.core.lifecycle import Stage
from harness.core.ports import Clock, Provider
from harness.emulator.rental import Status
from harness.emulator.running import running
from harness.emulator.scenario import SshFault
from harness.gates import judge
from harness.job import profiles
from harness.job.load import load_job
from harness.job.provider import ProviderTable
from harness.ledger.events import Fetched
from harness.ledger.history import History, fold
from harness.ledger.sql import open_store
from harness.providers.rate_limits import UNPACED
from harness.providers.vast.credentials import Credentials
from harness.providers.vast.provider import VastProvider
from tests.support.emulator_kit import Box, key_pair, rent, scenario
from tests.support.warm import warm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS"),
]
SUPPORT = Path(__file__).resolve().parents[1] / "support"
PACKAGE = SUPPORT / "quick_package"
REMOTE = "workspace/vastai_llm_training"
FINAL = "models/output/final/quick.Q8_0.gguf"
HELD, UNKNOWN, REFUSED, UNAVAILABLE, UNREACHABLE = 3, 4, 5, 7, 8


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package after its training, as it lies on a box: run by hand, its output in the log."""
    folder = tmp_path_factory.mktemp("trained") / "package"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for stage in ("prepare", "all"):
        with (folder / "training.log").open("ab") as log:
            subprocess.run([sys.executable, "train_quick.py", "--stage", stage], cwd=folder, stdout=log, check=True)
    return folder


@dataclass(slots=True)
class Scene:
    """An emulator with one box on it that no job knows, and an operator at a keyboard."""

    box: Box
    folder: Path
    said: str = ""

    @property
    def package(self) -> Path:
        return self.box.root / REMOTE

    def job_file(self, **changes: str) -> Path:
        """What the operator expects; ``changes``: what to read in place of something in the file."""
        text = (SUPPORT / "quick_job.toml").read_text(encoding="utf-8")
        text = text.replace('"quick_package"', json.dumps(PACKAGE.as_posix()))
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        path = self.folder / "job.toml"
        path.write_text(text, encoding="utf-8")
        return path

    def is_alive(self) -> bool:
        return self.box.id in self.box.emulator.world.rentals()

    def history(self) -> History:
        store = open_store(self.folder / "home" / "state.db", SystemClock())
        (name,) = store.jobs()
        return fold(store.records(name))


Type = Callable[..., int]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with running(tmp_path / "emulator", scenario=scenario()) as emulator:

        def provider(_table: ProviderTable, _home: Path, clock: Clock) -> Provider:
            return VastProvider(Credentials(emulator.url, emulator.key), clock, name="emulated", pace=UNPACED)

        monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        monkeypatch.setattr(command, "open_provider", provider)
        monkeypatch.setattr(wiring, "open_provider", provider)
        monkeypatch.setattr(judge, "subprocess", warm())
        yield Scene(rent(emulator, key_pair(tmp_path), label=None), tmp_path)


@pytest.fixture
def destroy(scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """Types ``harness destroy``; its exit code, what it said in ``scene.said``."""
    return _typist(scene, monkeypatch, capsys, "destroy")


@pytest.fixture
def adopt(scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """Types ``harness adopt``; the operator's own key for the box is the usual one."""
    (scene.folder / ".ssh").mkdir()
    shutil.copy(scene.box.key, scene.folder / ".ssh" / "id_ed25519")
    return _typist(scene, monkeypatch, capsys, "adopt")


def _typist(scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str) -> Type:
    def typed(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["harness", verb, "--plain", *words])
        monkeypatch.setattr(sys, "stdin", io.StringIO())  # nobody is at a terminal
        with pytest.raises(SystemExit) as ended:
            main.main()
        out, err = capsys.readouterr()
        scene.said = out + err
        sys.stdout.write(scene.said)
        assert "Traceback" not in scene.said
        return int(ended.value.code or 0)

    return typed


def _adopt(scene: Scene, *words: str, **changes: str) -> tuple[str, ...]:
    return ("--instance-id", str(scene.box.id), "--job-file", str(scene.job_file(**changes)), *words)


def _lay(scene: Scene, trained: Path) -> None:
    shutil.copytree(trained, scene.package)


def test_an_instance_rented_and_trained_by_hand(scene: Scene, destroy: Type) -> None:
    copied = scene.box.copy("-r", str(PACKAGE), f"root@127.0.0.1:{REMOTE}")
    assert copied.returncode == 0, copied.stderr
    stages = " && ".join(f"python3 train_quick.py --stage {stage} >> training.log 2>&1" for stage in ("prepare", "all"))
    trained = scene.box.ssh(f"cd {REMOTE} && {stages}")
    assert trained.returncode == 0, trained.stderr
    on_box = (scene.package / FINAL).read_bytes()
    assert destroy("--instance-id", str(scene.box.id), "--yes") == REFUSED
    assert f"harness adopt --instance-id {scene.box.id} writes such a file" in " ".join(scene.said.split())
    assert scene.is_alive()
    assert destroy(*_adopt(scene)) == REFUSED
    assert "nobody confirmed" in scene.said
    assert scene.is_alive()
    name = scene.history().job.name
    assert name == f"quick-{scene.box.id}"
    assert destroy(name, "--yes") == 0
    assert not scene.is_alive()
    history = scene.history()
    assert history.closed
    assert history.verified is not None
    assert Path(history.verified.path).read_bytes() == on_box
    assert history.destroyed is not None
    assert history.destroyed.billing is not None
    report = (scene.folder / "home" / "jobs" / name / "GOLD_STANDARD.md").read_text(encoding="utf-8")
    assert "what came before the training's end was not looked at" in report
    assert "| launch | left out |" in report


def _flip(scene: Scene) -> None:
    path = scene.package / FINAL
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def _cut_log(scene: Scene) -> None:
    path = scene.package / "training.log"
    path.write_text(path.read_text().split("[dpo] COMPLETE")[0])
    (scene.package / "MANIFEST.json").unlink()


def _deny(scene: Scene) -> None:
    scene.box.emulator.world.faults.add(SshFault(do="deny", times=0))


def _leave_running(scene: Scene) -> None:
    scene.box.ssh(f"cd {REMOTE} && (setsid sleep 120 >/dev/null 2>&1 </dev/null &)")


SPOILT: dict[str, tuple[Callable[[Scene], object], int, str]] = {
    "no artifact": (lambda s: (s.package / FINAL).unlink(), HELD, "final_gguf_exists"),
    "a damaged artifact": (_flip, HELD, "remote_sha256_recorded"),
    "a training under way": (_cut_log, HELD, "adopted_run_is_over"),
    "no manifest": (lambda s: (s.package / "MANIFEST.json").unlink(), HELD, "there is no MANIFEST.json"),
    "no log": (lambda s: (s.package / "training.log").unlink(), UNKNOWN, "adopted_run_is_over"),
    "a box that lets nobody in": (_deny, UNREACHABLE, "127.0.0.1"),
    "a host that is offline": (
        lambda s: s.box.emulator.world.become(s.box.id, Status.OFFLINE, "the host is offline"),
        UNAVAILABLE,
        "will not run: offline",
    ),
    "something that runs": (_leave_running, HELD, "something still runs there"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_on_any_doubt_it_stays_alive(scene: Scene, destroy: Type, trained: Path, name: str) -> None:
    spoil, code, why = SPOILT[name]
    _lay(scene, trained)
    spoil(scene)
    assert destroy(*_adopt(scene, "--yes", **{"ready_timeout_s = 25": "ready_timeout_s = 2"})) == code
    assert why in " ".join(scene.said.split())
    assert scene.is_alive()
    history = scene.history()
    assert history.held is not None
    assert not history.destroy_intended


def test_another_training_than_the_job_file_plans_stays_until_the_file_fits(
    scene: Scene, destroy: Type, trained: Path
) -> None:
    _lay(scene, trained)
    assert destroy(*_adopt(scene, "--yes", **{"rows = 200": "rows = 201"})) == HELD
    assert "ROWS: sft is 300, planned 301" in scene.said
    assert scene.is_alive()
    assert destroy(*_adopt(scene, "--yes")) == 0
    assert not scene.is_alive()


def _untouched(scene: Scene) -> tuple[object, ...]:
    """All that a look must leave as it was: the ledger, the keys of the instance, the files on the box."""
    files = {path: path.stat().st_mtime_ns for path in scene.package.rglob("*") if path.is_file()}
    store = open_store(scene.folder / "home" / "state.db", SystemClock())
    rental = scene.box.emulator.world.rental(scene.box.id)
    return store.jobs(), tuple(rental.keys), rental.status, files


@pytest.mark.parametrize("name", [None, *sorted(set(SPOILT) - {"a box that lets nobody in"})])
def test_a_check_says_what_would_hold_and_changes_nothing(
    scene: Scene, adopt: Type, trained: Path, name: str | None
) -> None:
    spoil, code, why = SPOILT[name] if name else (lambda _: None, 0, "nothing holds")
    _lay(scene, trained)
    spoil(scene)
    before = _untouched(scene)
    code, why = (UNKNOWN, "only one that runs") if code == UNAVAILABLE else (code, why)
    assert adopt(*_adopt(scene, "--check")) == code
    said = " ".join(scene.said.split())
    assert why in said
    assert not re.search(r"harness (destroy|ssh|logs|monitor)", said)
    assert _untouched(scene) == before
    assert not (scene.folder / "home" / "ssh").exists()


def test_a_check_without_a_key_of_ones_own_attaches_none(scene: Scene, adopt: Type, trained: Path) -> None:
    _lay(scene, trained)
    (scene.folder / ".ssh" / "id_ed25519").unlink()
    before = _untouched(scene)
    assert adopt(*_adopt(scene, "--check")) == 2
    assert "there is no key on this machine" in " ".join(scene.said.split())
    assert adopt(*_adopt(scene, "--check", "--key", str(scene.box.key))) == 0
    assert _untouched(scene) == before


@dataclass(slots=True)
class Writing:
    """An operator in a folder of their own, who types ``harness adopt`` without a job file."""

    scene: Scene
    adopt: Type

    def typed(self, *words: str) -> int:
        return self.adopt("--instance-id", str(self.scene.box.id), "--provider", "emulated", *words)

    @property
    def said(self) -> str:
        return " ".join(self.scene.said.split())

    @property
    def file(self) -> Path:
        return self.scene.folder / f"adopted-{self.scene.box.id}.toml"


@pytest.fixture
def writing(scene: Scene, adopt: Type, monkeypatch: pytest.MonkeyPatch) -> Writing:
    monkeypatch.chdir(scene.folder)
    return Writing(scene, adopt)


def test_without_a_job_file_one_is_written_from_what_the_box_of_a_stranger_tells(
    writing: Writing, trained: Path
) -> None:
    _lay(writing.scene, trained)
    before = _untouched(writing.scene)
    assert writing.typed("--package", str(trained)) == HELD
    assert _untouched(writing.scene) == before
    assert not (writing.scene.folder / "home" / "ssh").exists()
    assert "label none (not this harness's)" in writing.said
    assert "steps: sft 20, dpo 10 (CLAIMED by the box, in run.json)" in writing.said
    assert "model: gguf (CLAIMED by the box, in MANIFEST.json)" in writing.said
    assert "rows: nobody has told" in writing.said
    assert "left out, for it is not what it should be: data.files" in writing.said, "which trainer learns from them?"
    assert f"--job-file {writing.file.name} --check" in writing.said
    job = load_job(writing.file)
    assert job.training.steps == {"sft": 20, "dpo": 10}
    assert (job.package.source, job.artifact.destination) == (trained, None)
    text = writing.file.read_text(encoding="utf-8")
    assert writing.typed("--package", str(trained)) == 2
    assert "is there already, and nothing is overwritten" in writing.said
    assert writing.file.read_text(encoding="utf-8") == text


def test_a_package_here_that_is_another_one_is_named(writing: Writing, trained: Path) -> None:
    _lay(writing.scene, trained)
    script = writing.scene.package / "train_quick.py"
    script.write_text(script.read_text(encoding="utf-8") + "# changed on the box\n", encoding="utf-8")
    assert writing.typed("--package", str(trained)) == HELD
    assert "package: DIFFERS from the one here in 1 files: train_quick.py" in writing.said


NOTHING_WRITTEN: dict[str, tuple[Callable[[Scene], object], tuple[str, ...], int, str]] = {
    "a box that tells nothing, and nobody to ask": (lambda _: None, (), 2, "--remote-dir is not given"),
    "the same, its folder said": (lambda _: None, ("--remote-dir", REMOTE), 2, "--model is not given"),
    "a host that is offline": (SPOILT["a host that is offline"][0], (), UNKNOWN, "is offline: only one that runs"),
    "a box that lets nobody in": (_deny, (), 2, "lets root in with no key that is here"),
    "no key": (lambda s: (s.folder / ".ssh" / "id_ed25519").unlink(), (), 2, "there is no key on this machine"),
    "a judgement by no file": (lambda _: None, ("--check",), 2, "--check goes with --job-file"),
    "another folder for a package": (
        lambda _: None,
        ("--remote-dir", REMOTE, "--package", "nowhere"),
        2,
        "no folder here",
    ),
    "a name that is none": (lambda _: None, ("--name", "../x"), 2, "not a job name"),
    "options of both": (lambda _: None, ("--job-file", "x.toml"), 2, "--job-file says it all"),
}


@pytest.mark.parametrize("name", NOTHING_WRITTEN)
def test_where_nothing_can_be_told_nothing_is_written(writing: Writing, name: str) -> None:
    spoil, words, code, why = NOTHING_WRITTEN[name]
    spoil(writing.scene)
    before = _untouched(writing.scene)
    assert writing.typed(*words) == code
    assert why in writing.said
    assert _untouched(writing.scene) == before
    assert not list(writing.scene.folder.glob("*.toml"))


def test_what_the_box_does_not_tell_is_said_by_options(writing: Writing) -> None:
    words = ("--remote-dir", "ft", "--quantization", "q4_k_m", "--destination", "home-of-it", "--name", "mine", "-y")
    assert writing.typed(*words) == HELD
    assert "quantization: Q4_K_M (known, by what you have typed)" in writing.said
    job = load_job(writing.file.with_name(f"mine-{writing.scene.box.id}.toml"))
    assert (job.name, job.artifact.quantization, job.package.remote_dir) == ("mine", "Q4_K_M", "ft")
    assert job.artifact.floor_bytes == profiles.floors()["Q4_K_M"]
    assert job.artifact.destination == writing.scene.folder / "home-of-it"
    assert (job.machine.gpu, job.machine.gpus) == ("H100_SXM", 8)


def test_adopted_without_destroying_and_destroyed_when_asked(
    scene: Scene, adopt: Type, destroy: Type, trained: Path
) -> None:
    _lay(scene, trained)
    for _ in range(2):
        assert adopt(*_adopt(scene)) == 0
        assert "it bills: harness destroy quick-" in " ".join(scene.said.split())
    assert adopt(*_adopt(scene, "--check")) == 0
    assert adopt("--instance-id", str(scene.box.id), "--provider", "emulated") == 2
    assert f"job quick-{scene.box.id} has this instance, and knows what" in " ".join(scene.said.split())
    assert scene.is_alive()
    history = scene.history()
    assert history.passed(Stage.POSTDOWNLOAD)
    assert not history.destroy_intended
    assert adopt(*_adopt(scene, "--key", str(scene.box.key))) == 2
    assert destroy(history.job.name, "--yes") == 0
    assert not scene.is_alive()
    assert adopt(*_adopt(scene)) == 0
    assert "is closed" in scene.said


def test_a_model_that_was_brought_home_before_is_not_fetched_again(scene: Scene, destroy: Type, trained: Path) -> None:
    """As the PowerShell script does: the download by address first, then the adoption, into the same folder."""
    _lay(scene, trained)
    here = scene.folder / "my models"
    here.mkdir()
    shutil.copy(scene.package / FINAL, here)
    assert destroy(*_adopt(scene, "--yes", "--local-path", str(here))) == 0
    assert not scene.is_alive()
    history = scene.history()
    (fetched,) = history.all(Fetched)
    assert (fetched.path, fetched.bytes_per_s) == (str(here / Path(FINAL).name), None)
    assert {path.name for path in here.iterdir()} == {Path(FINAL).name, "README.md"}
    assert not (scene.folder / "home" / "jobs" / history.job.name / "artifact").exists()


@pytest.mark.parametrize("words", [("--job-file", "FILE"), ("quick", "--instance-id", "7", "--job-file", "FILE")])
def test_a_job_file_goes_with_an_instance(scene: Scene, destroy: Type, words: tuple[Any, ...]) -> None:
    file = str(scene.job_file())
    assert destroy(*(file if word == "FILE" else word for word in words)) == 2
    assert "--job-file goes with --instance-id" in scene.said
    assert destroy("--instance-id", "99", "--job-file", file) == REFUSED
    assert "the provider shows no instance 99" in scene.said
    assert scene.is_alive()
