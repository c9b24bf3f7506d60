"""The pictures of the docs: the admin in a real browser, and what the demo model draws, through the real parts.

`python -m pytest -m screenshots` writes them anew to docs/screenshots.
"""

import io
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page, expect

from tasks_app.models import Task
from tests.support import stack as stacks
from tests.support.browser import (
    PHONE,
    SCREENSHOTS,
    OpenPage,
    check_screenshot,
    get_image_widths,
    take_screenshot,
)
from tests.support.stack import Stack, wait_until

pytestmark = [pytest.mark.screenshots, pytest.mark.timeout(240), pytest.mark.django_db(transaction=True)]

WIDTH = 1400
NAME, PASSWORD = "ops", "only for this test"
TASKS = "/admin/tasks_app/task/"
ABSENT = "runwayml/stable-diffusion-v1-5"

# Chosen by eye among four seeds of each; HOUSE has four in a row.
HOUSE = "a red house"
CITY = "a futuristic cyberpunk city"
SEEDS = {HOUSE: 0, CITY: 2, "mountains with a lake": 2, "an autumn tree": 2, "a yellow flower": 1, "a beach": 0}
# How many of its 150 steps the long task has done before it is looked at.
UNDER_WAY = 50
COLUMNS, SIDE, GAP, CAPTION = 3, 192, 24, 30


