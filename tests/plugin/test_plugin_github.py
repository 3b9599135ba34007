"""GitHub reads every line that a step prints, and shows its summary: neither says what a box would have it say."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from harness.core.ids import CheckId
from harness.core.verdict import Verdict
from harness.gates.evidence import CheckResult, GateResult, Sight
from harness.plugin.session import Judging
from harness.plugin.writing import summary_markdown, workflow_commands
from tests.support import ci_runner
from tests.support.facts import sound_job
from tests.support.gate_project import Project, project

pytest_plugins = ["pytester"]

HARNESS_JOB = sound_job().name


@pytest.fixture
def mine(pytester: pytest.Pytester) -> Project:
    return project(pytester)


def test_github_sees_annotations_and_a_summary(mine: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = mine.pytester.path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    long = "x" * 30 + "\n::error title=faked::all is well\n| a | b"
    said = mine.judge(mine.facts(question=long, answer=41))
    told = list(ci_runner.obeyed(said.output))
    assert [(one.name, one.properties["title"]) for one in told] == [("error", "first"), ("error", "second")]
    text = summary.read_text(encoding="utf-8")
    assert f"### {HARNESS_JOB}: gate mine held" in text
    assert "| second | FAIL |" in text
    mine.judge(mine.facts())
    assert summary.read_text(encoding="utf-8").count("### ") == 2


def test_what_a_box_says_cannot_speak_to_github(mine: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    body = '    said = evidence.note("said", facts["question"])\n    assert not said, said\n'
    text = f"def check_second(facts, evidence):\n{body}"
    mine.write("checks/mine/check_b.py", text)
    said = mine.judge(mine.facts(question="a\n::add-mask::second\n\x1b]0;owned\x07::stop-commands::x"))
    assert said.verdicts()["second"] == "fail"
    (told,) = ci_runner.obeyed(said.output)
    assert (told.name, told.properties) == ("error", {"title": "second"})
    assert "\x1b]" not in said.output


WORDS: dict[str, str] = {
    "a command on a line of its own": "a\n::error title=faked::all is well",
    "one that is indented": "a\n   \t::warning::faked",
    "an end of the pause": "a\n::00000000::\n::error::faked",
    "an end with every word": "\n".join(f"::{number:08x}::" for number in range(50)) + "\n::error::faked",
    "a carriage return": "a\r::error::faked",
    "an escape before it": "a\n\x1b[0m::error::faked",
    "percent codes": "a%0A::error::faked%25",
    "line and paragraph separators": "a\u2028::error::faked\u2029::error::faked",
    "vertical tabs and form feeds": "a\x0b::error::faked\x0c::error::faked",
    "the form of before": "a\n##[error]faked",
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_no_words_of_a_box_are_obeyed_by_github(mine: Project, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """GitHub reads every line that a step prints; between two words of its own it obeys none of them."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    body = '    said = evidence.note("said", facts["question"])\n    print(said)\n    assert not said, said\n'
    mine.write("checks/mine/check_b.py", f"def check_second(facts, evidence):\n{body}")
    said = mine.judge(mine.facts(question=words))
    (told,) = ci_runner.obeyed(said.output)
    assert (told.name, told.properties) == ("error", {"title": "second"})
    lines = said.output.splitlines()
    assert next(line for line in lines if line.strip()).startswith("::stop-commands::")


def test_github_obeys_again_when_nothing_was_judged(mine: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    ran = mine.run("--stage=mine", mine.facts(), "-p", "no:terminalreporter", "checks")
    assert "::" not in ran.stdout.str()
    ran = mine.run("--stage=mine", mine.facts(), "nothere")
    stopped = [line for line in ran.stdout.lines if line.startswith("::stop-commands::")]
    assert f"::{stopped[0].removeprefix('::stop-commands::')}::" in ran.stdout.lines


@pytest.mark.parametrize(("file", "told"), [
    (None, "::error title=a%2Cb%3Ac%0Ad::why: 100%25, %0A::x"),
    (Path("models/50%,a:b.gguf"), "::error file=models/50%25%2Ca%3Ab.gguf,title=a%2Cb%3Ac%0Ad::why: 100%25, %0A::x"),
])  # fmt: skip
def test_a_workflow_command_is_escaped_as_githubs_own_are(file: Path | None, told: str) -> None:
    name = CheckId("a,b:c\nd")
    result = CheckResult(name, "mine", "claim", Verdict.FAIL, message="why: 100%, \n::x")
    assert list(workflow_commands([GateResult("mine", "", (name,), (result,))], file)) == [told]
    (read,) = ci_runner.obeyed(told)
    assert (read.properties["title"], read.message) == (name, result.message)
    assert read.properties.get("file") == (file and file.as_posix())


def test_a_summary_says_why_and_gives_no_word_a_meaning(mine: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = mine.pytester.path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    evil = "| a | b |\n# all is well <img src=x onerror=1> [x](y) $\\frac{1}{2}$ ~~no~~ &lt; `x` *b* \x1b[31m\u202e"
    body = '    said = evidence.note("said", facts["question"])\n    assert not said, said\n'
    mine.write("checks/mine/check_b.py", f"def check_second(facts, evidence):\n{body}")
    mine.judge(mine.facts(question=evil))
    text = summary.read_text(encoding="utf-8")
    assert "| not passed | verdict | why |" in text
    bare = re.sub(r"\\.", "", text)
    assert not re.search(r"[<\[`$~&\x1b\u202e]", bare)
    assert {line.count("|") for line in bare.splitlines() if line.startswith("|")} == {4}
    assert not [line for line in text.splitlines() if line.startswith("# ")]


def test_a_summary_is_small_enough_to_be_shown() -> None:
    wide = Sight("seen", "\N{PILE OF POO}" * 300)
    result = CheckResult(CheckId("one"), "mine", "claim", Verdict.PASS, saw=(wide,))
    gates = [GateResult("mine", "", (CheckId("one"),), (result,))] * 2000
    judging = SimpleNamespace(facts={"mine": SimpleNamespace(job=SimpleNamespace(name="night"))}, recorded={})
    assert len(summary_markdown(gates, cast("Judging", judging)).encode()) < 1 << 20
