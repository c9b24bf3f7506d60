"""The pages about workers and the queue in a real browser, beside a real worker: they move by themselves."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from tasks_app.models import Pause, Status, Task
from tasks_app.queue import workers
from tests.integration.admin.pages import LIST, PAUSES, WORKERS
from tests.support import stack as stacks
from tests.support.browser import (
    OpenPage,
    find_axe_violations,
)
from tests.support.stack import Stack, wait_until

pytestmark = pytest.mark.django_db(transaction=True)
NAME, PASSWORD = "ops", "only for this test"
# Of a beat, a refresh and a slow machine.
SOON_MS = 15_000


@pytest.fixture(scope="module")
def stack(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run the parts with a worker that has a name."""
    with django_db_blocker.unblock():
        environment = stacks.build_environment(WORKER_NAME="gpu-a")
    with stacks.run_stack(tmp_path_factory.mktemp("logs"), environment) as running:
        yield running


@pytest.fixture
def page(stack: Stack, transactional_db: None, open_page: OpenPage) -> Page:
    """Return a page of the admin whose user has logged in as people do."""
    # Each test's end empties the tables, and the worker's next beat brings its row back.
    wait_until(
        lambda: workers.list_workers().first(), lambda worker: worker and worker.state == workers.WorkerState.IDLE
    )
    User.objects.create_superuser(NAME, "ops@example.com", PASSWORD)
    opened: Page = open_page(str(stack.api.base_url), viewport={"width": 1280, "height": 320}).page
    opened.goto(f"/admin/login/?next={WORKERS}")
    opened.fill("input[name=username]", NAME)
    opened.fill("input[name=password]", PASSWORD)
    opened.click("button[type=submit]")
    opened.wait_for_url(f"**{WORKERS}")
    return opened


def says(page: Page, text: str) -> None:
    expect(page.locator("#live-list, #worker-page")).to_contain_text(text, ignore_case=True, timeout=SOON_MS)


def test_a_worker_is_seen_at_work_drained_and_resumed_without_a_reload(page: Page, stack: Stack) -> None:
    page.evaluate("window.sameDocument = true")
    page.mouse.wheel(0, 200)
    scrolled = page.evaluate("scrollY")
    says(page, "idle")
    long = stack.submit_task("a house at sunset", steps=150, num_images=8)
    says(page, "busy")
    says(page, "a house at sunset")
    assert page.evaluate("[window.sameDocument, scrollY]") == [True, scrolled]
    page.click("text=Pause …")
    page.click("text=Yes, pause")
    page.wait_for_url(f"**{WORKERS}")
    page.evaluate("window.sameDocument = true")
    says(page, "draining")
    waiting = stack.submit_task("a tree", steps=1)
    stack.api.post(f"/task/{long['id']}/cancel").raise_for_status()
    says(page, "paused")
    assert stack.get_task(waiting)["status"] == Status.QUEUED
    assert page.evaluate("window.sameDocument") is True
    page.click("a.steer-name")
    page.click("#worker-page >> text=Resume …")
    page.click("text=Yes, resume")
    says(page, "idle")
    assert stack.wait_for_task(waiting)["status"] == Status.SUCCEEDED
    says(page, "a tree")


def test_a_keyboard_user_keeps_the_link_that_was_reached(page: Page, stack: Stack) -> None:
    page.locator("text=Pause …").focus()
    table = page.locator("#result_list").element_handle()
    page.wait_for_function("table => !table.isConnected", arg=table, timeout=SOON_MS)
    assert page.evaluate("document.activeElement.tagName") == "A"
    assert "Pause" in page.evaluate("document.activeElement.textContent")


def test_the_queue_is_paused_and_resumed_from_wherever_one_is(page: Page, stack: Stack) -> None:
    page.goto(PAUSES)
    page.click("text=Pause the queue …")
    page.click("text=Yes, pause")
    task = stack.submit_task("a tree", steps=1)
    page.goto(LIST)
    shown = re.compile(r"The queue is paused, since .+, by ops\.")
    expect(page.locator("#queue-banner")).to_contain_text(shown, timeout=SOON_MS)
    assert stack.get_task(task)["paused"] is True
    page.click("#queue-banner >> text=Resume")
    page.wait_for_url(f"**{LIST}")
    expect(page.locator("#queue-banner")).to_be_empty()
    assert not Pause.objects.exists()
    assert stack.wait_for_task(task)["status"] == Status.SUCCEEDED


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_in_the_way_of_anybody(page: Page, scheme: Any) -> None:
    Pause.objects.create(scope="queue")
    task = Task.objects.create(
        task_type="x", provider="x", requested_model_id="demo", model_id="demo", params={}, seed=1
    )
    page.emulate_media(color_scheme=scheme)
    for address in (WORKERS, f"{WORKERS}gpu-a/change/", f"{LIST}{task.pk}/reprioritize/"):
        page.goto(address)
        found = [
            violation for violation in find_axe_violations(page) if "steer-" in violation or "queue-banner" in violation
        ]
        assert found == []