def log_in(page: Page) -> None:
    """Log in as people do."""
    page.goto(f"/admin/login/?next={TASKS}")
    page.fill("input[name=username]", NAME)
    page.fill("input[name=password]", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_url(f"**{TASKS}")


def shoot_whole(page: Page, name: str) -> None:
    """Keep the whole page, however high, as a picture for the docs."""
    page.set_viewport_size({"width": WIDTH, "height": page.evaluate("document.body.scrollHeight")})
    take_screenshot(page, name)


@pytest.fixture(scope="module")
def stack(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run the parts for all tests of this module."""
    with django_db_blocker.unblock():
        environment = stacks.build_environment()
    with stacks.run_stack(tmp_path_factory.mktemp("logs"), environment) as running:
        yield running


@pytest.fixture
def admin(stack: Stack, transactional_db: None, open_page: OpenPage) -> Page:
    """Open the admin, logged in."""
    User.objects.create_superuser(NAME, "ops@example.com", PASSWORD)
    page = open_page(str(stack.api.base_url), viewport={"width": WIDTH, "height": 860}).page
    log_in(page)
    return page


def draw(stack: Stack, prompt: str, **params: Any) -> dict[str, Any]:
    """Queue one of the chosen pictures."""
    return stack.submit_task(prompt, **{"steps": 25, "seed": SEEDS[prompt], **params})


def succeed(stack: Stack, task: dict[str, Any]) -> dict[str, Any]:
    ended = stack.wait_for_task(task)
    assert ended["status"] == "succeeded", ended
    return ended


@contextmanager
def one_running_one_canceled_one_queued(stack: Stack) -> Iterator[None]:
    """Keep the worker busy with a long task that is under way, and what waits behind it waiting."""
    busy = stack.submit_task("a house at sunset", steps=150, num_images=8, seed=1)
    wait_until(lambda: stack.get_task(busy), lambda now: now["progress"]["step"] >= UNDER_WAY)
    canceled, queued = (
        stack.submit_task(prompt, steps=25) for prompt in ("a night sky", "a star on a blue background")
    )
    stack.api.post(f"/task/{canceled['id']}/cancel").raise_for_status()
    try:
        yield
    finally:
        for task in (queued, busy):
            stack.api.post(f"/task/{task['id']}/cancel").raise_for_status()
            stack.wait_for_task(task)


def sheet(pictures: dict[str, Image.Image]) -> Image.Image:
    """Lay the pictures out, enlarged so that each of their pixels is a crisp square, with their prompts below."""
    font = ImageFont.load_default(size=14)
    rows = -(-len(pictures) // COLUMNS)
    size = (GAP + COLUMNS * (SIDE + GAP), GAP + rows * (SIDE + CAPTION) + (rows - 1) * GAP // 2)
    whole = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(whole)
    for number, (prompt, picture) in enumerate(pictures.items()):
        row, column = divmod(number, COLUMNS)
        left, top = GAP + column * (SIDE + GAP), GAP + row * (SIDE + CAPTION + GAP // 2)
        whole.paste(picture.resize((SIDE, SIDE), Image.Resampling.NEAREST), (left, top))
        pen.text((left + SIDE // 2, top + SIDE + CAPTION // 2), prompt, fill="#1f2937", font=font, anchor="mm")
    return whole


def test_six_prompts_become_six_pictures(stack: Stack) -> None:
    """Prompts and seeds are a choice by eye: the best of four seeds, of prompts that this model draws well."""
    tasks = {prompt: draw(stack, prompt) for prompt in SEEDS}
    drawn = {prompt: stack.get_image(succeed(stack, task)) for prompt, task in tasks.items()}
    assert len(set(drawn.values())) == len(SEEDS)
    pictures = {prompt: Image.open(io.BytesIO(data)).convert("RGB") for prompt, data in drawn.items()}
    assert {picture.size for picture in pictures.values()} == {(64, 64)}
    whole = sheet(pictures)
    whole.save(SCREENSHOTS / "pictures.png", optimize=True)
    check_screenshot("pictures.png", whole.width)


def test_the_list_shows_tasks_of_every_status(stack: Stack, admin: Page) -> None:
    drawn = [draw(stack, prompt) for prompt in SEEDS if prompt != HOUSE]
    failed = stack.wait_for_task(
        stack.submit_task("Portrait of a fox in a tweed jacket, oil on canvas", model_id=ABSENT)
    )
    assert (failed["status"], failed["error"]["code"]) == ("failed", "model_unavailable")
    drawn.append(draw(stack, HOUSE, num_images=4))
    for task in drawn:
        succeed(stack, task)
    with one_running_one_canceled_one_queued(stack):
        admin.goto(TASKS)
        assert get_image_widths(admin, "img.task-thumb") == [64] * len(drawn)
        shoot_whole(admin, "admin-list.png")
        shown = [text.strip().lower() for text in admin.locator("[id^=status-]").all_text_contents()]
        assert shown[:3] == ["queued", "canceled", "running"]
        assert sorted(shown[3:]) == ["failed", *["succeeded"] * len(drawn)]
        steps = admin.locator(".task-running .task-steps span").first.text_content()
        assert steps is not None
        assert UNDER_WAY <= int(steps.partition("/")[0]) < 150


def test_the_page_of_a_task_shows_its_pictures(stack: Stack, admin: Page) -> None:
    task = succeed(stack, draw(stack, HOUSE, num_images=4))
    admin.goto(f"{TASKS}{task['id']}/change/")
    assert get_image_widths(admin, ".task-pictures img") == [64] * 4
    text = admin.inner_text("#task-page")
    for known in (task["id"], HOUSE, "25/25", *(f"seed {image['seed']}" for image in task["images"])):
        assert known in text
    shoot_whole(admin, "admin-task.png")


def past(prompts: list[str]) -> None:
    """Fill the last day with sample tasks, which no worker ran, for the charts to show something."""
    chance, now = random.Random(1), timezone.now()
    codes = ["out_of_memory", "model_unavailable", "model_unavailable", "internal", "timed_out"]
    tasks = []
    for number in range(900):
        created = now - timedelta(hours=24 * chance.random() ** 1.3, minutes=3)
        started = created + timedelta(seconds=chance.expovariate(1 / 3))
        finished = started + timedelta(seconds=1.5 + chance.expovariate(1 / 1.2))
        status = chance.choices(["succeeded", "failed", "canceled"], [90, 6, 4])[0]
        code = {"failed": chance.choice(codes), "canceled": "canceled"}.get(status, "")
        params = {"prompt": chance.choice(prompts), "negative_prompt": "", "steps": 25, "guidance_scale": 4.0}
        tasks.append(
            Task(
                task_type="text-to-image",
                provider="diffusers",
                requested_model_id="demo",
                model_id="demo",
                params=params,
                seed=number,
                status=status,
                step=25 if status == "succeeded" else 0,
                total_steps=25,
                attempt=1,
                worker="gpu-1",
                error_code=code,
                created_at=created,
                started_at=started,
                finished_at=finished,
            )
        )
    Task.objects.bulk_create(tasks)


def test_the_dashboard_shows_the_queue_the_workers_and_the_last_day(stack: Stack, admin: Page) -> None:
    past(list(SEEDS))
    for prompt in SEEDS:
        succeed(stack, draw(stack, prompt))
    with one_running_one_canceled_one_queued(stack):
        for scheme in ("light", "dark"):
            admin.emulate_media(color_scheme=scheme)
            admin.goto("/admin/")
            assert get_image_widths(admin, ".dash-pictures img") == [64] * len(SEEDS)
            expect(admin.locator(".dash-workers .task-running")).to_be_visible()
            shoot_whole(admin, f"admin-dashboard{'' if scheme == 'light' else '-dark'}.png")


def test_a_running_task_shows_its_picture_forming_on_a_phone(stack: Stack, admin: Page) -> None:
    with one_running_one_canceled_one_queued(stack):
        (running,) = stack.api.get("/task?status=running").json()["results"]
        admin.set_viewport_size(PHONE)
        admin.goto(f"{TASKS}{running['id']}/change/")
        expect(admin.locator("#task-preview img")).to_be_visible(timeout=60_000)
        take_screenshot(admin, "admin-task-phone.png")
