"""What is installed is whole: the source distribution, the wheel made from it, a job without the clone."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

from harness.core.ids import Sha256
from harness.providers.emulated import stop_emulator
from harness.release import release as releases
from harness.release.envelope import Envelope, to_json
from harness.release.signing import signed
from tests.support import wheel as wheels
from tests.support.job_histories import Log
from tests.support.wheel import BUILD, IGNORED, ROOT, called

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A virtual environment with the wheel and what it depends on, far from the clone."""

    folder: Path
    source: Path
    """The source distribution, unpacked."""

    @property
    def package(self) -> Path:
        """What is installed."""
        (found,) = self.folder.glob("venv/lib/python3*/site-packages/harness")
        return found

    def run(self, program: str, *words: str, home: str = "home") -> subprocess.CompletedProcess[str]:
        """A program of the environment, in an empty folder."""
        here = self.folder / "here"
        here.mkdir(exist_ok=True)
        told = {name: text for name, text in os.environ.items() if not name.startswith(("PYTEST", "PYTHONPATH"))}
        return subprocess.run(
            [str(self.folder / "venv" / "bin" / program), *words],
            cwd=here,
            env={**told, "HARNESS_HOME": str(self.folder / home)},
            capture_output=True,
            text=True,
            check=False,
        )


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    """The clone, its source distribution, the wheel made from that, its installation; each from the one before."""
    folder = tmp_path_factory.mktemp("wheel")
    clone = wheels.clone(folder)
    for junk in (".venv/lib/junk.py", "training_pkg/models/output/junk.json", "tests/__pycache__/junk.pyc"):
        (clone / junk).parent.mkdir(parents=True)
        (clone / junk).touch()
    archive = called(sys.executable, "-c", BUILD, "build_sdist", folder, cwd=clone)
    with tarfile.open(folder / archive) as packed:
        packed.extractall(folder / "sdist", filter="data")
    (source,) = (folder / "sdist").iterdir()
    wheel = wheels.wheel(source, folder)
    shutil.rmtree(clone)
    wheels.environment(folder)
    made = Elsewhere(folder, source)
    called(
        folder / "venv/bin/python",
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--ignore-installed",
        wheel,
        cwd=folder,
    )
    assert Path(made.run("python", "-c", "import harness; print(harness.__path__[0])").stdout.strip()) == made.package
    yield made
    stop_emulator(made.folder / "home" / "emulator")


def test_the_readme_reads_the_same_away_from_the_repository() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((.*?)\)|^\[.*\]: (.*)$", text, re.MULTILINE)
    paths = [(inline or below).partition("/blob/main/")[2] for inline, below in links]
    assert paths
    assert all(path and (ROOT / path).is_file() for path in paths), links
    named = re.findall(r"\[((?:docs|examples)/[^\]]+)\]", text)
    assert set(named) == set(paths)


@pytest.mark.slow
def test_the_source_distribution_is_the_repository(elsewhere: Elsewhere) -> None:
    made = {"PKG-INFO", "setup.cfg", "gold_standard_harness.egg-info", "build"}
    tops = {path.name for path in elsewhere.source.iterdir()} - made
    left_out = [".git", ".github", ".gitignore", ".pre-commit-config.yaml", *IGNORED]
    assert tops == {path.name for path in ROOT.iterdir() if not any(fnmatch(path.name, one) for one in left_out)}
    for folder in ("changelog.d", "checks", "docs", "examples", "harness", "tests"):
        assert digests(elsewhere.source / folder) == digests(ROOT / folder), folder
    assert not list(elsewhere.source.rglob("junk.*"))


