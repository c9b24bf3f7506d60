"""Images that start from another one: chosen, dropped, pasted or from the wall, and masks painted over them."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.e2e.web.conftest import FinishTask
from tests.e2e.web.test_flow import PATIENCE_MS, Visit, finished, generate, write
from tests.support.browser import find_axe_violations
from tests.support.stack import Stack, wait_until

pytestmark = [pytest.mark.timeout(240), pytest.mark.django_db(transaction=True)]

# Of which nobody here knows what it is for, so that the service takes tasks of all types for it.
UNKNOWN = "runwayml/stable-diffusion-v1-5"
# Lets the page have a file as if somebody dropped or pasted it.
HAND_OVER = """
async ([kind, target, side]) => {
  const canvas = Object.assign(document.createElement("canvas"), {width: side, height: side});
  canvas.getContext("2d").fillRect(0, 0, side, side);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const data = new DataTransfer();
  data.items.add(new File([blob], "black.png", {type: "image/png"}));
  const event = kind === "drop"
    ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
    : new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true});
  document.querySelector(target).dispatchEvent(event);
}
"""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Return a file of twice as many pixels a side, one way, as the demo model draws."""
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (128, 64), (40, 90, 200)).save(path)
    return path


def choose(page: Page, file: Path) -> None:
    page.set_input_files("#image-file", file)
    expect(page.locator(".begun .hint")).to_be_visible()


def kept(stack: Stack, upload_id: str) -> Image.Image:
    return Image.open(io.BytesIO(stack.api.get(f"/upload/{upload_id}").raise_for_status().content)).convert("RGB")


def test_a_picture_that_is_chosen_is_what_the_next_one_begins_with(visit: Visit, stack: Stack, photo: Path) -> None:
    page = visit().page
    page.fill("#width", "64")
    page.fill("#height", "64")
    choose(page, photo)
    # As many pixels as the model draws, in the image's shape, but for what is over a multiple of 8.
    expect(page.locator(".begun .hint")).to_have_text("88 × 40")
    expect(page.get_by_label("Width")).to_be_hidden()
    expect(page.get_by_role("status")).to_have_text("Starting image set.")
    assert find_axe_violations(page) == []
    task = generate(page, "a beach", steps=10, strength=0.5)
    params = task["params"]
    assert (task["task_type"], params["strength"], params["width"], params["height"]) == ("image-to-image", 0.5, 88, 40)
    assert kept(stack, params["image"]).size == (90, 45)
    expect(finished(page, task)).to_be_visible(timeout=PATIENCE_MS)
    finished(page, task).locator("a").click()
    began = page.get_by_role("img", name="Source image")
    expect(began).to_be_visible()
    assert began.evaluate("image => image.naturalWidth") == 90
    expect(page.locator("#viewer-facts")).to_contain_text("Strength0.5")


@pytest.mark.parametrize(("kind", "target"), [("drop", "#composer"), ("paste", "#prompt")])
def test_a_picture_can_be_dropped_or_pasted_and_taken_away_again(
    visit: Visit, stack: Stack, kind: str, target: str
) -> None:
    page = visit().page
    page.evaluate(HAND_OVER, [kind, target, 48])
    expect(page.locator(".begun .hint")).to_have_text("48 × 48")
    page.reload()
    expect(page.locator(".begun .hint")).to_have_text("48 × 48")
    page.get_by_role("button", name="Remove").click()
    expect(page.locator("#image-add")).to_be_focused()
    expect(page.get_by_label("Strength", exact=False)).to_be_hidden()
    task = generate(page, "a beach", steps=2)
    assert task["task_type"] == "text-to-image"
    assert "image" not in task["params"]


def test_a_picture_of_the_wall_is_begun_with_and_its_parameters_come_back(
    visit: Visit, stack: Stack, finish_task: FinishTask
) -> None:
    made = finish_task(side=32)
    page = visit().page
    page.locator(".tile[data-task] a").click()
    page.get_by_role("button", name="Use as starting image").click()
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page.locator(".begun .hint")).to_have_text("32 × 32")
    task = generate(page, "a beach", steps=4, strength=0.5)
    made_of = stack.api.get(f"/task/{made.pk}/images/0").content
    assert kept(stack, task["params"]["image"]).tobytes() == Image.open(io.BytesIO(made_of)).convert("RGB").tobytes()
    expect(finished(page, task)).to_be_visible(timeout=PATIENCE_MS)
    page.get_by_role("button", name="Remove").click()
    finished(page, task).locator("a").click()
    page.get_by_role("button", name="Reuse settings").click()
    expect(page.locator(".begun .hint")).to_have_text("32 × 32")
    expect(page.locator("#strength")).to_have_value("0.5")
    assert page.input_value("#image") == task["params"]["image"]


def test_a_picture_that_can_not_be_fetched_is_told(visit: Visit, finish_task: FinishTask) -> None:
    finish_task(side=32)
    watched = visit()
    watched.expected.append("status of 503")
    page = watched.page
    page.locator(".tile[data-task] a").click()
    page.route("**/images/0", lambda route: route.fulfill(status=503))
    page.get_by_role("button", name="Use as starting image").click()
    expect(page.locator("#image-error")).to_contain_text("can’t be loaded from here")
    assert page.input_value("#image") == ""


