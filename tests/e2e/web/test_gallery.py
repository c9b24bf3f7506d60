"""The wall and the viewer, in a real browser."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db.models.functions import Now
from playwright.sync_api import Page, expect

from tasks_app.models import Task, TaskImage
from tests.e2e.web.conftest import FinishTask
from tests.support.browser import PHONE, WatchedPage, get_image_widths

pytestmark = [pytest.mark.timeout(120), pytest.mark.django_db(transaction=True)]

Visit = Callable[..., WatchedPage]
TILES = "#wall .tile[data-task]"
HOSTILE = """</template><script>document.title = "broken"</script><img src=x onerror="document.title = 'broken'">"""


def open_tile(page: Page, task: Task) -> None:
    page.locator(f'{TILES}[data-task="{task.pk}"] a').click()
    expect(page.locator("#viewer")).to_be_visible()


def facts(page: Page) -> dict[str, str]:
    names, values = (page.locator(f"#viewer {tag}").all_text_contents() for tag in ("dt", "dd"))
    return dict(zip(names, values, strict=True))


def test_the_wall_goes_on_for_as_long_as_one_scrolls(visit: Visit, finish_task: FinishTask) -> None:
    tasks = [str(finish_task().pk) for _ in range(60)]
    page = visit(viewport={"width": 1000, "height": 500}).page
    expect(page.locator(TILES)).to_have_count(24)
    for count in (48, 60):
        page.locator(TILES).last.scroll_into_view_if_needed()
        expect(page.locator(TILES)).to_have_count(count)
    expect(page.locator("#more")).to_be_hidden()
    shown = page.locator(TILES).evaluate_all("tiles => tiles.map(tile => tile.dataset.task)")
    assert shown == tasks[::-1]
    # Where the end of the wall stays in sight, nobody needs to scroll.
    expect(visit(viewport={"width": 1400, "height": 5000}).page.locator(TILES)).to_have_count(60)


def test_a_purged_picture_has_a_quiet_stand_in(visit: Visit, finish_task: FinishTask) -> None:
    task = finish_task(images=2)
    TaskImage.objects.filter(task=task, index=0).update(purged_at=Now())
    page = visit().page
    tile = page.locator(f'{TILES}[data-task="{task.pk}"]')
    expect(tile.get_by_role("img", name="(purged)")).to_be_visible()
    expect(tile.locator("img")).to_have_count(1)
    open_tile(page, task)
    expect(page.locator("#viewer-notice")).to_contain_text("purged")
    for gone in ("#viewer-image", "#viewer-download"):
        expect(page.locator(gone)).to_be_hidden()
    expect(page.locator("#viewer-strip .purged")).to_have_count(1)
    page.keyboard.press("ArrowRight")
    for shown in ("#viewer-image", "#viewer-download"):
        expect(page.locator(shown)).to_be_visible()
    expect(page.locator("#viewer-notice")).to_be_hidden()


def test_the_wall_goes_on_by_its_button_and_by_one_that_can_be_tried_again(
    visit: Visit, finish_task: FinishTask
) -> None:
    for _ in range(30):
        finish_task()
    watched = visit(viewport={"width": 360, "height": 500})
    watched.expected.append("ERR_FAILED")
    page = watched.page
    page.route("**/task?*", lambda route: route.abort())
    page.locator(TILES).last.scroll_into_view_if_needed()
    button = page.get_by_role("button", name="Couldn’t load more. Try again")
    expect(button).to_be_visible()
    page.unroute("**/task?*")
    button.press("Enter")
    expect(page.locator(TILES)).to_have_count(30)
    expect(page.locator(f"{TILES} a").nth(24)).to_be_focused()


def test_large_pictures_are_thumbnails_on_the_wall_and_whole_in_the_viewer(
    visit: Visit, finish_task: FinishTask
) -> None:
    tasks = [finish_task(side=512) for _ in range(25)]
    page = visit(viewport={"width": 1400, "height": 3000}).page
    expect(page.locator(TILES)).to_have_count(25)
    assert set(get_image_widths(page, f"{TILES} img")) == {256}
    open_tile(page, tasks[0])
    assert get_image_widths(page, "#viewer-image") == [512]


def test_the_viewer_tells_everything_and_fills_the_form(visit: Visit, finish_task: FinishTask) -> None:
    params = {
        "prompt": "a red house\nat sunset",
        "negative_prompt": "fog",
        "steps": 12,
        "guidance_scale": 4.5,
        "num_images": 3,
        "width": 48,
        "height": 48,
        "scheduler": "euler_a",
    }
    named: dict[str, list[Any]] = {
        "loras": [{"id": "ink", "weight": 0.5}, {"id": "gone", "weight": -1.0}],
        "embeddings": ["cat"],
    }
    task = finish_task(images=3, side=48, params={**params, **named}, priority=2)
    page = visit().page
    page.fill("#prompt", "something else")
    page.fill("#seed", "1")
    open_tile(page, task)
    told = facts(page)
    assert told.pop("Created")
    assert told == {
        "Negative prompt": "fog",
        "Seed": "7",
        "Steps": "12",
        "Guidance scale": "4.5",
        "Scheduler": "euler_a",
        "LoRAs": "ink × 0.5, gone × -1",
        "Embeddings": "cat",
        "Size": "48 × 48",
        "Model": "demo",
        "Generation time": "1.5 s",
    }
    page.get_by_role("button", name="Image 2, seed 8").click()
    assert facts(page)["Seed"] == "8"
    expect(page.locator("#viewer-image")).to_have_attribute("src", f"/task/{task.pk}/images/1")
    page.get_by_role("button", name="Reuse settings").click()
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page.locator("#prompt")).to_be_focused()
    filled = {name: page.input_value(f"#{name}") for name in [*params, "seed", "priority", "model_id"]}
    expected = {**params, "seed": 8, "priority": 2, "model_id": "demo"}
    assert filled == {name: str(value) for name, value in expected.items()}
    assert {name: json.loads(page.input_value(f"#{name}")) for name in named} == named
    page.get_by_text("Advanced", exact=True).click()
    assert page.locator(".addons li:visible span").all_inner_texts() == ["ink", "gone", "cat"]


def test_download_and_link_lead_to_the_picture(visit: Visit, finish_task: FinishTask) -> None:
    task = finish_task(params={"prompt": "Ein rotes Haus, süß!", "num_images": 1})
    page = visit(permissions=["clipboard-read", "clipboard-write"]).page
    open_tile(page, task)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "ein-rotes-haus-süß-7.png"
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("status")).to_have_text("Copied")
    link = page.evaluate("navigator.clipboard.readText()")
    page.goto(link)
    expect(page.locator("#viewer-prompt")).to_have_text("Ein rotes Haus, süß!")


def test_a_link_opens_its_task_and_back_closes_it(visit: Visit, finish_task: FinishTask) -> None:
    task = finish_task()
    page = visit(f"/?task={task.pk}").page
    expect(page.locator("#viewer")).to_be_visible()
    assert page.url.endswith(f"/?task={task.pk}")
    page.reload()
    expect(page.locator("#viewer")).to_be_visible()
    page.go_back()
    expect(page.locator("#viewer")).to_be_hidden()
    assert page.url.endswith("/")
    page.go_forward()
    expect(page.locator("#viewer")).to_be_visible()


@pytest.mark.parametrize("task", ["1b671a64-40d5-491e-99b0-da01ff1f3341", "../admin", "%00"])
def test_a_link_to_nothing_opens_nothing(visit: Visit, task: str) -> None:
    watched = visit(f"/?task={task}")
    watched.expected.append("status of 404")
    expect(watched.page.locator("#empty")).to_be_visible()
    expect(watched.page.locator("#viewer")).to_be_hidden()


def test_the_keyboard_alone_goes_through_pictures(visit: Visit, finish_task: FinishTask) -> None:
    older, newer = finish_task(), finish_task(images=2)
    page = visit().page
    page.keyboard.press("Shift+Tab")  # from the prompt to what stands before it
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("link", name="Skip to the images")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator(f'[data-task="{newer.pk}"] a')).to_be_focused()
    page.keyboard.press("Enter")
    image = page.locator("#viewer-image")
    expect(image).to_have_attribute("src", f"/task/{newer.pk}/images/0")
    for key, task, index in [("Right", newer, 1), ("Right", older, 0), ("Left", newer, 1), ("Left", newer, 0)]:
        page.keyboard.press(f"Arrow{key}")
        expect(image).to_have_attribute("src", f"/task/{task.pk}/images/{index}")
    page.keyboard.press("ArrowLeft")  # there is none before
    expect(image).to_have_attribute("src", f"/task/{newer.pk}/images/0")
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page.locator(f'[data-task="{newer.pk}"] a')).to_be_focused()
    expect(page).to_have_url(page.url.partition("?")[0])


def test_a_hostile_prompt_stays_text(visit: Visit, finish_task: FinishTask) -> None:
    task = finish_task(params={"prompt": HOSTILE, "num_images": 1})
    page = visit().page
    open_tile(page, task)
    expect(page.locator("#viewer-prompt")).to_have_text(HOSTILE)
    page.get_by_role("button", name="Reuse settings").click()
    assert page.input_value("#prompt") == HOSTILE
    # Closing the viewer goes back in the history, and a reload before that has happened would be broken off.
    page.wait_for_url("**/")
    page.reload()
    assert page.input_value("#prompt") == HOSTILE
    assert page.title() == "Diffusers Handler"


def test_the_theme_follows_the_system_until_another_is_chosen(visit: Visit) -> None:
    page = visit(color_scheme="dark").page
    color = "getComputedStyle(document.body).backgroundColor"
    button = page.get_by_role("button", name="Dark mode")
    dark = page.evaluate(color)
    expect(button).to_have_attribute("aria-pressed", "true")
    button.click()
    light = page.evaluate(color)
    assert light != dark
    page.reload()
    assert page.evaluate(color) == light
    page.get_by_role("button", name="Dark mode").click()
    page.emulate_media(color_scheme="light")
    assert page.evaluate(color) == light  # it follows again


def test_on_a_phone_the_viewer_fits(visit: Visit, finish_task: FinishTask) -> None:
    task = finish_task(images=8, params={"prompt": "a very long prompt " * 40, "num_images": 8})
    page = visit(viewport=PHONE, is_mobile=True, has_touch=True).page
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    open_tile(page, task)
    assert page.locator("#viewer").evaluate("it => it.scrollWidth") <= PHONE["width"]
    expect(page.get_by_role("button", name="Close")).to_be_in_viewport()
    page.get_by_role("button", name="Reuse settings").scroll_into_view_if_needed()
    page.get_by_role("button", name="Reuse settings").tap()
    expect(page.locator("#viewer")).to_be_hidden()


def test_with_reduced_motion_nothing_moves_for_long(visit: Visit, finish_task: FinishTask) -> None:
    task = finish_task()
    page = visit(reduced_motion="reduce").page
    open_tile(page, task)
    durations = page.evaluate("document.getAnimations({subtree: true}).map(one => one.effect.getTiming().duration)")
    assert all(duration <= 1 for duration in durations)
    assert page.evaluate("getComputedStyle(document.querySelector('#viewer')).animationDuration") == "0.001s"
