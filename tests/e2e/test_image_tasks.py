"""From an upload to a picture through the real parts, in one process: the API, the claim, diffusers and the storage."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from PIL import Image

from tasks_app.engine.diffusers.handler import PIPELINE_CACHE
from tasks_app.worker import engines, supervisor
from tests.integration.api.test_uploads import body, name, send
from tests.integration.engine.families.test_families import psnr
from tests.integration.engine.test_handler import DEMO
from tests.integration.engine.test_image_inputs import SIDE, mask, picture
from tests.support import tiny
from tests.unit.images.test_decoding import file

pytestmark = pytest.mark.django_db(transaction=True)
Make = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the demo model, and a tiny one whose latents have 4 channels: it can be masked."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "demo").symlink_to(DEMO / "demo")
    tiny.save_sd(folder / "sd")
    return folder


@pytest.fixture(autouse=True)
def _engine(models: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.MODELS_DIR = models
    settings.PROVIDERS = {**settings.PROVIDERS, "diffusers": {**settings.PROVIDERS["diffusers"], "models_dir": models}}
    monkeypatch.setattr(engines, "_handlers", {})
    yield
    PIPELINE_CACHE.clear()


@pytest.fixture
def make(client: Client) -> Make:
    """Return a function that posts a task with uploads and runs it."""

    def post(task_type: str = "text-to-image", *, model_id: str = "demo", **params: Any) -> dict[str, Any]:
        pictures = {field: params.pop(field) for field in ("image", "mask") if field in params}
        sent: dict[str, Any] = {field: send(client, file(each)).json()["id"] for field, each in pictures.items()}
        told: dict[str, Any] = {"model_id": model_id, "steps": 8, "seed": 3, **sent, **params}
        answer = client.post(
            "/task",
            {"task_type": task_type, "params": {"prompt": "a blue circle", **told}},
            content_type="application/json",
        )
        assert answer.status_code == 201, answer.content
        supervisor.run_once()
        ended: dict[str, Any] = client.get(f"/task/{answer.json()['id']}").json()
        return ended

    return post


def drawn(client: Client, task: dict[str, Any]) -> Image.Image:
    assert task["status"] == "succeeded", task["error"]
    return Image.open(io.BytesIO(client.get(task["images"][0]["url"]).content)).convert("RGB")


def test_a_picture_becomes_one_that_is_the_nearer_the_less_strength(client: Client, make: Make) -> None:
    tasks = [make(task_type="image-to-image", image=picture(), strength=strength) for strength in (0.25, 0.75)]
    near, far = (psnr(picture(), drawn(client, task)) for task in tasks)
    assert near > far + 3
    assert [task["progress"]["total_steps"] for task in tasks] == [2, 6]
    assert [task["progress"]["step"] for task in tasks] == [2, 6]
    assert {(image["width"], image["height"]) for task in tasks for image in task["images"]} == {(SIDE, SIDE)}


def test_outside_of_the_mask_it_stays_as_it_was(client: Client, make: Make) -> None:
    task = make("inpainting", model_id="sd", image=picture(), mask=mask(), strength=0.9)
    after, left = drawn(client, task), (0, 0, SIDE // 2, SIDE)
    assert after.crop(left).tobytes() == picture().crop(left).tobytes()
    assert after.tobytes() != picture().tobytes()


def test_all_task_types_share_one_engine_and_load_a_model_once(make: Make) -> None:
    before = loads()
    tasks = [make(model_id="sd")]
    tasks.append(make("image-to-image", model_id="sd", image=picture()))
    tasks.append(make("inpainting", model_id="sd", image=picture(), mask=mask()))
    assert {task["status"] for task in tasks} == {"succeeded"}
    assert len(engines.get_loaded_handlers()) == 1
    assert loads() == before + 1


def loads() -> int:
    return sum(loaded for _, loaded, _ in PIPELINE_CACHE.get_usage())


def test_an_upload_whose_file_is_gone_fails_its_task_in_words(client: Client) -> None:
    upload = send(client, file(picture())).json()
    task_id = client.post("/task", body(upload), content_type="application/json").json()["id"]
    default_storage.delete(name(upload))
    supervisor.run_once()
    error = client.get(f"/task/{task_id}").json()["error"]
    assert (error["code"], error["retryable"]) == ("invalid_params", False)
    assert error["message"].startswith("The uploaded image has expired")


def test_a_storage_that_is_away_fails_the_task_and_says_that_it_may_succeed_later(
    client: Client, settings: Any, tmp_path: Path
) -> None:
    upload = send(client, file(picture())).json()
    task_id = client.post("/task", body(upload), content_type="application/json").json()["id"]
    (tmp_path / "file").touch()
    settings.MEDIA_ROOT = tmp_path / "file"
    supervisor.run_once()
    error = client.get(f"/task/{task_id}").json()["error"]
    assert (error["code"], error["retryable"]) == ("storage_failed", True)


def test_its_file_tells_what_can_be_posted_again(client: Client, make: Make) -> None:
    task = make(task_type="image-to-image", image=picture(), strength=0.5)
    content = client.get(task["images"][0]["url"]).content
    found = client.post("/task/from-image", content, content_type="image/png").json()
    assert (found["task_type"], found["ignored"]) == ("image-to-image", {})
    assert found["params"]["image"] == task["params"]["image"]
    again = client.post("/task", {key: found[key] for key in ("task_type", "params")}, content_type="application/json")
    assert again.status_code == 201, again.content


def test_every_step_is_told(client: Client, make: Make, events: Callable[[UUID], Any]) -> None:
    task = make(task_type="image-to-image", image=picture(), strength=0.5)
    told = [data for event, data in events(UUID(task["id"])) if event == "progress" and data["phase"] == "denoising"]
    assert [(data["step"], data["total_steps"]) for data in told] == [(step, 4) for step in range(5)]
