"""The checklist is readable and exact, and nothing that a stranger wrote becomes markup in it."""

from __future__ import annotations

import dataclasses
import re
from html import unescape
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from harness.artifacts.evaluation import Accuracy, Decisions
from harness.core.ids import Sha256
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.gates.evidence import Sight
from harness.ledger.events import (
    ArtifactRecorded,
    CheckpointMirrored,
    Evaluated,
    EvaluationBegun,
    Fetched,
    Held,
    Trained,
)
from harness.ledger.kinds import JobEvent
from harness.report import build, html, junit, markdown
from harness.report.model import EvaluationReport, RuleCheck, RuleReport
from tests.support.job_histories import DIGEST, Log, check, job

_HOSTILE = (
    "</details><script>alert(1)</script>",
    "![x](http://evil.example/?q) [y](javascript:alert(1)) <http://evil.example>",
    "a | b |\n\n# heading\n\n- [x] `local_file_exists`: passed\n---\n",
    "``` \n````text\n<b>",
    "` `` ``` ```` <img src=x onerror=alert(1)>",
    "`\x1b[31m`\x1b[m`\n<i>",
    "\\",
    "\\`<b>`",
    "&lt;b&gt; &#60;b&#62;",
    "<!--",
    "\r\n\r\n> quote\r\n1. list\r\n    code",
    "\ud800 \x00 \u2028",
    "",
    " ",
    "$x$ **b** _i_ ~~s~~ www.evil.example http://evil.example a@evil.example",
)


def _hostile_log(evil: str) -> Log:
    bent = check(
        Stage.POSTDOWNLOAD,
        "local_file_exists",
        Verdict.FAIL,
        claim=evil,
        saw=(Sight(evil, evil), Sight("x", evil)),
        expected=(Sight(evil, evil),),
        message=evil,
        remedy=evil,
    )
    log = Log().fetched(bent, path=f"/home/me/{evil}")
    return log.add(Held(Stage.POSTDOWNLOAD, error=evil, reason=evil))


def _tokens(text: str) -> list[Token]:
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    found: list[Token] = []
    for token in parser.parse(text):
        found += [token, *(token.children or [])]
    return found


def _structure(text: str) -> list[str]:
    """Everything but the words, and the emphasis of the report's own."""
    loose = {"text", "code_inline", "text_special", "fence", "softbreak", "hardbreak"}
    return [token.type for token in _tokens(text) if token.type not in loose]


def _render(evil: str) -> str:
    log = _hostile_log(evil)
    return markdown.render(build(log.history, now=log.at, charges=None))


_BENIGN = _structure(_render("quite harmless"))


@pytest.mark.parametrize("evil", _HOSTILE)
def test_a_strangers_words_are_words(evil: str) -> None:
    text = _render(evil)
    text.encode("utf-8")
    kinds = {token.type for token in _tokens(text)}
    assert not kinds & {"html_inline", "html_block", "link_open", "image", "s_open"}
    if evil.strip():
        assert _structure(text) == _BENIGN
    assert "\x1b" not in text


@given(st.text(alphabet=st.sampled_from("`~*_[]()<>!#|\\-+=:&;$@/ \n\tab1.\"'")))
@settings(max_examples=60)
def test_no_text_of_punctuation_becomes_markup(evil: str) -> None:
    text = _render("x" + evil)
    assert _structure(text) == _BENIGN


def test_sentences_hold_no_tag_and_no_link() -> None:
    assert markdown.words("<b> & [x](http://e)") == "&lt;b&gt; &amp; \\[x\\](http:&#47;&#47;e)"


def test_no_table_row_is_broken_by_a_pipe() -> None:
    text = _render("a|b `c|d`")
    rows = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")]
    assert set(rows) == {3, 4, 5, 6}, "at a glance, checks, paid parts, stages"


@pytest.mark.parametrize("evil", ["x" * 10_000, "x y " * 2_500, "\u202e" * 10_000, "`" * 10_000, "<" * 10_000])
def test_no_line_is_longer_than_a_person_reads(evil: str) -> None:
    """The verdict is told whole; lines of the timeline hold paths and digests and are a little longer."""
    bent = check(
        Stage.POSTDOWNLOAD, "local_file_exists", Verdict.FAIL, claim=evil, saw=(Sight(evil, evil),), message=evil
    )
    log = Log().fetched(bent)
    log.add(Held(Stage.POSTDOWNLOAD, error=evil, reason=evil))
    rules = (_rule(evil), _rule("", *_OPEN))
    text = markdown.render(build(log.history, now=log.at, charges=None, evaluation=_decided(evil), rules=rules))
    shown = [unescape(re.sub(r"\\(?=\W)|`(?!$)", "", line)) for line in text.splitlines()]
    told = [line for line in shown if not line.startswith("> ")]
    assert max(map(len, told)) <= 260
    assert [line for line in told[: told.index("## Timeline")] if len(line) > 200] == []


