"""The gate runs pytest in a clean process, believes no exit status, and judges the very facts it was given."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import BadInput
from harness.core.ids import CheckId
from harness.core.lifecycle import Stage
from harness.core.observed import seen, unseen
from harness.core.verdict import Verdict
from harness.gates import judge, plan
from harness.gates.evidence import CheckResult, GateResult, Sight, result_from_json
from harness.gates.facts_file import digest
from harness.job.model import Job
from tests.support.facts import facts_file, sound_job, teardown, upload

REQUIRED = plan.declared("teardown", sound_job())
Tamper = Callable[[dict[str, Any]], object]


def record(folder: Path, stage: Stage = Stage.TEARDOWN, facts: Any = None, job: Job | None = None) -> Path:
    path = folder / f"{stage}.json"
    path.write_bytes(facts_file(stage, facts, job).dump())
    return path


# --- the real thing -------------------------------------------------------------------------


def test_sound_facts_open_the_gate_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("PYTEST_ADDOPTS", "--collect-only -k nothing")
    monkeypatch.setenv("PYTEST_PLUGINS", "nowhere_to_be_found")
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --collect-only\n")
    (tmp_path / "conftest.py").write_text("raise RuntimeError('not of this gate')\n")
    monkeypatch.chdir(tmp_path)
    path = record(tmp_path)
    result = judge.judge(Path(path.name))
    assert result.verdict is Verdict.PASS, result.problems
    assert result.required == REQUIRED
    assert tuple(one.id for one in result.results) == REQUIRED
    assert all(one.saw and one.claim and not one.remedy for one in result.results)
    assert result.plan_digest == plan.digest("teardown", REQUIRED)
    assert not summary.exists()


def test_a_failure_and_a_blindness_are_told_apart(tmp_path: Path) -> None:
    facts = dataclasses.replace(teardown(), orphans=seen(("7009 (gsh-x, running)",)), billing=unseen("HTTP 502"))
    result = judge.judge(record(tmp_path, facts=facts))
    assert result.verdict is Verdict.FAIL
    assert [(one.id, one.verdict) for one in result.not_passed()] == [
        ("no_orphans_left", Verdict.FAIL),
        ("billing_stopped", Verdict.UNKNOWN),
    ]
    failed, unknown = result.not_passed()
    assert failed.message == "7009 (gsh-x, running)"
    assert failed.saw == (Sight("orphans", "7009 (gsh-x, running)"),)
    assert failed.remedy.startswith("harness orphans forex-r1-v3 tells")
    assert "HTTP 502" in unknown.message


def own_checks(folder: Path, text: str) -> Job:
    (folder / "own" / "teardown").mkdir(parents=True)
    (folder / "own" / "teardown" / "check_own.py").write_text(text)
    return sound_job(gates={"checks": [folder / "own"]})


def test_the_jobs_own_checks_are_required(tmp_path: Path) -> None:
    job = own_checks(tmp_path, "def check_own(teardown, evidence):\n    assert evidence.note('here', False)\n")
    result = judge.judge(record(tmp_path, job=job))
    assert result.required == (*REQUIRED, "own")
    assert [(one.id, one.verdict) for one in result.not_passed()] == [("own", Verdict.FAIL)]


def test_checks_that_hang_are_a_problem(tmp_path: Path) -> None:
    job = own_checks(tmp_path, "import time\n\ndef check_own(teardown):\n    time.sleep(600)\n")
    result = judge.judge(record(tmp_path, job=job), timeout=2)
    assert result.verdict is Verdict.UNKNOWN
    assert result.problems == ("the checks did not end within 2 s",)
    assert result.missing == REQUIRED


def test_checks_that_end_the_process_are_a_problem(tmp_path: Path) -> None:
    job = own_checks(tmp_path, "import os\n\ndef check_own(teardown):\n    os._exit(0)\n")
    result = judge.judge(record(tmp_path, job=job))
    assert result.verdict is Verdict.UNKNOWN
    assert "pytest left no verdicts (exit status 0)" in result.problems[0]


def test_facts_that_change_meanwhile_are_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "teardown.json"
    text = f"def check_own(teardown, evidence):\n    open({str(path)!r}, 'a').write(' ')\n    evidence.note('x', 1)\n"
    result = judge.judge(record(tmp_path, job=own_checks(tmp_path, text)))
    assert result.verdict is Verdict.UNKNOWN
    assert any("facts changed while they were judged" in problem for problem in result.problems)


def test_a_folder_of_checks_that_is_gone_is_a_problem(tmp_path: Path) -> None:
    job = sound_job(gates={"checks": [tmp_path / "own"]})
    result = judge.judge(record(tmp_path, job=job))
    assert result.verdict is Verdict.UNKNOWN
    assert str(tmp_path / "own") in result.problems[0]


def test_a_facts_file_that_is_none_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"{}")
    with pytest.raises(BadInput, match="not a facts file"):
        judge.judge(tmp_path / "x.json")
    with pytest.raises(BadInput, match="cannot read the facts file"):
        judge.judge(tmp_path / "y.json")


# --- a pytest that lies ---------------------------------------------------------------------


@pytest.fixture
def liar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., GateResult]:
    """A process in pytest's place that leaves these verdicts and this exit status; honest but for the tampering."""
    path = record(tmp_path)
    honest = {
        "required": list(REQUIRED),
        "results": [
            {"id": check, "stage": "teardown", "claim": "c", "verdict": "pass", "saw": [{"name": "x", "value": "1"}]}
            for check in REQUIRED
        ],
        "problems": [],
        "seconds": 0.5,
        "facts_sha256": digest(path.read_bytes()),
    }

    def lie(tamper: Tamper = lambda _: None, *, status: int = 0, raw: bytes | None = None) -> GateResult:
        said = json.loads(json.dumps(honest))
        tamper(said)
        answer = tmp_path / "answer.json"
        answer.write_bytes(json.dumps({"format": 1, "gates": [said]}).encode() if raw is None else raw)
        program = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2]); sys.exit(int(sys.argv[3]))"

        def command(_facts: object, _path: Path, verdicts: Path, _scratch: Path) -> list[str]:
            return [sys.executable, "-c", program, str(answer), str(verdicts), str(status)]

        monkeypatch.setattr(judge, "_command", command)
        return judge.judge(path)

    return lie