def test_what_is_painted_over_is_drawn_anew(visit: Visit, stack: Stack, photo: Path) -> None:
    page = visit().page
    choose(page, photo)
    expect(page.locator("#mask-add")).to_be_hidden()  # the demo model can't
    page.select_option("#model_id", UNKNOWN)
    page.get_by_role("button", name="Paint a mask").click()
    paint(page, (0.75, 0.5), (0.95, 0.5))
    assert find_axe_violations(page) == []
    page.get_by_role("button", name="Use this mask").click()
    expect(page.get_by_role("status")).to_have_text("Mask set.")
    task = generate(page, "a beach", steps=10)
    assert task["task_type"] == "inpainting"
    image, mask = (kept(stack, task["params"][name]) for name in ("image", "mask"))
    assert mask.size == image.size
    middle = mask.height // 2
    assert [mask.getpixel((round(mask.width * at), middle)) for at in (0.1, 0.85)] == [(0, 0, 0), (255, 255, 255)]
    page.select_option("#model_id", "demo")
    assert generate(page, "a beach", steps=10)["task_type"] == "image-to-image"


def paint(page: Page, *line: tuple[float, float]) -> None:
    """Draw a line from one place of the canvas to another."""
    box = page.locator("#painter canvas").bounding_box()
    assert box is not None
    (x, y), (to_x, to_y) = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in line]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(to_x, to_y, steps=4)
    page.mouse.up()


def test_a_mask_can_be_given_up(visit: Visit, photo: Path) -> None:
    page = visit().page
    choose(page, photo)
    page.select_option("#model_id", UNKNOWN)
    page.get_by_role("button", name="Paint a mask").click()
    paint(page, (0.2, 0.5), (0.4, 0.5))
    page.get_by_role("button", name="Cancel").click()
    assert page.input_value("#mask") == ""
    page.get_by_role("button", name="Paint a mask").click()
    page.get_by_role("button", name="Use this mask").click()
    expect(page.locator("[data-layer=mask]")).to_be_visible()
    page.get_by_role("button", name="Redo mask").click()
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Use this mask").click()
    expect(page.locator("[data-layer=mask]")).to_be_hidden()
    assert generate(page, "a beach", steps=10)["task_type"] == "image-to-image"


@pytest.mark.parametrize("how", ["is none", "is more than the server takes"])
def test_what_the_server_does_not_take_is_told_at_the_field(visit: Visit, tmp_path: Path, how: str) -> None:
    watched = visit()
    watched.expected.append(r"status of (400|413)")
    page = watched.page
    (tmp_path / "image.png").write_bytes(b"text" if how == "is none" else bytes(17 * 2**20))
    page.set_input_files("#image-file", tmp_path / "image.png")
    expect(page.locator("#image-error")).not_to_be_empty()
    expect(page.locator("#image-add")).to_have_text("Upload, drop or paste an image")
    expect(page.locator("#image-add")).to_have_attribute("aria-invalid", "true")
    task = generate(page, "a beach", steps=2)
    assert task["task_type"] == "text-to-image"
    expect(page.locator("#image-error")).to_be_hidden()


def test_a_task_is_not_sent_before_its_picture(visit: Visit, photo: Path) -> None:
    page = visit().page
    held: list[Any] = []
    page.route("**/upload", lambda route: held.append(route))
    page.set_input_files("#image-file", photo)
    expect(page.locator("#image-add")).to_have_text("Uploading…")
    write(page, "a beach", steps=4)
    with page.expect_response(lambda answer: answer.url.endswith("/task")) as answered:
        page.keyboard.press("Control+Enter")
        held[0].continue_()
    assert answered.value.json()["task_type"] == "image-to-image"


def test_an_upload_that_is_gone_is_no_longer_in_the_form(visit: Visit, stack: Stack, photo: Path) -> None:
    watched = visit()
    watched.expected.append("status of 404")
    page = watched.page
    choose(page, photo)
    page.route("**/upload/*", lambda route: route.fulfill(status=404))
    page.reload()
    expect(page.locator("#image-error")).to_contain_text("The image has expired")
    expect(page.locator("#image-add")).to_have_text("Upload, drop or paste an image")
    assert page.input_value("#image") == ""


def test_of_two_pictures_the_one_that_was_chosen_later_counts(visit: Visit, stack: Stack, photo: Path) -> None:
    page = visit().page
    held: list[Any] = []
    page.route("**/upload", lambda route: held.append(route) if not held else route.continue_())
    page.set_input_files("#image-file", photo)
    expect(page.locator("#image-add")).to_have_text("Uploading…")
    wait_until(lambda: page.evaluate("1") and held, bool)
    page.evaluate(HAND_OVER, ["drop", "#composer", 48])
    expect(page.locator(".begun .hint")).to_have_text("48 × 48")
    with page.expect_response("**/upload"):
        held[0].continue_()
    expect(page.locator(".begun .hint")).to_have_text("48 × 48")
    assert kept(stack, generate(page, "a beach", steps=4)["params"]["image"]).size == (48, 48)


def test_words_are_pasted_as_words_also_where_a_picture_lies_beside_them(visit: Visit) -> None:
    page = visit().page
    page.evaluate(
        HAND_OVER.replace("const event", 'data.setData("text/plain", "a beach"); const event'), ["paste", "#prompt", 48]
    )
    page.evaluate(HAND_OVER, ["paste", "#composer", 40])
    expect(page.locator(".begun .hint")).to_have_text("40 × 40")


def test_what_is_hidden_holds_up_nothing(visit: Visit, photo: Path) -> None:
    page = visit().page
    choose(page, photo)
    page.locator("#strength").press_sequentially("1e")
    page.get_by_role("button", name="Remove").click()
    assert generate(page, "a beach", steps=2)["task_type"] == "text-to-image"
