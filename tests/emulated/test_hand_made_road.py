"""The first user's own road, typed by hand: rent, scp, tmux, two deaths, resume, download, destroy; nothing is lost.

Every command is one of the documents', with stock OpenSSH, tmux and the official client. Of the package only the
configuration is another (fewer steps of a tiny model); ``pip install`` is left out, the libraries are there.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.artifacts.digest import of_file
from harness.emulator.box.container import can_isolate
from harness.emulator.running import Emulator, running
from harness.shellguard import powershell
from harness.shellguard.reading import HOLE
from tests.support.emulator_kit import Box, key_pair, scenario
from tests.support.official_client import OfficialClient, official_client
from tests.support.warm import warm

pytest.importorskip("vastai")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS"),
    pytest.mark.skipif(not shutil.which("tmux"), reason="no tmux on this machine"),
]
ROOT = Path(__file__).resolve().parents[2]
WORKSPACE = "/workspace" if can_isolate() else "workspace"
PACKAGE = f"{WORKSPACE}/vastai_llm_training"
TRAIN = "python3 train_deepseek_forex.py --stage all --config configs/short.toml"
STEPS = {"max_steps = 104": "max_steps = 12", "max_steps = 8": "max_steps = 2"}
EVERY = "checkpoint_every = 4"
HELD, REFUSED = 3, 5


@dataclass(slots=True)
class Person:
    """Somebody with an account, an SSH key of their own and the documents, who types."""

    folder: Path
    emulator: Emulator
    client: OfficialClient
    instance: int = 0

    @property
    def key(self) -> Path:
        return self.folder / ".ssh" / "id_ed25519"

    @property
    def box(self) -> Box:
        return Box(self.emulator, self.instance, self.key)

    @property
    def job_file(self) -> Path:
        return self.folder / "job.toml"

    @property
    def home(self) -> Path:
        return self.folder / "harness"

    def vastai(self, *words: str) -> str:
        said = self.client(self.emulator.url, self.emulator.key, *words)
        assert said.status == 0, said.text
        return said.out

    def on_box(self, command: str) -> str:
        """A command typed in the package's directory."""
        done = self.box.ssh(f"cd {PACKAGE} && {command}")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.decode()

    def harness(self, *words: str) -> tuple[int, str]:
        """Exit code and words of the harness, which has nothing but this person's key and API key."""
        kept = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
        env = {**kept, "HOME": str(self.folder), "HARNESS_HOME": str(self.home), "VAST_API_KEY": self.emulator.key}
        command = [sys.executable, "-m", "harness", *words]
        done = warm().run(command, env=env, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)
        said = " ".join((done.stdout + done.stderr).split())
        sys.stdout.write(f"$ harness {' '.join(words)}\n{done.stdout}{done.stderr}--- {done.returncode}\n")
        assert "Traceback" not in said
        return done.returncode, said

    def train(self, command: str) -> str:
        """Run a command in tmux, where a lost connection ends nothing; the number of its shell's process."""
        self.on_box(f"tmux new -d -s train '{command}'")
        return self.on_box("tmux list-panes -t train -F '#{pane_pid}'").strip()

    def kill(self, shell: str, until: str) -> None:
        """kill -9 of the training and its shell, as soon as a command succeeds on the box."""
        watch = f"until {until}; do sleep 0.02; done; kill -9 $(ps -o pid= --ppid {shell}) {shell}"
        self.on_box(f"{{ setsid sh -c {shlex.quote(watch)} </dev/null >/dev/null 2>&1 & }}")
        self._wait_for_end()

    def finish(self) -> None:
        """Wait until the terminal's program has ended by itself."""
        self._wait_for_end()

    def _wait_for_end(self) -> None:
        deadline = time.monotonic() + 300
        while self.box.ssh("tmux has-session -t train").returncode == 0:
            assert time.monotonic() < deadline, self.on_box("tail -5 training.log")
            time.sleep(0.3)


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    (tmp_path / ".ssh").mkdir(mode=0o700)
    key_pair(tmp_path / ".ssh", "id_ed25519")
    with (
        running(tmp_path / "emulator", scenario=scenario()) as emulator,
        official_client(emulator.url, tmp_path) as client,
    ):
        made = Person(tmp_path, emulator, client)
        _write_package(made)
        _write_job_file(made)
        yield made


def _write_package(person: Person) -> None:
    """The package under the name of the documents, with rows of the person's own: nothing in them says built."""
    package = person.folder / "vastai_llm_training"
    shutil.copytree(ROOT / "training_pkg", package, ignore=shutil.ignore_patterns("__pycache__", "data", "models"))
    prepare = [sys.executable, "train_deepseek_forex.py", "--stage", "prepare"]
    subprocess.run(prepare, cwd=package, check=True, capture_output=True)
    for file in (package / "data" / "forex_integrated").glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        own = [{name: value for name, value in row.items() if name != "built_by"} for row in rows]
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in own), encoding="utf-8")
    text = (package / "configs" / "tiny.toml").read_text(encoding="utf-8")
    for before, after in STEPS.items():
        assert before in text
        text = text.replace(before, after)
    (package / "configs" / "short.toml").write_text(text.replace("[run]", f"[run]\n{EVERY}"), encoding="utf-8")


