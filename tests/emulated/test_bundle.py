"""A job that ran here is judged elsewhere: a clean directory with the bundle and the model, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from harness.ledger.events import Fetched
from tests.support.operator import JOB, ROOT, Operator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS"),
]


@dataclass(frozen=True, slots=True)
class Ci:
    """Another machine: a folder with what was sent, and a home in which no job ever was."""

    folder: Path

    def judge(self, *options: str, stage: str = "postdownload") -> tuple[int, str, dict[str, str]]:
        """Exit status, output, verdict by stage."""
        verdicts = self.folder / "verdicts.json"
        told = [f"--stage={stage}", "--bundle=job.bundle.zip", f"--verdicts={verdicts}", *options]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--pyargs", "harness.checks", *told],
            cwd=self.folder,
            env={**os.environ, "HARNESS_HOME": str(self.folder / "home"), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        sys.stdout.write(f"{done.stdout}{done.stderr}--- exit {done.returncode}\n")
        gates = json.loads(verdicts.read_bytes())["gates"]
        return done.returncode, done.stdout, {gate["stage"]: gate["verdict"] for gate in gates}


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle and the model of a job that is closed; the home where it ran is gone."""
    folder = tmp_path_factory.mktemp("ran")
    scenario = folder / "quiet.toml"
    scenario.write_text('about = "Nothing happens."\n', encoding="utf-8")
    operator = Operator(folder, scenario.as_posix())
    try:
        assert operator.run() == 0
        parcel = tmp_path_factory.mktemp("sent")
        made = subprocess.run(
            [sys.executable, "-m", "harness", "export", JOB, "--to", str(parcel / "job.bundle.zip")],
            env={**os.environ, "HARNESS_HOME": str(operator.home)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        assert "job.bundle.zip" in made.stdout
        (fetched,) = [event for event in operator.events() if isinstance(event, Fetched)]
        shutil.copy(fetched.path, parcel / "model.gguf")
    finally:
        operator.close()
    shutil.rmtree(folder)
    return parcel


@pytest.fixture
def ci(sent: Path, tmp_path: Path) -> Ci:
    shutil.copytree(sent, tmp_path / "ci")
    return Ci(tmp_path / "ci")


def test_a_bundle_and_the_model_are_enough(ci: Ci) -> None:
    status, said, verdicts = ci.judge("--artifact=model.gguf", "--junitxml=junit.xml")
    assert (status, verdicts) == (0, {"postdownload": "pass"}), said
    lines = [line for line in said.splitlines() if line.strip()]
    assert lines[0] == f"job {JOB} is judged by its bundle: by what its gates saw then, and nobody is asked"
    assert lines[1].endswith("ago: the artifact alone is looked at here, now")
    cases = ET.parse(ci.folder / "junit.xml").getroot().findall(".//testcase")
    assert cases
    ages = [told.get("value") for case in cases for told in case.findall("properties/property[@name='facts']")]
    assert ages == [lines[1]] * len(cases)
    assert not (ci.folder / "home").exists()
    model = ci.folder / "model.gguf"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    status, said, verdicts = ci.judge("--artifact=model.gguf")
    assert (status, verdicts) == (1, {"postdownload": "fail"}), said
    assert "FAIL local_sha256_equals_remote" in said
    model.unlink()
    status, said, verdicts = ci.judge("--artifact=model.gguf")
    assert (status, verdicts["postdownload"]) == (1, "fail"), said
    assert "FAIL local_file_exists" in said


def test_every_stage_is_judged_by_what_was_seen_then(ci: Ci) -> None:
    status, said, verdicts = ci.judge(stage="all")
    assert (status, set(verdicts.values()), len(verdicts)) == (0, {"pass"}, 9), said
    assert said.count("the world is not looked at") == 18