def test_an_honest_answer_opens(liar: Callable[..., GateResult]) -> None:
    assert liar().verdict is Verdict.PASS


TAMPERED: dict[str, Tamper] = {
    "a result left out": lambda said: said["results"].pop(),
    "no results": lambda said: said["results"].clear(),
    "a verdict that is none": lambda said: said["results"][0].update(verdict="fine"),
    "a failure": lambda said: said["results"][0].update(verdict="fail"),
    "a result of another name": lambda said: said["results"][0].update(id="other"),
    "a problem": lambda said: said["problems"].append("a worker process died"),
    "other facts": lambda said: said.update(facts_sha256="0" * 64),
    "no digest": lambda said: said.pop("facts_sha256"),
    "no list of what is required": lambda said: said.pop("required"),
    "a further check that said nothing": lambda said: said["required"].append("further"),
    "seconds that are none": lambda said: said.update(seconds="soon"),
}


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED)
@pytest.mark.parametrize("status", [0, 1])
def test_tampered_verdicts_open_nothing(liar: Callable[..., GateResult], tamper: Tamper, status: int) -> None:
    assert liar(tamper, status=status).verdict is not Verdict.PASS


@pytest.mark.parametrize("status", [1, 2, 3, 4, 5, 139])
def test_good_verdicts_of_a_run_that_ended_badly_open_nothing(liar: Callable[..., GateResult], status: int) -> None:
    result = liar(status=status)
    assert result.verdict is Verdict.UNKNOWN
    assert f"exit status {status} and its verdicts disagree" in result.problems[0]


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"[]", b"null", b'{"gates": []}', b'{"gates": [{}, {}]}', b"\xff", b"[" * 9999]
)
def test_an_answer_that_does_not_read_opens_nothing(liar: Callable[..., GateResult], raw: bytes) -> None:
    result = liar(raw=raw)
    assert result.verdict is Verdict.UNKNOWN
    assert "pytest left no verdicts" in result.problems[0]


def _answered(folder: Path, answer: object, status: int = 0) -> GateResult:
    """What a gate makes of an answer, without the process that would give it."""
    verdicts = folder / "verdicts.json"
    verdicts.write_text(json.dumps(answer))
    return judge._read(facts_file(Stage.TEARDOWN), "d" * 64, verdicts, status, "the output")


