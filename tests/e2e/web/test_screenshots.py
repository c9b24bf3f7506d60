"""The screenshots of the page for the docs: light, dark, the viewer, and a phone.

`python -m pytest -m screenshots` writes them anew to docs/screenshots.
"""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.test_screenshots import HOUSE, SEEDS
from tests.e2e.web.test_flow import Visit, generate, working
from tests.support.browser import PHONE, take_screenshot
from tests.support.stack import Stack, wait_until

pytestmark = [pytest.mark.screenshots, pytest.mark.timeout(240), pytest.mark.django_db(transaction=True)]

# How many of its 150 steps the task at work has done when it is looked at.
UNDER_WAY = 40
VARIANTS = 3


def draw_all(stack: Stack) -> None:
    """Fill the wall: of each prompt the seed chosen by eye, and its neighbours."""
    several: dict[str, dict[str, Any]] = {HOUSE: {"num_images": 4}, "an autumn tree": {"num_images": 2}}
    tasks = [
        stack.submit_task(prompt, steps=25, seed=seed + number * (number and 7), **several.get(prompt, {}))
        for number in reversed(range(VARIANTS))
        for prompt, seed in SEEDS.items()
    ]
    for task in tasks:
        assert stack.wait_for_task(task)["status"] == "succeeded"


def start_long(page: Page, stack: Stack) -> dict[str, Any]:
    """Generate something that is well under way, with something behind it in line."""
    task = generate(page, "a red house", steps=150, seed=2, num_images=8)
    generate(page, "a beach", steps=25, seed="", num_images=1)
    page.fill("#prompt", "a red house")
    page.evaluate("document.querySelector('.composer > .fields').scrollTop = 0")
    wait_until(lambda: stack.get_task(task), lambda now: now["progress"]["step"] >= UNDER_WAY)
    return task


def stop(page: Page, task: dict[str, Any]) -> None:
    working(page, task).get_by_role("button", name="Cancel").click()
    expect(working(page, task).locator(".state")).to_contain_text("Canceled")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_with_a_picture_forming(visit: Visit, stack: Stack, scheme: Any) -> None:
    draw_all(stack)
    page = visit(color_scheme=scheme).page
    task = start_long(page, stack)
    take_screenshot(page, f"page-{scheme}.png")
    expect(working(page, task)).to_be_visible()
    stop(page, task)


def test_the_viewer(visit: Visit, stack: Stack) -> None:
    draw_all(stack)
    page = visit().page
    page.get_by_role("link", name=HOUSE).first.click()
    expect(page.locator("#viewer-strip img")).to_have_count(4)
    take_screenshot(page, "page-viewer.png")


def test_the_page_on_a_phone(visit: Visit, stack: Stack) -> None:
    draw_all(stack)
    page = visit(viewport=PHONE, device_scale_factor=2, is_mobile=True, has_touch=True).page
    page.get_by_text("Settings", exact=True).tap()
    task = start_long(page, stack)
    page.get_by_text("Settings", exact=True).tap()
    working(page, task).scroll_into_view_if_needed()
    take_screenshot(page, "page-phone.png")
    stop(page, task)
