"""A real headless Chromium for tests of pages: Debian's, started once for each module that uses it.

A conftest takes the fixtures in by importing them. A page fails its test when it complains in the console or asks
anybody but its server for anything.
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
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.stack import ROOT, wait_until

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
PHONE = {"width": 360, "height": 760}
# Every picture in sight, or that was asked for, has come; and nothing fades or moves any more but what always does.
LOADED = """
Array.from(document.images).filter(image => image.loading !== "lazy" || image.getBoundingClientRect().top < innerHeight)
  .every(image => image.complete)
  && document.fonts.status === "loaded"
  && document.getAnimations().every(one => one.effect.getComputedTiming().iterations === Infinity
    || one.effect.target.closest("[data-working], .task-running"))
"""
# Two cores are shared by browser, web server, worker and databases.
expect.set_options(timeout=20_000)
SERIOUS_IMPACTS = {"serious", "critical"}


@dataclass(frozen=True, kw_only=True)
class WatchedPage:
    """A page, what it asked for and what it complained about; `expected` matches complaints that a test provokes."""

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
        """Fail for a request that left the server, and for a complaint that nobody expected."""
        server = urlsplit(self.page.url).netloc
        asked = [url for url in self.requested if not url.startswith(("data:", "blob:"))]
        elsewhere = [url for url in asked if urlsplit(url).netloc != server]
        assert not elsewhere, elsewhere
        unexpected = [one for one in self.complaints if not any(re.search(known, one) for known in self.expected)]
        assert not unexpected, unexpected


OpenPage = Callable[..., WatchedPage]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Run the browser for a module; beside its event loop the ORM works only where that is allowed."""
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
    """Wait for what the page shows; by hand, as Playwright's own way needs a policy that lets strings be run."""
    wait_until(lambda: page.evaluate(LOADED), bool)


def get_image_widths(page: Page, selector: str) -> list[int]:
    """Return how wide in pixels the pictures' files are; 0 is one that did not load."""
    wait_until_loaded(page)
    found: list[int] = page.locator(selector).evaluate_all("all => all.map(image => image.naturalWidth)")
    return found


def take_screenshot(page: Page, name: str) -> None:
    """Keep what the viewport shows as a picture for the docs."""
    wait_until_loaded(page)
    picture = Image.open(io.BytesIO(page.screenshot()))
    picture.save(SCREENSHOTS / name, optimize=True)
    scale: float = page.evaluate("devicePixelRatio")
    assert page.viewport_size is not None
    check_screenshot(name, round(page.viewport_size["width"] * scale))


def check_screenshot(name: str, width: int) -> None:
    """Fail when a picture for the docs is not what it should be."""
    shot = SCREENSHOTS / name
    assert shot.stat().st_size < MAX_SCREENSHOT_BYTES
    with Image.open(shot) as picture:
        assert (picture.format, picture.width) == ("PNG", width)


def find_axe_violations(page: Page) -> list[str]:
    """Return what axe-core finds serious or critical, with the elements that it means."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:160]} {node.get('failureSummary', '')}"
        for rule in found
        if rule["impact"] in SERIOUS_IMPACTS
        for node in rule["nodes"]
    ]
