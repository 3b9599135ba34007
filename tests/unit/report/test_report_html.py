"""The page: one file that asks for nothing and runs nothing, in which a stranger's words are words."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.ledger.events import ArtifactRecorded, Fetched, Held
from harness.report import build, html
from harness.report.model import Along, Curve, Report, TrainingReport
from tests.support.job_histories import DIGEST, Log, check
from tests.support.reports import HOSTILE, closed, hostile

VOID = frozenset({"meta", "link", "br", "rect", "path", "circle", "polyline"})
KEYS = frozenset(
    {"lang", "charset", "http-equiv", "content", "name", "rel", "href", "class", "id", "aria-label", "aria-labelledby"}
    | {"aria-hidden", "role", "tabindex", "datetime", "scope", "open", "viewbox", "width", "height", "x", "y", "cx"}
    | {"cy", "r", "d", "points", "text-anchor"}
)
"""Attributes that the page uses: none runs or loads anything but href, which leads into the page."""


class Page(HTMLParser):
    """A page as its tags, their attributes and its words, each tag closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.style = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        assert len({name for name, _ in attrs}) == len(attrs), attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["style"]:
            self.style += data
        else:
            self.words.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data:.80}")

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def _closed() -> str:
    return html.render(closed())


def _outline(text: str) -> Counter[str]:
    """How often each tag stands; a long word of evidence has a box of its own, which scrolls."""
    return Counter("code" if tag == "pre" else tag for tag in Page(text).tags)


@pytest.mark.parametrize("report", [closed(), hostile(HOSTILE), build(Log().history, now=1.0, charges=None)])
def test_the_page_is_whole_and_asks_for_nothing(report: Report) -> None:
    page = Page(html.render(report))
    assert not set(page.tags) & {
        "script",
        "iframe",
        "img",
        "object",
        "embed",
        "form",
        "input",
        "base",
        "image",
        "use",
        "a:",
    }
    assert {name for _, name, _ in page.attributes} <= KEYS
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for tag, name, value in page.attributes:
        if name == "href":
            assert value == "data:," if tag == "link" else value[1:] in ids, value
        if name == "aria-labelledby":
            assert set(value.split()) <= set(ids)
    assert "url(" not in page.style
    assert "@import" not in page.style
    assert [level for level in page.tags if level == "h1"] == ["h1"]
    assert {"header", "nav", "main", "footer"} <= set(page.tags)


def test_the_policy_allows_the_style_sheet_and_nothing_else() -> None:
    text = _closed()
    page = Page(text)
    (policy,) = (value for tag, name, value in page.attributes if (tag, name) == ("meta", "content") and "src" in value)
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert text.index("Content-Security-Policy") < text.index("<style>"), "it holds for what comes after it"
    assert "http://" not in text
    assert "https://" not in text


@pytest.mark.parametrize("evil", HOSTILE)
def test_a_strangers_words_change_no_tag(evil: str) -> None:
    if evil.strip():
        assert _outline(html.render(hostile((evil,)))) == _outline(html.render(hostile(("quite harmless",))))


@given(st.text(alphabet=st.sampled_from("<>&\"'`={}%#!-/ \n\tabsvg\x00\u202e"), max_size=40))
@settings(max_examples=15, deadline=None)
def test_no_text_of_punctuation_changes_a_tag(evil: str) -> None:
    assert _outline(html.render(hostile(("x" + evil,)))) == _outline(html.render(hostile(("x",))))


def test_no_sign_that_turns_text_around_or_is_none_reaches_the_page() -> None:
    text = html.render(hostile(("\x00\u202e\u2066\x1b[31m\ud800\x07", *HOSTILE)))
    text.encode()
    assert not set(text) & {"\x00", "\u202e", "\u2066", "\x1b", "\ud800", "\x07"}


def test_a_closed_job_says_so_first_and_how_its_file_is_checked() -> None:
    page = Page(_closed())
    assert "night ✓ CLOSED Every gate has opened" in page.text
    assert page.text.index("Nothing is lost and nothing is billed.") < page.text.index("Stages")
    assert "7.54 GiB (8,098,524,992 bytes)" in page.text
    assert page.text.count(DIGEST) >= 2
    assert "sha256sum -- forex-r1-v3.Q8_0.gguf" in page.text
    assert "(Get-FileHash -Algorithm SHA256 -LiteralPath 'forex-r1-v3.Q8_0.gguf').Hash.ToLower()" in page.text
    assert ("details", "open", "") not in page.attributes, "nothing is open where everything passed"


