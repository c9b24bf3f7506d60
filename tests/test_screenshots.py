"""The pictures of the docs: the admin in a real browser, and what the demo model draws, through the real parts.

`python -m pytest -m screenshots` writes them anew to docs/screenshots.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page, sync_playwright

from tests import stack as stacks
from tests.stack import ROOT, Stack, until

pytestmark = [pytest.mark.screenshots, pytest.mark.timeout(240), pytest.mark.django_db(transaction=True)]

SHOTS = ROOT / "docs" / "screenshots"
MAX_BYTES = 400_000
WIDTH = 1400
NAME, PASSWORD = "ops", "only for this test"
TASKS = "/admin/tasks_app/task/"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
LOADED = "Array.from(document.images).every(image => image.complete) && document.fonts.status === 'loaded'"
ABSENT = "runwayml/stable-diffusion-v1-5"

# Chosen by eye among four seeds of each; HOUSE has four in a row.
HOUSE = "a red house"
CITY = "a futuristic cyberpunk city"
SEEDS = {HOUSE: 0, CITY: 2, "mountains with a lake": 2, "an autumn tree": 2, "a yellow flower": 1, "a beach": 0}
# How many of its 150 steps the long task has done before it is looked at.
UNDER_WAY = 50
COLUMNS, SIDE, GAP, CAPTION = 3, 192, 24, 30


@dataclass(frozen=True, kw_only=True)
class Browser:
    """A browser's page, whose user is logged in; what it asked for and what it complained about."""

    page: Page
    requested: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self._note(message.type, message.text, message.location["url"]))

    def _note(self, kind: str, text: str, url: str) -> None:
        if kind == "error" and not url.endswith("/favicon.ico"):
            self.complaints.append(f"{text} {url}")

    def log_in(self, next_path: str) -> None:
        """Log in as people do."""
        self.page.goto(f"/admin/login/?next={next_path}")
        self.page.fill("input[name=username]", NAME)
        self.page.fill("input[name=password]", PASSWORD)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(f"**{next_path}")

    def widths(self, selector: str) -> list[int]:
        """Return how wide in pixels the pictures' files are; 0 is one that did not load."""
        self.page.wait_for_function(LOADED)
        widths: list[int] = self.page.locator(selector).evaluate_all("all => all.map(image => image.naturalWidth)")
        return widths

    def shoot(self, name: str) -> None:
        """Keep the whole page as a picture for the docs."""
        self.page.set_viewport_size({"width": WIDTH, "height": self.page.evaluate("document.body.scrollHeight")})
        self.page.wait_for_function(LOADED)
        self.page.screenshot(path=SHOTS / name)
        check_shot(name, WIDTH)


@pytest.fixture(scope="module")
def stack(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run the parts for all tests of this module."""
    with django_db_blocker.unblock():
        environment = stacks.environment()
    with stacks.running(tmp_path_factory.mktemp("logs"), environment) as running:
        yield running


@pytest.fixture
def browser(stack: Stack, transactional_db: None) -> Iterator[Browser]:
    """Open Debian's browser and log in, and see at the end that nothing was asked for elsewhere, and nothing failed."""
    # Before the browser: beside its event loop the ORM would refuse to work.
    User.objects.create_superuser(NAME, "ops@example.com", PASSWORD)
    server = str(stack.api.base_url)
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS) as chromium,
        chromium.new_page(base_url=server, viewport={"width": WIDTH, "height": 860}) as page,
    ):
        browser = Browser(page=page)
        browser.log_in(TASKS)
        yield browser
        assert {urlsplit(url).netloc for url in browser.requested} == {urlsplit(server).netloc}
        assert browser.complaints == []


def check_shot(name: str, width: int) -> None:
    shot = SHOTS / name
    assert shot.stat().st_size < MAX_BYTES
    with Image.open(shot) as picture:
        assert (picture.format, picture.width) == ("PNG", width)


def draw(stack: Stack, prompt: str, **params: Any) -> dict[str, Any]:
    """Queue one of the chosen pictures."""
    return stack.post(prompt, **{"steps": 25, "seed": SEEDS[prompt], **params})


def succeed(stack: Stack, task: dict[str, Any]) -> dict[str, Any]:
    ended = stack.finish(task)
    assert ended["status"] == "succeeded", ended
    return ended


@contextmanager
def one_running_one_canceled_one_queued(stack: Stack) -> Iterator[None]:
    """Keep the worker busy with a long task that is under way, and what waits behind it waiting."""
    busy = stack.post("a house at sunset", steps=150, num_images=8, seed=1)
    until(lambda: stack.get(busy), lambda now: now["progress"]["step"] >= UNDER_WAY)
    canceled, queued = (stack.post(prompt, steps=25) for prompt in ("a night sky", "a star on a blue background"))
    stack.api.post(f"/task/{canceled['id']}/cancel").raise_for_status()
    try:
        yield
    finally:
        for task in (queued, busy):
            stack.api.post(f"/task/{task['id']}/cancel").raise_for_status()
            stack.finish(task)


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
    drawn = {prompt: stack.picture(succeed(stack, task)) for prompt, task in tasks.items()}
    assert len(set(drawn.values())) == len(SEEDS)
    pictures = {prompt: Image.open(io.BytesIO(data)).convert("RGB") for prompt, data in drawn.items()}
    assert {picture.size for picture in pictures.values()} == {(64, 64)}
    whole = sheet(pictures)
    whole.save(SHOTS / "pictures.png", optimize=True)
    check_shot("pictures.png", whole.width)


def test_the_list_shows_tasks_of_every_status(stack: Stack, browser: Browser) -> None:
    drawn = [draw(stack, prompt) for prompt in SEEDS if prompt != HOUSE]
    failed = stack.finish(stack.post("Portrait of a fox in a tweed jacket, oil on canvas", model_id=ABSENT))
    assert (failed["status"], failed["error"]["code"]) == ("failed", "model_unavailable")
    drawn.append(draw(stack, HOUSE, num_images=4))
    for task in drawn:
        succeed(stack, task)
    with one_running_one_canceled_one_queued(stack):
        browser.page.goto(TASKS)
        assert browser.widths("img.task-thumb") == [64] * len(drawn)
        browser.shoot("admin-list.png")
        shown = [text.strip().lower() for text in browser.page.locator("[id^=status-]").all_text_contents()]
        assert shown[:3] == ["queued", "canceled", "running"]
        assert sorted(shown[3:]) == ["failed", *["succeeded"] * len(drawn)]
        steps = browser.page.locator(".task-running .task-steps span").first.text_content()
        assert steps is not None
        assert UNDER_WAY <= int(steps.partition("/")[0]) < 150


def test_the_page_of_a_task_shows_its_pictures(stack: Stack, browser: Browser) -> None:
    task = succeed(stack, draw(stack, HOUSE, num_images=4))
    browser.page.goto(f"{TASKS}{task['id']}/change/")
    assert browser.widths(".task-pictures img") == [64] * 4
    text = browser.page.inner_text("#task-page")
    for known in (task["id"], HOUSE, "25/25", *(f"seed {image['seed']}" for image in task["images"])):
        assert known in text
    browser.shoot("admin-task.png")
