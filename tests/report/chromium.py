"""A real browser for tests: Debian's Chromium, driven as a person would, by clicks and keys."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement


class Browser:
    """One tab; what the page asked of the network, and what it said on its console, is kept."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str, *, width: int = 1000, theme: str = "light") -> None:
        """Open a page in a window of that width, on a system of that theme; wait until its charts are there."""
        self.driver.get("about:blank")
        self._log("performance")
        self._log("browser")
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(url)
        self.drawn()

    def drawn(self) -> None:
        """Wait until every chart that isn't folded away is drawn."""
        self.until(lambda: self.js("return document.body.dataset.charts") == "drawn", "charts are drawn")

    def js(self, code: str, *values: Any) -> Any:
        """Run a script in the page; return what it returns."""
        return self.driver.execute_script(code, *values)

    def one(self, selector: str) -> WebElement:
        """Return the first element of a selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """Return an element's text as it is shown, in one go: the page may replace the element at any time."""
        self.one(selector)
        return str(self.js(f"return document.querySelector({json.dumps(selector)}).innerText"))

    def choose(self, selector: str, value: str) -> None:
        """Choose a value of a select by clicks."""
        self.one(f"{selector} option[value={json.dumps(value)}]").click()

    def press(self, *keys: str) -> None:
        """Press keys where the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def until(self, true: Callable[[], Any], what: str, seconds: float = 20) -> None:
        """Wait until something is so; fails with what was waited for."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"not within {seconds} s: {what}"
            time.sleep(0.03)

    def requests(self) -> list[str]:
        """Addresses asked for since the page was opened."""
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def console(self) -> list[str]:
        """What was said on the console since the page was opened, errors of the page among it."""
        return [entry["message"] for entry in self._log("browser")]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        return list(self.driver.get_log(kind))  # type: ignore[no-untyped-call]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser; skips the test where there is none."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no chromium with chromedriver on this machine: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for each in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(each)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield Browser(found)
    finally:
        found.quit()


__all__ = ["Browser", "Keys", "chromium"]
