"""Requests that were slow to refuse are refused at once, by the real views."""

import json
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client

from tasks_app.images.metadata import containers
from tests.unit.images.test_containers import chunk

pytestmark = pytest.mark.django_db


def post(client: Client, path: str, body: Any, content_type: str = "application/json") -> Any:
    started = time.process_time()
    answer = client.post(path, body, content_type=content_type)
    assert time.process_time() - started < 1
    return answer


@pytest.fixture(autouse=True)
def warmed(client: Client) -> None:
    """Import what the first request of a process imports."""
    client.post("/sdapi/v1/txt2img", {"prompt": ""}, content_type="application/json")


@pytest.mark.parametrize("text", [b"a%bb", b"b%ba\nSteps: 1, Seed: 2, Size: 64x64"])
def test_a_small_file_that_unfolds_into_spaces(client: Client, text: bytes) -> None:
    unfolded = zlib.compress(text % (b" " * 250_000))
    content = containers.PNG_SIGNATURE + chunk(b"zTXt", b"parameters\0\0" + unfolded) + chunk(b"IEND", b"")
    assert len(content) < 400
    answer = post(client, "/task/from-image", content, "image/png")
    assert (answer.status_code, answer.json()["error"]["fields"][0]["path"]) == (400, "params.prompt")


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_a_prompt_of_many_spaces(client: Client, field: str) -> None:
    answer = post(client, "/sdapi/v1/txt2img", {"prompt": "a", field: f"a{' ' * 60_000}b"})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", field])


def test_many_embeddings_in_a_long_prompt(client: Client, settings: LazySettings, tmp_path: Path) -> None:
    settings.EMBEDDINGS_DIR = tmp_path
    for number in range(300):
        (tmp_path / f"{'-a' * 30}{number}.safetensors").touch()
    body = {"prompt": "-a" * 8_000, "negative_prompt": "-a" * 120_000}
    answer = post(client, "/sdapi/v1/txt2img", body)
    assert answer.status_code == 422
    assert {tuple(each["loc"]) for each in answer.json()["detail"]} == {("body", "prompt"), ("body", "negative_prompt")}


def test_a_seed_of_more_digits_than_a_float_holds(client: Client) -> None:
    text = b"a fox\nSteps: 1, CFG scale: 2, Seed: " + b"9" * 4000
    content = containers.PNG_SIGNATURE + chunk(b"tEXt", b"parameters\0" + text) + chunk(b"IEND", b"")
    answer = post(client, "/task/from-image", content, "image/png")
    assert (answer.status_code, list(json.loads(answer.content)["ignored"])) == (200, ["seed"])
