"""LoRAs from the POST to the picture's file, through the real parts in one process."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from diffusers import DiffusionPipeline
from django.contrib.auth.models import User
from django.test import Client
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tasks_app.access import api_keys
from tasks_app.engine.diffusers.handler import PIPELINE_CACHE
from tasks_app.models import Scope, Task
from tasks_app.worker import engines, supervisor
from tests.support import loras, tiny
from tests.support.openapi import check_response

pytestmark = pytest.mark.django_db
Post = Callable[..., Any]
SIZE = {"width": 32, "height": 32}
STYLE = {"id": "style", "weight": 0.8}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model and two LoRAs for it."""
    folder = tmp_path_factory.mktemp("models")
    pipeline = DiffusionPipeline.from_pretrained(tiny.save_sd(folder / "sd"))
    for seed, name in enumerate(("style", "two words")):
        loras.save_lora(folder / "loras", name, loras.make_weights(pipeline, "unet", seed=seed))
    return folder


@pytest.fixture(autouse=True)
def _engine(models: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.MODELS_DIR, settings.LORAS_DIR = models, models / "loras"
    places = {"models_dir": models, "loras_dir": models / "loras"}
    settings.PROVIDERS = {**settings.PROVIDERS, "diffusers": {**settings.PROVIDERS["diffusers"], **places}}
    monkeypatch.setattr(engines, "_handlers", {})
    yield
    PIPELINE_CACHE.clear()


@pytest.fixture
def post(client: Client) -> Post:
    def posted(**params: Any) -> Any:
        body = {"task_type": "text-to-image", "params": {"model_id": "sd", "prompt": "a house", "steps": 2, **params}}
        return client.post("/task", body, content_type="application/json")

    return posted


def made(client: Client, answer: Any) -> tuple[dict[str, Any], bytes]:
    """Run a task and return it, with its picture's file."""
    assert answer.status_code == 201, answer.content
    supervisor.run_once()
    task = client.get(f"/task/{answer.json()['id']}").json()
    assert task["status"] == "succeeded", task["error"]
    return task, client.get(task["images"][0]["url"]).content


def pixels(content: bytes) -> bytes:
    return Image.open(io.BytesIO(content)).tobytes()


def test_a_task_is_drawn_with_its_loras_and_the_file_tells_of_them(client: Client, post: Post) -> None:
    task, picture = made(client, post(seed=3, loras=[STYLE, {"id": "two words"}]))
    assert task["params"]["loras"] == [STYLE, {"id": "two words", "weight": 1.0}]
    assert {"lora:style", "lora:two words"} < task["provenance"].keys()
    plain, without = made(client, post(seed=3))
    assert plain["params"]["loras"] == []
    assert pixels(without) != pixels(picture)
    line = Image.open(io.BytesIO(picture)).info["parameters"]
    assert line.startswith("a house <lora:style:0.8> <lora:two words:1>\n")
    told = client.post("/task/from-image", picture, content_type="image/png")
    check_response("post", "/task/from-image", told)
    assert told.json()["params"]["loras"] == task["params"]["loras"]
    _, again = made(client, post(**told.json()["params"]))
    assert pixels(again) == pixels(picture)


def test_a_foreign_pictures_loras_are_told_as_far_as_they_are_here(client: Client) -> None:
    for name, told, ignored in (("style", {"loras": [STYLE]}, {}), ("gone", {}, {"loras": [{**STYLE, "id": "gone"}]})):
        buffer, line = io.BytesIO(), PngInfo()
        line.add_text("parameters", f"a house <lora:{name}:0.8>\nSteps: 2, Seed: 1, Size: 32x32")
        Image.new("RGB", (32, 32)).save(buffer, "PNG", pnginfo=line)
        answer = client.post("/task/from-image", buffer.getvalue(), content_type="image/png").json()
        assert answer["params"] == {"prompt": "a house", "negative_prompt": "", "steps": 2, "seed": 1, **SIZE, **told}
        assert answer["ignored"] == ignored


def test_a_reproduction_tells_of_a_file_that_was_replaced(client: Client, post: Post, models: Path) -> None:
    task, _ = made(client, post(loras=[STYLE]))
    path = models / "loras" / "style.safetensors"
    before = path.read_bytes()
    try:
        path.write_bytes((models / "loras" / "two words.safetensors").read_bytes())
        again, _ = made(client, client.post(f"/task/{task['id']}/reproduce"))
    finally:
        path.write_bytes(before)
    assert again["reproduction"]["verdict"] == "different"
    assert list(again["reproduction"]["differences"]) == ["lora:style"]


def test_only_tasks_with_the_same_loras_run_together(post: Post) -> None:
    for chosen in ([], [STYLE], [STYLE], [{"id": "style"}], [{"id": "two words"}]):
        post(loras=chosen)
    plain, one, same, *others = Task.objects.order_by("created_at").values_list("batch_key", flat=True)
    assert one == same
    assert len({plain, one, *others}) == 4
    assert all([plain, one, *others])


def test_one_that_went_before_its_task_ran_is_told(client: Client, post: Post, models: Path) -> None:
    path = models / "loras" / "brief.safetensors"
    path.write_bytes(b"")
    answer = post(loras=[{"id": "brief"}])
    path.unlink()
    supervisor.run_once()
    error = client.get(f"/task/{answer.json()['id']}").json()["error"]
    assert error["code"] == "model_unavailable"
    assert error["message"].startswith("The LoRA brief is not on this worker")


@pytest.mark.parametrize(
    ("loras", "path", "said"),
    [
        ([{"id": "gone"}], "params.loras.0.id", "Unknown LoRA. GET /loras lists the available ones."),
        ([STYLE, {"id": "../loras/style"}], "params.loras.1.id", "Unknown LoRA"),
        ([{}], "params.loras.0.id", "required"),
        ([{"id": "style", "weight": 4.5}], "params.loras.0.weight", "between -4 and 4"),
        ([{"id": "style", "weight": "1"}], "params.loras.0.weight", "Must be a number"),
        ([{"id": "style", "more": 1}], "params.loras.0.more", "Unknown field"),
        (["style"], "params.loras.0", "Must be an object"),
        ([STYLE, {"id": "style"}], "params.loras", "Must not contain duplicates"),
        ([{"id": "gone"}] * 9, "params.loras", "Must have at most 8 items"),
        ("style", "params.loras", "Must be a list"),
        (None, "params.loras", "null"),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_what_is_wrong_is_told_at_its_place(post: Post, loras: Any, path: str, said: str) -> None:
    answer = post(loras=loras)
    check_response("post", "/task", answer)
    assert answer.status_code == 400
    (field,) = answer.json()["error"]["fields"]
    assert field["path"] == path
    assert said in field["message"]
    assert not Task.objects.exists()


def test_they_are_listed_by_name(client: Client, models: Path) -> None:
    answer = client.get("/loras")
    check_response("get", "/loras", answer)
    size = (models / "loras" / "style.safetensors").stat().st_size
    assert [(each["id"], each["bytes"]) for each in answer.json()][:1] == [("style", size)]
    assert [each["id"] for each in answer.json()] == ["style", "two words"]


def test_without_a_folder_there_are_none(client: Client, settings: Any, tmp_path: Path) -> None:
    settings.LORAS_DIR = tmp_path / "nowhere"
    assert client.get("/loras/").json() == []


@pytest.mark.parametrize(("scope", "status"), [(Scope.MODELS, 200), (Scope.READ, 403)])
def test_a_key_needs_the_scope_that_lists_models(settings: Any, scope: Scope, status: int) -> None:
    settings.API_AUTH = "required"
    _, token = api_keys.create_api_key(user=User.objects.create_user("ada"), name="a client", scopes=[scope])
    for path in ("/loras", "/sdapi/v1/loras"):
        answer = Client(headers={"authorization": f"Bearer {token}"}).get(path)
        assert answer.status_code == status
        check_response("get", path, answer)


@pytest.mark.parametrize(
    ("prompt", "ours", "chosen"),
    [
        ("a house <lora:style:0.8>", "a house", [STYLE]),
        ("<lora:two words> a house <lora:style:0.8>, red", "a house, red", [{"id": "two words", "weight": 1.0}, STYLE]),
        (" a <b:c> house ", " a <b:c> house ", []),
    ],
    ids=["behind", "amid", "none"],
)
def test_a1111s_tags_are_taken_out_of_the_prompt(
    client: Client, settings: Any, prompt: str, ours: str, chosen: list[Any]
) -> None:
    settings.COMPAT_TIMEOUT_SECONDS = 0
    body = {"prompt": prompt, "steps": 2, "override_settings": {"sd_model_checkpoint": "sd"}}
    client.post("/sdapi/v1/txt2img", body, content_type="application/json")
    params = Task.objects.get().params
    assert (params["prompt"], params["loras"]) == (ours, chosen)


@pytest.mark.parametrize("tag", ["<lora:gone:1>", "<lora:style:high>", "<lora:style:nan>", "<lora:style:9>"])
def test_a1111s_tags_are_refused_at_the_prompt(client: Client, tag: str) -> None:
    body = {"prompt": f"a house {tag}", "override_settings": {"sd_model_checkpoint": "sd"}}
    answer = client.post("/sdapi/v1/txt2img", body, content_type="application/json")
    check_response("post", "/sdapi/v1/txt2img", answer)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][:2] == ["body", "prompt"]
