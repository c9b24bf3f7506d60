"""The API's contract, field by field."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from PIL import Image

from tasks_app import services
from tasks_app.contracts import Claim, StoredImage
from tasks_app.engine.types import GeneratedImage
from tasks_app.events import progress
from tasks_app.images import storage
from tasks_app.models import DiffusionModel, Task
from tasks_app.queue import lifecycle
from tests.support.acting import store_images
from tests.support.claims import succeed_one

MakeTask = Callable[..., Task]
VALID = {"task_type": "text-to-image", "params": {"prompt": "a house at sunset"}}


def post(client: Client, body: Any) -> Any:
    data = body if isinstance(body, bytes | str) else json.dumps(body)
    return client.post("/task", data, content_type="application/json")


def with_params(**params: Any) -> dict[str, Any]:
    return {**VALID, "params": {**VALID["params"], **params}}  # type: ignore[dict-item]


def bad_paths(answer: Any) -> set[str]:
    return {field["path"] for field in answer.json()["error"]["fields"]}


def test_the_documented_request_is_answered_as_documented(client: Client, db: None) -> None:
    params = {
        "provider": "diffusers",
        "model_id": "demo",
        "prompt": "a beach",
        "negative_prompt": "rain",
        "steps": 25,
        "guidance_scale": 7.5,
        "seed": 42,
    }
    answer = post(client, {"task_type": "text-to-image", "params": params})
    assert answer.status_code == 201
    task = answer.json()
    assert answer["Location"] == f"/task/{task['id']}"
    assert task.pop("created_at")
    root = f"http://testserver/task/{task['id']}"
    assert task == {
        "id": task["id"],
        "task_type": "text-to-image",
        "status": "queued",
        "priority": 0,
        "params": {
            **params,
            "width": None,
            "height": None,
            "num_images": 1,
            "scheduler": None,
            "output_format": "png",
            "loras": [],
            "embeddings": [],
        },
        "model": {"id": "demo", "revision": None},
        "progress": {"phase": None, "step": 0, "total_steps": 25, "percent": 0, "eta_seconds": None},
        "queue_position": 1,
        "paused": False,
        "attempt": 0,
        "images": [],
        "error": None,
        "started_at": None,
        "finished_at": None,
        "warnings": [],
        "timings": {},
        "provenance": {},
        "retried_from": None,
        "reproduction": None,
        "urls": {
            "self": root,
            "events": f"{root}/events",
            "cancel": f"{root}/cancel",
            "images": f"{root}/images",
        },
    }


def test_absent_fields_get_the_documented_defaults(client: Client, db: None) -> None:
    params = post(client, VALID).json()["params"]
    assert 0 <= params.pop("seed") < 2**32
    assert params == {
        "provider": "diffusers",
        "model_id": "runwayml/stable-diffusion-v1-5",
        "prompt": "a house at sunset",
        "negative_prompt": "",
        "steps": 30,
        "guidance_scale": 7.5,
        "width": None,
        "height": None,
        "num_images": 1,
        "scheduler": None,
        "loras": [],
        "embeddings": [],
        "output_format": "png",
    }


def test_the_default_is_the_row_that_says_so_and_costs_no_query_more(
    client: Client, db: None, django_assert_num_queries: Callable[..., Any]
) -> None:
    with CaptureQueriesContext(connection) as by_setting:
        post(client, VALID)
    DiffusionModel.objects.create(model_id="org/mine", is_default=True, steps=9)
    with django_assert_num_queries(len(by_setting)):
        task = post(client, VALID).json()
    assert (task["params"]["model_id"], task["params"]["steps"], task["model"]["id"]) == ("org/mine", 9, "org/mine")


def test_drawn_seeds_differ(client: Client, db: None) -> None:
    assert len({post(client, VALID).json()["params"]["seed"] for _ in range(5)}) == 5


def test_the_public_name_resolves_through_the_alias(client: Client, db: None) -> None:
    answer = post(client, with_params(model_id="runwayml/stable-diffusion-v1-5")).json()
    task = Task.objects.get(pk=answer["id"])
    assert task.requested_model_id == "runwayml/stable-diffusion-v1-5"
    assert task.model_id == answer["model"]["id"] == "stable-diffusion-v1-5/stable-diffusion-v1-5"


@pytest.mark.parametrize("path", ["/task", "/task/"])
def test_with_and_without_a_slash_nobody_is_redirected(client: Client, db: None, path: str) -> None:
    assert client.post(path, json.dumps(VALID), content_type="application/json").status_code == 201
    assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("params", "stored"),
    [
        ({"prompt": "x" * 4000}, {"prompt": "x" * 4000}),
        ({"prompt": " kept \n as it is "}, {"prompt": " kept \n as it is "}),
        ({"steps": 1}, {"steps": 1}),
        ({"steps": 150}, {"steps": 150}),
        ({"guidance_scale": 0}, {"guidance_scale": 0.0}),
        ({"guidance_scale": 50}, {"guidance_scale": 50.0}),
        ({"width": 32, "height": 2048}, {"width": 32, "height": 2048}),
        ({"width": None}, {"width": None, "height": None}),
        ({"num_images": 8}, {"num_images": 8}),
    ],
    ids=str,
)
def test_values_at_the_edges_are_taken(
    client: Client, db: None, params: dict[str, Any], stored: dict[str, Any]
) -> None:
    answer = post(client, with_params(**params))
    assert answer.status_code == 201
    assert answer.json()["params"].items() >= stored.items()


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_seeds_at_the_edges_are_taken(client: Client, db: None, seed: int) -> None:
    assert post(client, with_params(seed=seed)).json()["params"]["seed"] == seed


class Delete:
    """Stands for a field that is not sent; its name is the same in every process."""


DELETE = Delete
BAD_PARAMS = [
    ("provider", "comfy"),
    ("provider", None),
    ("provider", 1),
    ("model_id", ""),
    ("model_id", 5),
    ("model_id", None),
    ("model_id", "somebody/else"),
    ("model_id", "../demo"),
    ("model_id", "/etc/passwd"),
    ("model_id", "https://example.org/model"),
    ("model_id", "demo/../demo"),
    ("model_id", "x" * 256),
    ("model_id", "demo\0"),
    ("model_id", "\ud800"),
    ("model_id", "demo\n"),
    ("model_id", "demo\u200b"),
    ("model_id", "\u00a0"),
    ("prompt", DELETE),
    ("prompt", ""),
    ("prompt", "x" * 4001),
    ("prompt", None),
    ("prompt", 5),
    ("prompt", True),
    ("prompt", ["a"]),
    ("prompt", {"a": "b"}),
    ("prompt", "a\0b"),
    ("prompt", "a\ud800b"),
    ("negative_prompt", "x" * 4001),
    ("negative_prompt", None),
    ("negative_prompt", 5),
    ("negative_prompt", "\0"),
    ("negative_prompt", "\udfff"),
    ("steps", 0),
    ("steps", 151),
    ("steps", -1),
    ("steps", "25"),
    ("steps", 25.0),
    ("steps", True),
    ("steps", None),
    ("steps", [25]),
    ("steps", 10**40),
    ("guidance_scale", -0.1),
    ("guidance_scale", 50.1),
    ("guidance_scale", "7.5"),
    ("guidance_scale", False),
    ("guidance_scale", None),
    ("guidance_scale", 10**400),
    ("seed", -1),
    ("seed", 2**32),
    ("seed", 1.0),
    ("seed", "42"),
    ("seed", True),
    ("seed", None),
    ("width", 31),
    ("width", 33),
    ("width", 2056),
    ("width", "512"),
    ("width", 512.0),
    ("num_images", 0),
    ("num_images", 9),
    ("num_images", "1"),
    ("num_images", None),
    ("sampler", "euler"),
    ("id", 5),
]


@pytest.mark.parametrize(("field", "value"), BAD_PARAMS, ids=lambda value: repr(value)[:30])
def test_a_bad_parameter_is_refused_by_its_path_and_leaves_no_row(
    client: Client, db: None, field: str, value: Any
) -> None:
    body = with_params(**{"height": 32, field: value} if field == "width" else {field: value})
    if value is DELETE:
        del body["params"][field]
    answer = post(client, body)
    assert answer.status_code == 400
    assert bad_paths(answer) == {f"params.{field}"}
    assert answer.json()["error"]["code"] in ("invalid_params", "model_not_allowed")
    assert not Task.objects.exists()


@pytest.mark.parametrize("height", [24, 10**9, True])
def test_a_bad_height_is_refused_by_its_path(client: Client, db: None, height: Any) -> None:
    assert bad_paths(post(client, with_params(width=64, height=height))) >= {"params.height"}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"task_type": DELETE}, "task_type"),
        ({"task_type": "image-to-video"}, "task_type"),
        ({"task_type": None}, "task_type"),
        ({"task_type": 5}, "task_type"),
        ({"task_type": "\ud800"}, "task_type"),
        ({"params": DELETE}, "params"),
        ({"params": None}, "params"),
        ({"params": []}, "params"),
        ({"params": "prompt"}, "params"),
        ({"priority": 11}, "priority"),
        ({"priority": -11}, "priority"),
        ({"priority": "1"}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 0.0}, "priority"),
        ({"extra": 1}, "extra"),
        ({"\ud800": 1}, "\\ud800"),
    ],
    ids=str,
)
def test_a_bad_field_outside_the_parameters_is_refused_by_its_path(
    client: Client, db: None, change: dict[str, Any], path: str
) -> None:
    body = {name: value for name, value in {**VALID, **change}.items() if value is not DELETE}
    answer = post(client, body)
    assert answer.status_code == 400
    assert bad_paths(answer) == {path}
    assert not Task.objects.exists()


def test_all_bad_fields_are_named_at_once(client: Client, db: None) -> None:
    body = {"task_type": "x", "priority": 99, "more": 1, "params": {"steps": 0, "model_id": "a/b", "foo": 1}}
    expected = {"task_type", "priority", "more", "params.steps", "params.model_id", "params.foo", "params.prompt"}
    assert bad_paths(post(client, body)) == expected


def test_a_model_that_is_not_allowed_has_its_own_code(client: Client, db: None) -> None:
    error = post(client, with_params(model_id="somebody/else")).json()["error"]
    assert error["code"] == "model_not_allowed"
    assert "demo" in error["message"]


def test_allowed_patterns_allow_models(client: Client, db: None, settings: Any) -> None:
    settings.ALLOWED_MODELS = ["stabilityai/*"]
    assert post(client, with_params(model_id="stabilityai/sdxl-turbo")).status_code == 201
    assert post(client, with_params(model_id="stabilityai/../x")).status_code == 400


def test_a_default_model_that_is_gone_is_refused_not_a_500(client: Client, db: None, settings: Any) -> None:
    settings.DEFAULT_MODEL_ID = "gone"
    assert bad_paths(post(client, VALID)) == {"params.model_id"}


@pytest.mark.parametrize(("sent", "missing"), [("width", "height"), ("height", "width")])
def test_one_side_without_the_other_is_refused(client: Client, db: None, sent: str, missing: str) -> None:
    assert bad_paths(post(client, with_params(**{sent: 64}))) == {f"params.{missing}"}


def test_the_size_is_judged_together_with_all_other_errors(client: Client, db: None, settings: Any) -> None:
    settings.MAX_PIXELS = 512 * 512
    answer = post(client, with_params(width=1024, height=512, num_images=65, foo=1))
    assert bad_paths(answer) == {"params.width", "params.height", "params.num_images", "params.foo"}


@pytest.mark.parametrize("depth", range(900, 1000, 7))
def test_no_depth_of_nesting_is_a_500(client: Client, db: None, depth: int) -> None:
    body = '{"task_type":"text-to-image","params":' + "[" * depth + "]" * depth + "}"
    assert post(client, body).status_code == 400


@pytest.mark.parametrize("cursor", ["cD1nYXJiYWdl", "cD0yMDIw", "cD0lMDA=", "cj0xJnA9eA==", "garbage"])
def test_a_cursor_that_never_came_from_here_is_a_404(client: Client, db: None, cursor: str) -> None:
    assert client.get("/task", {"cursor": cursor}).status_code == 404


def test_a_wrong_host_is_a_json_400(client: Client, db: None) -> None:
    answer = client.get("/task", headers={"host": "example.org"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")


def test_a_pinned_revision_is_what_the_task_will_load(client: Client, db: None, settings: Any) -> None:
    alias = "runwayml/stable-diffusion-v1-5"
    settings.ALLOWED_MODELS = [
        "stabilityai/*",
        "stabilityai/sdxl-turbo@f4b0486",
        f"{settings.MODEL_ALIASES[alias]}@451",
    ]
    for name, pinned in (("stabilityai/sdxl-turbo", "f4b0486"), ("stabilityai/sd-turbo", ""), (alias, "451")):
        task = Task.objects.get(pk=post(client, with_params(model_id=name)).json()["id"])
        assert task.revision == pinned


def test_too_many_pixels_are_refused(client: Client, db: None, settings: Any) -> None:
    settings.MAX_PIXELS = 512 * 512
    assert bad_paths(post(client, with_params(width=1024, height=512))) == {"params.width", "params.height"}
    assert post(client, with_params(width=512, height=512)).status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"5",
        b'"text"',
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1, "a": 2}',
        b'{"params": {"\\ud800": 1, "\\ud800": 2}}',
        b"[" * 100_000,
        b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": "\n"}',
        "{'a': 1}".encode("utf-16"),
    ],
    ids=lambda body: repr(body[:24]),
)
def test_a_body_that_is_no_strict_json_object_is_refused(client: Client, db: None, body: bytes) -> None:
    answer = post(client, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_params"
    assert bad_paths(answer) <= {"", "task_type", "params", "a"}


def test_a_number_beyond_floats_is_refused_by_its_path(client: Client, db: None) -> None:
    body = b'{"task_type":"text-to-image","params":{"prompt":"x","guidance_scale":1e999}}'
    assert bad_paths(post(client, body)) == {"params.guidance_scale"}


def test_a_body_over_the_limit_is_a_json_413(client: Client, db: None, settings: Any) -> None:
    answer = post(client, with_params(prompt="x" * settings.MAX_BODY_BYTES))
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"


def test_another_content_type_is_a_json_415(client: Client, db: None) -> None:
    answer = client.post("/task", VALID)
    assert answer.status_code == 415
    assert answer.json()["error"]["code"] == "unsupported_media_type"


@pytest.mark.parametrize(("method", "path"), [("put", "/task"), ("delete", "/task/{id}"), ("get", "/task/{id}/cancel")])
def test_a_wrong_method_is_a_json_405(client: Client, make_task: MakeTask, method: str, path: str) -> None:
    answer = getattr(client, method)(path.format(id=make_task().pk))
    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "path", ["/task/{id}", "/task/{id}/images", "/task/{id}/images/0", "/task/not-an-id", "/nowhere"]
)
def test_what_does_not_exist_is_a_json_404(client: Client, db: None, path: str) -> None:
    answer = client.get(path.format(id=uuid4()))
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_canceling_what_does_not_exist_is_a_404(client: Client, db: None) -> None:
    assert client.post(f"/task/{uuid4()}/cancel").status_code == 404


def test_a_cancel_answers_with_the_task_whatever_its_state(client: Client, claimed: MakeTask) -> None:
    running = claimed()
    queued = post(client, VALID).json()
    for _ in range(2):
        answer = client.post(f"/task/{queued['id']}/cancel")
        assert answer.status_code == 200
        assert answer.json()["status"] == "canceled"
        assert answer.json()["error"] == {
            "code": "canceled",
            "message": "The task was canceled before it ran.",
            "retryable": False,
        }
    answer = client.post(f"/task/{running.pk}/cancel/")
    assert (answer.status_code, answer.json()["status"]) == (200, "running")


def test_a_running_task_shows_live_progress_of_its_own_attempt_only(client: Client, claimed: MakeTask) -> None:
    task = claimed(total_steps=20)
    live = {"phase": "denoising", "step": 7, "total_steps": 20, "percent": 35, "eta_seconds": 1.5}
    progress.publish_event(task.pk, "progress", {"attempt": 1, **live})
    assert client.get(f"/task/{task.pk}").json()["progress"] == live
    progress.publish_event(task.pk, "progress", {"attempt": 2, **live})
    assert client.get(f"/task/{task.pk}").json()["progress"]["step"] == 0


def test_a_failed_task_says_code_and_message_but_no_traceback(client: Client, claimed: MakeTask) -> None:
    task = claimed()
    claim = Claim(task_id=task.pk, attempt=1)
    lifecycle.mark_failed(claim, code="out_of_memory", message="Too large.", traceback="File /secret/place")
    answer = client.get(f"/task/{task.pk}")
    assert answer.json()["error"] == {"code": "out_of_memory", "message": "Too large.", "retryable": True}
    assert "secret" not in answer.content.decode()


def test_the_picture_is_served_with_its_hash(client: Client, claimed: MakeTask) -> None:
    task = claimed()
    name = default_storage.save("tasks/t/1-0.png", ContentFile(b"png bytes"))
    image = StoredImage(
        index=0,
        name=name,
        content_type="image/png",
        seed=7,
        width=32,
        height=24,
        sha256="ab",
        flagged=True,
        blank=False,
    )
    succeed_one(Claim(task_id=task.pk, attempt=1), [image])
    (shown,) = client.get(f"/task/{task.pk}").json()["images"]
    assert shown == {
        "index": 0,
        "url": f"http://testserver/task/{task.pk}/images/0",
        "thumbnail_url": f"http://testserver/task/{task.pk}/images/0/thumbnail",
        "seed": 7,
        "width": 32,
        "height": 24,
        "content_type": "image/png",
        "sha256": "ab",
        "flagged": True,
        "blank": False,
        "purged": False,
    }
    assert client.get(f"/task/{task.pk}/images/").json() == [shown]
    answer = client.get(shown["url"])
    assert (answer.content, answer["Content-Type"], answer["ETag"]) == (b"png bytes", "image/png", '"ab"')
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert client.get(shown["url"], headers={"accept": "image/png"}).status_code == 200
    assert client.get(shown["url"], headers={"if-none-match": '"ab"'}).status_code == 304
    default_storage.delete(name)
    assert client.get(shown["url"]).status_code == 404


def test_a_picture_that_the_proxy_sends_is_only_named(client: Client, claimed: MakeTask, settings: Any) -> None:
    task = claimed()
    stored = store_images(Claim(task_id=task.pk, attempt=1), [GeneratedImage(seed=1, image=Image.new("RGB", (32, 32)))])
    succeed_one(Claim(task_id=task.pk, attempt=1), stored)
    settings.X_ACCEL_LOCATION = "/_pictures/"
    answer = client.get(f"/task/{task.pk}/images/0")
    assert (answer.content, answer["Content-Type"]) == (b"", "image/png")
    assert answer["X-Accel-Redirect"] == f"/_pictures/{stored[0].name}"
    etag = f'"{stored[0].sha256}"'
    assert client.get(f"/task/{task.pk}/images/0", headers={"if-none-match": etag}).status_code == 304


def test_the_thumbnail_is_small_and_never_changes(client: Client, claimed: MakeTask) -> None:
    task = claimed()
    picture = GeneratedImage(seed=1, image=Image.new("RGB", (640, 320), "red"))
    stored = store_images(Claim(task_id=task.pk, attempt=1), [picture])
    succeed_one(Claim(task_id=task.pk, attempt=1), stored)
    url = client.get(f"/task/{task.pk}").json()["images"][0]["thumbnail_url"]
    answer = client.get(url)
    assert (answer["Content-Type"], "immutable" in answer["Cache-Control"]) == ("image/webp", True)
    with Image.open(io.BytesIO(answer.content)) as small:
        assert (small.format, small.size) == ("WEBP", (256, 128))
    assert client.get(url, headers={"if-none-match": answer["ETag"]}).status_code == 304
    Path(default_storage.path(stored[0].name)).write_bytes(b"\x89PNG\r\n\x1a\ncut off")
    damaged = client.get(url)
    assert (damaged.status_code, damaged.json()["error"]["message"]) == (404, "The image file is damaged.")
    storage.discard_images(stored)
    assert client.get(url).status_code == 404


def test_the_list_has_cursor_pages_newest_first(client: Client, make_task: MakeTask) -> None:
    ids = [str(make_task().pk) for _ in range(5)]
    first = client.get("/task?limit=3").json()
    second = client.get(first["next"]).json()
    assert [task["id"] for task in first["results"] + second["results"]] == ids[::-1]
    assert second["next"] is None


def test_the_list_filters_by_status_and_model(client: Client, make_task: MakeTask, claimed: MakeTask) -> None:
    running = claimed()
    aliased = make_task(model_id="stable-diffusion-v1-5/stable-diffusion-v1-5")
    assert [task["id"] for task in client.get("/task?status=running").json()["results"]] == [str(running.pk)]
    for name in ("runwayml/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"):
        listed = client.get("/task", {"model_id": name}).json()["results"]
        assert [task["id"] for task in listed] == [str(aliased.pk)]
    assert bad_paths(client.get("/task?status=lost")) == {"status"}
    assert bad_paths(client.get("/task?model_id=%00")) == {"model_id"}


def test_the_list_costs_the_same_number_of_queries_for_any_number_of_tasks(
    client: Client, claimed: MakeTask, make_task: MakeTask
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            client.get("/task")
        return len(captured)

    services.cancel_task(claimed().pk)
    make_task(priority=-9)
    few = queries()
    for _ in range(5):
        task = claimed()
        lifecycle.mark_failed(Claim(task_id=task.pk, attempt=1), code="internal", message="")
        make_task(priority=-9)
    assert queries() == few