def _honest(**changes: Any) -> dict[str, Any]:
    results = [{"id": check, "stage": "teardown", "claim": "c", "verdict": "pass"} for check in REQUIRED]
    told = {"required": list(REQUIRED), "results": results, "problems": [], "seconds": 2, "facts_sha256": "d" * 64}
    return {"gates": [{**told, **changes}]}


def test_an_answer_is_read_as_it_was_given(tmp_path: Path) -> None:
    told = _answered(tmp_path, _honest())
    assert (told.verdict, told.required, told.seconds, told.problems) == (Verdict.PASS, REQUIRED, 2.0, ())
    assert told.plan_digest == plan.digest("teardown", REQUIRED)
    stranger = {"id": "stranger", "stage": "teardown", "claim": "c", "verdict": "fail"}
    more = _honest()
    more["gates"][0]["results"].append(stranger)
    assert _answered(tmp_path, more).verdict is Verdict.PASS, "nobody demands it"


@pytest.mark.parametrize(
    ("answer", "status", "problems"),
    [
        (_honest(), 1, ("pytest's exit status 1 and its verdicts disagree: the output",)),
        (_honest(problems=["a worker died"]), 1, ("a worker died",)),
        (_honest(facts_sha256="e" * 64), 1, ("other facts than these were judged",)),
        (
            _honest(problems=["a worker died"]),
            0,
            ("a worker died", "pytest's exit status 0 and its verdicts disagree: the output"),
        ),
        ({"gates": []}, 3, ("pytest left no verdicts (exit status 3): the output",)),
        ({"gates": [None]}, 3, ("pytest left no verdicts (exit status 3): the output",)),
        (_honest(seconds="soon"), 3, ("pytest left no verdicts (exit status 3): the output",)),
        (_honest(required=None), 3, ("pytest left no verdicts (exit status 3): the output",)),
        (_honest(results=[{}]), 3, ("pytest left no verdicts (exit status 3): the output",)),
    ],
)
def test_an_answer_that_cannot_be_believed_says_why(
    tmp_path: Path, answer: object, status: int, problems: tuple[str, ...]
) -> None:
    told = _answered(tmp_path, answer, status)
    assert (told.verdict, told.problems) == (Verdict.UNKNOWN, problems)
    assert set(told.missing) == (set() if told.results else set(REQUIRED))


def test_a_check_that_was_dropped_from_the_list_is_still_required(liar: Callable[..., GateResult]) -> None:
    def drop(said: dict[str, Any]) -> None:
        said["required"].remove("instance_is_gone")
        said["results"] = [one for one in said["results"] if one["id"] != "instance_is_gone"]

    result = liar(drop, status=1)
    assert result.verdict is Verdict.UNKNOWN
    assert result.missing == ("instance_is_gone",)


# --- what a gate is judged by ---------------------------------------------------------------

TREE = {
    "common.py": True,
    "limits.toml": True,
    "lib/more.py": True,
    "upload/check_a.py": True,
    "upload/deep/check_b.py": True,
    "mine/check_c.py": True,
    "launch/check_d.py": False,
    "lib/launch/e.py": True,
    "__pycache__/common.pyc": False,
    "upload/__pycache__/check_a.pyc": False,
    ".git/config": False,
    ".hidden": False,
}


def test_a_gate_rests_on_all_files_but_those_of_other_stages_and_caches(tmp_path: Path) -> None:
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    read = {path.relative_to(tmp_path).as_posix() for path in judge._read_by("upload", tmp_path)}
    assert read == {name for name, counts in TREE.items() if counts}


def test_the_demand_is_of_the_job_the_plan_the_files_and_their_place(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "upload").mkdir(parents=True)
    job = sound_job(gates={"checks": [tmp_path / "one", tmp_path / "two"]})
    demands = [judge.demand("upload", job), judge.demand("install", job), judge.demand("upload", sound_job())]
    for name, text in (
        ("one/upload/check_a.py", "x"),
        ("one/upload/check_a.py", "y"),
        ("two/upload/check_a.py", "y"),
        ("two/limits.py", "y"),
    ):
        (tmp_path / name).write_text(text)
        demands.append(judge.demand("upload", job))
    assert len(set(demands)) == len(demands)
    (tmp_path / "two" / "launch").mkdir()
    (tmp_path / "two" / "launch" / "check_b.py").write_text("another stage's")
    assert judge.demand("upload", job) == demands[-1]


