"""One cause is told once: who could not look because of it names the check that has told it."""

from __future__ import annotations

from harness.core.ids import CheckId
from harness.core.verdict import Verdict
from harness.gates.evidence import CheckResult, Sight, told_once

GONE = "there is no /home/me/m.gguf"
CUT = "the box did not answer: 192.0.2.1: timed out"


def _failed(name: str, message: str) -> CheckResult:
    return CheckResult(CheckId(name), "mine", "its claim", Verdict.FAIL, (), (), message, "mend it")


def _unseen(name: str, sight: str, problem: str, *before: Sight) -> CheckResult:
    """As ``Evidence.saw`` and the plugin word it."""
    saw = (*before, Sight(sight, f"could not look: {problem}"))
    message = f"could not look: {sight}: {problem}"
    return CheckResult(CheckId(name), "mine", "its claim", Verdict.UNKNOWN, saw, (), message, "look again")


def _messages(*results: CheckResult) -> list[str]:
    return [one.message for one in told_once(results)]


def test_the_first_tells_and_the_others_name_it() -> None:
    first, second, third = told_once([_failed("a", GONE), _unseen("b", "size", GONE), _unseen("c", "digest", GONE)])
    assert (first.message, first.remedy) == (GONE, "mend it")
    assert second.message == third.message == "could not look: see a"
    assert second.remedy == third.remedy == ""
    assert second.saw == (Sight("size", "could not look: see a"),)
    assert second.verdict is Verdict.UNKNOWN


def test_without_a_failure_the_first_that_could_not_look_tells() -> None:
    assert _messages(_unseen("a", "log", CUT), _unseen("b", "session", CUT)) == [
        f"could not look: log: {CUT}",
        "could not look: see a",
    ]


def test_another_cause_is_told_whatever_it_has_in_common() -> None:
    """Two problems of one file, and one that ends in the same words."""
    one, two = "cannot be read: '/x'", "is no GGUF: '/x'"
    assert _messages(_unseen("a", "f", one), _unseen("b", "f", two)) == [
        f"could not look: f: {one}",
        f"could not look: f: {two}",
    ]


def test_a_failure_always_tells_its_own() -> None:
    assert _messages(_failed("a", "42 rows"), _failed("b", "42 rows")) == ["42 rows", "42 rows"]


def test_what_was_seen_before_stays() -> None:
    before = Sight("file", "5 bytes")
    _, second = told_once([_unseen("a", "x", CUT), _unseen("b", "y", CUT, before)])
    assert second.saw == (before, Sight("y", "could not look: see a"))


def test_a_check_without_words_is_nobodys_cause() -> None:
    silent = CheckResult(CheckId("a"), "mine", "its claim", Verdict.PASS)
    assert told_once([silent, silent]) == (silent, silent)
