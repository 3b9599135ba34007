"""A stranger's repository: ``pytest checks --stage=<built-in stage>`` judges the built-in checks beside its own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

import harness
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.gates import judge, plan
from harness.gates.evidence import GateResult
from tests.support.facts import facts_file, sound_job
from tests.support.gate_project import Project, project

pytest_plugins = ["pytester"]

BUILT_IN = plan.FOLDER
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


def installed(packages: Path) -> None:
    """The harness as a wheel installs it."""
    for package, name in ((Path(harness.__file__).parent, "harness"), (BUILT_IN, "harness/checks")):
        shutil.copytree(package, packages / name, ignore=shutil.ignore_patterns("__pycache__"))


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
    installed(packages)
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


@pytest.mark.parametrize("named", ["harness.checks", "harness.checks.teardown"])
def test_the_built_in_checks_have_a_name_of_their_own(theirs: Project, named: str) -> None:
    said = theirs.judge(recorded(theirs), "--pyargs", named, stage="teardown", workers=2)
    assert said.verdicts() == DECLARED | {"extra": "pass"}, said.output
    assert said.status == 0


def test_a_part_by_its_name_is_a_part(theirs: Project) -> None:
    said = theirs.judge(recorded(theirs), "--pyargs", stage="teardown", folder="harness.checks.teardown.check_gone")
    assert sorted(said.verdicts().values()) == ["missing"] * 5 + ["pass"] * 3, said.output
    assert said.status == 1


def told(clone: Project) -> str:
    return f"--facts={clone.write('teardown.json', facts_file(Stage.TEARDOWN).dump().decode())}"


@pytest.fixture
def clone(theirs: Project, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Their repository is a clone of the harness, which is installed elsewhere."""
    shutil.rmtree(theirs.pytester.path / "checks")
    theirs.write("harness/gates/plan.py", "raise ImportError('the installed harness judges')")
    shutil.copytree(BUILT_IN, theirs.pytester.path / "checks", ignore=shutil.ignore_patterns("__pycache__"))
    packages = tmp_path_factory.mktemp("site-packages")
    installed(packages)
    monkeypatch.setenv("PYTHONPATH", str(packages))
    return theirs


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("named", ["checks/", ".", "checks/teardown", ""])
def test_a_clone_beside_an_installed_harness_is_one_set_of_checks(clone: Project, named: str, workers: int) -> None:
    said = clone.judge(told(clone), stage="teardown", folder=named, workers=workers)
    assert said.verdicts() == DECLARED, said.output
    assert said.status == 0


def test_a_check_that_was_added_to_the_clone_counts(clone: Project) -> None:
    clone.write("checks/teardown/check_more.py", OWN.format(wanted=1))
    said = clone.judge(told(clone), stage="teardown")
    assert said.verdicts() == DECLARED | {"extra": "fail"}, said.output


def test_a_part_of_the_clone_is_a_part(clone: Project) -> None:
    said = clone.judge(told(clone), stage="teardown", folder="checks/teardown/check_gone.py")
    assert sorted(said.verdicts().values()) == ["missing"] * 4 + ["pass"] * 3, said.output
    assert said.status == 1


def test_a_clone_with_windows_line_ends_is_the_same(clone: Project) -> None:
    file = clone.pytester.path / "checks" / "teardown" / "check_gone.py"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert clone.judge(told(clone), stage="teardown").verdicts() == DECLARED


@pytest.mark.parametrize("change", ["edit", "remove"])
@pytest.mark.parametrize("named", ["checks/", "checks/teardown/check_release.py", "."])
def test_a_clone_of_another_state_is_refused_in_words(clone: Project, named: str, change: str) -> None:
    file = clone.pytester.path / "checks" / "teardown" / "check_gone.py"
    if change == "edit":
        clone.write("checks/teardown/check_gone.py", file.read_text("utf-8").replace("assert ", "assert True or "))
    else:
        file.unlink()
    said = clone.judge(told(clone), stage="teardown", folder=named)
    assert said.status == pytest.ExitCode.USAGE_ERROR
    assert said.gate is None
    assert f"{clone.pytester.path / 'checks'} is a clone of the harness, and its checks are not those" in said.output
    assert "teardown/check_gone.py" in said.output
    assert f"pip install -e {clone.pytester.path}" in said.output


def test_beside_a_clone_of_another_state_the_installed_checks_are_judged_by_name(clone: Project) -> None:
    clone.write("checks/__init__.py", "raise ImportError('not this one')")
    clone.write("checks/teardown/check_gone.py", "def check_newer(teardown, evidence):\n    assert False\n")
    said = clone.judge(told(clone), "--pyargs", stage="teardown", folder="harness.checks", workers=2)
    assert said.verdicts() == DECLARED, said.output
    assert said.status == 0