def test_a_gate_asks_pytest_for_the_folders_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "one" / "teardown").mkdir(parents=True)
    (tmp_path / "two").mkdir()
    job = sound_job(gates={"checks": [tmp_path / "one", tmp_path / "two"]})
    facts = facts_file(Stage.TEARDOWN, None, job)
    command = judge._command(facts, Path("facts.json"), Path("verdicts.json"), tmp_path)
    assert command[-2:] == [str(plan.FOLDER / "teardown"), str(tmp_path / "one" / "teardown")]
    assert command[-5:-2] == ["--stage=teardown", "--facts=facts.json", "--verdicts=verdicts.json"]
    assert {"no:cacheprovider", "no:unraisableexception", "harness.plugin", "--import-mode=importlib"} <= set(command)
    assert (tmp_path / "gate.ini").read_text() == "[pytest]\naddopts =\n"


# --- values ---------------------------------------------------------------------------------


def one(name: str, verdict: Verdict = Verdict.PASS) -> CheckResult:
    return CheckResult(
        CheckId(name), "upload", "a claim", verdict, (Sight("x", "1"),), (Sight("y", "2"),), "m", "r", 0.25
    )


def test_a_result_comes_out_of_the_event_log_as_it_went_in() -> None:
    names = (CheckId("a"), CheckId("b"))
    result = GateResult("upload", "d" * 64, names, (one("a"), one("b", Verdict.FAIL)), ("p",), 1.5)
    told = json.loads(json.dumps(dataclasses.asdict(result)))
    assert result_from_json(told) == result
    assert result_from_json({**told, "a later field": 1}) == result


@pytest.mark.parametrize("field", ["stage", "plan_digest", "required", "results"])
def test_half_a_result_is_none(field: str) -> None:
    told = json.loads(json.dumps(dataclasses.asdict(GateResult("upload", "d", (CheckId("a"),), (one("a"),)))))
    told.pop(field)
    with pytest.raises(ValueError, match=field):
        result_from_json(told)


def test_a_result_with_another_verdict_is_none() -> None:
    told = json.loads(json.dumps(dataclasses.asdict(GateResult("upload", "d", (CheckId("a"),), (one("a"),)))))
    told["results"][0]["verdict"] = "fine"
    with pytest.raises(ValueError, match="verdict"):
        result_from_json(told)


@pytest.mark.parametrize(
    ("required", "results", "verdict"),
    [
        ((), (), Verdict.UNKNOWN),
        (("a",), (), Verdict.UNKNOWN),
        ((), ("a",), Verdict.UNKNOWN),
        (("a",), ("a",), Verdict.PASS),
        (("a", "b"), ("a",), Verdict.UNKNOWN),
    ],
)
def test_a_gate_opens_on_exactly_what_is_required(
    required: tuple[str, ...], results: tuple[str, ...], verdict: Verdict
) -> None:
    names = tuple(CheckId(name) for name in required)
    assert GateResult("upload", "d", names, tuple(one(name) for name in results)).verdict is verdict


def test_a_failure_weighs_more_than_what_is_missing() -> None:
    names = (CheckId("a"), CheckId("b"))
    assert GateResult("upload", "d", names, (one("a", Verdict.FAIL),)).verdict is Verdict.FAIL


def test_the_plans_digest_is_of_its_set() -> None:
    a, b = CheckId("a"), CheckId("b")
    assert plan.digest("upload", (a, b)) == plan.digest("upload", (b, a))
    assert len({plan.digest("upload", (a,)), plan.digest("upload", (a, b)), plan.digest("install", (a, b))}) == 3


def test_every_declared_check_has_a_file_and_every_file_is_declared() -> None:
    from harness.plugin.declaring import in_folders

    job = sound_job()
    (folder,) = judge.check_folders(job)
    for stage in Stage:
        found = in_folders([folder / stage])
        assert found.problems == ()
        assert set(found.checks) == set(plan.declared(stage, job)) | plan.left_out(stage, job).keys()


def test_upload_is_judged_by_three() -> None:
    assert len(plan.declared("upload", sound_job())) == 3
    assert upload().script_batch_size == seen(32)
