"""A verdict and its words: what an outcome of pytest means, what is said of it, and what machines are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.core.errors import BadInput
from harness.core.ids import CheckId
from harness.core.observed import CouldNotLook, seen, unseen
from harness.core.verdict import Verdict
from harness.gates import facts_file
from harness.gates.evidence import CheckResult, GateResult, Sight
from harness.gates.facts_file import FactsFile, digest_of, name_of, read_facts, recorded
from harness.plugin import verdicts
from harness.plugin.looking import Evidence
from harness.plugin.session import Judging
from harness.plugin.showing import brief
from harness.plugin.writing import summary_markdown, verdicts_json, workflow_commands
from tests.support.facts import NOW, sound_job

PASS, FAIL, UNKNOWN = Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN


# --- a fact in a few words ------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    x: float
    y: str = ""
    inner: object = None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "True"),
        (0, "0"),
        (1 / 3, "0.333333"),
        (Verdict.FAIL, "fail"),
        ((), "none"),
        ([], "none"),
        (tuple(range(6)), "0, 1, 2, 3, 4, 5"),
        (tuple(range(7)), "7: 0 … 6"),
        (frozenset({"a"}), "a"),
        ({"a": 1, "b": "", "c": None, "d": (), "e": {}, "f": [], "g": 0}, "a=1 g=0"),
        (Point(1.5), "x=1.5"),
        (Point(0.0, "why", Point(2)), "x=0 y=why inner=(x=2)"),
        ([Point(1), Point(2)], "(x=1), (x=2)"),
        ({"a": "x" * 160}, f"a={'x' * 160}"),
        ({"a": "x" * 161}, f"a={'x' * 160}…"),
        ("x" * 200, "x" * 200),
        (Point, str(Point)),
    ],
)
def test_a_fact_is_told_in_a_few_words(value: object, words: str) -> None:
    assert brief(value) == words


def test_what_was_not_seen_is_kept_and_raised_by_its_name() -> None:
    evidence = Evidence()
    assert evidence.saw("disk", seen(5)) == evidence.note("room", 5) == evidence.wants("least", 5) == 5
    with pytest.raises(CouldNotLook, match=r"^log: the line was cut$"):
        evidence.saw("log", unseen("the line was cut"))
    assert [(one.name, one.value) for one in evidence.sights] == [
        ("disk", "5"),
        ("room", "5"),
        ("log", "could not look: the line was cut"),
    ]
    assert evidence.expectations == [Sight("least", "5")]


# --- an outcome of pytest -------------------------------------------------------------------


def _fails() -> None:
    raise AssertionError("first line\n    second\nassert 1 == 2")


def _fails_silently() -> None:
    raise AssertionError


def _is_blind() -> None:
    raise CouldNotLook("no reply")


def _breaks() -> None:
    raise KeyError("x")


def outcome(
    run: Callable[[], object], *, when: str = "call", looked: bool = True, **report: Any
) -> tuple[Verdict, str]:
    call = pytest.CallInfo.from_call(run, cast("Any", when))
    told = {"when": when, "skipped": False, "failed": call.excinfo is not None, "longrepr": "strict", **report}
    evidence = Evidence()
    if looked:
        evidence.note("x", 1)
    return verdicts._judge(cast("pytest.TestReport", SimpleNamespace(**told)), cast("Any", call), evidence)


@pytest.mark.parametrize(
    ("run", "report", "verdict", "words"),
    [
        (lambda: None, {}, PASS, ""),
        (lambda: None, {"looked": False}, UNKNOWN, "the check looked at nothing"),
        (_fails, {}, FAIL, "first line\nsecond"),
        (_fails, {"looked": False}, FAIL, "first line"),
        (_fails_silently, {}, FAIL, "raise AssertionError"),
        (lambda: pytest.fail("in words"), {}, FAIL, "in words"),
        (_fails, {"when": "setup"}, UNKNOWN, "could not judge: AssertionError"),
        (_is_blind, {}, UNKNOWN, "could not look: no reply"),
        (_is_blind, {"when": "setup"}, UNKNOWN, "could not look: no reply"),
        (_breaks, {}, UNKNOWN, "could not judge: KeyError: 'x' ("),
        (lambda: None, {"wasxfail": ""}, UNKNOWN, "marked xfail: no reason given"),
        (_fails, {"wasxfail": "later"}, UNKNOWN, "marked xfail: later"),
        (lambda: None, {"skipped": True}, UNKNOWN, "skipped: no reason given"),
        (lambda: pytest.skip("no GPU"), {"skipped": True}, UNKNOWN, "skipped: no GPU"),
        (lambda: None, {"failed": True}, UNKNOWN, "strict"),
    ],
)
def test_only_a_check_that_looked_and_held_passes_and_only_an_assertion_fails(
    run: Callable[[], object], report: dict[str, Any], verdict: Verdict, words: str
) -> None:
    told, message = outcome(run, **report)
    assert told is verdict
    assert message.startswith(words), message
    assert bool(message) != (verdict is PASS)


def test_what_could_not_be_judged_says_where() -> None:
    line = _breaks.__code__.co_firstlineno + 1
    assert outcome(_breaks)[1].endswith(f"({__file__}:{line})")


def test_the_claim_is_the_first_line_of_the_docstring() -> None:
    def check() -> None:
        """The disk has room.

        And more.
        """

    assert verdicts.claim_of(check) == "The disk has room"
    assert (verdicts.claim_of(_fails), verdicts.claim_of(None)) == ("", "")


MARK = pytest.mark.remedy("harness run {job}", unknown="look at {job}", gone="restore").mark
ONE_WORD = pytest.mark.remedy("harness run {job}").mark
USUAL = "mend what is named above, then: harness run forex-r1-v3"


@pytest.mark.parametrize(
    ("mark", "verdict", "gone", "words"),
    [
        (MARK, FAIL, False, "harness run forex-r1-v3"),
        (MARK, UNKNOWN, False, "look at {job}"),
        (MARK, FAIL, True, "restore"),
        (MARK, UNKNOWN, True, "restore"),
        (ONE_WORD, UNKNOWN, True, "harness run forex-r1-v3"),
        (pytest.mark.remedy(unknown="x").mark, UNKNOWN, False, USUAL),
        (None, FAIL, False, USUAL),
    ],
)
def test_the_next_step_is_that_of_the_state(mark: pytest.Mark | None, verdict: Verdict, gone: bool, words: str) -> None:
    words = words.replace("{job}", "forex-r1-v3")
    assert verdicts.next_step(sound_job(), mark, verdict, gone=gone) == words


# --- a result and its report ----------------------------------------------------------------


def result(verdict: Verdict = FAIL, **changes: Any) -> CheckResult:
    told: dict[str, Any] = {"message": "why\nand more", "remedy": "do it", "seconds": 0.5, **changes}
    sights = {"saw": (Sight("log", "a\nb"),), "expected": (Sight("least", "5"),)}
    return CheckResult(CheckId("one"), "mine", "a claim", verdict, **{**sights, **told})


def test_a_result_is_told_to_a_tired_person() -> None:
    assert verdicts.in_words(result()).splitlines() == [
        "FAIL one: a claim",
        "  saw       log = a\\nb",
        "  expected  least = 5",
        "  because   why",
        "          | and more",
        "  next      do it",
    ]
    assert verdicts.in_words(result(PASS, message="", remedy="", saw=(), expected=())) == "PASS one: a claim"


@pytest.mark.parametrize(
    ("verdict", "status"),
    [(PASS, ("passed", ".", "PASS")), (FAIL, ("failed", "F", "FAIL")), (UNKNOWN, ("failed", "U", "UNKNOWN"))],
)
def test_a_report_carries_its_result_to_another_process(verdict: Verdict, status: tuple[str, str, str]) -> None:
    report = cast("pytest.TestReport", SimpleNamespace(harness_result=verdicts._plain(result(verdict))))
    assert verdicts.result_of(report) == result(verdict)
    told = verdicts.Speaking(cast("Judging", None)).pytest_report_teststatus(report)
    assert told is not None
    word = told[2] if isinstance(told[2], str) else told[2][0]
    assert (told[0], told[1], word) == status
    bare = cast("pytest.TestReport", SimpleNamespace())
    assert verdicts.result_of(bare) is None
    assert verdicts.Speaking(cast("Judging", None)).pytest_report_teststatus(bare) is None


def test_a_word_that_no_wire_can_carry_is_replaced() -> None:
    assert verdicts._plain(result(message="a\ud800b"))["message"] == "a?b"


# --- what machines are told -----------------------------------------------------------------

NAMES = (CheckId("one"), CheckId("two"))
HELD = GateResult("mine", "d" * 64, NAMES, (result(),), ("a worker process died",), 1.5)
OPEN = GateResult("mine", "d" * 64, NAMES[:1], (result(PASS, message="", remedy=""),), (), 1.5)


def judging(age: str = "") -> Judging:
    facts = {"mine": FactsFile("mine", sound_job(), NOW, 0.5, {})}
    told = Judging(facts=facts, paths={"mine": Path("f.json")}, digests={"mine": "e" * 64})
    told.recorded = {"mine": age} if age else {}
    return told


def test_the_verdicts_for_machines_name_the_facts_that_were_judged() -> None:
    told = json.loads(verdicts_json([HELD], judging("seen long ago")))
    (gate,) = told["gates"]
    assert told["format"] == 1
    assert {name: gate[name] for name in ("verdict", "missing", "facts_sha256", "job", "facts_seen_at")} == {
        "verdict": "fail",
        "missing": ["two"],
        "facts_sha256": "e" * 64,
        "job": "forex-r1-v3",
        "facts_seen_at": NOW,
    }
    assert (gate["facts_recorded"], gate["problems"]) == ("seen long ago", ["a worker process died"])
    assert json.loads(verdicts_json([OPEN], judging()))["gates"][0]["facts_recorded"] is None


def test_all_that_keeps_a_gate_shut_is_annotated_and_nothing_else() -> None:
    assert list(workflow_commands([HELD, OPEN])) == [
        "::error title=one::why%0Aand more",
        "::warning title=two::did not report",
        "::warning title=mine::a worker process died",
    ]


def test_a_summary_tells_a_held_gate_from_an_open_one() -> None:
    held = summary_markdown([HELD], judging("seen long ago")).splitlines()
    assert held[0] == "### forex-r1-v3: gate mine held"
    assert "seen long ago" in held
    assert held[held.index("| not passed | verdict | why |") + 2 :][:3] == [
        "| one | FAIL | why and more |",
        "| two | UNKNOWN | did not report |",
        "| mine | UNKNOWN | a worker process died |",
    ]
    assert "| one | FAIL | log = a b |" in held
    opened = summary_markdown([OPEN], judging())
    assert "gate mine open" in opened
    assert "| one | PASS | log = a b |" in opened
    assert "not passed" not in opened


# --- files of facts -------------------------------------------------------------------------


def test_what_keeps_a_gate_shut_is_told_failures_first() -> None:
    three = [
        CheckResult(CheckId(name), "mine", "", verdict)
        for name, verdict in (("a", UNKNOWN), ("d", FAIL), ("c", FAIL), ("b", PASS))
    ]
    assert [one.id for one in GateResult("mine", "", (), tuple(three)).not_passed()] == ["c", "d", "a"]


@pytest.mark.parametrize(("path", "name"), [("/a/b.json", "b.json"), (r"C:\a\b.json", "b.json"), ("b.json", "b.json")])
def test_a_file_has_one_name_whichever_system_wrote_its_path(path: str, name: str) -> None:
    assert name_of(path) == name


@pytest.mark.parametrize(
    ("at", "now", "ago"),
    [(NOW, NOW + 90, "1 min 30 s ago"), (NOW, NOW, "0.0 s ago"), (NOW + 5, NOW, "5.0 s from now, by this clock")],
)
def test_recorded_facts_say_how_old_they_are(at: float, now: float, ago: str) -> None:
    said = recorded("launch", "seen", at, now)
    assert said.startswith("recorded facts of stage launch, seen 2027-01-15T08:00:0")
    assert said.endswith(f", {ago}: the world is not looked at")
    assert recorded("launch", "seen", at, now, "x").endswith(": x")


def test_a_facts_file_is_read_up_to_its_bound_and_in_its_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "facts.json"
    assert digest_of(path) == digest_of(tmp_path) == ""
    sound = FactsFile("mine", sound_job(), NOW, 0.5, {"a": 1})
    path.write_bytes(sound.dump())
    assert read_facts(path).facts == {"a": 1}
    assert len(digest_of(path)) == 64
    monkeypatch.setattr(facts_file, "MAX_BYTES", len(sound.dump()))
    assert read_facts(path).facts == {"a": 1}
    path.write_bytes(sound.dump() + b" ")
    with pytest.raises(BadInput, match="larger than a facts file can be"):
        read_facts(path)
    path.write_bytes(FactsFile("mine", sound_job(), NOW, 0.5, {}, format=2).dump())
    with pytest.raises(BadInput, match="facts format 2, this harness reads 1"):
        read_facts(path)
