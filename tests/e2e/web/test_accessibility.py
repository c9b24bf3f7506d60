"""What axe-core says of the page: nothing serious, in light and dark, empty, at work and with the viewer open."""

from typing import Literal

import pytest
from playwright.sync_api import expect

from tests.e2e.web.conftest import FinishTask
from tests.e2e.web.test_flow import LONG, Visit, generate, wait_for_steps, working
from tests.support.browser import PHONE, find_axe_violations

pytestmark = [pytest.mark.timeout(120), pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit: Visit, finish_task: FinishTask, scheme: Literal["light", "dark"]) -> None:
    watched = visit(color_scheme=scheme, reduced_motion="reduce")
    watched.expected.append("status of 400")
    page = watched.page
    assert find_axe_violations(page) == []  # empty
    finish_task(images=3)
    page.reload()
    # Eight pictures: it must not be over before two looks at the page are.
    task = generate(page, "a beach", **LONG | {"num_images": 8})
    wait_for_steps(working(page, task))
    assert find_axe_violations(page) == []  # a task at work
    page.fill("#steps", "500")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#steps-error")).to_be_visible()
    assert find_axe_violations(page) == []  # errors
    working(page, task).get_by_role("button", name="Cancel").click()
    page.locator(".tile[data-task] a").click()
    expect(page.locator("#viewer")).to_be_visible()
    assert find_axe_violations(page) == []  # the viewer


def test_on_a_phone_axe_finds_nothing_serious(visit: Visit, finish_task: FinishTask) -> None:
    finish_task(images=3)
    page = visit(viewport=PHONE, is_mobile=True, has_touch=True, reduced_motion="reduce").page
    assert find_axe_violations(page) == []
    page.locator(".tile[data-task] a").tap()
    expect(page.locator("#viewer")).to_be_visible()
    assert find_axe_violations(page) == []


def test_axe_would_find_something(visit: Visit) -> None:
    page = visit().page
    page.evaluate("document.querySelector('#theme').removeAttribute('aria-label')")
    page.evaluate("document.querySelector('label[for=prompt]').style.color = '#999'")
    found = find_axe_violations(page)
    assert any(rule.startswith("button-name:") for rule in found)
    assert any(rule.startswith("color-contrast:") for rule in found)