@pytest.mark.slow
def test_nothing_but_the_harness_is_installed_and_all_of_it(elsewhere: Elsewhere) -> None:
    tops = {path.name for path in elsewhere.package.parent.iterdir() if path.suffix not in {".pth", ".dist-info"}}
    assert tops == {"harness"}
    for name in ("checks", "training_pkg"):
        assert "ModuleNotFoundError" in elsewhere.run("python", "-c", f"import {name}").stderr
    for folder in ("checks", "examples"):
        assert digests(elsewhere.package / folder) == digests(ROOT / folder)
    package = digests(elsewhere.package / "training_pkg")
    assert package == digests(elsewhere.source / "training_pkg")
    assert {"train_deepseek_forex.py", "configs/tiny.toml", ".gitignore"} <= package.keys()
    version = elsewhere.run("harness", "--version")
    assert version.returncode == 0, version.stderr
    assert "release_is_valid" in elsewhere.run("harness", "rules").stdout


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_whole_job_runs_without_the_clone(elsewhere: Elsewhere) -> None:
    before = digests(elsewhere.package)
    shipped = str(elsewhere.package / "examples" / "local.toml")
    begun = elsewhere.run("harness", "run", shipped, "--until", "preflight", "--plain")
    assert begun.returncode == 0, begun.stdout + begun.stderr
    done = elsewhere.run("harness", "demo", "--plain")
    assert done.returncode == 0, done.stdout + done.stderr
    again = elsewhere.run("harness", "run", shipped, "--plain")
    assert again.returncode == 0
    assert "job demo is closed" in again.stdout
    for python in (["-m"], ["-P", "-m"]):  # the latter as the command ``pytest``
        judged = elsewhere.run(
            "python", *python, "pytest", "--pyargs", "harness.checks", "--stage=postdownload", "--job=demo"
        )
        assert judged.returncode == 0, judged.stdout + judged.stderr
        assert "gate postdownload: OPEN" in judged.stdout
    assert digests(elsewhere.package) == before


@pytest.mark.slow
def test_the_first_minutes_need_no_clone(elsewhere: Elsewhere) -> None:
    home = elsewhere.folder / "home"
    before = sorted(home.rglob("*"))
    seen = elsewhere.run("harness", "doctor", "--json")
    assert {one["id"] for one in json.loads(seen.stdout)["findings"]} >= {"python", "state", "jobs", "embedded"}
    for words in (["-y"], ["--embedded", "-y"]):
        made = elsewhere.run("harness", "init", *words, "--force")
        assert made.returncode == 0, made.stdout + made.stderr
    text = (elsewhere.folder / "here" / "rehearsal.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["package"]["source"] == str(elsewhere.package / "training_pkg")
    assert text.splitlines()[0] == f"#:schema {(elsewhere.package / 'job' / 'schema.json').as_uri()}"
    assert json.loads((elsewhere.package / "job" / "schema.json").read_text(encoding="utf-8"))["required"]
    looked = elsewhere.run("harness", "doctor", "rehearsal.toml", "--json")
    verdicts = {one["id"]: one["verdict"] for one in json.loads(looked.stdout)["findings"]}
    assert verdicts["destination_is_clean"] == verdicts["cost_within_budget"] == "pass", looked.stdout
    assert sorted(home.rglob("*")) == before


@pytest.mark.slow
def test_a_release_is_checked_where_nothing_but_the_wheel_is(elsewhere: Elsewhere) -> None:
    """The file, the statement and a key, on a machine that knows no job and has no home of the harness."""
    there = elsewhere.folder / "sent"
    there.mkdir()
    model = b"GGUF" * 4096
    log = Log().verified(path="/home/me/model.gguf", size=len(model), sha256=Sha256(hashlib.sha256(model).hexdigest()))
    for name in ("operator", "other"):
        called("ssh-keygen", "-t", "ed25519", "-N", "", "-f", there / name, cwd=there)
    envelope = Envelope(releases.to_json(releases.statement(log.history, "vast", log.at)))
    file, sent = there / "release.dsse.json", there / "model.gguf"
    file.write_bytes(to_json(signed(envelope, there / "operator")))
    sent.write_bytes(model)

    def checks(key: str) -> int:
        words = ("release", "check", str(file), "--artifact", str(sent), "--key", str(there / key))
        return elsewhere.run("harness", *words, home="none").returncode

    assert checks("operator.pub") == 0
    assert checks("other.pub") == 5
    assert not (elsewhere.folder / "none").exists()
    sent.write_bytes(model[:-1] + b"g")
    assert checks("operator.pub") == 5


@pytest.mark.slow
def test_the_first_minutes_end_in_a_plan(elsewhere: Elsewhere) -> None:
    """Five questions by their defaults, then the money: what is offered is shown, and nothing is rented."""
    made = elsewhere.run("harness", "init", "--embedded", "-y", "--force")
    assert made.returncode == 0, made.stdout + made.stderr
    file = re.search(r"\S+\.toml", made.stdout)
    assert file
    planned = elsewhere.run("harness", "plan", file[0])
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "H100" in planned.stdout
    assert "embedded" in planned.stdout
    dry = elsewhere.run("harness", "run", file[0], "--dry-run", "--plain")
    assert dry.returncode == 0, dry.stdout + dry.stderr
    told = json.loads(elsewhere.run("harness", "status", "--json").stdout)
    assert {one["job"]: one["bills"]["state"] for one in told}["rehearsal"] == "nothing"
