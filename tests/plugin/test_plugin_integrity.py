"""Whatever keeps a check from looking, or its word from being heard, keeps its gate shut."""

from __future__ import annotations

import sys
import time
from xml.etree import ElementTree as ET

import pytest

from tests.support.facts import NOW
from tests.support.gate_project import FIRST, SECOND, Project, Said, project

pytest_plugins = ["pytester"]

OPEN, HELD = 0, 1


@pytest.fixture
def mine(pytester: pytest.Pytester) -> Project:
    return project(pytester)


def assert_held(said: Said, words: str = "") -> None:
    assert said.status == HELD, said.output
    assert "gate mine: HELD" in said.output
    assert "gate mine: OPEN" not in said.output
    assert words in said.output


def second(body: str, marks: str = "") -> str:
    text = '"""Broken on purpose."""\nimport os, sys, pytest\nfrom harness.core.observed import CouldNotLook\n'
    looked = '    evidence.note("length", len(facts["question"]))\n'
    return f"{text}\n{marks}\ndef check_second(facts, evidence):\n{looked}    {body}\n"


def test_a_gate_opens_when_every_check_looked_and_held(mine: Project) -> None:
    said = mine.judge(mine.facts())
    assert said.status == OPEN, said.output
    assert "gate mine: OPEN, 2 of 2 checks passed" in said.output
    assert said.verdicts() == {"first": "pass", "second": "pass"}


def test_a_failed_check_says_what_it_saw_expected_and_what_is_next(mine: Project) -> None:
    said = mine.judge(mine.facts(question="how many roads must a man walk down?"))
    assert_held(said)
    assert said.verdicts() == {"first": "pass", "second": "fail"}
    for words in (
        "FAIL second: The question is short",
        "saw       length = 36",
        "expected  at most = 20",
        "because   36 letters",
        "next      mend what is named above, then: harness run forex-r1-v3",
    ):
        assert words in said.output


SPOKEN = [
    ('assert len("abc") == 4, "three letters"', "three letters"),
    ('assert len("abc") == 4', 'assert len("abc") == 4'),
    ('assert len("abc") == 4, ""', 'assert len("abc") == 4, ""'),
    ("assert (\n        4 ==\n        len('abc')\n    )", "assert (\n    4 ==\n    len('abc')\n)"),
    ('assert not facts, "one:\\n  two\\nthree {100 %}\\n\\n~ four"', "one:\n  two\nthree {100 %}\n\n~ four"),
    ('pytest.fail("three letters")', "three letters"),
    ("pytest.fail()", "pytest.fail()"),
    ('raise AssertionError("three letters")', "three letters"),
]


@pytest.mark.parametrize(("body", "words"), SPOKEN)
@pytest.mark.parametrize("how", ["plain", "rewrite"])
def test_what_a_check_says_does_not_depend_on_how_pytest_imports_it(
    mine: Project, how: str, body: str, words: str
) -> None:
    mine.write("checks/mine/check_b.py", second(body))
    said = mine.judge(mine.facts(), f"--assert={how}")
    assert_held(said)
    assert said.gate is not None
    (message,) = [result["message"] for result in said.gate["results"] if result["id"] == "second"]
    assert message == words


def test_an_assertion_without_words_whose_source_is_gone_says_where_it_stands(mine: Project) -> None:
    mine.write("checks/mine/check_b.py", second("exec(compile('assert not facts', 'gone.py', 'exec'), {'facts': 1})"))
    said = mine.judge(mine.facts())
    assert_held(said, "an assertion without words failed")
    assert said.verdicts()["second"] == "fail"


NOT_A_PASS = {
    "a skip mark": second("pass", '@pytest.mark.skip(reason="later")'),
    "a skip inside": second('pytest.skip("later")'),
    "a skip of the whole file": second("pass") + "\npytestmark = pytest.mark.skip\n",
    "an xfail that fails": second("assert False", "@pytest.mark.xfail"),
    "an xfail that passes": second("pass", "@pytest.mark.xfail"),
    "a strict xfail that fails": second("assert False", "@pytest.mark.xfail(strict=True)"),
    "a strict xfail that passes": second("pass", "@pytest.mark.xfail(strict=True)"),
    "an xfail that is not run": second("pass", "@pytest.mark.xfail(run=False)"),
    "an xfail inside": second('pytest.xfail("later")'),
    "another error than an assertion": second("{}['x']"),
    "it could not look": second('raise CouldNotLook("the box did not answer")'),
    "it returns False": second("return False"),
    "it returns True": second("return True"),
    "it exits well": second("sys.exit(0)"),
    "it is async": second("pass").replace("def check", "async def check"),
    "it looks at nothing": "def check_second(facts):\n    assert facts\n",
    "its fixture fails": second("pass").replace("facts, evidence", "facts, evidence, broken")
    + "\n@pytest.fixture\ndef broken():\n    raise OSError('no disk')\n",
    "it asks for a fixture that is not there": second("pass").replace("facts, evidence", "facts, evidence, nowhere"),
    "its fixture fails afterwards": second("pass").replace("facts, evidence", "facts, evidence, broken")
    + "\n@pytest.fixture\ndef broken():\n    yield\n    assert False, 'too late'\n",
}


