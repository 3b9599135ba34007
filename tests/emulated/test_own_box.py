"""A whole job on a machine of one's own, stock OpenSSH, to the proven giving back; and gates that a bad one shuts."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.local_sshd import SSHD, LocalSshd
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.ledger.events import Destroyed, GateJudged, Held, Launched, Pinned, Relaunched, Rented, Verified
from tests.support import operator
from tests.support.operator import ROOT, SUPPORT, Operator
from tests.support.own_box import own_box

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(SSHD is None, reason="sshd is not installed"),
]

_RUN_S = 900.0
PAGE = (ROOT / "docs" / "your-own-box.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"(?ms)^```bash\n(.*?)^```$", PAGE) for line in block.splitlines()]
(PROVIDER,) = re.findall(r"(?ms)^```toml\n(\[provider\].*?)^```$", PAGE)
CHANGES = (
    ('[provider]\nkind = "emulated"\n', PROVIDER),
    ('gpu = "H100"', 'gpu = "CPU"'),
    ("gpus = 8", "gpus = 1"),
    ("disk_gb = 40", "disk_gb = 8\nreserved_gb = 1"),
    ("training_deadline_s = 40", "training_deadline_s = 900"),
    ("launch_deadline_s = 30", "launch_deadline_s = 300"),
    ("\nstall_s = 20", "\nstall_s = 200"),
    ("pace_tolerance = 5.0", "pace_tolerance = 100.0"),
    ("absence_deadline_s = 20", "absence_deadline_s = 120"),
)
CLAIM = ".gold-standard-harness/claim"
PACKAGE = "workspace/vastai_llm_training"


class Owner(Operator):
    """The operator of a machine of his own."""

    @property
    def file(self) -> Path:
        path = self.folder / "job.toml"
        if not path.exists():
            path.write_text(job_text("quick", SUPPORT / "quick_package", *self.changes), encoding="utf-8")
        return path


def job_text(name: str, package: Path, *changes: tuple[str, str]) -> str:
    """The quick job on a machine of one's own."""
    text = (SUPPORT / "quick_job.toml").read_text(encoding="utf-8")
    named = (('"quick_package"', json.dumps(package.as_posix())), ('name = "quick"', f'name = "{name}"'))
    for old, new in (*named, *CHANGES, *changes):
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture
def box(tmp_path: Path) -> Iterator[LocalSshd]:
    with own_box(tmp_path / "there") as served:
        yield served


@pytest.fixture
def owner(tmp_path: Path, box: LocalSshd, monkeypatch: pytest.MonkeyPatch) -> Owner:
    assert box.home.is_dir()
    monkeypatch.setattr(operator, "RUN_S", _RUN_S)
    (tmp_path / "here").mkdir()
    return Owner(tmp_path / "here", "")


def claimed(box: LocalSshd) -> bool:
    return (box.home / CLAIM).is_symlink()


def failed(owner: Owner, stage: Stage) -> set[str]:
    """Checks that shut the gate of a stage when it was judged last."""
    judged = [one for one in owner.events() if isinstance(one, GateJudged) and one.stage is stage]
    assert judged[-1].verdict is not Verdict.PASS
    return {one["id"] for one in judged[-1].result["results"] if one["verdict"] != Verdict.PASS}


