"""What the server renders, before any script has run."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tasks_app.engine.diffusers.schedulers import read_compatible_schedulers
from tasks_app.models import DiffusionModel
from tasks_app.ui import views
from tests.e2e.web.conftest import FinishTask

HOSTILE = """</textarea></template><script>alert(1)</script>" onerror='alert(1)' {{ 7 }}"""


CHOICES = ["demo", "org/one", "runwayml/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"]


class Elements(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))

    def named(self, name: str) -> dict[str, str | None]:
        return next(attributes for _, attributes in self.all if attributes.get("name") == name)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.all if found == tag]


def render(client: Client, path: str = "/") -> tuple[Any, Elements]:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer, Elements(answer.content.decode())


@pytest.mark.parametrize(
    ("name", "low", "high", "step", "value", "default"),
    [
        ("steps", "1", "150", "1", "", "30"),
        ("guidance_scale", "0", "50", "0.5", "", "7.5"),
        ("num_images", "1", "5", "1", "1", "1"),
        ("seed", "0", "4294967295", "1", "", "Random"),
        ("width", "32", "2048", "8", "", "Default"),
        ("height", "32", "2048", "8", "", "Default"),
        ("strength", "0", "1", "0.05", "", "0.8"),
        ("priority", "-10", "10", "1", "0", "0"),
    ],
)
@pytest.mark.django_db
def test_each_number_has_the_bounds_that_the_api_holds_it_to(
    client: Client, settings: Any, name: str, low: str, high: str, step: str, value: str, default: str
) -> None:
    settings.MAX_IMAGES = 5
    field = render(client)[1].named(name)
    assert (field["min"], field["max"], field["step"]) == (low, high, step)
    assert (field["value"], field["placeholder"], field["data-default"]) == (value, default, default)


@pytest.mark.django_db
def test_every_field_has_a_label_and_a_place_for_its_error(client: Client) -> None:
    page = render(client)[1]
    ids = {attributes.get("id") for _, attributes in page.all}
    labeled = {attributes["for"] for attributes in page.of("label")}
    fields = [
        attributes for _, attributes in page.all if attributes.get("name") not in (None, "viewport", "description")
    ]
    assert len(fields) == 17
    controls = {attributes.get("id"): attributes for _, attributes in page.all}
    for field in fields:
        # What is added one by one is written into a field that nobody sees.
        control = controls[f"{field['id']}-add"] if field.get("type") == "hidden" else field
        assert control["id"] in labeled or control["id"] in ("image-add", "mask-add")  # whose words name them
        assert control["aria-describedby"] == f"{field['id']}-error"
        assert control["aria-describedby"] in ids
    assert page.named("prompt")["maxlength"] == page.named("negative_prompt")["maxlength"] == "4000"


@pytest.mark.django_db
def test_models_can_be_chosen_by_name_but_not_by_pattern(client: Client, settings: Any) -> None:
    settings.DEFAULT_MODEL_ID = "demo"
    settings.ALLOWED_MODELS = ["org/one@abc", "org/*", "other/[ab]?"]
    own = {"steps": 12, "guidance_scale": None, "negative_prompt": 'a "fog"'}
    DiffusionModel.objects.update_or_create(model_id="demo", defaults=own)
    page = render(client)[1]
    options = {
        option["data-defaults"]: "selected" in option for option in page.of("option") if "data-defaults" in option
    }
    assert options == {'{"steps": 12, "negative_prompt": "a \\"fog\\""}': True, "{}": False}
    html = render(client)[0].content.decode()
    assert re.findall(r"<option data-defaults=.*?>(.*?)</option>", html) == CHOICES


@pytest.mark.django_db
def test_each_model_brings_what_its_files_say_of_it(client: Client, settings: Any) -> None:
    settings.ALLOWED_MODELS = ["org/one"]
    options = [option for option in render(client)[1].of("option") if "data-defaults" in option]
    told = {tuple(option[f"data-{name}"] for name in ("schedulers", "types", "area")) for option in options}
    schedulers = json.dumps(read_compatible_schedulers(settings.MODELS_DIR / "demo"))
    assert told == {("null",) * 3, (schedulers, '["text-to-image", "image-to-image"]', "4096")}


