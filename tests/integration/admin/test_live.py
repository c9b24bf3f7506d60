"""The admin in a real browser: pages that change by themselves, and what people do on them."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import Permission, User
from playwright.sync_api import Locator, Page, expect

from tasks_app import services
from tasks_app.models import Pause
from tests.chaos.processes import Child
from tests.integration.admin.pages import LIST
from tests.support import stack as stacks
from tests.support.browser import (
    OpenPage,
)
from tests.support.stack import Stack, wait_until

pytestmark = [pytest.mark.timeout(240), pytest.mark.django_db(transaction=True)]
PATIENCE_MS = 60_000
NAME, PASSWORD = "ops", "only for this test"
LONG = 150


@pytest.fixture(scope="module")
def worker(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """Run a worker for all tests of this module, with a provider whose steps take as long as its prompt says."""
    with django_db_blocker.unblock():
        environment = stacks.build_environment(DJANGO_SETTINGS_MODULE="tests.support.settings")
    log = tmp_path_factory.mktemp("logs") / "worker.log"
    with stacks.run_process(log, environment, "manage.py", "rundramatiq") as running:
        yield running


@pytest.fixture
def stack(transactional_db: None, worker: Child, tmp_path: Path) -> Iterator[Stack]:
    """Run a web server for one test: it remembers ids of content types, which are others after each test."""
    environment = stacks.build_environment(DJANGO_SETTINGS_MODULE="tests.support.settings")
    with stacks.run_web(tmp_path, environment) as (api, web):
        yield Stack(api=api, web=web, worker=worker, logs=tmp_path)


@pytest.fixture
def visit(stack: Stack, open_page: OpenPage) -> Callable[[str], Page]:
    """Return a function that opens a page of the admin for somebody who may do everything."""
    User.objects.create_superuser(NAME, password=PASSWORD)

    def open_it(path: str) -> Page:
        page = open_page(str(stack.api.base_url)).page
        log_in(page, NAME, path)
        return page

    return open_it


def log_in(page: Page, name: str, path: str) -> None:
    """Log in as people do, on the way to a page."""
    page.goto(f"/admin/login/?next={path}")
    page.fill("[name=username]", name)
    page.fill("[name=password]", PASSWORD)
    page.press("[name=password]", "Enter")
    # The login's own address ends with the path, too.
    page.wait_for_url(lambda url: urlsplit(url).path == path)


def pace(stack: Stack, seconds: float, steps: int, **more: Any) -> dict[str, Any]:
    """Queue a task of the fake provider."""
    return stack.submit_task(f"pace {seconds}", provider="fake", steps=steps, **more)


def steps_of(place: Locator) -> int:
    text = place.locator(".task-steps span").first.text_content()
    assert text is not None
    return int(text.partition("/")[0])


def cell(page: Page, name: str, task: dict[str, Any]) -> Locator:
    return page.locator(f"#{name}-{task['id']}")


def test_the_list_shows_new_tasks_moving_bars_and_outcomes_without_a_reload(
    stack: Stack, visit: Callable[[str], Page]
) -> None:
    page = visit(LIST)
    page.evaluate("window.sameDocument = true")
    task = pace(stack, 0.2, 100)
    expect(cell(page, "status", task)).to_have_text(re.compile("running", re.I), timeout=PATIENCE_MS)
    for last in (0, 30, 60):
        wait_until(lambda: steps_of(cell(page, "progress", task)), range(last + 1, 100).__contains__)
    expect(cell(page, "status", task)).to_have_text(re.compile("succeeded", re.I), timeout=PATIENCE_MS)
    expect(cell(page, "thumbnail", task).locator("img")).to_be_visible()
    assert page.evaluate("window.sameDocument")


def test_a_hundred_rows_move_over_one_connection(stack: Stack, visit: Callable[[str], Page]) -> None:
    first = pace(stack, 0.3, LONG)
    tasks = [pace(stack, 0, 1) for _ in range(99)]
    page = visit(LIST)
    streams: list[str] = []
    page.on("request", lambda request: streams.append(request.url) if "/events" in request.url else None)
    page.reload()
    expect(page.locator("[data-live]")).to_have_count(100)
    wait_until(lambda: steps_of(cell(page, "progress", first)), lambda step: step > 2)
    assert len(streams) == 1
    assert all(task["id"] in streams[0] for task in [first, *tasks])
    stack.api.post(f"/task/{first['id']}/cancel")
    expect(page.locator("[data-live]")).to_have_count(0, timeout=PATIENCE_MS)
    assert len(streams) == 1


def test_what_is_chosen_stays_chosen_while_rows_change(stack: Stack, visit: Callable[[str], Page]) -> None:
    task = pace(stack, 0.05, 40)
    page = visit(LIST)
    box = page.locator(f"input.action-select[value='{task['id']}']")
    box.check()
    other = pace(stack, 0, 1)
    expect(cell(page, "status", task)).to_have_text(re.compile("succeeded", re.I), timeout=PATIENCE_MS)
    expect(box).to_be_checked()
    expect(cell(page, "status", other)).to_have_count(0)
    box.click()  # `uncheck` would look at a box that a refresh may just have replaced
    expect(box).not_to_be_checked()
    newest = pace(stack, 0, 1)
    expect(cell(page, "status", newest)).to_be_visible(timeout=PATIENCE_MS)


def test_the_page_of_a_task_follows_it_to_its_picture(stack: Stack, visit: Callable[[str], Page]) -> None:
    # Long enough for a preview, and for that to be seen, on a fast machine, too.
    task = stack.submit_task("a beach", steps=150, seed=3, num_images=4)
    page = visit(f"{LIST}{task['id']}/change/")
    preview = page.locator("#task-preview img")
    expect(preview).to_be_visible(timeout=PATIENCE_MS)
    assert str(preview.get_attribute("src")).startswith("data:image/webp;base64,")
    picture = page.locator(".task-pictures img").first
    expect(picture).to_be_visible(timeout=PATIENCE_MS)
    expect(preview).to_have_count(0)
    assert picture.evaluate("image => image.naturalWidth") > 0


def test_a_running_task_is_canceled_from_its_page(stack: Stack, visit: Callable[[str], Page]) -> None:
    task = pace(stack, 0.3, LONG)
    page = visit(f"{LIST}{task['id']}/change/")
    expect(page.locator(".task-running").first).to_be_visible(timeout=PATIENCE_MS)
    page.get_by_role("link", name="Cancel …").click()
    page.get_by_role("button", name="Yes, cancel").click()
    expect(page.locator("#task-page")).to_contain_text("canceled while it ran", timeout=PATIENCE_MS)
    assert stack.get_task(task)["status"] == "canceled"


def test_a_task_is_cloned_with_edits(stack: Stack, visit: Callable[[str], Page]) -> None:
    task = stack.wait_for_task(pace(stack, 0, 3, seed=5))
    page = visit(f"{LIST}{task['id']}/change/")
    page.get_by_role("link", name="Clone with edits …").click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("pace 0")
    page.get_by_label("Steps").fill("999")
    page.get_by_role("button", name="Queue").click()
    expect(page.get_by_role("alert")).to_contain_text("between 1 and 150")
    page.get_by_label("Steps").fill("4")
    page.get_by_role("button", name="Queue").click()
    page.wait_for_url(lambda url: url.endswith("/change/") and task["id"] not in url)
    (clone,) = [each for each in stack.api.get("/task").json()["results"] if each["id"] != task["id"]]
    assert (clone["params"]["steps"], clone["params"]["seed"]) == (4, 5)
    expect(page.locator("#task-page")).to_contain_text("4/4", timeout=PATIENCE_MS)


def test_a_viewer_sees_it_move_and_cannot_act(stack: Stack, open_page: OpenPage) -> None:
    viewer = User.objects.create_user("viewer", password=PASSWORD, is_staff=True)
    # What the migration gives the group `viewers`, which the end of an earlier test has emptied.
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    task = pace(stack, 0.3, LONG)
    watched = open_page(str(stack.api.base_url))
    watched.expected.append("403")
    page = watched.page
    log_in(page, "viewer", f"{LIST}{task['id']}/change/")
    wait_until(lambda: steps_of(page.locator("#task-page")), lambda step: step > 3)
    for act in ("Cancel", "Retry", "Clone", "Delete", "Priority"):
        expect(page.get_by_role("link", name=re.compile(act))).to_have_count(0)
    for address in ("cancel/", "clone/"):
        answer = page.goto(f"{LIST}{task['id']}/{address}")
        assert answer is not None
        assert answer.status == 403
    page.goto(LIST)
    expect(page.locator("input.action-select")).to_have_count(0)
    assert stack.get_task(task)["status"] == "running"
    stack.api.post(f"/task/{task['id']}/cancel")


def test_a_pause_appears_on_an_open_list_and_goes_again(stack: Stack, visit: Callable[[str], Page]) -> None:
    busy = pace(stack, 0.3, LONG)
    pace(stack, 0, 1)
    page = visit(LIST)
    banner = page.locator("#queue-banner")
    expect(banner).not_to_contain_text("paused")
    services.pause_claims(Pause.Scope.QUEUE)
    expect(banner).to_contain_text("The queue is paused", timeout=PATIENCE_MS)
    services.resume_claims(Pause.Scope.QUEUE)
    expect(banner).not_to_contain_text("paused", timeout=PATIENCE_MS)
    stack.api.post(f"/task/{busy['id']}/cancel")
