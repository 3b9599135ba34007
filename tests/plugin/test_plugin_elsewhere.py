"""A stranger's repository: ``pytest checks --stage=<built-in stage>`` judges the built-in checks beside its own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

import checks
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.gates import judge, plan
from harness.gates.evidence import GateResult
from tests.support.facts import facts_file, sound_job
from tests.support.gate_project import Project, project

pytest_plugins = ["pytester"]

BUILT_IN = Path(str(checks.__file__)).parent
OWN = '''
def check_extra(teardown, evidence):
    """Nothing is left."""
    assert len(evidence.saw("orphans", teardown.orphans)) == {wanted}
'''
DECLARED = dict.fromkeys(plan.declared("teardown", sound_job()), "pass")


@pytest.fixture
def theirs(pytester: pytest.Pytester) -> Project:
    """A check of theirs in a file that bears the name of a built-in one."""
    made = project(pytester)
    made.write("checks/teardown/check_gone.py", OWN.format(wanted=0))
    return made


def recorded(theirs: Project, stage: Stage = Stage.TEARDOWN) -> str:
    job = sound_job(gates={"checks": [theirs.pytester.path / "checks"]})
    return f"--facts={theirs.write(f'{stage}.json', facts_file(stage, None, job).dump().decode())}"


def as_harness_run_judges(theirs: Project) -> GateResult:
    return judge.judge(theirs.pytester.path / "teardown.json")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("wanted", [0, 1])
def test_the_gate_is_the_one_of_harness_run(theirs: Project, workers: int, wanted: int) -> None:
    theirs.write("checks/teardown/check_gone.py", OWN.format(wanted=wanted))
    said = theirs.judge(recorded(theirs), stage="teardown", workers=workers)
    assert said.verdicts() == DECLARED | {"extra": "fail" if wanted else "pass"}, said.output
    assert said.status == wanted
    ran = as_harness_run_judges(theirs)
    assert {result.id: str(result.verdict) for result in ran.results} == said.verdicts()
    assert ran.verdict is (Verdict.FAIL if wanted else Verdict.PASS)
    assert said.gate is not None
    assert said.gate["plan_digest"] == ran.plan_digest


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_their_package_may_be_named_checks_too(
    theirs: Project, monkeypatch: pytest.MonkeyPatch, workers: int, mode: str
) -> None:
    theirs.write("checks/__init__.py", "")
    theirs.write("checks/teardown/__init__.py", "")
    theirs.write("checks/limits.py", "LIMIT = 0\n")
    theirs.write("checks/conftest.py", "from checks.limits import LIMIT\n")
    theirs.write("checks/teardown/check_gone.py", "from checks.limits import LIMIT\n" + OWN.format(wanted="LIMIT"))
    monkeypatch.syspath_prepend(theirs.pytester.path)
    monkeypatch.setenv("PYTHONPATH", str(theirs.pytester.path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "checks"]:
        monkeypatch.delitem(sys.modules, name)  # nothing of this very test run is there in theirs
    said = theirs.judge(recorded(theirs), f"--import-mode={mode}", stage="teardown", workers=workers)
    assert said.verdicts() == DECLARED | {"extra": "pass"}, said.output
    assert said.status == 0


@pytest.mark.parametrize("folder", ["", "checks/teardown", "checks/teardown/check_gone.py::check_extra"])
def test_whatever_of_theirs_is_named(theirs: Project, folder: str) -> None:
    said = theirs.judge(recorded(theirs), stage="teardown", folder=folder)
    assert said.verdicts() == DECLARED | {"extra": "pass"}, said.output
    assert said.status == 0


@pytest.mark.parametrize(("named", "status"), [("checks", 0), (".", 1)])
def test_the_harness_may_be_installed_below_their_repository(
    theirs: Project, monkeypatch: pytest.MonkeyPatch, named: str, status: int
) -> None:
    """Pytest does not go into a virtual environment: from above it, the built-in checks are missing, not passed."""
    packages = theirs.pytester.path / ".venv/lib/python3/site-packages"
    for package in (BUILT_IN, Path(judge.__file__).parent):
        shutil.copytree(package, packages / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("PYTHONPATH", str(packages))
    said = theirs.judge(recorded(theirs), folder=named, stage="teardown", workers=2)
    missing = dict.fromkeys(DECLARED, "missing")
    assert said.verdicts() == (missing if status else DECLARED) | {"extra": "pass"}, said.output
    assert said.status == status


def test_their_settled_paths_are_kept(theirs: Project) -> None:
    theirs.write("elsewhere/teardown/check_other.py", OWN.format(wanted=1).replace("extra", "other"))
    ini = ("-o", "testpaths=elsewhere checks", recorded(theirs))
    said = theirs.judge(*ini, stage="teardown", folder="")
    assert said.verdicts() == DECLARED | {"extra": "pass", "other": "fail"}, said.output


def test_what_they_leave_out_is_missing(theirs: Project) -> None:
    theirs.write("checks/teardown/check_more.py", OWN.format(wanted=0).replace("extra", "more"))
    said = theirs.judge(recorded(theirs), stage="teardown", folder="checks/teardown/check_more.py")
    assert said.verdicts() == DECLARED | {"extra": "missing", "more": "pass"}
    assert said.status == 1


def test_a_stage_of_their_own_beside_a_built_in_one(theirs: Project) -> None:
    said = theirs.judge(recorded(theirs), theirs.facts(), "--stage=mine", stage="teardown")
    assert said.status == 0, said.output
    assert "gate mine: OPEN, 2 of 2 checks passed" in said.output
    assert "gate teardown: OPEN, 8 of 8 checks passed" in said.output


def test_only_the_asked_stages_join(theirs: Project) -> None:
    said = theirs.judge(theirs.facts())
    assert said.verdicts() == {"first": "pass", "second": "pass"}
    assert str(BUILT_IN.name) + "/preflight" not in said.output


def test_the_built_in_folder_under_another_name_counts_once(theirs: Project) -> None:
    link = theirs.pytester.path / "gates"
    link.symlink_to(BUILT_IN, target_is_directory=True)
    said = theirs.judge(recorded(theirs), "checks", stage="teardown", folder=str(link / "teardown"))
    assert said.verdicts() == DECLARED | {"extra": "pass"}, said.output
    assert said.status == 0


def test_a_copy_of_the_built_in_checks_is_seen(theirs: Project) -> None:
    theirs.write("checks/teardown/check_gone.py", (BUILT_IN / "teardown" / "check_gone.py").read_text("utf-8"))
    said = theirs.judge(recorded(theirs), stage="teardown")
    assert said.status == 1
    assert "two checks are named instance_is_gone" in said.output