def _write_job_file(person: Person) -> None:
    """What the training should be: the demo's job at the embedded provider's address, its data not built."""
    text = (ROOT / "examples" / "local.toml").read_text(encoding="utf-8")
    changes = {
        'kind = "emulated"': f'kind = "vast"\nserver_url = "{person.emulator.url}"',
        "../training_pkg": (person.folder / "vastai_llm_training").as_posix(),
        "workspace/vastai_llm_training": PACKAGE,
        "allow_built_rows = true": "",
        "configs/tiny.toml": "configs/short.toml",
        "min_epochs = 0.1": "min_epochs = 0.02",
        "steps = { sft = 104, dpo = 8 }": "checkpoint_every = 4\nsteps = { sft = 12, dpo = 2 }",
    }
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    person.job_file.write_text(text, encoding="utf-8")


def _download_line(person: Person, local: Path, *more: str) -> list[str]:
    """The line that scripts/download_vastai_model.ps1 types, its variables filled in."""
    script = (ROOT / "scripts" / "download_vastai_model.ps1").read_text(encoding="ascii")
    (line,) = [call.words[1:] for call in powershell.read(script).calls if call.words[:2] == ("harness", "download")]
    remote = f"{PACKAGE}/models/output/final/*.gguf"
    values = iter([[str(person.instance)], [person.box.port()], ["127.0.0.1"], [remote], [str(local)], list(more)])
    return [part for word in line for part in (next(values) if word == HOLE else [word])]


def test_rented_by_hand_killed_twice_brought_home_and_destroyed(person: Person) -> None:
    file, check = ("--job-file", str(person.job_file)), ("--check", "--plain")
    _rent_and_upload(person)
    instance = ("--instance-id", str(person.instance))

    shell = person.train(f"{TRAIN} 2>&1 | tee training.log")
    person.kill(shell, "[ -e models/output/sft/checkpoint-8 ]")
    assert person.on_box("tail -5 training.log | grep -E '(%|/330|loss)'")
    assert person.on_box("ls -la models/output/sft/checkpoint-*")
    code, said = person.harness("adopt", *instance, *file, *check)
    assert (code, "adopted_run_is_over" in said) == (HELD, True), said

    # The documents' resume command has no tee. It dies again, at the export; and again, to the end.
    shell = person.train(TRAIN)
    person.kill(shell, "grep -q '[[]dpo] COMPLETE' training.log")
    assert "TRAINING COMPLETE" not in person.on_box("cat training.log")
    assert "[sft] RESUME from" in person.on_box("cat training.log")
    person.train(TRAIN)
    person.finish()
    digest, name = _look_as_the_documents_do(person)

    # A look, with the person's own key: nothing would hold, nothing was changed.
    code, said = person.harness("adopt", *instance, *file, *check)
    assert (code, "nothing holds" in said) == (0, True), said
    assert not (person.home / "ssh").exists()

    _download_safely(person, digest, name)

    # Destroyed only with the job file and the person's word; what came home is what the box had.
    code, said = person.harness("destroy", *instance)
    assert (code, "With --job-file FILE" in said) == (REFUSED, True), said
    code, said = person.harness("destroy", *instance, *file, "--plain")
    assert (code, "nobody confirmed" in said) == (REFUSED, True), said
    assert person.instance in person.emulator.world.rentals()
    code, said = person.harness("destroy", *instance, *file, "--yes", "--plain")
    assert code == 0, said
    assert person.instance not in person.emulator.world.rentals()
    (home,) = (person.home / "jobs").glob("*/artifact/*.gguf")
    assert of_file(home).sha256 == digest
    assert json.loads(person.harness("status", "--json")[1])[0]["stage"] == "closed"


def _rent_and_upload(person: Person) -> None:
    person.vastai("create", "ssh-key", person.key.with_suffix(".pub").read_text().strip(), "-y")
    offers = json.loads(person.vastai("search", "offers", "gpu_name=H100_SXM num_gpus>=8 rentable=true", "--raw"))
    image = "pytorch/pytorch:2.7.1-cuda12.6-cudnn9-devel"
    rented = person.vastai("create", "instance", str(offers[0]["id"]), "--image", image, "--disk", "150", "--raw")
    person.instance = json.loads(rented)["new_contract"]
    person.emulator.settle()
    assert person.vastai("ssh-url", str(person.instance)).strip().endswith(f":{person.box.port()}")
    copied = person.box.copy("-r", str(person.folder / "vastai_llm_training"), "root@127.0.0.1:/workspace/")
    assert copied.returncode == 0, copied.stderr
    person.on_box("sed -i 's/BATCH_SIZE = [0-9]*/BATCH_SIZE = 32/' train_deepseek_forex.py")


def _look_as_the_documents_do(person: Person) -> tuple[str, str]:
    """The documents' greps and ls of a finished run; digest and name of its model on the box."""
    assert person.on_box("grep -E '(COMPLETE|GGUF|Saved)' training.log | tail -5").endswith("TRAINING COMPLETE\n")
    assert person.on_box("ls -la models/output/final/*.gguf").count(".gguf") == 1
    proof = "V2 FOREX INTEGRATION: 15300 SFT + 2550 DPO samples from YOUR data"
    assert person.on_box(f"grep -c '{proof}' training.log").strip() == "3"
    assert person.on_box("nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader").count("%") == 8
    digest, path = person.on_box("sha256sum models/output/final/*.gguf").split()
    return digest, Path(path).name


def _download_safely(person: Person, digest: str, name: str) -> None:
    """The floor is that of the 7B model unless another is said."""
    local = person.folder / "models" / "forex-r1-v3"
    code, said = person.harness(*_download_line(person, local))
    assert (code, "--over SIZE" in said) == (HELD, True), said
    assert not list(local.glob("*.gguf"))
    code, said = person.harness(*_download_line(person, local, "--over", "60kB"))
    assert (code, f"verified: {local / name}" in said) == (0, True), said
    assert of_file(local / name).sha256 == digest