@pytest.mark.parametrize("text", NOT_A_PASS.values(), ids=NOT_A_PASS)
def test_what_is_not_a_pass_is_unknown(mine: Project, text: str) -> None:
    mine.write("checks/mine/check_b.py", text)
    said = mine.judge(mine.facts())
    assert_held(said, "UNKNOWN second")
    assert said.verdicts() == {"first": "pass", "second": "unknown"}


@pytest.mark.parametrize(
    ("body", "option"),
    [("return False", "-pno:warnings"), ("return False", "-Wignore"), ("assert False", "--assert=plain")],
)
def test_options_that_soften_python_do_not_soften_a_check(mine: Project, body: str, option: str) -> None:
    mine.write("checks/mine/check_b.py", second(body))
    assert_held(mine.judge(mine.facts(), option))


def test_all_skipped(mine: Project) -> None:
    for name in ("a", "b"):
        mine.write(f"checks/mine/check_{name}.py", second("pass", "@pytest.mark.skip").replace("second", f"x{name}"))
    said = mine.judge(mine.facts())
    assert_held(said)
    assert set(said.verdicts().values()) == {"unknown"}


NARROWED = {
    "-k": ["-k", "first"],
    "-m": ["-m", "nothing"],
    "--deselect": ["--deselect", "checks/mine/check_b.py::check_second"],
    "--ignore": ["--ignore=checks/mine/check_b.py"],
    "--ignore-glob": ["--ignore-glob=*_b.py"],
    "--collect-only": ["--collect-only"],
    "--setup-plan": ["--setup-plan"],
    "--setup-only": ["--setup-only"],
}


@pytest.mark.parametrize("options", NARROWED.values(), ids=NARROWED)
def test_what_is_left_out_is_missing(mine: Project, options: list[str]) -> None:
    said = mine.judge(mine.facts(), *options)
    assert_held(said, "UNKNOWN second: it did not report")
    assert said.verdicts()["second"] == "missing"


@pytest.mark.parametrize("target", ["checks/mine/check_a.py", "checks/mine/check_a.py::check_first"])
def test_a_part_of_the_folder_is_not_the_stage(mine: Project, target: str) -> None:
    assert_held(mine.judge(mine.facts(), folder=target), "UNKNOWN second: it did not report")


