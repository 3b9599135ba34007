"""The pages that are made from the code say what the code says, and no page is left out of the site."""

from __future__ import annotations

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support import gates_page, screens, troubleshooting_page

DOCS = gates_page.ROOT / "docs"
README = (gates_page.ROOT / "README.md").read_text(encoding="utf-8")
LATER = {"ci", "model-card", "serve", "trackers", "lessons"}
"""Pages that the site shows when they are there."""


@pytest.fixture(scope="module")
def stories() -> dict[str, Any]:
    return tomllib.loads(gates_page.SOURCE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def symptoms() -> dict[str, Any]:
    return troubleshooting_page.source()


def test_the_page_of_the_gates_is_what_its_sources_give(stories: dict[str, Any]) -> None:
    written = gates_page.PAGE.read_text(encoding="utf-8")
    assert written == gates_page.page(stories), "python -m tests.support.gates_page"


def test_the_page_of_symptoms_is_what_its_sources_give(symptoms: dict[str, Any]) -> None:
    written = troubleshooting_page.PAGE.read_text(encoding="utf-8")
    assert written == troubleshooting_page.page(symptoms), "python -m tests.support.troubleshooting_page"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"by": ["preflight/no_such_check"], "source": "a/b#1", "says": "It broke."}, "preflight/no_such_check"),
        ({"by": ["preflight/no_orphans"], "source": "somebody told", "says": "It broke."}, "somebody told"),
        ({"by": ["preflight/no_orphans"], "source": "a/b#1"}, "a/b#1"),
        ({"by": ["preflight/no_orphans"], "scenario": "no-such-scenario"}, "no-such-scenario"),
    ],
    ids=["another check", "no report", "no words", "another scenario"],
)
def test_a_story_without_a_source_or_a_check_makes_no_page(
    stories: dict[str, Any], wrong: dict[str, Any], said: str
) -> None:
    broken = copy.deepcopy(stories)
    broken["failure"].append(wrong)
    with pytest.raises(ValueError, match=said):
        gates_page.page(broken)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"error": "NoSuchError"}, "NoSuchError"),
        ({"check": "preflight/no_such_check"}, "no_such_check"),
        ({"says": "the harness never says this of …"}, "never says this"),
        ({"error": "GateHeld", "scenario": "no-such-scenario"}, "no-such-scenario"),
    ],
    ids=["another error", "another check", "other words", "another scenario"],
)
def test_a_symptom_that_the_code_does_not_know_makes_no_page(
    symptoms: dict[str, Any], wrong: dict[str, Any], said: str
) -> None:
    broken = copy.deepcopy(symptoms)
    broken["group"][0]["symptom"].append({"title": "T", "why": "W", "type": ["harness status"], **wrong})
    with pytest.raises(ValueError, match=said):
        troubleshooting_page.page(broken)


def test_every_page_stands_in_the_site_once() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    named = [
        line
        for block in re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL)
        for line in block.splitlines()
        if line and not line.startswith(":")
    ]
    assert len(set(named)) == len(named)
    pages = {page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")}
    pages = {page for page in pages if "/" not in page} - {"index"}
    plain = {name for name in named if "*" not in name}
    assert plain - pages == set()
    assert pages - plain - LATER == set(), "docs/index.md names them in none of its toctrees"
    assert {f"{name}*" for name in LATER} == set(named) - plain


def test_the_story_is_told_by_lines_that_are_there() -> None:
    printed = (
        ["preflight    ✓ PASS    22/22 checks", "job demo: CLOSED. " + "word " * 60, "SHA-256: 0", "  progress"],
        [
            "training     ✓ PASS    16/16 checks",
            "  FAIL remote_sha256_recorded: it is another",
            "    expected  this",
            "    because   " + "that " * 40,
            "posttrain    ✗ FAIL    8/9 checks",
            "Instance 24000001 bills $15.95/h.",
            "next:  harness run",
            "exit code 3 (GateHeld)",
        ],
    )
    rows = screens.story(printed).plain.splitlines()
    assert max(map(len, rows)) <= screens.STORY_COLUMNS
    assert "  progress" not in rows
    assert sum(row.startswith("$ harness demo") for row in rows) == 2
    with pytest.raises(ValueError, match="exit code 3"):
        screens.story((printed[0], printed[1][:-1]))


def test_the_readme_shows_a_picture_that_is_there() -> None:
    (source,) = re.findall(r'<img src="https://raw\.githubusercontent\.com/[^"]+/main/([^"]+)"', README)
    assert (gates_page.ROOT / source).read_text(encoding="utf-8").startswith("<svg")
    assert Path(source).name == "story.svg"
