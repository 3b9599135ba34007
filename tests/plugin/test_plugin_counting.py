"""What a run counts as its stages, its checks and their results, told by values: no pytest runs here."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.core.ids import CheckId
from harness.core.lifecycle import ORDER
from harness.core.verdict import Verdict
from harness.gates import plan
from harness.gates.evidence import CheckResult, Sight
from harness.gates.facts_file import FactsFile
from harness.plugin import arguments, declaring
from harness.plugin.selecting import Selecting
from harness.plugin.session import Judging
from tests.support.facts import NOW, sound_job

UPLOAD = plan.declared("upload", sound_job())
FIRST = UPLOAD[0]


# --- stages and places ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        ([], []),
        ([""], []),
        (["upload"], ["upload"]),
        (["upload,mine", "upload"], ["upload", "mine"]),
        ([",upload,,"], ["upload"]),
        (["teardown,all"], ["teardown", *(one for one in map(str, ORDER) if one != "teardown")]),
        (["mine", "all"], ["mine", *map(str, ORDER)]),
    ],
)
def test_stages_are_asked_for_by_name_by_commas_and_all_together(options: list[str], stages: list[str]) -> None:
    assert arguments.asked_stages(options) == stages


@pytest.mark.parametrize(
    ("module", "place"),
    [
        ("harness.checks", "."),
        ("harness.checks.teardown", "teardown"),
        ("harness.checks.teardown.check_gone", "teardown/check_gone"),
        ("harness.checksum", None),
        ("checks.teardown", None),
        ("my.harness.checks", None),
    ],
)
def test_a_module_of_the_built_in_checks_has_a_place(module: str, place: str | None) -> None:
    found = arguments._in_our_checks(module, Path("/ours"))
    assert found == (None if place is None else Path("/ours") / place)


@pytest.mark.parametrize(
    ("place", "folder", "touch"),
    [("/a", "/a/b", True), ("/a/b/c.py", "/a/b", True), ("/a/b", "/a/b", True), ("/a/c", "/a/b", False)],
)
def test_a_folder_is_touched_from_above_and_from_within(place: str, folder: str, touch: bool) -> None:
    assert arguments._touch(Path(place), Path(folder)) is touch


def test_only_built_in_stages_whose_folder_is_there_join(tmp_path: Path) -> None:
    (tmp_path / "upload").mkdir()
    (tmp_path / "mine").mkdir()
    assert arguments._built_in(tmp_path, ["upload", "mine", "teardown"]) == [tmp_path / "upload"]


@pytest.mark.parametrize(
    ("settled", "below", "expected"),
    [
        ((), False, ["."]),
        (("b*",), False, ["b1", "b2"]),
        (("nothing",), False, ["."]),
        (("b*",), True, ["."]),
    ],
)
def test_what_pytest_collects_when_nothing_is_named(
    tmp_path: Path, settled: tuple[str, ...], below: bool, expected: list[str]
) -> None:
    """The settled paths count in the folder that they are settled for, and nowhere else."""
    for name in ("b1", "b2"):
        (tmp_path / name).mkdir()
    config = SimpleNamespace(
        invocation_params=SimpleNamespace(dir=tmp_path),
        getini=lambda name: settled if name == "testpaths" else (),
        rootpath=tmp_path.parent if below else tmp_path,
    )
    found = arguments._default(cast("pytest.Config", config))
    assert found == [str(tmp_path / name) for name in expected]


# --- checks that stand in files -------------------------------------------------------------

FILES = {
    "def check_a(): ...": ["a"],
    "async def check_a(): ...": ["a"],
    "def helper(): ...": [],
    "def check_a(): ...\ndef check_a(): ...": ["a"],
    "class TestIt:\n    def check_a(self): ...": ["a"],
    "class CheckIt:\n    class CheckMore:\n        def check_a(self): ...": ["a"],
    "class Helper:\n    def check_a(self): ...": [],
    "@pytest.fixture\ndef check_a(): ...": [],
    "@pytest.mark.seed('x', 'y')\ndef check_a(): ...": ["a"],
    "if True:\n    def check_a(): ...": [],
    "def check_a():\n    def check_b(): ...": ["a"],
}


@pytest.mark.parametrize(("text", "checks"), FILES.items(), ids=range(len(FILES)))
def test_a_file_declares_the_checks_that_pytest_would_collect(tmp_path: Path, text: str, checks: list[str]) -> None:
    (tmp_path / "check_it.py").write_text(text, encoding="utf-8")
    (tmp_path / "other.py").write_text("def check_elsewhere(): ...", encoding="utf-8")
    found = declaring.in_folders([tmp_path, tmp_path, tmp_path / "nowhere"])
    assert (list(found.checks), found.problems) == (checks, ())


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"def check_a(:", "cannot read the checks of"),
        (b"\0", "cannot read the checks of"),
        (b"x = a" + b".b" * 100_000, "cannot read the checks of"),
        (b"x = " + b"-" * 100_000 + b"1", "cannot read the checks of"),
        (b"def check_a():\n    assert (1 == 2, 'no')", "check_it.py:2: an assertion of a tuple always holds"),
        (b"def check_a():\n    assert ()", ""),
    ],
    ids=["no Python", "null bytes", "too deep", "too deep for the parser", "a tuple", "an empty tuple"],
)
def test_a_file_that_hides_its_checks_is_a_problem(tmp_path: Path, data: bytes, problem: str) -> None:
    (tmp_path / "check_it.py").write_bytes(data)
    (tmp_path / "check_more.py").write_bytes(b"def check_b(): ...")
    found = declaring.in_folders([tmp_path])
    assert "b" in found.checks, "one file does not hide the next"
    assert [problem in one for one in found.problems] == ([True] if problem else [])


def test_a_folder_in_a_files_place_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "check_it.py").mkdir()
    assert "cannot read the checks of" in declaring.in_folders([tmp_path]).problems[0]


# --- the gate of what was collected and said ------------------------------------------------


def result(check: str, verdict: Verdict = Verdict.PASS, message: str = "", saw: str = "1") -> CheckResult:
    return CheckResult(CheckId(check), "upload", "a claim", verdict, (Sight("x", saw),), message=message)


def judging(stage: str = "upload", **fields: Any) -> Judging:
    facts = {stage: FactsFile(stage, sound_job(), NOW, 0.5, {})}
    told = Judging(facts=facts, paths={stage: Path("facts.json")}, digests={stage: "d" * 64})
    for name, value in fields.items():
        setattr(told, name, value)
    return told


def said(*checks: str) -> dict[str, dict[CheckId, CheckResult]]:
    return {"upload": {CheckId(check): result(check) for check in checks}}


def test_a_gate_demands_what_is_declared_collected_or_written_in_a_file() -> None:
    gate = judging(collected={"upload": [*UPLOAD, "own"]}, declared={"upload": [*UPLOAD, "hidden"]}).gate("upload", 1.5)
    assert gate.required == (*UPLOAD, "hidden", "own")
    assert (gate.missing, gate.results, gate.problems, gate.seconds) == (gate.required, (), (), 1.5)
    assert gate.plan_digest == plan.digest("upload", gate.required)


def test_each_case_of_a_check_is_demanded_and_not_the_bare_name() -> None:
    both = {"upload": [*UPLOAD, "own[1]", "own[2]"]}
    gate = judging(collected=both, declared={"upload": ["own"]}, results=said(*UPLOAD, "own[1]")).gate("upload", 0.0)
    assert gate.missing == ("own[2]",)
    assert gate.verdict is Verdict.UNKNOWN


def test_what_nobody_demands_is_no_result_and_what_was_collected_twice_is_a_problem() -> None:
    whole = judging(collected={"upload": [*UPLOAD]}, results=said(*UPLOAD, "stranger"))
    assert (whole.gate("upload", 0.0).verdict, len(whole.gate("upload", 0.0).results)) == (Verdict.PASS, len(UPLOAD))
    twice = judging(collected={"upload": [*UPLOAD, FIRST]}, results=said(*UPLOAD)).gate("upload", 0.0)
    assert twice.problems == (f"two checks are named {FIRST}",)
    assert twice.verdict is Verdict.UNKNOWN
    spoilt = judging(results=said(*UPLOAD), problems=["a worker process died"]).gate("upload", 0.0)
    assert (spoilt.problems, spoilt.verdict) == (("a worker process died",), Verdict.UNKNOWN)


def test_a_stage_without_a_check_is_held() -> None:
    gate = judging("mine").gate("mine", 0.0)
    assert gate.problems == ("no check is declared or found for stage 'mine'",)
    assert gate.verdict is Verdict.UNKNOWN


def test_one_cause_is_told_once_in_a_gate() -> None:
    told = {
        CheckId(check): result(check, Verdict.UNKNOWN, "could not look: no reply", "could not look: no reply")
        for check in UPLOAD[:2]
    }
    first, second = judging(results={"upload": told}).gate("upload", 0.0).results
    assert (first.message, second.message) == ("could not look: no reply", f"could not look: see {first.id}")


# --- what workers tell the controller -------------------------------------------------------


def test_a_worker_tells_what_it_collected_and_the_controller_hears_it_once() -> None:
    workers = Selecting(judging(collected={"upload": ["a", "a"]}, declared={"upload": ["b"]}, problems=["cannot"]))
    session = SimpleNamespace(config=SimpleNamespace(workeroutput={}))
    workers.pytest_sessionfinish(cast("pytest.Session", session))
    node = SimpleNamespace(workeroutput=session.config.workeroutput)
    mine = judging(problems=["cannot"])
    here = Selecting(mine)
    here.pytest_testnodedown(node, None)
    here.pytest_testnodedown(node, None)
    assert (mine.collected, mine.declared, mine.problems) == ({"upload": ["a", "a"]}, {"upload": ["b"]}, ["cannot"])
    here.pytest_testnodedown(SimpleNamespace(workeroutput={"harness_collected": {"upload": ["a"]}}), None)
    assert mine.collected == {"upload": ["a", "a"]}, "the list of a worker that saw fewer takes nothing away"


def test_a_worker_that_died_is_a_problem_of_the_run() -> None:
    mine = judging()
    Selecting(mine).pytest_testnodedown(SimpleNamespace(), "x" * 300)
    assert mine.problems == ["a worker process died: " + "x" * 200]


def test_a_process_that_is_no_worker_hands_nothing_on() -> None:
    Selecting(judging()).pytest_sessionfinish(cast("pytest.Session", SimpleNamespace(config=SimpleNamespace())))


def test_a_file_that_cannot_be_collected_is_one_problem() -> None:
    mine = judging()
    for failed in (True, True, False):
        report = SimpleNamespace(failed=failed, nodeid="check_a.py" if failed else "check_b.py")
        Selecting(mine).pytest_collectreport(cast("pytest.CollectReport", report))
    assert mine.problems == ["cannot collect check_a.py"]


@pytest.mark.parametrize(
    ("name", "is_folder", "ignored"),
    [("training", True, True), ("upload", True, None), ("mine", True, None), ("training", False, None)],
)
def test_the_folders_of_other_stages_are_left_alone(
    tmp_path: Path, name: str, is_folder: bool, ignored: bool | None
) -> None:
    place = tmp_path / name
    place.mkdir() if is_folder else place.write_bytes(b"")
    assert Selecting(judging()).pytest_ignore_collect(place) is ignored
