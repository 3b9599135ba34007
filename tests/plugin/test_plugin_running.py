"""How a run looks from outside: workers, facts files, the look, reports for machines, and runs without a stage."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from harness.core.clock import SystemClock
from harness.core.lifecycle import ORDER, Stage
from harness.core.observed import seen, unseen
from harness.gates import judge, plan
from harness.job.model import Job
from harness.ledger.events import Opened
from harness.ledger.sql import open_store
from harness.report import build, junit
from tests.support.facts import facts_file, launch, sound_job
from tests.support.gate_project import FIRST, SECOND, Project, project
from tests.support.job_histories import Log, judged

pytest_plugins = ["pytester"]

BUILT_IN = plan.FOLDER
USAGE = pytest.ExitCode.USAGE_ERROR
HARNESS_JOB = sound_job().name


@pytest.fixture
def mine(pytester: pytest.Pytester) -> Project:
    return project(pytester)


def record(tmp: Path, stage: Stage, facts: Any = None, job: Job | None = None) -> str:
    path = tmp / f"{stage}.json"
    path.write_bytes(facts_file(stage, facts, job).dump())
    return f"--facts={path}"


def cases_of(suite: ET.Element) -> set[tuple[str | None, ...]]:
    """Each case with its outcome, in words; how long it took is another thing each time."""
    return {
        (case.get("classname"), case.get("name"), *(word for one in case for word in told_by(one)))
        for case in suite.findall("testcase")
    }


def told_by(outcome: ET.Element) -> tuple[str | None, ...]:
    return (
        () if outcome.tag == "properties" else (outcome.tag, outcome.get("type"), outcome.get("message"), outcome.text)
    )


def without_times(gates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for gate in gates:
        gate.pop("seconds")
        assert "from now" in gate.pop("facts_recorded"), "how old they are changes with the minute"
        for result in gate["results"]:
            result.pop("seconds")
    return gates


# --- workers --------------------------------------------------------------------------------


def test_workers_give_the_same_verdicts_and_evidence(mine: Project, tmp_path: Path) -> None:
    facts = dataclasses.replace(launch(), log_age_s=seen(999.0), run=unseen("cut"))
    told = record(tmp_path, Stage.LAUNCH, facts)
    said = []
    for workers in (0, 2):
        ran = mine.judge(told, stage="launch", folder=str(BUILT_IN), workers=workers)
        assert ran.status == 1, ran.output
        verdicts = ran.verdicts()
        assert verdicts["log_is_growing"] == "fail"
        assert verdicts["effective_config_logged"] == verdicts["trained_rows_are_yours"] == "unknown"
        assert list(verdicts.values()).count("pass") == len(verdicts) - 3
        assert ran.gate is not None
        said.append(without_times([dict(ran.gate)]))
    assert said[0] == said[1]


def test_a_worker_that_dies_keeps_the_gate_shut(mine: Project) -> None:
    mine.write("checks/mine/check_b.py", SECOND + "    __import__('os')._exit(0)\n")
    said = mine.judge(mine.facts(), workers=2)
    assert said.status != 0
    assert "a worker process died" in said.output
    assert said.verdicts()["second"] == "missing"


def test_an_import_error_in_the_workers_is_heard(mine: Project) -> None:
    mine.write("checks/mine/check_b.py", "import nowhere_to_be_found\n" + SECOND)
    said = mine.judge(mine.facts(), workers=2)
    assert said.status != 0
    assert "UNKNOWN cannot collect checks/mine/check_b.py" in said.output
    assert "HELD" in said.output


def test_what_workers_leave_out_is_missing(mine: Project) -> None:
    said = mine.judge(mine.facts(), "-kfirst", workers=2)
    assert said.status == 1
    assert said.verdicts() == {"first": "pass", "second": "missing"}


def test_two_checks_of_one_name_are_seen_through_workers(mine: Project) -> None:
    mine.write("checks/mine/check_c.py", FIRST)
    said = mine.judge(mine.facts(), workers=2)
    assert said.status == 1
    assert "two checks are named first" in said.output


# --- the look -------------------------------------------------------------------------------


LOOK = """
def pytest_harness_look(stage, job):
    if stage != "mine":
        return None
    with open("looks.txt", "a") as looks:
        looks.write(f"{stage} {job.name}\\n")
    return {"answer": 42, "question": "how many roads?"}
