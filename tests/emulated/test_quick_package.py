"""The package that ends in seconds: killed, it goes on from its checkpoint and ends with the same bytes."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.log.grammar import DPO, SFT, Trainer
from harness.log.proof import ProofLine
from harness.log.summary import LogSummary, read

PACKAGE = Path(__file__).resolve().parents[1] / "support" / "quick_package"
PROOF = ProofLine("ROWS {sft}/{dpo} READY")


def prepared(folder: Path) -> Path:
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    train(folder, "prepare")
    return folder


def train(folder: Path, stage: str = "all") -> bytes:
    command = [sys.executable, "train_quick.py", "--stage", stage]
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True).stdout


def killed_at(folder: Path, line: str) -> bytes:
    """The log of a training that is killed when it has said a line."""
    command = [sys.executable, "train_quick.py", "--stage", "all"]
    said = b""
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while not said.splitlines()[-1:] or not said.splitlines()[-1].startswith(line.encode()):
            said += process.stdout.readline()
            assert process.poll() is None, said
        process.kill()
    return said


def model(folder: Path) -> str:
    (found,) = (folder / "models/output/final").glob("*.gguf")
    return hashlib.sha256(found.read_bytes()).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize(("line", "trainer"), [("[sft] step 13/20", SFT), ("[dpo] COMPLETE", None)])
def test_killed_and_run_again_it_ends_with_the_same_bytes(tmp_path: Path, line: str, trainer: Trainer | None) -> None:
    whole, broken = prepared(tmp_path / "whole"), prepared(tmp_path / "broken")
    log: LogSummary = read(train(whole), PROOF)
    assert log.complete
    assert not log.errors
    log = read(killed_at(broken, line) + train(broken), PROOF)
    assert log.complete
    assert log.attempts == 2
    assert [resume.at for one in (SFT, DPO) for resume in log.of(one).resumes] == ([10] if trainer else [])
    assert model(broken) == model(whole)


@pytest.mark.slow
def test_a_checkpoint_that_does_not_read_is_passed_over(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "package")
    killed_at(folder, "[sft] step 12/20")
    torn = folder / "models/output/sft/checkpoint-10/adapter_model.safetensors"
    torn.write_bytes(torn.read_bytes()[:100])
    log = read(train(folder), PROOF)
    assert [one.step for one in log.of(SFT).passed_over] == [10]
    assert log.complete
