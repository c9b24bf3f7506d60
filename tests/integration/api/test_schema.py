"""The schema says what the API does: all of its endpoints, what they take to the letter, and what they answer."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from django.contrib.auth.models import User
from django.db.models.functions import Now
from django.test import Client
from django.urls import resolve
from drf_spectacular.generators import SchemaGenerator
from openapi_spec_validator import validate

from project.env import BASE_DIR
from tasks_app import services
from tasks_app.access import api_keys, rate_limit
from tasks_app.api import urls
from tasks_app.api.openapi.examples import build_example
from tasks_app.models import Scope, Task, TaskImage
from tasks_app.queue import lifecycle
from tasks_app.submissions import SubmissionSerializer
from tasks_app.task_types import parameters
from tasks_app.task_types.registry import TEXT_TO_IMAGE
from tests.support import stack
from tests.support.acting import ScriptedWorker
from tests.support.openapi import check_response, find_problems, find_url_names, get_schema, list_operations
from tests.unit import test_settings

MakeTask = Callable[..., Task]
BODY = {"task_type": "text-to-image", "params": {"model_id": "demo", "prompt": "a house"}}
RENEW = "uv run manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml"
# Pages and what is no JSON of the API's own.
OUTSIDE = {"docs"}


def test_the_committed_schema_is_the_one_that_the_code_makes(tmp_path: Path) -> None:
    made = tmp_path / "openapi.yaml"
    command = ["manage.py", *RENEW.split()[3:-1], str(made)]
    defaults = {name: value for name, value in test_settings.VALUES.items() if value and name != "VAR_DIR"}
    variables = stack.build_environment(**defaults, DJANGO_SETTINGS_MODULE="project.settings")
    done = subprocess.run([sys.executable, *command], cwd=BASE_DIR, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert made.read_text() == (BASE_DIR / "docs" / "openapi.yaml").read_text(), f"It is another now: {RENEW}"


def test_the_schema_is_valid() -> None:
    validate(get_schema())


def test_every_url_has_its_operations_and_every_operation_its_url() -> None:
    described = {_view(name).url_name for name in list_operations()}
    assert described | OUTSIDE == find_url_names(urls.urlpatterns)


def test_what_the_schema_describes_is_there() -> None:
    for name in list_operations():
        view = getattr(_view(name).func, "cls", None)
        assert view is None or hasattr(view, name.split()[0].lower()), name


def _view(name: str) -> Any:
    return resolve(name.split()[1].format(task_id=uuid4(), upload_id=uuid4(), index=0, name="demo", what="upscalers"))


def test_the_schema_needs_no_key_and_is_had_as_json_and_yaml(client: Client, settings: Any) -> None:
    settings.API_AUTH = "required"
    answer = client.get("/schema/")
    assert answer.json()["openapi"] == "3.1.0"
    assert answer.headers["content-type"] == "application/json"
    for path, accept in (("/schema?format=yaml", "*/*"), ("/schema", "application/yaml")):
        assert yaml.safe_load(client.get(path, headers={"accept": accept}).content) == answer.json()


def test_a_refused_client_of_the_schema_is_told_so_in_json(client: Client) -> None:
    check_response("get", "/schema", client.get("/schema", headers={"accept": "text/html"}))


@pytest.mark.parametrize(("auth", "open_to_all"), [("required", False), ("optional", True)])
def test_who_needs_a_key_is_told_as_the_server_is_set(settings: Any, auth: str, open_to_all: bool) -> None:
    settings.API_AUTH = auth
    paths = SchemaGenerator().get_schema(public=True)["paths"]
    assert ({} in paths["/task"]["post"]["security"]) is open_to_all
    assert {"signature": []} in paths["/task/{task_id}/events"]["get"]["security"]
    assert {"signature": []} not in paths["/task"]["get"]["security"]
    assert paths["/healthz"]["get"]["security"] == []


# What each field is tried with: around every bound, and of every type.
VALUES: list[Any] = [None, True, False, -11, -1, 0, 1, 2, 8, 9, 10, 11, 31, 32, 33, 40, 50, 51, 150, 151, 2048, 2056]
VALUES += [2**32 - 1, 2**32, 0.5, 49.5, 50.5, -0.5, "", "x", "25", "a\nb", "\0", [], ["x"], {}, {"x": 1}]
VALUES += ["x" * 255, "x" * 256, "x" * 4000, "x" * 4001, "euler", "diffusers", "text-to-image"]
LORAS: list[Any] = [[], [{"id": "x"}], [{"id": "x", "weight": -4}], [{"id": "x", "weight": 4.5}], [{"id": ""}], [{}]]
LORAS += [["x"], [None], [{"id": 1}], [{"id": "x", "weight": "1"}], [{"id": "x", "more": 1}], [{"id": "x"}] * 9]
EMBEDDINGS: list[Any] = [["x"] * 9, [""], ["\0"], [None], [1], [["x"]], [{"id": "x"}]]
WEBHOOKS: list[Any] = [{"url": "https://example.com", "events": events} for events in ([], ["failed"], ["x"], None)]
WEBHOOKS += [{"url": url} for url in ("https://example.com/x", "http://example.com", "", None, 1)]
WEBHOOKS += [{}, {"events": ["failed"]}, {"url": "https://example.com", "more": 1}]


def _params() -> Iterator[dict[str, Any]]:
    for name in [*parameters.get_param_fields(), "unknown"]:
        yield from ({"prompt": "x", name: value} for value in VALUES)
    yield from ({"prompt": "x", "loras": value} for value in LORAS)
    yield from ({"prompt": "x", "embeddings": value} for value in EMBEDDINGS)
    yield {}
    for width in (None, 64, 65):
        yield from ({"prompt": "x", "width": width, "height": height} for height in (None, 64, 65))


def test_parameters_fit_the_schema_when_they_are_taken(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").touch()
    settings.LORAS_DIR = settings.EMBEDDINGS_DIR = tmp_path
    part = {"$ref": "#/components/schemas/TextToImageParams"}
    found = {True: 0, False: 0}
    for body in _params():
        serializer = parameters.build_serializer(TEXT_TO_IMAGE, body, defaults={}, max_images=8)
        taken = serializer.is_valid()
        assert taken == (not find_problems(part, body, closed=False)), body
        found[taken] += 1
    assert min(found.values()) > 50


def test_a_submission_fits_the_schema_when_it_is_taken(db: None, settings: Any) -> None:
    settings.WEBHOOK_SECRET = "whsec_" + "A" * 44
    part = {"$ref": "#/components/schemas/Submission"}
    names = ["task_type", "params", "priority", "unknown"]
    bodies = [{**BODY, name: value} for name in names for value in VALUES]
    bodies += [{**BODY, "webhook": value} for value in [*VALUES, *WEBHOOKS]]
    for body in bodies:
        serializer = SubmissionSerializer(data=body)
        assert serializer.is_valid() == (not find_problems(part, body, closed=False)), (body, serializer.errors)


def test_the_examples_fit() -> None:
    paths = get_schema()["paths"]
    operations = {f"{method} {path}": one for path, item in paths.items() for method, one in item.items()}
    answers = [
        (name, content)
        for name, operation in operations.items()
        for response in operation["responses"].values()
        for content in response.get("content", {}).values()
        if "example" in content
    ]
    assert {name for name, _ in answers} >= {"get /task", "post /task", "get /models", "get /events", "get /readyz"}
    for name, content in answers:
        assert not find_problems(content["schema"], content["example"]), name
    sent = [
        (name, content["schema"], example["value"])
        for name, operation in operations.items()
        for content in operation.get("requestBody", {"content": {}})["content"].values()
        for example in content.get("examples", {}).values()
    ]
    assert len(sent) >= 7
    for name, schema, value in sent:
        assert not find_problems(schema, value, closed=False), name
    for response in get_schema()["components"]["responses"].values():
        (content,) = response["content"].values()
        assert not find_problems(content["schema"], content["example"]), response


# --- What is answered ----------------------------------------------------------------------------------------------


def check_task(client: Client, task: Task) -> dict[str, Any]:
    answer = client.get(f"/task/{task.pk}")
    check_response("get", "/task/{task_id}", answer)
    found: dict[str, Any] = answer.json()
    return found


def test_tasks_in_every_state_are_as_described(client: Client, make_task: MakeTask) -> None:
    queued = make_task()
    assert check_task(client, queued)["status"] == "queued"
    worker = ScriptedWorker(queued)
    worker.publish_step(2)
    assert check_task(client, queued)["progress"]["phase"] == "denoising"
    worker.succeed_task()
    assert len(check_task(client, queued)["images"]) == 1
    failing = make_task()
    claim = ScriptedWorker(failing).claim
    assert lifecycle.mark_failed(claim, code="out_of_memory", message="The device is full.", traceback="")
    assert check_task(client, failing)["error"]["code"] == "out_of_memory"
    canceled = make_task()
    check_response("post", "/task/{task_id}/cancel", client.post(f"/task/{canceled.pk}/cancel"))
    assert check_task(client, canceled)["status"] == "canceled"
    retried, _ = services.retry_task(canceled, key=uuid4())
    assert check_task(client, retried)["retried_from"] == str(canceled.pk)


def test_warnings_are_returned_and_a_retry_starts_without(client: Client, make_task: MakeTask) -> None:
    warning = {"code": "prompt_truncated", "field": "prompt", "message": "Only the first 75 tokens have an effect."}
    task = make_task(warnings=[warning])
    assert check_task(client, task)["warnings"] == [warning]
    client.post(f"/task/{task.pk}/cancel")
    retried, _ = services.retry_task(Task.objects.get(pk=task.pk), key=uuid4())
    assert check_task(client, retried)["warnings"] == []


def test_what_leads_to_pictures_is_as_described(client: Client, make_task: MakeTask) -> None:
    task = make_task()
    ScriptedWorker(task).succeed_task()
    for path in ("/task/{task_id}/images", "/task/{task_id}/links"):
        check_response("get", path, client.get(path.format(task_id=task.pk)))
    for path in ("/task/{task_id}/images/{index}", "/task/{task_id}/images/{index}/thumbnail"):
        address = path.format(task_id=task.pk, index=0)
        answer = client.get(address)
        known = client.get(address, headers={"if-none-match": answer["ETag"]})
        other = client.get(address, headers={"if-match": '"other"'})
        assert (answer.status_code, known.status_code, other.status_code) == (200, 304, 412)
        for one in (answer, known, other):
            check_response("get", path, one)


def test_pictures_that_were_purged_or_tell_nothing_are_refused_as_described(
    client: Client, make_task: MakeTask
) -> None:
    task = make_task()
    ScriptedWorker(task).succeed_task()
    told = client.get(f"/task/{task.pk}/images/0").content
    TaskImage.objects.update(purged_at=Now())
    gone = client.get(f"/task/{task.pk}/images/0")
    check_response("get", "/task/{task_id}/images/{index}", gone)
    assert check_task(client, task)["images"][0]["purged"]
    sent = [(told, "image/png"), (b"", "image/webp"), (told, "image/gif")]
    answers = [client.post("/task/from-image", content, content_type=kind) for content, kind in sent]
    assert [gone.status_code, *(answer.status_code for answer in answers)] == [410, 200, 400, 415]
    for answer in answers:
        check_response("post", "/task/from-image", answer)


def test_pages_are_as_described(client: Client, make_task: MakeTask) -> None:
    for _ in range(3):
        make_task()
    first = client.get("/task?limit=2")
    check_response("get", "/task", first)
    check_response("get", "/task", client.get(first.json()["next"]))
    for query in ("limit=0", "limit=101", "limit=x", "limit=", "status=", "status=x", "cursor=x"):
        answer = client.get(f"/task?{query}")
        assert answer.status_code == (404 if "cursor" in query else 400), query
        check_response("get", "/task", answer)


def test_posts_are_as_described(client: Client, db: None) -> None:
    sent: dict[str, Any] = {"content_type": "application/json", "headers": {"idempotency-key": "one"}}
    answers = [client.post("/task", BODY, **sent), client.post("/task", BODY, **sent)]
    answers.append(client.post("/task", {**BODY, "priority": 1}, **sent))
    answers.append(client.post("/task", {}, content_type="application/json"))
    answers.append(client.post("/task", "x", content_type="text/plain"))
    answers.append(client.post("/task", b"x" * 300_000, content_type="application/json"))
    answers.append(client.post("/task", BODY, content_type="application/json", headers={"accept": "text/html"}))
    assert [answer.status_code for answer in answers] == [201, 200, 422, 400, 415, 413, 406]
    for answer in answers:
        check_response("post", "/task", answer)


def test_refusals_of_keys_are_as_described(db: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "WINDOW_SECONDS", 10**6)  # the minute may turn between two requests
    settings.API_AUTH = "required"
    user = User.objects.create_user("ada")
    _, reader = api_keys.create_api_key(user=user, name="reader", scopes=[Scope.READ], rate_per_minute=1)
    _, writer = api_keys.create_api_key(user=user, name="writer", scopes=[Scope.SUBMIT], max_queued=0)
    bearer: dict[str, Any] = {"content_type": "application/json", "headers": {"authorization": f"Bearer {writer}"}}
    reading = Client(headers={"authorization": f"Bearer {reader}"})
    answers = [
        Client().get("/task"),
        Client(headers=bearer["headers"]).get("/task"),
        reading.get("/task"),
        reading.get("/task"),
    ]
    assert [answer.status_code for answer in answers] == [401, 403, 200, 429]
    for answer in answers:
        check_response("get", "/task", answer)
    full = Client().post("/task", BODY, **bearer)
    assert full.status_code == 429
    check_response("post", "/task", full)


def test_refusals_of_facades_are_as_described(client: Client, db: None) -> None:
    missing = client.post("/sdapi/v1/options", "", content_type="application/json")
    unknown = client.get("/v1/models/nobody")
    assert (missing.status_code, unknown.status_code) == (422, 404)
    check_response("post", "/sdapi/v1/options", missing)
    check_response("get", "/v1/models/{name}", unknown)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_are_as_described(client: Client, db: None, path: str) -> None:
    check_response("get", path, client.get(path))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("Task", {}),
        ("Image", {"more": 1}),
        ("Image", {"index": "0"}),
        ("Image", {"url": None}),
        ("Invalid", {"error": {"code": "gone", "message": "", "retryable": False}}),
        ("LimitExceeded", {"error": {"code": "limit_exceeded", "message": "", "retryable": True}}),
    ],
)
def test_what_is_not_as_described_is_noticed(part: str, value: Any) -> None:
    reference = {"$ref": f"#/components/schemas/{part}"}
    known = build_example(reference, get_schema()["components"]["schemas"]) if part == "Image" else {}
    assert not known or not find_problems(reference, known)
    assert find_problems(reference, {**known, **value})
