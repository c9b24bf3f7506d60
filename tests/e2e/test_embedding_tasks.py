"""Embeddings from the POST to the picture's file, through the real parts in one process."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from PIL import Image

from tasks_app.access import api_keys
from tasks_app.engine.diffusers.handler import PIPELINE_CACHE
from tasks_app.models import Scope, Task
from tasks_app.worker import engines
from tests.e2e.test_lora_tasks import made, pixels
from tests.support import embeddings, tiny
from tests.support.openapi import check_response

pytestmark = pytest.mark.django_db
Post = Callable[..., Any]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model and two embeddings for it."""
    folder = tmp_path_factory.mktemp("models")
    tiny.save_sd(folder / "sd")
    for seed, name in enumerate(("mood", "bad-hands")):
        embeddings.save_embedding(folder / "embeddings", name, seed=seed)
    return folder


@pytest.fixture(autouse=True)
def _engine(models: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.MODELS_DIR, settings.EMBEDDINGS_DIR = models, models / "embeddings"
    places = {"models_dir": models, "embeddings_dir": models / "embeddings"}
    settings.PROVIDERS = {**settings.PROVIDERS, "diffusers": {**settings.PROVIDERS["diffusers"], **places}}
    monkeypatch.setattr(engines, "_handlers", {})
    yield
    PIPELINE_CACHE.clear()


@pytest.fixture
def post(client: Client) -> Post:
    def posted(**params: Any) -> Any:
        params = {"model_id": "sd", "prompt": "a mood h", "negative_prompt": "bad-hands", "steps": 2, **params}
        return client.post("/task", {"task_type": "text-to-image", "params": params}, content_type="application/json")

    return posted


def test_a_task_is_drawn_with_its_embeddings_and_the_file_tells_of_them(client: Client, post: Post) -> None:
    task, picture = made(client, post(seed=3, embeddings=["mood", "bad-hands"]))
    assert task["params"]["embeddings"] == ["mood", "bad-hands"]
    sums = [task["provenance"][f"embedding:{name}"][:12] for name in ("mood", "bad-hands")]
    plain, without = made(client, post(seed=3))
    assert plain["params"]["embeddings"] == []
    assert pixels(without) != pixels(picture)
    line = Image.open(io.BytesIO(picture)).info["parameters"]
    assert f'TI hashes: "mood: {sums[0]}, bad-hands: {sums[1]}"' in line
    assert "TI hashes" not in Image.open(io.BytesIO(without)).info["parameters"]
    told = client.post("/task/from-image", picture, content_type="image/png")
    check_response("post", "/task/from-image", told)
    assert told.status_code == 200, told.content
    _, again = made(client, post(**told.json()["params"]))
    assert pixels(again) == pixels(picture)


def test_a_retry_has_them_and_a_reproduction_tells_of_a_file_that_was_replaced(
    client: Client, post: Post, models: Path
) -> None:
    task, _ = made(client, post(embeddings=["mood"]))
    path = models / "embeddings" / "mood.safetensors"
    before = path.read_bytes()
    same, _ = made(client, client.post(f"/task/{task['id']}/reproduce"))
    assert same["reproduction"]["verdict"] == "identical"
    try:
        embeddings.save_embedding(models / "embeddings", "mood", seed=9)
        again, _ = made(client, client.post(f"/task/{task['id']}/reproduce"))
    finally:
        path.write_bytes(before)
    assert again["reproduction"]["verdict"] == "different"
    assert list(again["reproduction"]["differences"]) == ["embedding:mood"]


def test_only_tasks_with_the_same_embeddings_run_together(post: Post) -> None:
    for chosen in ([], ["mood"], ["mood"], ["bad-hands"]):
        post(embeddings=chosen)
    plain, one, same, other = Task.objects.order_by("created_at").values_list("batch_key", flat=True)
    assert one == same
    assert len({plain, one, other}) == 3
    assert all([plain, one, other])


@pytest.mark.parametrize(
    ("chosen", "path", "said"),
    [
        (["gone"], "params.embeddings.0", "Unknown embedding. GET /embeddings lists the avai"),
        (["mood", "../embeddings/mood"], "params.embeddings.1", "Unknown embedding"),
        ([{"id": "mood"}], "params.embeddings.0", "Must be a string"),
        ([5], "params.embeddings.0", "Must be a string"),
        (["mood", "mood"], "params.embeddings", "Must not contain duplicates"),
        (["gone"] * 9, "params.embeddings", "Must have at most 8 items"),
        ("mood", "params.embeddings", "Must be a list"),
        (None, "params.embeddings", "null"),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_what_is_wrong_is_told_at_its_place(post: Post, chosen: Any, path: str, said: str) -> None:
    answer = post(embeddings=chosen)
    check_response("post", "/task", answer)
    assert answer.status_code == 400
    (field,) = answer.json()["error"]["fields"]
    assert field["path"] == path
    assert said in field["message"]
    assert not Task.objects.exists()


def test_they_are_listed_by_name(client: Client, models: Path) -> None:
    answer = client.get("/embeddings")
    check_response("get", "/embeddings", answer)
    sizes = [(models / "embeddings" / f"{name}.safetensors").stat().st_size for name in ("bad-hands", "mood")]
    assert [(each["id"], each["bytes"]) for each in answer.json()] == list(
        zip(("bad-hands", "mood"), sizes, strict=True)
    )


@pytest.mark.parametrize(("scope", "status"), [(Scope.MODELS, 200), (Scope.READ, 403)])
def test_a_key_needs_the_scope_that_lists_models(settings: Any, scope: Scope, status: int) -> None:
    settings.API_AUTH = "required"
    _, token = api_keys.create_api_key(user=User.objects.create_user("ada"), name="a client", scopes=[scope])
    for path in ("/embeddings", "/sdapi/v1/embeddings"):
        answer = Client(headers={"authorization": f"Bearer {token}"}).get(path)
        assert answer.status_code == status
        check_response("get", path, answer)


def test_a1111s_clients_name_them_by_their_words_alone(client: Client, settings: Any) -> None:
    settings.COMPAT_TIMEOUT_SECONDS = 0
    assert client.get("/sdapi/v1/embeddings").json()["loaded"].keys() == {"bad-hands", "mood"}
    model = {"override_settings": {"sd_model_checkpoint": "sd"}, "steps": 2}
    for body in ({"prompt": "moody h"}, {"prompt": "(Mood:1.2), h", "negative_prompt": "rain, bad-hands"}):
        client.post("/sdapi/v1/txt2img", {**model, **body}, content_type="application/json")
    found = Task.objects.order_by("created_at").values_list("params__embeddings", flat=True)
    assert list(found) == [[], ["bad-hands", "mood"]]
