"""`POST /task/from-image`: a picture in, the parameters out that make it again."""

import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings as configured
from django.test import Client
from hypothesis import HealthCheck, given
from hypothesis import settings as rules
from hypothesis import strategies as st
from PIL import Image

from tasks_app.contracts import GenerationMetadata
from tasks_app.images import metadata
from tests.unit.images.test_containers import BOMB, chunk, with_chunks
from tests.unit.images.test_infotext import FOREIGN
from tests.unit.images.test_metadata import png

Send = Callable[..., Any]
pytestmark = pytest.mark.django_db


@pytest.fixture
def send(client: Client) -> Send:
    def post(content: bytes, *, content_type: str = "image/png", path: str = "/task/from-image") -> Any:
        return client.post(path, content, content_type=content_type)

    return post


def ours(**params: Any) -> bytes:
    values = {"provider": "diffusers", "model_id": "demo", "prompt": "a fox", "scheduler": None, "steps": 4, **params}
    recipe = GenerationMetadata(task_type="text-to-image", params=values, model_id="demo", revision="local")
    return metadata.encode_image(Image.new("RGB", (64, 32)), "png", recipe, seed=7)


def test_what_a_picture_tells_can_be_posted_as_it_is(send: Send, client: Client) -> None:
    answer = send(ours(guidance_scale=3.5, output_format="webp"))
    assert answer.status_code == 200, answer.content
    found = answer.json()
    assert found.pop("source") == "diffusers-handler"
    assert found.pop("ignored") == {}
    task = client.post("/task", found, content_type="application/json")
    assert task.status_code == 201, task.content
    assert task.json()["params"] == {"negative_prompt": "", "loras": [], "embeddings": [], **found["params"]}


@pytest.mark.parametrize("content_type", ["image/png", "image/jpeg", "image/webp"])
def test_what_the_file_is_its_bytes_say(send: Send, content_type: str) -> None:
    assert send(ours(), content_type=content_type, path="/task/from-image/").status_code == 200


def test_a_foreign_picture_is_taken_as_far_as_it_can_be(send: Send) -> None:
    found = send(png(parameters=FOREIGN)).json()
    assert (found["source"], found["task_type"]) == ("a1111", "text-to-image")
    assert found["params"]["scheduler"] == "dpmpp_2m_karras"
    assert "model_id" not in found["params"]
    assert (found["ignored"]["model_id"], found["ignored"]["Clip skip"]) == ("v1-5-pruned-emaonly", "2")


def test_what_this_server_can_not_take_is_ignored_and_told(send: Send) -> None:
    found = send(ours(steps=9999, guidance_scale="high", colour="red", model_id="gone/away")).json()
    assert found["ignored"] == {"steps": 9999, "guidance_scale": "high", "colour": "red", "model_id": "gone/away"}
    assert found["params"]["prompt"] == "a fox"
    found = send(png(parameters="a\nSteps: 5, Seed: 3, Size: 64x33")).json()
    assert found["ignored"] == {"width": 64, "height": 33}
    assert found["params"] == {"prompt": "a", "negative_prompt": "", "steps": 5, "seed": 3}


@pytest.mark.parametrize("prompt", ["", "x" * 4001, "a\0b"])
def test_without_a_usable_prompt_nothing_can_be_made(send: Send, prompt: str) -> None:
    answer = send(ours(prompt=prompt))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_params")
    assert [field["path"] for field in answer.json()["error"]["fields"]] == ["params.prompt"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no picture",
        png(),
        ours()[:200],
        with_chunks(chunk(b"zTXt", b"parameters\0\0" + BOMB)),
        with_chunks(chunk(b"iTXt", b"diffusers-handler\0\1\0\0\0" + zlib.compress(b"[" * 200_000))),
    ],
    ids=["empty", "none", "silent", "cut off", "bomb", "nested"],
)
def test_what_can_not_be_read_is_refused_in_words(send: Send, content: bytes) -> None:
    answer = send(content)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["retryable"]) == (400, "invalid_image", False)
    assert error["message"]


def test_other_types_and_large_bodies_are_refused(send: Send, settings: Any) -> None:
    assert send(b"GIF89a", content_type="image/gif").status_code == 415
    assert send(b"{}", content_type="application/json").status_code == 415
    settings.MAX_UPLOAD_BYTES = 100
    answer = send(ours())
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert "100 bytes" in answer.json()["error"]["message"]


def test_by_default_a_picture_may_have_16_mib() -> None:
    assert configured.MAX_UPLOAD_BYTES == 16 * 1024 * 1024


@given(
    told=st.dictionaries(
        st.sampled_from(["prompt", "steps", "seed", "width", "x\0", "model_id", ""]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers(), max_size=2)),
    ),
    task_type=st.sampled_from(["text-to-image", "x", ""]),
)
@rules(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_stands_in_our_place_is_no_error_of_ours(send: Send, told: dict[str, Any], task_type: str) -> None:
    content = png(diffusers_handler=json.dumps({"task_type": task_type, "params": told}))
    assert send(content).status_code in (200, 400)
