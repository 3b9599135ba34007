"""A real browser, driven by tests."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, cast

import pytest

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
TALLEST = 12_000

NEEDS_BROWSER = pytest.mark.skipif(
    BROWSER is None or DRIVER is None,
    reason="no chromium with chromedriver on this machine: apt-get install chromium chromium-driver",
)


class Browser:
    """Chromium without a window, with what it asked for and what it complained of."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.address = ""

    def show(self, page: Path | str, *, dark: bool = False, width: int = 1280) -> None:
        """Load a page as a person with such a screen does."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
        self.complaints()
        self.requests()
        self.address = page if isinstance(page, str) else page.as_uri()
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


@contextmanager
def opened() -> Iterator[Browser]:
    """A browser that is closed when the block ends."""
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