@pytest.mark.parametrize("smuggled", ["-k first", "--deselect=checks/mine/check_b.py", "--collect-only"])
def test_options_in_the_environment_change_nothing(
    mine: Project, monkeypatch: pytest.MonkeyPatch, smuggled: str
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", smuggled)
    assert_held(mine.judge(mine.facts()), "UNKNOWN second: it did not report")


def test_only_the_last_failed(mine: Project) -> None:
    mine.judge(mine.facts(answer=41))
    facts = mine.facts(question="how many roads must a man walk down?")
    assert_held(mine.judge(facts, "--lf"), "UNKNOWN second: it did not report")


def test_stopping_at_the_first_failure_leaves_the_rest_unknown(mine: Project) -> None:
    said = mine.judge(mine.facts(answer=41), "-x")
    assert said.verdicts() == {"first": "fail", "second": "missing"}
    assert said.status != OPEN


def test_two_checks_of_one_name(mine: Project) -> None:
    mine.write("checks/mine/check_c.py", FIRST)
    assert_held(mine.judge(mine.facts()), "two checks are named first")


def test_an_import_error_hides_no_check(mine: Project) -> None:
    mine.write("checks/mine/check_b.py", "import nowhere_to_be_found\n" + SECOND)
    said = mine.judge(mine.facts())
    assert said.status != OPEN
    assert "UNKNOWN cannot collect checks/mine/check_b.py" in said.output
    assert said.verdicts() == {"first": "missing", "second": "missing"}
    assert_held(mine.judge(mine.facts(), "--continue-on-collection-errors"), "UNKNOWN second")


def test_a_generator_is_no_check(mine: Project) -> None:
    mine.write("checks/mine/check_b.py", second("yield"))
    said = mine.judge(mine.facts())
    assert said.status == pytest.ExitCode.INTERRUPTED
    assert "UNKNOWN cannot collect checks/mine/check_b.py" in said.output
    assert said.verdicts()["second"] == "missing"


def test_a_file_that_does_not_parse_and_is_ignored(mine: Project) -> None:
    mine.write("checks/mine/check_b.py", "def check_second(:\n")
    assert_held(mine.judge(mine.facts(), "--ignore=checks/mine/check_b.py"), "cannot read the checks of")


def test_a_tuple_is_no_assertion(mine: Project) -> None:
    mine.write("checks/mine/check_b.py", second('assert (False, "always true")'))
    assert_held(mine.judge(mine.facts(), "-Wignore"), "an assertion of a tuple always holds")


def test_pytest_exit_with_success(mine: Project) -> None:
    mine.write("checks/mine/check_a.py", second('pytest.exit("done", returncode=0)').replace("second", "zero"))
    said = mine.judge(mine.facts())
    assert_held(said)
    assert said.verdicts() == {"zero": "missing", "second": "missing"}


def test_checks_of_a_class_count(mine: Project) -> None:
    text = SECOND.replace("def check_second(", "class CheckQuestion:\n  def check_second(self, ").replace(
        "\n    ", "\n      "
    )
    mine.write("checks/mine/check_b.py", text)
    assert mine.judge(mine.facts()).verdicts() == {"first": "pass", "second": "pass"}
    assert_held(mine.judge(mine.facts(question="x" * 30)), "FAIL second")


def test_each_case_of_a_check_counts(mine: Project) -> None:
    text = SECOND.replace("facts, evidence", "facts, evidence, most").replace('"at most", 20', '"at most", most')
    mine.write("checks/mine/check_b.py", f"import pytest\n@pytest.mark.parametrize('most', [99, 10])\n{text.lstrip()}")
    said = mine.judge(mine.facts())
    assert_held(said, "FAIL second[10]")
    assert said.verdicts() == {"first": "pass", "second[99]": "pass", "second[10]": "fail"}


def test_a_failed_subtest_fails_its_check(mine: Project) -> None:
    body = "with subtests.test('inner'):\n        assert False, 'inside'"
    mine.write("checks/mine/check_b.py", second(body).replace("facts, evidence", "facts, evidence, subtests"))
    said = mine.judge(mine.facts())
    assert_held(said)
    assert said.verdicts()["second"] != "pass"


def test_a_check_that_is_marked_as_of_another_stage(mine: Project) -> None:
    mine.write("checks/mine/check_b.py", second("assert False", '@pytest.mark.stage("other")'))
    assert_held(mine.judge(mine.facts()), "UNKNOWN second: it did not report")


def test_a_check_elsewhere_that_is_marked_as_of_the_stage(mine: Project) -> None:
    mine.write(
        "checks/extra/check_c.py", second("assert False", '@pytest.mark.stage("mine")').replace("second", "third")
    )
    said = mine.judge(mine.facts())
    assert_held(said, "FAIL third")


def test_a_stage_without_any_check(mine: Project) -> None:
    assert_held(mine.judge(mine.facts(), folder=mine.write("empty/x.txt", "").parent.name), "UNKNOWN first")
    said = mine.judge(mine.facts(stage="void"), stage="void")
    assert said.status == HELD
    assert "no check is declared or found for stage 'void'" in said.output


CONFTESTS = {
    "its reports say passed": """
        import pytest
        @pytest.hookimpl(wrapper=True, tryfirst=True)
        def pytest_runtest_makereport(item, call):
            report = yield
            report.outcome = "passed"
            return report
        """,
    "its session ends well": """
        import pytest
        @pytest.hookimpl(trylast=True)
        def pytest_sessionfinish(session):
            session.exitstatus = 0
        """,
    "its session ends at once": """
        import pytest
        @pytest.hookimpl(tryfirst=True)
        def pytest_sessionfinish(session):
            pytest.exit("well", returncode=0)
        """,
    "it removes items first": """
        import pytest
        @pytest.hookimpl(tryfirst=True)
        def pytest_collection_modifyitems(items):
            items[:] = [item for item in items if "second" not in item.name]
        """,
    "it collects no such file": """
        collect_ignore = ["mine/check_b.py"]
        """,
    "it runs a failed check until it passes": """
        from _pytest.runner import runtestprotocol
        def pytest_runtest_protocol(item, nextitem):
            for turn in range(2):
                item.turn = turn
                for report in runtestprotocol(item, nextitem=nextitem, log=False):
                    if turn == 0 and report.failed:
                        report.outcome = "rerun"
                    item.ihook.pytest_runtest_logreport(report=report)
            return True
        """,
    "it swallows the call": """
        import pytest
        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_call(item):
            try:
                return (yield)
            except AssertionError:
                pytest.skip("flaky")
        """,
}


@pytest.mark.parametrize("conftest", CONFTESTS.values(), ids=CONFTESTS)
def test_a_conftest_does_not_talk_a_failed_check_away(mine: Project, conftest: str) -> None:
    lines = [line[8:] for line in conftest.splitlines()]
    mine.write("checks/conftest.py", "\n".join(lines))
    again = 'assert getattr(request.node, "turn", 0), "failed at first"'
    mine.write("checks/mine/check_b.py", second(again).replace("facts, evidence", "facts, evidence, request"))
    said = mine.judge(mine.facts())
    assert said.status == HELD, said.output
    assert said.verdicts().get("second") != "pass"


@pytest.mark.parametrize("name", ["gatekeeping", "selecting", "speaking"])
def test_no_part_of_the_judge_can_be_left_out(mine: Project, name: str) -> None:
    said = mine.judge(mine.facts(), f"-pno:harness-{name}")
    assert said.status == pytest.ExitCode.USAGE_ERROR
    assert f"-p no:harness-{name}" in said.output


def test_python_without_assertions_judges_nothing(mine: Project) -> None:
    options = ["-O", "-m", "pytest", "-pharness.plugin", "--stage=mine", mine.facts(), "checks"]
    ran = mine.pytester.run(sys.executable, *options)
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    assert "python -O removes them" in ran.stderr.str()


@pytest.mark.parametrize("option", ["--help", "--markers", "--fixtures", "--fixtures-per-test", "--cache-show"])
def test_an_option_that_lists_is_refused_where_a_stage_is_to_be_judged(mine: Project, option: str) -> None:
    said = mine.judge(mine.facts(), option)
    assert said.status == pytest.ExitCode.USAGE_ERROR, said.output
    assert "judges nothing: leave it out, or --stage" in said.output
    assert mine.run(option).ret == 0


@pytest.mark.parametrize("option", ["--collect-only", "--setup-only", "--setup-plan"])
def test_an_option_that_lists_checks_leaves_a_gate_that_is_held(mine: Project, option: str) -> None:
    assert_held(mine.judge(mine.facts(), option))


def test_the_session_ends_with_the_gates_status_for_whoever_reads_it_there(mine: Project) -> None:
    """What reports a session's status from a hook of its own reads it when the session ends, not when pytest does."""
    mine.write(
        "conftest.py",
        "import pytest\n"
        "@pytest.hookimpl(wrapper=True, tryfirst=True)\n"
        "def pytest_sessionfinish(session):\n"
        "    yield\n"
        "    print('told elsewhere:', int(session.exitstatus))\n",
    )
    said = mine.judge(mine.facts(), "-k first")
    assert_held(said)
    assert f"told elsewhere: {HELD}" in said.output


@pytest.mark.parametrize("options", [(), ("-q",), ("-n2",)])
def test_recorded_facts_say_so_first_and_last(mine: Project, options: tuple[str, ...]) -> None:
    said = mine.judge(mine.facts(), "--junitxml=junit.xml", *options, workers=2 if "-n2" in options else 0)
    assert said.status == OPEN, said.output
    lines = [line for line in said.output.splitlines() if line.strip()]
    for line in (lines[0], lines[-1]):
        assert line.startswith("recorded facts of stage mine, seen "), said.output
        assert line.endswith(": the world is not looked at")
    assert said.gate is not None
    assert said.gate["facts_recorded"].startswith("recorded facts of stage mine")
    assert said.gate["facts_seen_at"] == NOW
    cases = ET.parse(mine.pytester.path / "junit.xml").getroot().findall(".//testcase")
    assert len(cases) == 2
    for case in cases:
        (told,) = case.findall("properties/property[@name='facts']")
        assert told.get("value") == said.gate["facts_recorded"]


def test_facts_of_this_machines_future_say_so(mine: Project) -> None:
    said = mine.judge(mine.facts(), "-q")
    assert ("from now, by this clock" in said.output) == (time.time() < NOW)
