"""From an empty page to a finished picture, in a real browser, through the real parts."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Locator, Page, expect

from tasks_app import services
from tasks_app.engine.diffusers.schedulers import SCHEDULERS, read_compatible_schedulers
from tasks_app.models import DiffusionModel, Pause
from tests.support.browser import PHONE, WatchedPage
from tests.support.stack import Stack, wait_until

pytestmark = [pytest.mark.timeout(240), pytest.mark.django_db(transaction=True)]

Visit = Callable[..., WatchedPage]
PATIENCE_MS = 60_000
# Long enough to be met while it runs.
LONG = {"steps": 150, "num_images": 4}

# Writes down, from inside the page, what passes too quickly to be polled for.
WATCH = """
window.seen = {bar: [], previews: [], texts: []};
new MutationObserver((changes) => {
  for (const {target, attributeName, addedNodes} of changes) {
    if (attributeName === "aria-valuenow" && target.hasAttribute(attributeName))
      seen.bar.push(Number(target.getAttribute(attributeName)));
    for (const node of addedNodes) if (node.classList?.contains("preview")) seen.previews.push(node.src);
  }
  const state = document.querySelector(".working .state p");
  if (state && seen.texts.at(-1) !== state.textContent) seen.texts.push(state.textContent);
}).observe(document.querySelector("#wall"), {subtree: true, childList: true, attributes: true, characterData: true});
"""


def write(page: Page, prompt: str, **numbers: Any) -> None:
    """Fill the form."""
    page.fill("#prompt", prompt)
    for name, value in {"guidance_scale": 3, **numbers}.items():
        page.fill(f"#{name}", str(value))


def generate(page: Page, prompt: str, **numbers: Any) -> dict[str, Any]:
    """Fill the form, submit it as people at a keyboard do, and return the task."""
    write(page, prompt, **numbers)
    with page.expect_response(lambda answer: answer.request.method == "POST") as answered:
        page.keyboard.press("Control+Enter")
    task: dict[str, Any] = answered.value.json()
    assert answered.value.status == 201, task
    return task


def working(page: Page, task: dict[str, Any]) -> Locator:
    return page.locator(f'[data-working="{task["id"]}"]')


def finished(page: Page, task: dict[str, Any]) -> Locator:
    return page.locator(f'[data-task="{task["id"]}"]')


def wait_for_steps(tile: Locator) -> None:
    expect(tile.locator(".state")).to_contain_text(re.compile(r"Step [1-9]"), timeout=PATIENCE_MS)


def test_from_an_empty_page_to_a_finished_picture(visit: Visit, stack: Stack) -> None:
    page = visit().page
    expect(page.locator("#empty")).to_be_visible()
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.evaluate(WATCH)
    task = generate(page, "a red house", steps=60, seed=3)
    expect(page.locator("#empty")).to_be_hidden()
    expect(working(page, task).get_by_role("progressbar")).to_be_visible()
    image = finished(page, task).get_by_role("img", name="a red house")
    expect(image).to_be_visible(timeout=PATIENCE_MS)
    expect(working(page, task)).to_have_count(0)
    assert image.evaluate("image => [image.complete, image.naturalWidth]") == [True, 64]
    assert image.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"
    expect(page.get_by_role("status")).to_have_text("Finished: 1 image of a red house")
    seen = page.evaluate("window.seen")
    assert len(set(seen["bar"])) >= 3, seen
    assert seen["bar"] == sorted(seen["bar"])
    assert [text for text in seen["texts"] if text.startswith("Step ")]
    assert seen["previews"]
    assert page.evaluate("localStorage['diffusers-handler:tasks']") == "[]"
    assert stack.get_task(task)["params"]["seed"] == 3


def test_the_picture_forms_from_previews_and_the_finished_one_takes_their_place(visit: Visit) -> None:
    page = visit().page
    page.evaluate(WATCH)
    task = generate(page, "a beach", **LONG)
    preview = working(page, task).locator(".preview").last
    expect(preview).to_be_visible(timeout=PATIENCE_MS)
    assert preview.evaluate("image => image.naturalWidth") > 0
    assert preview.evaluate("image => getComputedStyle(image).filter").startswith("blur(")
    expect(finished(page, task).locator("img:not(.leaving)")).to_have_count(4, timeout=PATIENCE_MS)
    expect(page.locator(".preview, .leaving")).to_have_count(0)
    seen = page.evaluate("window.seen")["previews"]
    assert len(set(seen)) >= 2
    assert all(source.startswith("data:image/webp;base64,") for source in seen)


def test_tasks_share_one_stream_and_tell_their_place_in_line(visit: Visit, stack: Stack) -> None:
    watched = visit()
    first = generate(watched.page, "a beach", **LONG)
    wait_for_steps(working(watched.page, first))
    services.pause_claims(Pause.Scope.QUEUE)  # nothing follows the first one before it is to
    second = generate(watched.page, "mountains", steps=2, num_images=1)
    third = generate(watched.page, "a forest", steps=2, num_images=1)
    expect(working(watched.page, second).locator(".state")).to_contain_text("Next up")
    expect(working(watched.page, third).locator(".state")).to_contain_text("#2 in queue")
    wait_until(
        lambda: [url for url in watched.requested if "/events" in url][-1],
        lambda stream: all(task["id"] in stream for task in (first, second, third)),
    )
    working(watched.page, second).get_by_role("button", name="Cancel").click()
    expect(working(watched.page, second).locator(".state")).to_contain_text("Canceled")
    expect(working(watched.page, third).locator(".state")).to_contain_text("Next up")
    services.resume_claims(Pause.Scope.QUEUE)
    stack.api.post(f"/task/{first['id']}/cancel").raise_for_status()
    expect(finished(watched.page, third)).to_be_visible(timeout=PATIENCE_MS)


def test_a_task_is_canceled_in_mid_run_and_can_be_tried_again(visit: Visit, stack: Stack) -> None:
    page = visit().page
    task = generate(page, "a house at sunset", **LONG)
    tile = working(page, task)
    wait_for_steps(tile)
    tile.get_by_role("button", name="Cancel").click()
    expect(tile.locator(".state")).to_contain_text("Canceled", timeout=PATIENCE_MS)
    expect(tile.get_by_role("button", name="Dismiss")).to_be_focused()
    assert stack.get_task(task)["status"] == "canceled"
    with page.expect_response("**/task") as answered:
        tile.get_by_role("button", name="Try again").click()
    again = answered.value.json()
    assert again["params"] == task["params"]
    expect(tile).to_have_count(0)
    tile = working(page, again)
    wait_for_steps(tile)
    tile.get_by_role("button", name="Cancel").click()
    tile.get_by_role("button", name="Dismiss").click(timeout=PATIENCE_MS)
    expect(tile).to_have_count(0)
    expect(page.locator("#empty")).to_be_visible()
    expect(page.locator("#prompt")).to_be_focused()


def test_after_a_reload_a_running_task_is_followed_to_its_end(visit: Visit) -> None:
    page = visit().page
    task = generate(page, "a beach", **LONG)
    wait_for_steps(working(page, task))
    page.reload()
    wait_for_steps(working(page, task))
    assert page.input_value("#prompt") == "a beach"
    assert page.input_value("#steps") == "150"
    expect(finished(page, task).locator("img:not(.leaving)")).to_have_count(4, timeout=PATIENCE_MS)


def test_what_is_left_empty_is_the_models_and_is_said_so(visit: Visit, stack: Stack) -> None:
    DiffusionModel.objects.update_or_create(
        model_id="demo", defaults={"steps": 3, "negative_prompt": "fog", "guidance_scale": 2.5}
    )
    page = visit().page
    assert page.evaluate("[steps, negative_prompt, guidance_scale].map(field => field.placeholder)") == [
        "3",
        "fog",
        "2.5",
    ]
    assert page.input_value("[data-slides=steps]") == "3"
    page.select_option("#model_id", "runwayml/stable-diffusion-v1-5")
    expect(page.locator("#steps")).to_have_attribute("placeholder", "30")
    page.select_option("#model_id", "demo")
    page.locator("#composer details details summary").click()
    page.select_option("#output_format", "webp")
    page.fill("#prompt", "a beach")
    with page.expect_response("**/task") as answered:
        page.keyboard.press("Control+Enter")
    params = answered.value.json()["params"]
    assert (params["steps"], params["negative_prompt"], params["guidance_scale"]) == (3, "fog", 2.5)
    assert (params["scheduler"], params["width"], params["output_format"]) == (None, None, "webp")


def test_only_the_schedulers_that_the_model_takes_can_be_chosen(visit: Visit) -> None:
    page = visit().page

    def offered() -> set[str]:
        return set(page.eval_on_selector_all("#scheduler option:enabled", "options => options.map(one => one.value)"))

    page.select_option("#model_id", "runwayml/stable-diffusion-v1-5")
    assert offered() == {"", *SCHEDULERS}
    page.locator("#composer details details summary").click()
    page.select_option("#scheduler", "flow_match_euler")
    page.select_option("#model_id", "demo")
    assert offered() == {"", *read_compatible_schedulers(settings.MODELS_DIR / "demo")}
    assert page.input_value("#scheduler") == ""


def test_loras_and_embeddings_are_added_weighed_and_removed_one_by_one(visit: Visit) -> None:
    services.pause_claims(Pause.Scope.QUEUE)
    page = visit().page
    page.get_by_text("Advanced", exact=True).click()
    for name in ("ink", "glow"):
        page.select_option("#loras-add", name)
    page.select_option("#embeddings-add", "cat")
    expect(page.locator("[data-addons=loras] option:enabled")).to_have_text(["Add…"])
    page.get_by_label("Weight of ink").fill("-0.35")
    page.get_by_role("button", name="Remove glow").click()
    expect(page.locator("#loras-add")).to_be_focused()
    expect(page.locator("[data-addons=loras] option:enabled")).to_have_text(["Add…", "glow"])
    page.reload()
    page.get_by_text("Advanced", exact=True).click()
    expect(page.get_by_label("Weight of ink")).to_have_value("-0.35")
    page.select_option("#loras-add", "glow")
    params = generate(page, "a beach", steps=2)["params"]
    assert params["loras"] == [{"id": "ink", "weight": -0.35}, {"id": "glow", "weight": 1.0}]
    assert params["embeddings"] == ["cat"]


def test_a_lora_that_is_refused_is_told_at_its_field(visit: Visit, stack: Stack) -> None:
    watched = visit()
    watched.expected.append(r"status of 400")
    page = watched.page
    page.get_by_text("Advanced", exact=True).click()
    page.select_option("#loras-add", "ink")
    page.get_by_label("Weight of ink").fill("9")
    page.get_by_text("Settings", exact=True).click()
    page.fill("#prompt", "a beach")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#loras-error")).to_have_text("Must be between -4 and 4.")
    expect(page.locator("#loras-add")).to_be_focused()
    expect(page.locator("#loras-add")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Weight of ink").fill("1")
    expect(page.locator("#loras-error")).to_be_hidden()
    expect(page.locator("#loras-add")).not_to_have_attribute("aria-invalid", "true")


def test_a_paused_queue_is_said_to_be(visit: Visit) -> None:
    services.pause_claims(Pause.Scope.QUEUE)
    page = visit().page
    task = generate(page, "a beach", steps=2)
    state = working(page, task).locator(".state")
    expect(state).to_contain_text("Next up · paused")
    services.resume_claims(Pause.Scope.QUEUE)
    expect(finished(page, task)).to_be_visible(timeout=PATIENCE_MS)


def test_a_task_that_failed_says_why(visit: Visit, stack: Stack) -> None:
    page = visit().page
    page.select_option("#model_id", "runwayml/stable-diffusion-v1-5")
    task = generate(page, "a beach", steps=2)
    state = working(page, task).locator(".state p")
    expect(state).to_contain_text("Failed.", timeout=PATIENCE_MS)
    expect(state).to_have_text(f"Failed. {stack.get_task(task)['error']['message']}")


def test_errors_are_told_at_their_fields_and_the_first_one_gets_the_focus(visit: Visit) -> None:
    watched = visit()
    watched.expected.append(r"status of 400")
    page = watched.page
    page.get_by_text("Advanced", exact=True).click()
    write(page, "a beach", steps=500, width=33, height=64, priority=11)
    page.get_by_text("Settings", exact=True).click()
    page.locator("#prompt").press("Control+Enter")
    expect(page.locator("#steps-error")).to_have_text("Must be between 1 and 150.")
    expect(page.locator("#width-error")).to_have_text("Must be a multiple of 8.")
    expect(page.locator("#priority-error")).to_have_text("Must be between -10 and 10.")
    expect(page.locator("#height-error")).to_be_hidden()
    expect(page.locator("#steps")).to_be_focused()
    expect(page.locator("#steps")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("status")).to_have_text("3 fields need attention.")
    page.fill("#steps", "2")
    expect(page.locator("#steps-error")).to_be_hidden()
    page.fill("#prompt", "")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#prompt-error")).not_to_be_empty()
    expect(page.locator("#prompt")).to_be_focused()


def test_while_the_service_is_away_the_form_says_so_and_tries_again(visit: Visit) -> None:
    watched = visit()
    watched.expected.extend(["ERR_CONNECTION_REFUSED", "status of 503"])
    page = watched.page
    page.route("**/task", lambda route: route.abort("connectionrefused"))
    write(page, "a beach", steps=2)
    page.get_by_role("button", name="Generate").click()
    alert = page.locator("#refusal")
    expect(alert).to_contain_text("can’t be reached")
    away = {"error": {"code": "unavailable", "message": "Away, as the test wants it.", "retryable": True}}
    page.unroute("**/task")
    page.route("**/task", lambda route: route.fulfill(status=503, json=away))
    alert.get_by_role("button", name="Try again").click()
    expect(alert).to_contain_text("Away, as the test wants it.")
    page.unroute("**/task")
    alert.get_by_role("button", name="Try again").click()
    expect(alert).to_be_hidden()
    expect(page.locator(".tile img").first).to_be_visible(timeout=PATIENCE_MS)


def test_when_the_stream_is_refused_the_tasks_are_asked_for(visit: Visit) -> None:
    watched = visit()
    watched.expected.append("status of 503")
    watched.page.route("**/events?*", lambda route: route.fulfill(status=503, body=json.dumps({})))
    task = generate(watched.page, "a beach", steps=2)
    expect(finished(watched.page, task)).to_be_visible(timeout=PATIENCE_MS)


def test_on_a_phone_nothing_is_too_wide_and_the_new_picture_comes_into_view(visit: Visit) -> None:
    page = visit(viewport=PHONE, is_mobile=True, has_touch=True).page
    fits = "document.documentElement.scrollWidth <= 360"
    assert page.evaluate(fits)
    expect(page.locator("#steps")).to_be_hidden()
    page.get_by_text("Settings", exact=True).tap()
    task = generate(page, "a-house-" * 40, **LONG)
    wait_for_steps(working(page, task))
    expect(working(page, task).locator(".state")).to_be_in_viewport()
    assert page.evaluate(fits)
    working(page, task).get_by_role("button", name="Cancel").tap()