@pytest.mark.django_db
def test_loras_and_embeddings_are_offered_where_there_are_some(client: Client, settings: Any, tmp_path: Path) -> None:
    settings.LORAS_DIR, settings.EMBEDDINGS_DIR = tmp_path / "loras", tmp_path / "embeddings"
    settings.LORAS_DIR.mkdir()
    (settings.LORAS_DIR / "ink<b>.safetensors").touch()
    answer, page = render(client)
    boxes = {box["data-addons"]: box for _, box in page.all if "data-addons" in box}
    assert "hidden" in boxes["embeddings"]
    assert "hidden" not in boxes["loras"]
    assert [boxes["loras"][f"data-{bound}"] for bound in ("min", "max", "default")] == ["-4", "4", "1.0"]
    assert "<option>ink&lt;b&gt;</option>" in answer.content.decode()


@pytest.mark.django_db
def test_the_default_of_the_rows_is_chosen(client: Client) -> None:
    DiffusionModel.objects.update_or_create(model_id="demo", defaults={"is_default": True})
    html = render(client)[0].content.decode()
    assert re.findall(r"<option data-defaults=[^>]* selected>(.*?)</option>", html) == ["demo"]


@pytest.mark.django_db
def test_the_newest_pictures_come_with_the_page(client: Client, finish_task: FinishTask) -> None:
    tasks = [finish_task() for _ in range(views.MAX_TASKS_SHOWN + 1)]
    page = render(client)[1]
    tiles = [attributes["data-task"] for attributes in page.of("li") if "data-task" in attributes]
    assert tiles == [str(task.pk) for task in reversed(tasks[1:])]
    sources = [image["src"] for image in page.of("img") if "loading" in image]
    assert sources == [f"/task/{task.pk}/images/0" for task in reversed(tasks[1:])]
    assert "data-full" in next(attributes for attributes in page.of("p") if attributes.get("id") == "more")


@pytest.mark.django_db
def test_a_task_shows_four_pictures_at_most_large_ones_as_thumbnails_and_small_ones_with_sharp_pixels(
    client: Client, finish_task: FinishTask
) -> None:
    finish_task(images=6)
    finish_task(images=1, side=256)
    images = [image for image in render(client)[1].of("img") if "loading" in image]
    assert [image.get("class") for image in images] == [None, *["small"] * 4]
    thumbnails = [str(image["src"]).endswith("/thumbnail") for image in images]
    assert thumbnails == [True, *[False] * 4]


@pytest.mark.django_db
def test_tasks_without_pictures_are_not_shown(client: Client, make_task: Any) -> None:
    make_task()
    html = render(client)[0].content.decode()
    assert "data-task=" not in html
    assert "No images yet." in html


@pytest.mark.django_db
def test_the_number_of_queries_does_not_grow_with_the_pictures(
    client: Client, finish_task: FinishTask, django_assert_num_queries: Any
) -> None:
    for _ in range(3):
        finish_task(images=2)
    with django_assert_num_queries(3):
        render(client)


@pytest.mark.django_db
def test_a_hostile_prompt_stays_text(client: Client, finish_task: FinishTask) -> None:
    finish_task(params={"prompt": HOSTILE, "num_images": 1})
    answer, page = render(client)
    assert "<script>alert" not in answer.content.decode()
    (image,) = [image for image in page.of("img") if "loading" in image]
    assert image["alt"] == HOSTILE
    assert not [attributes for _, attributes in page.all if any(name.startswith("on") for name in attributes)]


@pytest.mark.django_db
def test_nothing_runs_inside_the_page_and_nothing_comes_from_elsewhere(client: Client) -> None:
    answer, page = render(client)
    policy = dict(part.strip().split(" ", 1) for part in answer["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["img-src"] == "'self' data:"
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert all(script.get("src") for script in page.of("script"))
    assert not page.of("style")
    for _, attributes in page.all:
        assert "style" not in attributes
        for name in ("src", "href", "action"):
            assert not re.match(r"(?i)\w+:|//", attributes.get(name) or "")


@pytest.mark.django_db
def test_what_the_page_names_is_there(client: Client) -> None:
    page = render(client)[1]
    names = [attributes.get("src") or attributes.get("href") for _, attributes in page.all]
    static = {name for name in names if name and name.startswith("/static/")}
    assert len(static) >= 11
    for name in static:
        assert client.get(name).status_code == 200, name


@pytest.mark.django_db
def test_the_admin_is_for_staff(client: Client) -> None:
    assert 'href="/admin/"' not in render(client)[0].content.decode()
    client.force_login(User.objects.create_user("ops", is_staff=True))
    assert 'href="/admin/"' in render(client)[0].content.decode()


@pytest.mark.django_db
def test_the_page_is_only_read(client: Client) -> None:
    assert client.head("/").status_code == 200
    assert client.post("/").status_code == 405