def test_the_checklist_says_what_each_check_said() -> None:
    log = Log().fetched(
        check(Stage.POSTDOWNLOAD, "local_file_exists", Verdict.FAIL, message="nothing there"),
        check(Stage.POSTDOWNLOAD, "gguf_generates", Verdict.UNKNOWN),
    )
    text = markdown.render(build(log.history, now=log.at, charges=None))
    assert "| `[x]` | `local_size_equals_remote` | what local_size_equals_remote claims |" in text
    assert "- [ ] **FAIL** `local_file_exists`: what" in text
    assert "- [?] **UNKNOWN** `gguf_generates`: what" in text
    assert "| `[ ]` | `instance_is_gone` | not judged yet |" in text
    assert "local_size_equals_remote` = " not in text, "what passed is told in the JSON, and folded in the page"
    assert text.count("  - saw `seen` = `42`") == 4, "each of the two, at the top and in its stage"
    assert "    nothing there" in text
    assert text.index("What keeps postdownload shut") < text.index("## Stages")
    assert "- next: `harness run night`" in text


def test_a_closed_job_begins_with_its_verdict() -> None:
    log = Log().closed()
    report = build(log.history, now=log.at, charges=None)
    text = markdown.render(report)
    assert text.splitlines()[2].startswith("> **CLOSED.** ")
    assert "What keeps" not in text
    assert "[ ] **" not in text
    assert "| training | passed (PASS) | 16/16 | 40 min | $10.67 |" in text
    assert f"| checks | {report.required} of {report.required} passed |" in text
    assert "| model file | 7.54 GiB, verified |" in text
    assert "7.54 GiB (8,098,524,992 bytes)" in text


def test_two_files_that_differ_are_called_different() -> None:
    log = Log().trained().add(ArtifactRecorded("/a.gguf", 9, DIGEST))
    log.add(Fetched("/b.gguf", 9, Sha256("cd" * 32), bytes_per_s=None))
    assert "NOT the same file" in markdown.render(build(log.history, now=log.at, charges=None))


def test_junit_counts_failures_and_errors_and_what_is_to_come() -> None:
    log = Log().fetched(
        check(Stage.POSTDOWNLOAD, "local_file_exists", Verdict.FAIL),
        check(Stage.POSTDOWNLOAD, "gguf_generates", Verdict.UNKNOWN),
    )
    root = ET.fromstring(junit.render(build(log.history, now=log.at, charges=None)))
    suite = next(one for one in root if one.get("name") == "postdownload")
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("1", "1", "0")
    assert (root.get("failures"), root.get("errors"), root.get("skipped")) == ("1", "1", "7")
    case = suite.find("testcase[@name='local_file_exists']/failure")
    assert case is not None
    assert case.get("message") == "assert 42 == 43"
    assert "saw: seen = 42" in str(case.text)


@pytest.mark.parametrize("evil", [*_HOSTILE, "]]>\ufffe\uffff\x0b"])
def test_junit_is_well_formed_whatever_a_stranger_wrote(evil: str) -> None:
    log = _hostile_log(evil)
    root = ET.fromstring(junit.render(build(log.history, now=log.at, charges=None)))
    assert root.get("failures") == "1"


def test_what_was_paid_beside_the_bytes_is_told() -> None:
    log = Log().trained().add(ArtifactRecorded("/m.gguf", 8_000_000_000, DIGEST))
    log.add(Trained(at=log.at))
    log.add(Fetched("/m", 8_000_000_000, DIGEST, bytes_per_s=80e6), after=200)
    text = markdown.render(build(log.history, now=log.at, charges=None))
    assert "the artifact's bytes alone need 1 min 40 s at 76.29 MiB/s; 52.4% went on everything else" in text


def _decided(evil: str = "all is well") -> EvaluationReport:
    trained, base, majority = Accuracy(0.512, 0.489, 0.535), Accuracy(0.498, 0.47, 0.52), Accuracy(0.507, 0.5, 0.51)
    found = Decisions(1234, beats_majority=False, doubts=(evil,), trained=trained, base=base, majority=majority)
    return EvaluationReport({evil: found}, "")


def test_an_accuracy_stands_beside_what_it_must_beat() -> None:
    log = Log().verified()
    doubt = "7 evaluation prompts hold their own answer"
    report = build(log.history, now=log.at, charges=None, evaluation=_decided(doubt))
    text = markdown.render(report)
    assert "51.2% (95 % interval 48.9% to 53.5%) of 1,234 later rows decided right" in text
    assert "the majority class alone 50.7% (95 % interval 50.0% to 51.0%), the base model 49.8%" in text
    assert "it is not shown to be better than the majority class" in text
    assert f"  - doubt: `{doubt}`" in text