def test_the_commands_of_the_page_take_a_job_to_its_proven_end(tmp_path: Path, box: LocalSshd) -> None:
    folder = tmp_path / "here"
    shutil.copytree(SUPPORT / "quick_package", folder / "my_package")
    config = Path(os.environ["HOME"]) / ".ssh"
    programs = {
        "harness": [sys.executable, "-m", "harness"],
        # ssh asks the password database for the home, and not the environment
        "ssh": ["ssh", "-F", str(config / "config"), "-o", f"UserKnownHostsFile={config / 'known_hosts'}"],
    }

    def typed(command: str, home: str = "home") -> str:
        word, *words = shlex.split(command)
        environ = {**os.environ, "HARNESS_HOME": str(tmp_path / home), "PYTHONPATH": str(ROOT)}
        argv = [*programs[word], *words]
        done = subprocess.run(
            argv, cwd=folder, env=environ, capture_output=True, text=True, timeout=_RUN_S, check=False
        )
        sys.stdout.write(f"$ {command}\n{done.stdout}{done.stderr}\n")
        assert done.returncode == 0, command
        return done.stdout + done.stderr

    *before, abandon, by_hand = COMMANDS
    said: dict[str, str] = {}
    for command in before:
        said[command] = typed(command)
        if command.startswith("harness init"):
            assert set(PROVIDER.splitlines()) <= set((folder / "own.toml").read_text(encoding="utf-8").splitlines())
            (folder / "own.toml").write_text(job_text("own", folder / "my_package"), encoding="utf-8")
    assert not claimed(box)
    assert (box.home / PACKAGE / "models/output/final/quick.Q8_0.gguf").is_file(), "what the job wrote stays"
    told = "".join(text for command, text in said.items() if not command.startswith(("harness init", "harness doctor")))
    assert "your own machine, nothing is billed" in told
    assert "$" not in told
    assert "your machine is given back since" in told

    typed("harness run own.toml --yes --until provision", "second")
    assert claimed(box)
    assert "stays there: only its claim is given up" in typed(abandon, "second")
    assert not claimed(box)
    typed("harness run own.toml --yes --until provision", "third")
    assert claimed(box)
    typed(by_hand)
    assert not claimed(box)


def test_a_bad_artifact_or_another_runs_log_keeps_the_machine_and_is_named(owner: Owner, box: LocalSshd) -> None:
    assert owner.run("--until", "training") == 0
    log, model = box.home / PACKAGE / "training.log", box.home / PACKAGE / "models/output/final/quick.Q8_0.gguf"
    good_log, good = log.read_text(), model.read_bytes()

    log.write_text(re.sub(r"\b10/10\b", "12/12", good_log).replace("dpo_steps=10", "dpo_steps=12"))
    assert owner.run("--until", "posttrain") == 3
    assert "all_steps_done" in failed(owner, Stage.POSTTRAIN)
    log.write_text(good_log)

    model.unlink()
    assert owner.run("--until", "posttrain") in {3, 4}
    assert "final_gguf_exists" in failed(owner, Stage.POSTTRAIN)
    model.write_bytes(good)
    assert owner.run("--until", "posttrain") == 0

    middle = len(good) // 2
    model.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
    assert owner.run() != 0
    assert "quick.Q8_0.gguf" in [one for one in owner.events() if isinstance(one, Held)][-1].reason
    assert claimed(box)
    assert not [one for one in owner.events() if isinstance(one, Verified | Destroyed)]

    model.write_bytes(good)
    assert owner.run() == 0
    assert not claimed(box)


def test_a_box_that_was_rebooted_in_mid_training_goes_on(owner: Owner, box: LocalSshd) -> None:
    process = owner.start()
    deadline = time.monotonic() + _RUN_S
    while not _trains(box):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.2)
    box.kill()
    _kill_all_of(box)
    box.start()
    # On a slow machine the launch gate is still being judged, and is held; the same command goes on.
    assert owner.end(process) == 0 or owner.run() == 0
    happened = owner.events()
    assert len([one for one in happened if isinstance(one, Launched | Relaunched)]) > 1
    (rented,) = [one for one in happened if isinstance(one, Rented)]
    assert [one.how for one in happened if isinstance(one, Pinned)] == ["known_hosts of this user"]
    assert [one.instance_id for one in happened if isinstance(one, Destroyed)] == [rented.instance_id]
    assert not claimed(box)


def test_a_machine_that_is_silent_at_the_end_is_kept(owner: Owner, box: LocalSshd) -> None:
    assert owner.run("--until", "postdownload") == 0
    box.kill()
    assert owner.run() != 0
    assert not [one for one in owner.events() if isinstance(one, Destroyed)]
    assert "could not be" in [one for one in owner.events() if isinstance(one, Held)][-1].reason
    assert claimed(box)
    box.start()
    assert owner.run() == 0
    assert not claimed(box)


def _trains(box: LocalSshd) -> bool:
    log = box.home / PACKAGE / "training.log"
    return log.is_file() and "[sft] step 12/" in log.read_text()


def _kill_all_of(box: LocalSshd) -> None:
    """End whatever works below the box's home, as a reboot does."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                inside = (entry / "cwd").resolve().is_relative_to(box.home)
            except OSError:
                continue
            if inside:
                os.kill(int(entry.name), signal.SIGKILL)
