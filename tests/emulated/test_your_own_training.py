"""docs/your-own-training.md as it is typed: an adapter of a plain TRL script comes home, or the gate says why not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.reader import ROOT, Reader

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")
PAGE = ROOT / "docs" / "your-own-training.md"
WEIGHTS = "adapter_model.safetensors"


class Stranger(Reader):
    """A reader whose training is their own."""

    @property
    def box(self) -> Path:
        """The package's folder on the box."""
        (found,) = self.home.glob("emulator*/state/boxes/*/root/workspace/training")
        return found

    @property
    def model(self) -> Path:
        """The adapter's folder, at home."""
        return self.home / "jobs" / "mine" / "artifact" / "mine"


def commands() -> list[str]:
    return re.findall(r"(?m)^\$ (harness .*)$", PAGE.read_text(encoding="utf-8"))


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Stranger]:
    made = Stranger(tmp_path)
    yield made
    made.leave()


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_an_adapter_comes_home_and_whatever_is_not_it_keeps_the_gate_shut(stranger: Stranger) -> None:
    init, run, *_ = commands()
    assert stranger.types(init)[0] == 0
    code, said = stranger.types(f"{run} --plain --until training")
    assert code == 0, said

    adapter, log = stranger.box / "models" / "output" / "adapter", stranger.box / "training.log"
    whole, written = stranger.here / "whole", log.read_text(encoding="utf-8")
    shutil.copytree(adapter, whole)
    flipped(adapter / WEIGHTS)
    held(stranger, f"{run} --plain --until posttrain", "remote_sha256_recorded")
    restore(whole, adapter)
    (adapter / WEIGHTS).unlink()
    held(stranger, f"{run} --plain --until posttrain", f"lacks {WEIGHTS}")
    restore(whole, adapter)
    log.write_text(re.sub(r"(?m)^\[sft\] step 2[1-4]/.*\n", "", written).replace("24/24 steps", "20/20 steps"))
    held(stranger, f"{run} --plain --until posttrain", "all_steps_done")
    log.write_text(written, encoding="utf-8")
    (adapter / "tokenizer.json").unlink()
    held(stranger, f"{run} --plain --until posttrain", "lists models/output/adapter/tokenizer.json")
    restore(whole, adapter)

    code, said = stranger.types(f"{run} --plain --until postdownload")
    assert code == 0, said
    flipped(stranger.model / WEIGHTS)
    held(stranger, "harness destroy mine --yes", WEIGHTS)
    shutil.copy(whole / WEIGHTS, stranger.model / WEIGHTS)
    (stranger.model / "adapter_config.json").unlink()
    held(stranger, "harness destroy mine --yes", "adapter_config.json")
    shutil.copy(whole / "adapter_config.json", stranger.model)

    code, said = stranger.types(f"{run} --plain")
    assert code == 0, said
    assert "job mine: CLOSED" in said
    assert "is proven" in said or "proven to be gone" in said
    assert {path.name for path in whole.iterdir()} <= {path.name for path in stranger.model.iterdir()}
    report = (stranger.home / "jobs" / "mine" / "GOLD_STANDARD.md").read_text(encoding="utf-8")
    assert "the job states no proof line" in report


def held(stranger: Stranger, command: str, name: str) -> None:
    """The command ends with a hold that names this."""
    code, said = stranger.types(command)
    assert code != 0, said
    assert name in said


def restore(whole: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(whole, folder)


def test_every_other_command_of_the_page_does_what_it_says(stranger: Stranger) -> None:
    paid = [command for command in commands() if "paid" in command]
    assert len(paid) == 2
    # The machine is typed in quotes, which a shell takes away.
    done = subprocess.run(
        ["sh", "-c", paid[0].replace("harness ", f"{sys.executable} -m harness ", 1)],
        cwd=stranger.here,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HARNESS_HOME": str(stranger.home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "wrote paid/: data/train.jsonl holds rows to be replaced by yours" in done.stdout
    assert 'gpu = "RTX_4090"' in (stranger.here / "paid.toml").read_text(encoding="utf-8")
    assert paid[1] == "harness plan paid.toml"


def test_what_the_page_shows_as_said_is_said(stranger: Stranger) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (block,) = re.findall(r"\$ (harness init .*--embedded -y)\n((?:.+\n)+?)```", text)
    code, said = stranger.types(block[0])
    assert code == 0, said
    for line in block[1].splitlines():
        assert line in said
    for kind in ("trl", "own", "unsloth", "axolotl"):
        assert f"| `{kind}` |" in text