"""


@pytest.fixture
def at_home(mine: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    home = mine.pytester.path / "home"
    home.mkdir()
    monkeypatch.setenv("HARNESS_HOME", str(home))
    job = sound_job()
    open_store(home / "state.db", SystemClock()).append(
        job.name, Opened(job=job.model_dump(mode="json"), file="job.toml")
    )
    mine.write("conftest.py", LOOK)
    return mine


@pytest.mark.parametrize("workers", [0, 2])
def test_the_world_is_looked_at_once(at_home: Project, workers: int) -> None:
    said = at_home.judge(workers=workers)
    assert said.status == 0, said.output
    assert (at_home.pytester.path / "looks.txt").read_text() == f"mine {HARNESS_JOB}\n"


def test_a_stage_that_nobody_answers_for(at_home: Project) -> None:
    said = at_home.judge(stage="tuning")
    assert said.status == USAGE
    assert "no stage is named 'tuning': the stages are preflight" in said.output
    assert "pytest_harness_look" in said.output


def test_a_job_that_is_not_there(at_home: Project) -> None:
    said = at_home.judge("--job=other")
    assert said.status == USAGE
    assert "there is no job 'other'" in said.output


@pytest.mark.parametrize("answer", ["[1, 2]", "7", "{'answer': object()}"])
def test_a_look_that_answers_no_facts(at_home: Project, answer: str) -> None:
    at_home.write("conftest.py", f"def pytest_harness_look(stage, job):\n    return {answer}\n")
    said = at_home.judge()
    assert said.status == USAGE
    assert "answered no JSON object for stage mine" in said.output


def test_a_look_that_could_not_look(at_home: Project) -> None:
    lines = ["from harness.core.observed import CouldNotLook", "def pytest_harness_look(stage, job):"]
    at_home.write("conftest.py", "\n".join([*lines, "    raise CouldNotLook('no answer within 5 s')\n"]))
    said = at_home.judge()
    assert said.status == USAGE
    assert "stage mine could not be looked at: no answer within 5 s" in said.output


def test_evidence_that_cannot_be_written_is_told_with_its_place(at_home: Project) -> None:
    (at_home.pytester.path / "home" / "jobs").write_bytes(b"")
    said = at_home.judge(stage="postdownload")
    assert said.status == USAGE
    assert "INTERNALERROR" not in said.output
    assert f"the evidence cannot be kept: {at_home.pytester.path / 'home' / 'jobs'}" in said.output


# --- facts files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read the facts file"),
        (b"", "not a facts file"),
        (b"[]", "not a facts file"),
        (b'{"stage": "mine"}', "not a facts file"),
        (b"\xff\xfe{", "not a facts file"),
    ],
)
def test_a_facts_file_that_is_none(mine: Project, content: bytes | None, words: str) -> None:
    path = mine.pytester.path / "facts.json"
    if content is not None:
        path.write_bytes(content)
    said = mine.judge(f"--facts={path}")
    assert said.status == USAGE
    assert words in said.output
    assert "next: " in said.output


def test_a_facts_file_of_another_format(mine: Project) -> None:
    option = mine.facts()
    path = Path(option.partition("=")[2])
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "format": 9}))
    said = mine.judge(option)
    assert said.status == USAGE
    assert "facts format 9" in said.output


def test_facts_of_another_stage(mine: Project) -> None:
    said = mine.judge(mine.facts(stage="yours"))
    assert said.status == USAGE
    assert "--facts has stage yours, --stage asks for mine" in said.output


def test_two_facts_files_of_one_stage(mine: Project) -> None:
    said = mine.judge(mine.facts(), mine.facts())
    assert said.status == USAGE
    assert "two files for stage mine" in said.output


def test_one_stage_without_its_facts(mine: Project) -> None:
    said = mine.judge("--stage=launch", mine.facts())
    assert said.status == USAGE
    assert "no file for stage launch" in said.output


def test_a_stage_that_is_not_named(mine: Project) -> None:
    said = mine.judge(mine.facts(), stage="")
    assert said.status == USAGE
    assert "--stage names no stage" in said.output


def test_facts_that_do_not_fit_their_type_are_unknown(mine: Project, tmp_path: Path) -> None:
    option = record(tmp_path, Stage.UPLOAD)
    path = tmp_path / "upload.json"
    body = json.loads(path.read_bytes())
    body["facts"]["counts"]["value"]["features"] = "many"
    path.write_text(json.dumps(body))
    said = mine.judge(option, stage="upload", folder=str(BUILT_IN))
    assert said.status == 1
    assert set(said.verdicts().values()) == {"unknown"}
    assert "do not fit" in said.output


def test_a_check_that_asks_for_another_stages_facts_is_unknown(mine: Project) -> None:
    text = "def check_second(launch, evidence):\n    assert evidence.note('x', 1)\n"
    mine.write("checks/mine/check_b.py", text)
    said = mine.judge(mine.facts())
    assert said.verdicts() == {"first": "pass", "second": "unknown"}
    assert "a check of stage mine sees no facts of stage launch" in said.output


# --- stages ---------------------------------------------------------------------------------


def test_several_stages_have_a_gate_each(mine: Project, tmp_path: Path) -> None:
    told = [record(tmp_path, Stage.UPLOAD), record(tmp_path, Stage.TEARDOWN), mine.facts(answer=41)]
    verdicts = mine.pytester.path / "v.json"
    options = ["--stage=upload,teardown", "--stage=mine", f"--verdicts={verdicts}", str(BUILT_IN), "checks"]
    ran = mine.run(*told, *options)
    assert ran.ret == 1
    said = {gate["stage"]: gate["verdict"] for gate in json.loads(verdicts.read_bytes())["gates"]}
    assert said == {"upload": "pass", "teardown": "pass", "mine": "fail"}
    ran.stdout.fnmatch_lines(["gate upload: OPEN, 3 of 3*", "gate teardown: OPEN, 7 of 7*", "gate mine: HELD (FAIL)*"])


def test_all_stages_are_those_of_a_jobs_life(mine: Project, tmp_path: Path) -> None:
    said = mine.judge(record(tmp_path, Stage.UPLOAD), stage="all", folder=str(BUILT_IN))
    assert said.status == USAGE
    missing = ", ".join(stage for stage in ORDER if stage is not Stage.UPLOAD)
    assert f"no file for stage {missing}" in said.output


def test_another_stages_broken_checks_are_left_alone(mine: Project) -> None:
    mine.write("checks/training/check_broken.py", "import nowhere_to_be_found\n")
    assert mine.judge(mine.facts()).status == 0


def test_a_part_of_a_built_in_stage_is_not_the_stage(mine: Project, tmp_path: Path) -> None:
    part = str(BUILT_IN / "teardown" / "check_gone.py")
    said = mine.judge(record(tmp_path, Stage.TEARDOWN), stage="teardown", folder=part)
    assert said.status == 1
    assert sorted(said.verdicts().values()) == ["missing"] * 4 + ["pass"] * 3


def test_a_built_in_stage_without_its_check_files_is_held(mine: Project, tmp_path: Path) -> None:
    ignored = f"--ignore-glob={BUILT_IN / 'teardown'}/*"
    said = mine.judge(record(tmp_path, Stage.TEARDOWN), ignored, stage="teardown")
    assert said.status != 0
    assert said.verdicts() == dict.fromkeys(plan.declared("teardown", sound_job()), "missing")


def test_a_check_that_a_user_adds_to_a_built_in_stage_counts(mine: Project, tmp_path: Path) -> None:
    text = "def check_extra(teardown, evidence):\n    assert len(evidence.saw('orphans', teardown.orphans)) > 0\n"
    mine.write("checks/teardown/check_mine.py", text)
    verdicts = mine.pytester.path / "v.json"
    ran = mine.run(
        "--stage=teardown",
        record(tmp_path, Stage.TEARDOWN),
        f"--verdicts={verdicts}",
        str(BUILT_IN),
        "checks",
    )
    assert ran.ret == 1
    ran.stdout.fnmatch_lines(["gate teardown: HELD (FAIL), 7 of 8 checks passed"])


def test_what_the_job_does_without_is_left_out(mine: Project, tmp_path: Path) -> None:
    job = sound_job(gates={"generate": False}, artifact={"second_copy": None})
    said = mine.judge(record(tmp_path, Stage.POSTDOWNLOAD, job=job), stage="postdownload", folder=str(BUILT_IN))
    assert said.status == 0, said.output
    assert "gguf_generates" not in said.verdicts()


# --- reports --------------------------------------------------------------------------------


def test_junit_names_checks_and_counts_unknown_as_error(mine: Project) -> None:
    mine.write(
        "checks/mine/check_b.py", SECOND.replace("    length", "    __import__('pytest').skip('later')\n    length", 1)
    )
    said = mine.judge(mine.facts(answer=41), "--junitxml=out.xml")
    assert said.status == 1
    suite = ET.parse(mine.pytester.path / "out.xml").getroot().find("testsuite")
    assert suite is not None
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["2", "1", "1", "0"]
    assert suite.findtext("testcase[@name='first']/failure", "").startswith("The answer is right")
    error = suite.find("testcase[@name='second']/error")
    assert error is not None
    assert (error.get("type"), error.get("message")) == ("UNKNOWN", "skipped: later")


def test_junit_tells_of_a_check_that_did_not_report(mine: Project) -> None:
    said = mine.judge(mine.facts(), "--junitxml=out.xml", "-k", "first")
    assert said.status == 1
    suite = ET.parse(mine.pytester.path / "out.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("errors")) == ("2", "1")
    error = suite.find("testcase[@name='second']/error")
    assert error is not None
    assert error.get("message") == "it did not report"


@pytest.mark.parametrize("workers", [0, 2])
def test_junit_is_the_reports_own(mine: Project, tmp_path: Path, workers: int) -> None:
    """One look, judged by pytest and by the runner: the same cases, with the same words."""
    facts = dataclasses.replace(launch(), log_age_s=seen(999.0), run=unseen("cut"))
    told = record(tmp_path, Stage.LAUNCH, facts)
    said = mine.judge(told, "--junitxml=out.xml", stage="launch", folder=str(BUILT_IN), workers=workers)
    assert {"pass", "fail", "unknown"} <= set(said.verdicts().values())
    log = Log(sound_job()).add(judged(judge.judge(tmp_path / "launch.json")))
    theirs = ET.fromstring(junit.render(build(log.history, now=log.at, charges=None)))
    (ours,) = ET.parse(mine.pytester.path / "out.xml").getroot()
    suite = next(one for one in theirs if one.get("name") == "launch")
    assert cases_of(ours) == cases_of(suite)
    for name in ("tests", "failures", "errors", "skipped"):
        assert ours.get(name) == suite.get(name)
    for one in (ours, suite):
        ages = [told.get("value", "") for told in one.findall("testcase/properties/property[@name='facts']")]
        assert len(ages) == len(one.findall("testcase"))
        assert all(age.startswith("recorded facts of stage launch, ") for age in ages)
        assert all(age.endswith(": the world is not looked at") for age in ages)


def test_verdicts_that_cannot_be_written_are_no_success(mine: Project) -> None:
    ran = mine.run("--stage=mine", mine.facts(), "--verdicts=nowhere/v.json", "checks")
    assert ran.ret == pytest.ExitCode.INTERNAL_ERROR
    ran.stdout.fnmatch_lines(["the verdicts could not be written: *nowhere*"])


def test_the_digest_of_the_facts_is_beside_the_verdicts(mine: Project) -> None:
    said = mine.judge(mine.facts())
    assert said.gate is not None
    assert len(said.gate["facts_sha256"]) == 64
    assert said.gate["job"] == HARNESS_JOB
    first = said.gate["results"][0]
    assert first["claim"] == "The answer is right"
    assert first["saw"] == [{"name": "answer", "value": "42"}]


# --- without a stage ------------------------------------------------------------------------


def test_markers_and_fixtures_are_documented(pytester: pytest.Pytester) -> None:
    pytester.runpytest_inprocess("-pharness.plugin", "--markers").stdout.fnmatch_lines(
        [
            "@pytest.mark.stage(name): *",
            "@pytest.mark.remedy(text, unknown=text, gone=text): *",
            "@pytest.mark.seed(document, rule): *",
        ]
    )
    text = pytester.runpytest_inprocess("-pharness.plugin", "--fixtures").stdout.str()
    for name in ("evidence", "job", "facts", *ORDER):
        assert f"\n{name} -- " in text


def test_an_ordinary_run_is_left_alone(mine: Project) -> None:
    mine.write("test_own.py", "def check_helper():\n    assert False\n\ndef test_it():\n    return None\n")
    mine.write("check_alone.py", "raise RuntimeError('must not be imported')\n")
    ran = mine.run("-Werror", "-v")
    ran.assert_outcomes(passed=1)
    assert "\ngate " not in ran.stdout.str()


@pytest.mark.parametrize("words", [["checks"], ["checks/training/check_rows.py"], []])
def test_checks_without_a_stage_are_not_judged_and_the_missing_option_is_named(mine: Project, words: list[str]) -> None:
    mine.write("checks/training/check_rows.py", "def check_rows(job):\n    assert False\n")
    ran = mine.run(*words)
    assert ran.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert ("no stage is judged: add --stage=STAGE" in ran.stdout.str()) is bool(words)


def test_own_fixtures_of_our_names_are_the_projects(mine: Project) -> None:
    mine.write(
        "test_own.py",
        "import pytest\n@pytest.fixture\ndef job():\n    return 7\n\ndef test_it(job):\n    assert job == 7\n",
    )
    mine.run().assert_outcomes(passed=1)


def test_a_check_that_is_run_without_a_stage_is_no_pass(mine: Project) -> None:
    ran = mine.run("-opython_files=check_*.py", "-opython_functions=check_*", "checks")
    ran.assert_outcomes(errors=2)
    assert "no --stage was given" in ran.stdout.str()


def test_an_ordinary_test_beside_the_checks_is_not_judged(mine: Project) -> None:
    mine.write("checks/mine/test_ordinary.py", "def test_it():\n    assert False\n")
    said = mine.judge(mine.facts())
    assert said.status == 0
    assert "1 deselected" in said.output


@pytest.mark.slow
def test_the_installed_plugin_loads_by_itself(mine: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    ran = mine.pytester.runpytest_subprocess("--stage=mine", mine.facts(), "checks")
    assert ran.ret == 0
    ran.stdout.fnmatch_lines(["gate mine: OPEN, 2 of 2 checks passed"])