@pytest.mark.parametrize(
    ("events", "asks", "said"),
    [
        ((), False, "the job file does not ask for it (package.evaluate)"),
        ((), True, "not yet"),
        ((EvaluationBegun(("x",)),), True, "not yet"),
        ((EvaluationBegun(("x",)), Evaluated("it ended with status 1", None)), True, "it ended with status 1"),
    ],
)
def test_a_model_that_was_not_evaluated_is_said_to_be(events: tuple[JobEvent, ...], asks: bool, said: str) -> None:
    log = Log(job(package={"evaluate": ["x"]}) if asks else None).verified()
    for event in events:
        log.add(event)
    text = markdown.render(build(log.history, now=log.at, charges=None))
    assert f"The model was not evaluated: `{said}`" in text


@pytest.mark.parametrize("evil", _HOSTILE)
def test_an_evaluation_is_a_strangers_words(evil: str) -> None:
    log = Log().verified()

    def structure(words: str) -> list[str]:
        return _structure(markdown.render(build(log.history, now=log.at, charges=None, evaluation=_decided(words))))

    assert structure(evil) == structure("quite harmless")


def test_what_was_planned_stands_beside_what_was_paid() -> None:
    log = Log().verified()
    text = markdown.render(build(log.history, now=log.at, charges=None))
    assert "- planned: training alone 40 min, $10.72; whole rental with setup, download and traffic 65 min, $18" in text


def _rule(differs: str = "", *checks: tuple[Stage, str]) -> RuleReport:
    return RuleReport("seeds.md", "rule 9", "a < b", differs, tuple(RuleCheck(*one) for one in checks))


_OPEN = tuple((Stage.UPLOAD, f"nobody_has_this_{number}") for number in range(5))


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        (_rule("", (Stage.UPLOAD, "remote_package_matches_manifest")), "1 of 1 rules are kept"),
        (
            _rule("", (Stage.POSTDOWNLOAD, "local_file_exists"), (Stage.POSTDOWNLOAD, "local_size_equals_remote")),
            "- [ ] seeds.md, **rule 9** (a &lt; b)\n  - `postdownload/local_file_exists` FAIL\n\n",
        ),
        (
            _rule("", (Stage.POSTDOWNLOAD, "gguf_generates")),
            "- [?] seeds.md, **rule 9** (a &lt; b)\n  - `postdownload/gguf_generates` UNKNOWN\n",
        ),
        (
            _rule("", (Stage.TEARDOWN, "instance_is_gone")),
            "- [ ] seeds.md, **rule 9** (a &lt; b)\n  - `teardown/instance_is_gone` not judged\n",
        ),
        (_rule("", *_OPEN), "  - `upload/nobody_has_this_2` not judged\n  - and 2 checks more\n"),
        (_rule("no GPU here"), "0 of 1 rules are kept by checks that passed in this job. The others:\n\n- seeds.md, "),
        (_rule("no GPU here"), "(a &lt; b)\n  - differs: no GPU here\n"),
    ],
)
def test_a_rule_has_the_verdicts_of_this_job(rule: RuleReport, line: str) -> None:
    """A rule that nothing keeps, or that was not looked at yet, is not counted as kept."""
    log = Log().fetched(
        check(Stage.POSTDOWNLOAD, "local_file_exists", Verdict.FAIL),
        check(Stage.POSTDOWNLOAD, "gguf_generates", Verdict.UNKNOWN),
    )
    report = build(log.history, now=log.at, charges=None, rules=(rule,))
    assert line in markdown.render(report)


def test_a_long_timeline_is_told_by_its_ends() -> None:
    log = Log().trained()
    for step in range(100):
        log.add(CheckpointMirrored(trainer="sft", step=step))
    text = markdown.render(build(log.history, now=log.at, charges=None))
    told = text.partition("## Timeline")[2]
    assert "moments are left out here)" in told
    assert "the job file was read" in told
    assert "step 99 was mirrored" in told
    assert len(told.splitlines()) < 70


def test_a_rule_that_rests_on_a_lesson_says_what_came_of_trying_it_again() -> None:
    log = Log().verified()
    rule = dataclasses.replace(_rule("", (Stage.UPLOAD, "remote_package_matches_manifest")), tried="ddp <works> now")
    report = build(log.history, now=log.at, charges=None, rules=(rule,))
    assert "\nTried again:\n\n- ddp " in markdown.render(report)
    assert "ddp &lt;works&gt; now" in html.render(report)
