"""The page in a real browser: nothing in it runs, asks for anything or complains, and everybody can read it.

Pictures of it, at the width of a desk and of a phone, in the light and in the dark, are left in build/pictures.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.report import Report, html
from tests.support.browser import NEEDS_BROWSER, Browser
from tests.support.reports import HOSTILE, closed, held, hostile

PICTURES = Path(__file__).resolve().parents[3] / "build" / "pictures"

pytestmark = [pytest.mark.slow, NEEDS_BROWSER]


def _written(directory: Path, text: str) -> Path:
    path = directory / "GOLD_STANDARD.html"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("report", [closed(), held(), hostile(HOSTILE)], ids=["closed", "held", "hostile"])
def test_the_page_is_quiet_and_everybody_can_read_it(
    browser: Browser, tmp_path: Path, report: Report, dark: bool, request: pytest.FixtureRequest
) -> None:
    page = _written(tmp_path, html.render(report))
    name = request.node.callspec.id
    for width in (390, 1280) if dark else (1280, 390):  # each of both is judged by axe-core in one of both schemes
        browser.show(page, dark=dark, width=width)
        assert browser.run("return document.title").startswith(f"{report.job}: {report.standing}")
        assert browser.run("return document.scripts.length") == 0
        browser.run("document.querySelectorAll('*').forEach(one => one.dispatchEvent(new MouseEvent('mouseover')))")
        assert browser.run("return document.title").startswith(f"{report.job}: ")
        assert browser.requests() == []
        assert browser.complaints() == []
        assert browser.run("return document.documentElement.scrollWidth") <= width, "nothing sticks out"
        browser.picture(PICTURES / f"report-{name}-{width}.png")
        browser.run("document.querySelectorAll('details').forEach(one => { one.open = true })")
        assert browser.run("return document.documentElement.scrollWidth") <= width, "nothing sticks out when opened"
    assert browser.violations() == []


def test_the_page_prints_with_its_checks(browser: Browser, tmp_path: Path) -> None:
    browser.show(_written(tmp_path, html.render(closed())), dark=True)
    browser.ask("Emulation.setEmulatedMedia", media="print")
    assert browser.run("return getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.run("return getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    high = browser.run("return document.querySelector('#stage-preflight').offsetHeight")
    assert high > 200, "a stage's checks are on paper, though it is folded"
    browser.ask("Emulation.setEmulatedMedia", media="")


def test_the_keyboard_reaches_every_part(browser: Browser, tmp_path: Path) -> None:
    browser.show(_written(tmp_path, html.render(held())))
    order = []
    for _ in range(6):
        browser.ask("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        browser.ask("Input.dispatchKeyEvent", type="keyUp", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        order.append(browser.run("return document.activeElement.textContent.trim()"))
    assert order[:4] == ["Skip to the report", "What holds it", "Stages", "Model file"]


def test_a_page_that_is_not_quiet_would_be_seen(browser: Browser, tmp_path: Path) -> None:
    """Without the policy and with one hostile tag let through, each of the looks above sees it."""
    bad = '<script>document.title = "owned"; console.error("here")</script><img src="http://127.0.0.1:9/x.png">'
    text = html.render(closed()).replace("Content-Security-Policy", "X-Nothing").replace("</main>", f"{bad}</main>")
    browser.show(_written(tmp_path, text))
    assert browser.run("return document.title") == "owned"
    assert browser.requests() == ["http://127.0.0.1:9/x.png"]
    assert any("here" in line for line in browser.complaints())
    assert any(line.startswith("image-alt") for line in browser.violations())


def test_the_policy_alone_would_hold_it(browser: Browser, tmp_path: Path) -> None:
    bad = '<script>document.title = "owned"</script><img alt="" src="http://127.0.0.1:9/x.png">'
    browser.show(_written(tmp_path, html.render(closed()).replace("</main>", f"{bad}</main>")))
    assert browser.run("return document.title") != "owned"
    refused = [line for line in browser.complaints() if "Content Security Policy" in line]
    assert len(refused) == 2, "the script and the picture"
