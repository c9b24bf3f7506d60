"""A real headless Chromium for tests of pages: Debian's, started once for each module that uses it.

A conftest imports the fixtures to enable them. A page fails its test if it logs an error to the console or sends a
request to any server but its own.
"""

import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tests.support.stack import ROOT, wait_until

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
EXECUTABLE = "/usr/bin/chromium"
SCREENSHOTS = ROOT / "docs" / "screenshots"
MAX_SCREENSHOT_BYTES = 450_000
DESKTOP = {"width": 1400, "height": 860}
PHONE: ViewportSize = {"width": 360, "height": 760}
# Every image that is in view or not lazy has loaded, and only permanent animations are still running.
LOADED = """
Array.from(document.images).filter(image => image.loading !== "lazy" || image.getBoundingClientRect().top < innerHeight)
  .every(image => image.complete)
  && document.fonts.status === "loaded"
  && document.getAnimations().every(one => one.effect.getComputedTiming().iterations === Infinity
    || one.effect.target.closest("[data-working], .task-running"))
"""
# Browser, web server, worker and databases share two cores.
expect.set_options(timeout=20_000)
SERIOUS_IMPACTS = {"serious", "critical"}


@dataclass(frozen=True, kw_only=True)
class WatchedPage:
    """A page with its requests and its complaints; `expected` has patterns of complaints that a test provokes."""

    page: Page
    expected: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console", lambda message: self._record_complaint(message.type, message.text, message.location["url"])
        )

    def _record_complaint(self, kind: str, text: str, url: str) -> None:
        if kind == "error" and not url.endswith("/favicon.ico"):
            self.complaints.append(f"{text} {url}")

    def assert_clean(self) -> None:
        """Fail on requests to other servers and on unexpected complaints."""
        server = urlsplit(self.page.url).netloc
        asked = [url for url in self.requested if not url.startswith(("data:", "blob:"))]
        elsewhere = [url for url in asked if urlsplit(url).netloc != server]
        assert not elsewhere, elsewhere
        unexpected = [one for one in self.complaints if not any(re.search(known, one) for known in self.expected)]
        assert not unexpected, unexpected


OpenPage = Callable[..., WatchedPage]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Run the browser for a module, and allow the ORM to be used next to its event loop."""
    if not Path(EXECUTABLE).exists():
        pytest.skip(f"needs Chromium at {EXECUTABLE}")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=FLAGS)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[OpenPage]:
    """Return a function that opens a page of a server in a fresh context; its options are Playwright's."""
    opened: list[WatchedPage] = []

    def new(server: str, **options: Any) -> WatchedPage:
        context = chromium.new_context(**{"base_url": server, "viewport": DESKTOP, **options})
        opened.append(WatchedPage(page=context.new_page()))
        return opened[-1]

    yield new
    for watched in opened:
        watched.assert_clean()
        watched.page.context.close()


def wait_until_loaded(page: Page) -> None:
    """Wait until the page has loaded, by polling: Playwright's own wait needs a policy that allows eval."""
    wait_until(lambda: page.evaluate(LOADED), bool)


def get_image_widths(page: Page, selector: str) -> list[int]:
    """Return the natural widths of the images in pixels; 0 is an image that did not load."""
    wait_until_loaded(page)
    found: list[int] = page.locator(selector).evaluate_all("all => all.map(image => image.naturalWidth)")
    return found


def take_screenshot(page: Page, name: str) -> None:
    """Save the viewport as a screenshot for the docs."""
    wait_until_loaded(page)
    picture = Image.open(io.BytesIO(page.screenshot()))
    picture.save(SCREENSHOTS / name, optimize=True)
    scale: float = page.evaluate("devicePixelRatio")
    assert page.viewport_size is not None
    check_screenshot(name, round(page.viewport_size["width"] * scale))


def check_screenshot(name: str, width: int) -> None:
    """Fail if a screenshot for the docs has the wrong size or format."""
    shot = SCREENSHOTS / name
    assert shot.stat().st_size < MAX_SCREENSHOT_BYTES
    with Image.open(shot) as picture:
        assert (picture.format, picture.width) == ("PNG", width)


def find_axe_violations(page: Page) -> list[str]:
    """Return axe-core's serious and critical violations, with their elements."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:160]} {node.get('failureSummary', '')}"
        for rule in found
        if rule["impact"] in SERIOUS_IMPACTS
        for node in rule["nodes"]
    ]