@pytest.mark.parametrize(
    ("name", "posix", "powershell"),
    [
        ("a b.gguf", "'a b.gguf'", "'a b.gguf'"),
        ("it's.gguf", """'it'"'"'s.gguf'""", "'it''s.gguf'"),
        ("$(rm -rf x).gguf", "'$(rm -rf x).gguf'", "'$(rm -rf x).gguf'"),
        ("-rf.gguf", "-- -rf.gguf", "'-rf.gguf'"),
    ],
)
def test_the_commands_name_the_file_and_nothing_more(name: str, posix: str, powershell: str) -> None:
    log = Log().verified(path=f"/home/me/{name}")
    text = Page(html.render(build(log.history, now=log.at, charges=None))).text
    assert f"sha256sum -- {posix.removeprefix('-- ')}" in text
    assert f"-LiteralPath {powershell})" in text


def test_what_did_not_pass_is_open_and_comes_first() -> None:
    log = Log().fetched(
        check(Stage.POSTDOWNLOAD, "local_file_exists", Verdict.FAIL, message="nothing there"),
        check(Stage.POSTDOWNLOAD, "gguf_generates", Verdict.UNKNOWN),
    )
    log.add(Held(Stage.POSTDOWNLOAD, error="GateHeld", reason="two checks"))
    page = Page(html.render(build(log.history, now=log.at, charges=None)))
    assert "HELD Held at postdownload: two checks" in page.text
    assert page.text.index("What keeps postdownload shut") < page.text.index("Model file On the box")
    opened = [tag for tag, name, _ in page.attributes if name == "open"]
    assert opened == ["details"] * 5, "each of the two, at the top and in its stage, and the stage"
    assert page.text.count("because nothing there") == 2
    assert "✗ FAIL what local_file_exists claims" in page.text
    assert "? UNKNOWN what gguf_generates claims" in page.text


def test_two_files_that_differ_are_called_different() -> None:
    log = Log().trained().add(ArtifactRecorded("/a.gguf", 9, DIGEST))
    log.add(Fetched("/b.gguf", 10, DIGEST, bytes_per_s=None))
    assert "NOT the same file" in _page(build(log.history, now=log.at, charges=None)).text


def test_a_plot_that_cannot_be_drawn_says_why() -> None:
    bare = build(Log().history, now=1.0, charges=None)
    curve = Curve("SFT loss", "nats", Along.STEP, (), "no step of SFT is in the log")
    text = _page(dataclasses.replace(bare, training=TrainingReport((curve,), "", {}, {}))).text
    assert "No plot: no step of SFT is in the log." in text
    assert "No plot: nothing was paid." in text
    assert "No plot: no rate is recorded" in text


def test_a_plot_has_a_name_a_sentence_and_its_numbers() -> None:
    page = Page(_closed())
    images = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-labelledby")]
    roles = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "role")]
    assert roles == ["img"] * len(images)
    assert "SFT loss" in page.text
    assert page.tags.count("caption") == page.tags.count("table")
    scopes = [value for tag, name, value in page.attributes if (tag, name) == ("th", "scope")]
    assert len(scopes) == page.tags.count("th")


@pytest.mark.parametrize("at", [-1e300, -1.0, 0.0, 253402300799.0, 1e300, 1.8e9])
def test_a_time_that_no_calendar_holds_breaks_no_page(at: float) -> None:
    report = dataclasses.replace(closed(), written_at=at)
    assert re.search(r"Written \d+ \w{3} \d{4}, \d\d:\d\d UTC", _page(report).text)


def test_a_shown_tag_would_be_seen() -> None:
    """The test itself sees what it looks for."""
    with pytest.raises(AssertionError):
        Page("<p><b></p></b>")
    assert "script" in Page("<script>x</script>").tags


def _page(report: Report) -> Page:
    return Page(html.render(report))
