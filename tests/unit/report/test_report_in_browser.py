"""The page in a real browser: nothing in it runs, asks for anything or complains, and everybody can read it.

Pictures of it, at the width of a desk and of a phone, in the light and in the dark, are left in build/pictures.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, cast

import pytest

from harness.report import Report, html
from tests.support.reports import HOSTILE, closed, held, hostile

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
PICTURES = Path(__file__).resolve().parents[3] / "build" / "pictures"
TALLEST = 12_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        BROWSER is None or DRIVER is None,
        reason="no chromium with chromedriver on this machine: apt-get install chromium chromium-driver",
    ),
]


class Browser:
    """Chromium without a window, with what it asked for and what it complained of."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.address = ""

    def show(self, page: Path, *, dark: bool = False, width: int = 1280) -> None:
        """Load a page as a person with such a screen does."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
        self.complaints()
        self.requests()
        self.address = page.as_uri()
        self.driver.get(self.address)

    def ask(self, command: str, **told: Any) -> dict[str, Any]:
        """A command of the browser's own protocol."""
        return cast("dict[str, Any]", self.driver.execute_cdp_cmd(command, told))

    def run(self, code: str, *given: Any) -> Any:
        """The value of some JavaScript; the page's policy does not bind its debugger."""
        return self.driver.execute_script(code, *given)

    def complaints(self) -> list[str]:
        """Lines of the console since they were last read."""
        return [line["message"] for line in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Everything that was asked for since it was last read, but the page itself."""
        said = (json.loads(line["message"])["message"] for line in self.driver.get_log("performance"))
        asked = (one["params"]["request"]["url"] for one in said if one["method"] == "Network.requestWillBeSent")
        return [url for url in asked if url != self.address and not url.startswith("data:")]

    def violations(self) -> list[str]:
        """Every serious fault that axe-core finds, with where."""
        self.run(resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
        found = self.driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
        assert {"color-contrast", "document-title"} <= {one["id"] for one in found["passes"]}, "it looked"
        serious = [one for one in found["violations"] if one["impact"] in {"serious", "critical"}]
        return [f"{one['id']}: {node['html'][:200]}" for one in serious for node in one["nodes"]]

    def picture(self, path: Path) -> None:
        """The whole page as a PNG, down to a limit."""
        high = min(self.run("return document.documentElement.scrollHeight"), TALLEST)
        wide = self.run("return document.documentElement.clientWidth")
        clip = {"x": 0, "y": 0, "width": wide, "height": high, "scale": 1}
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for switch in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"):
        options.add_argument(switch)
    options.binary_location = BROWSER or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


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
