"""``harness serve`` in a real browser: a job moves while its page is open, and what a person does there stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.ids import JobName
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.ledger.events import Held, StageEntered
from tests.support.browser import NEEDS_BROWSER, Browser
from tests.support.job_histories import Log, check, gate, job, judged
from tests.support.reports import HOSTILE
from tests.support.serving import Serving, serving

pytestmark = [pytest.mark.slow, NEEDS_BROWSER]
PICTURES = Path(__file__).resolve().parents[3] / "build" / "pictures"
SOON_S = 20.0


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: Browser) -> Iterator[Serving]:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    with serving(tmp_path / "home") as found:
        yield found
        browser.driver.get("about:blank")


def _until(browser: Browser, condition: str) -> None:
    """Wait until some JavaScript is true."""
    end = time.monotonic() + SOON_S
    while not browser.run(f"return {condition}"):
        assert time.monotonic() < end, (
            f"never: {condition}; the page says {browser.run('return document.body.innerText')[:600]}"
        )


def _live(browser: Browser) -> None:
    _until(browser, "document.getElementById('live').textContent === 'Live'")


def _named(name: str) -> Log:
    return Log(job().model_copy(update={"name": JobName(name)}))


def test_a_job_moves_while_its_page_is_open_and_folds_scroll_and_focus_stay(browser: Browser, served: Serving) -> None:
    log = _named("night").rented()
    served.write(log)
    browser.show(f"{served.server.address}job/night")
    _live(browser)
    browser.run(
        """
        window.before = document.querySelector('#stage-preflight');
        window.before.open = true;
        const check = window.before.querySelector('li.check details');
        check.open = true;
        document.querySelector('#stage-launch').open = true;
        check.querySelector('summary').focus();
        window.focused = document.activeElement;
        window.scrollTo({top: 1500, behavior: 'instant'});
        window.place = window.before.getBoundingClientRect().top;
        """
    )
    served.append("night", judged(gate(Stage.PROVISION, log.job), log.job), StageEntered(Stage.UPLOAD))
    _until(browser, "document.querySelector('.headline').textContent.includes('upload')")
    assert browser.run("return document.querySelector('#stage-preflight') === window.before && window.before.open")
    assert browser.run("return document.querySelector('#stage-launch').open")
    assert browser.run("return document.activeElement === window.focused")
    assert abs(browser.run("return window.before.getBoundingClientRect().top - window.place")) < 60
    served.append("night", judged(gate(Stage.UPLOAD, log.job), log.job), StageEntered(Stage.INSTALL))
    known = gate(Stage.INSTALL, log.job)
    bent = check(Stage.INSTALL, known.results[0].id, Verdict.FAIL, message="no GPU shows")
    served.append(
        "night", judged(gate(Stage.INSTALL, log.job, bent), log.job), Held(Stage.INSTALL, "GateHeld", "no GPU")
    )
    _until(browser, "document.querySelector('#shut')?.textContent.includes('no GPU shows')")
    assert browser.run("return document.querySelector('#stage-install').open"), "what is held is open by itself"
    assert browser.run("return window.before.open"), "what a person opened stays open"
    assert browser.run("return document.title").startswith("night: held")
    assert browser.complaints() == []
    allowed = (f"{served.server.address}job/night", f"{served.server.address}job/night/events")
    assert set(browser.requests()) <= set(allowed)


def test_the_list_moves_too_and_leads_to_each_job(browser: Browser, served: Serving) -> None:
    served.write(_named("night"))
    browser.show(served.server.address)
    _live(browser)
    served.write(_named("other").rented())
    _until(browser, "document.querySelectorAll('main section').length === 2")
    assert browser.run("return document.querySelector('main h2 a').textContent") == "other", "what bills is first"
    browser.picture(PICTURES / "serve-list-1280.png")
    browser.run("document.querySelector('main h2 a').click()")
    _until(browser, "document.title.startsWith('other:')")
    _live(browser)


def test_a_hostile_box_runs_nothing_when_its_words_come_in_live(browser: Browser, served: Serving) -> None:
    log = _named("night").rented()
    served.write(log)
    browser.show(f"{served.server.address}job/night")
    _live(browser)
    for word in (*HOSTILE, "the last one"):
        served.append("night", Held(Stage.PROVISION, "GateHeld", word.replace("\ud800", "")))
    _until(browser, "document.querySelector('.headline').textContent.includes('the last one')")
    browser.run("document.querySelectorAll('*').forEach(one => one.dispatchEvent(new MouseEvent('mouseover')))")
    assert browser.run("return document.title").startswith("night: held")
    assert browser.run("return document.scripts.length") == 1
    assert browser.complaints() == []
    assert all(url.startswith(served.server.address) for url in browser.requests())


@pytest.mark.parametrize(
    ("path", "dark"), [("", False), ("", True), ("job/nobody", False)], ids=["light", "dark", "failure"]
)  # a job's page is its report, which is judged beside this
def test_everybody_can_read_it(browser: Browser, served: Serving, path: str, dark: bool) -> None:
    served.write(_named("night").rented())
    served.write(_named("over").closed())
    for word in HOSTILE[:4]:
        served.append("night", Held(Stage.PROVISION, "GateHeld", word))
    browser.show(served.server.address + path, dark=dark, width=390 if dark else 1280)
    assert browser.violations() == []
    assert browser.run("return document.documentElement.scrollWidth") <= (390 if dark else 1280), "nothing sticks out"
    browser.picture(PICTURES / f"serve-{path.replace('/', '-') or 'list'}-{'dark-390' if dark else 'light-1280'}.png")


def test_it_says_when_it_is_not_live_and_comes_back(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that went away, or a laptop that slept: the page says so, and is right again once there is an answer."""
    home = tmp_path / "home"
    monkeypatch.setenv("HARNESS_HOME", str(home))
    with serving(home) as first:
        log = _named("night").rented()
        first.write(log)
        port = first.server.server_port
        browser.show(f"{first.server.address}job/night")
        _live(browser)
    _until(browser, "document.getElementById('live').textContent.startsWith('Not live')")
    with serving(home, port) as second:
        second.append("night", Held(Stage.PROVISION, "GateHeld", "while nobody looked"))
        _until(browser, "document.querySelector('.headline').textContent.includes('while nobody looked')")
        _live(browser)
        browser.driver.get("about:blank")
