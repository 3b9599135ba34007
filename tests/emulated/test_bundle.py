"""A job that ran here is judged elsewhere: a clean directory with the bundle and the model, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from harness.ledger.events import Fetched
from tests.support import ci_runner
from tests.support import wheel as wheels
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


@dataclass(frozen=True, slots=True)
class Sent:
    """What is left of a job that is closed: a parcel with its bundle and its model, and its home at another path."""

    parcel: Path
    home: Path


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    """The folder where the job ran is gone."""
    folder = tmp_path_factory.mktemp("ran")
    scenario = tmp_path_factory.mktemp("scenario") / "quiet.toml"
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
        shutil.copyfile(fetched.path, parcel / "model.gguf")  # without its mode, which lets nobody write
    finally:
        operator.close()
    home = tmp_path_factory.mktemp("restored") / "place"
    operator.home.rename(home)
    shutil.rmtree(folder)
    return Sent(parcel, home)


@pytest.fixture
def ci(sent: Sent, tmp_path: Path) -> Ci:
    shutil.copytree(sent.parcel, tmp_path / "ci")
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


def _flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def _harness(home: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words],
        env={**os.environ, "HARNESS_HOME": str(home), "PYTHONPATH": str(ROOT)},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_home_at_another_path_tells_and_judges_the_same(sent: Sent, tmp_path: Path) -> None:
    """Every path in its log is of the place where it was written, which is gone."""
    home = tmp_path / "home"
    shutil.copytree(sent.home, home, symlinks=True)
    (row,) = json.loads(_harness(home, "harness", "status", JOB, "--json"))
    assert Path(row["verified"]).is_relative_to(home)
    assert "closed" in _harness(home, "harness", "run", JOB)
    _harness(home, "harness", "report", JOB, "--format", "json")
    told = json.loads((home / "jobs" / JOB / "GOLD_STANDARD.json").read_bytes())
    assert told["release"]["statement"] is not None
    assert Path(told["artifact"]["local_path"]).is_file()
    judged = _harness(home, "pytest", "-p", "no:cacheprovider", "--pyargs", "harness.checks", "--stage=postdownload")
    assert "gate postdownload: OPEN" in judged
    _harness(home, "harness", "export", JOB, "--to", str(tmp_path / "again.zip"))
    assert (tmp_path / "again.zip").read_bytes() == (sent.parcel / "job.bundle.zip").read_bytes()
    (release,) = [path for path in (home / "jobs" / JOB).glob("release-*.json") if "dsse" not in path.name]
    assert "valid" in _harness(home, "harness", "release", "check", str(release), "--artifact", row["verified"])


# --- the shipped workflows, in a directory that holds what was sent and the wheel ------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    return wheels.wheel(wheels.clone(folder), folder)


@dataclass(frozen=True, slots=True)
class Project:
    """A repository with the bundle and the model, and the machine on which its workflow runs."""

    folder: Path
    bin_: Path
    changes: dict[str, str]

    def run(self, service: str) -> ci_runner.Ran:
        """Its workflow, once more."""
        file = ROOT / "examples" / "ci" / FILES[service]
        run = {"github": ci_runner.github, "gitlab": ci_runner.gitlab}[service]
        return run(file, self.folder, self.bin_, **self.changes)


FILES = {"github": "github-actions.yml", "gitlab": "gitlab-ci.yml"}


@pytest.fixture
def repository(sent: Sent, wheel: Path, tmp_path: Path) -> Project:
    shutil.copytree(sent.parcel, tmp_path / "work")
    wheels.environment(tmp_path)
    return Project(tmp_path / "work", tmp_path / "venv" / "bin", {**wheels.OFFLINE, "PACKAGE": str(wheel)})


def _changed_bundle(folder: Path) -> None:
    """The evidence of a gate that passed, changed, and packed again as a whole archive."""
    path = folder / "job.bundle.zip"
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in files if name.startswith("evidence/training-"))
    with zipfile.ZipFile(path, "w") as archive:
        for one, data in files.items():
            archive.writestr(one, data.replace(b"1", b"2", 1) if one == name else data)


SPOILT: dict[str, Callable[[Path], None]] = {
    "a byte of the model": lambda folder: _flip(folder / "model.gguf"),
    "a byte of the bundle": lambda folder: _flip(folder / "job.bundle.zip", 200),
    "evidence in the bundle": _changed_bundle,
}


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("service", FILES)
def test_a_shipped_workflow_is_green_and_turns_red(repository: Project, service: str) -> None:
    """Installed from the wheel alone; then, on the same machine, with each thing that may be spoilt."""
    ran = repository.run(service)
    assert ran.green, ran.output
    reports = {f"gold-standard/imported/{JOB}/GOLD_STANDARD.{form}" for form in ("html", "md", "json")}
    assert {"gold-standard/gates.xml"} | reports <= ran.uploaded
    assert not [name for name in ran.uploaded if name.endswith((".db", ".pem", "id_ed25519"))]
    suites = ET.parse(repository.folder / "gold-standard/gates.xml").getroot().findall("testsuite")
    assert len(suites) == 9
    assert {suite.get("errors") for suite in suites} == {suite.get("failures") for suite in suites} == {"0"}
    ages = [one.get("value", "") for suite in suites for one in suite.findall("testcase/properties/property")]
    assert len(ages) == sum(int(suite.get("tests", "0")) for suite in suites)
    assert all(" ago: " in age for age in ages)
    page = (repository.folder / f"gold-standard/imported/{JOB}/GOLD_STANDARD.md").read_text(encoding="utf-8")
    assert "Recorded on another machine" in page
    sound = {path: path.read_bytes() for path in repository.folder.iterdir() if path.is_file()}
    if service == "github":
        judge = ran.step("Judge the model")
        assert judge.summary.count(f"### {JOB}: gate ") == 9
        assert "held" not in judge.summary
        assert list(ci_runner.obeyed(judge.output)) == []
    for what, spoil in (SPOILT if service == "github" else dict(list(SPOILT.items())[1:2])).items():
        shutil.rmtree(repository.folder / "gold-standard")
        for path, data in sound.items():
            path.write_bytes(data)
        spoil(repository.folder)
        ran = repository.run(service)
        assert not ran.green, f"{what}: {ran.output}"
        if service == "github" and what == "a byte of the model":
            judge = ran.step("Judge the model")
            assert judge.status == 1
            errors = [one for one in ci_runner.obeyed(judge.output) if one.name == "error"]
            assert "local_sha256_equals_remote" in {one.properties["title"] for one in errors}
            assert {one.properties["file"] for one in errors} == {"model.gguf"}
            assert f"### {JOB}: gate postdownload held" in judge.summary
            assert "| local\\_sha256\\_equals\\_remote | FAIL |" in judge.summary
            assert "gold-standard/gates.xml" in ran.uploaded
