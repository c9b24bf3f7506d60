"""The `openai` package against a running server."""

import base64
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from PIL import Image

from tasks_app import services
from tasks_app.models import Pause, Scope, Task, TaskImage
from tests.support.stack import Stack, wait_until

pytestmark = [pytest.mark.timeout(240), pytest.mark.django_db(transaction=True)]
MakeKey = Callable[..., str]


def client(address: Any, key: str = "none") -> OpenAI:
    return OpenAI(base_url=f"{str(address).rstrip('/')}/v1", api_key=key, max_retries=0, timeout=60)


@pytest.fixture
def api(stack: Stack) -> OpenAI:
    return client(stack.api.base_url)


def picture(content: bytes) -> tuple[str | None, tuple[int, int]]:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return image.format, image.size


def test_two_pictures_come_as_addresses_that_need_no_key(api: OpenAI, make_key: MakeKey, stack: Stack) -> None:
    mine = client(stack.api.base_url, make_key())
    answer = mine.images.generate(model="demo", prompt="a beach", n=2, size="64x64", extra_body={"steps": 2, "seed": 7})
    assert answer.data is not None
    assert (len(answer.data), answer.size, answer.output_format) == (2, "64x64", "png")
    contents = [httpx2.get(str(image.url)).raise_for_status().content for image in answer.data]
    assert [picture(content) for content in contents] == [("PNG", (64, 64))] * 2
    assert contents[0] != contents[1]
    task = Task.objects.get()
    assert (task.key and task.key.name, task.seed, task.params["steps"]) == ("a client", 7, 2)
    assert task.finished_at is not None
    assert answer.created == int(task.finished_at.timestamp())
    assert "django.request" not in (stack.logs / "web.log").read_text(), "an answer that is held is no error"


def test_a_picture_is_embedded_when_that_is_asked_for(api: OpenAI) -> None:
    answer = api.images.generate(
        prompt="a beach",
        response_format="b64_json",
        size="auto",
        output_format="webp",
        quality="high",
        user="somebody",
        extra_body={"steps": 2, "negative_prompt": "rain", "guidance_scale": 3, "scheduler": "euler"},
    )
    assert answer.data is not None
    (image,) = answer.data
    assert image.url is None
    assert picture(base64.b64decode(str(image.b64_json))) == ("WEBP", (64, 64))
    task = Task.objects.get()
    assert task.requested_model_id == "demo"
    assert task.params == {
        "prompt": "a beach",
        "negative_prompt": "rain",
        "steps": 2,
        "guidance_scale": 3.0,
        "width": 64,
        "height": 64,
        "num_images": 1,
        "scheduler": "euler",
        "loras": [],
        "embeddings": [],
        "output_format": "webp",
    }
    assert answer.output_format == "webp"


def test_the_same_idempotency_key_waits_for_the_same_task(api: OpenAI) -> None:
    def ask() -> Any:
        named = {"Idempotency-Key": "once"}
        body = {"steps": 1, "response_format": "b64_json"}
        return api.images.generate(prompt="a beach", extra_body=body, extra_headers=named).data

    assert ask() == ask()
    image = TaskImage.objects.get()
    image.file.delete(save=False)
    with pytest.raises(openai.APIStatusError, match="are no longer available") as refusal:
        ask()
    assert (refusal.value.status_code, refusal.value.code) == (410, "gone")


def test_models_are_listed_and_found(api: OpenAI) -> None:
    models = {model.id: model for model in api.models.list()}
    assert models["demo"].owned_by == "local"
    assert models["runwayml/stable-diffusion-v1-5"].owned_by == "runwayml"
    assert api.models.retrieve("runwayml/stable-diffusion-v1-5").object == "model"
    with pytest.raises(openai.NotFoundError, match="not allowed on this server"):
        api.models.retrieve("no/such-model")


@pytest.mark.parametrize(
    ("body", "param", "code", "said"),
    [
        ({"model": "dall-e-9"}, "model", "model_not_found", "does not allow this model"),
        ({"size": "huge"}, "size", "invalid_params", "Must be auto or WIDTHxHEIGHT"),
        ({"size": "65x64"}, "size", "invalid_params", "multiple of 8"),
        ({"n": 99}, "n", "invalid_params", "between 1 and 8"),
        ({"response_format": "jpeg"}, "response_format", "invalid_params", "url, b64_json"),
        ({"output_format": "svg"}, "output_format", "invalid_params", "png, jpeg, webp"),
        ({"background": "transparent"}, "background", "invalid_params", "auto, opaque"),
        ({"extra_body": {"stream": True}}, "stream", "invalid_params", "Not supported"),
        ({"extra_body": {"lora": "x"}}, "lora", "invalid_params", "Unknown field"),
        ({"extra_body": {"steps": "9"}}, "steps", "invalid_params", "Must be an integer"),
        ({"prompt": ""}, "prompt", "invalid_params", "blank"),
    ],
)
def test_a_bad_request_is_told_in_openai_s_shape(
    api: OpenAI, body: dict[str, Any], param: str, code: str, said: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=said) as refusal:
        api.images.generate(**{"prompt": "a beach", **body})
    assert (refusal.value.param, refusal.value.code, refusal.value.type) == (param, code, "invalid_request_error")
    assert not Task.objects.exists()


def test_a_task_that_fails_is_an_error_with_its_words(api: OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="model") as refusal:
        api.images.generate(prompt="a beach", model="runwayml/stable-diffusion-v1-5")
    assert (refusal.value.status_code, refusal.value.code) == (503, "model_unavailable")
    assert refusal.value.response.headers["x-should-retry"] == "false"


def test_a_client_that_goes_away_leaves_its_task_running(api: OpenAI) -> None:
    services.pause_claims(Pause.Scope.QUEUE)  # or it might be over before the client goes
    with pytest.raises(openai.APITimeoutError):
        api.images.generate(prompt="a beach", extra_body={"steps": 2}, timeout=2)
    wait_until(Task.objects.first, bool)
    assert Task.objects.get().status == "queued"
    services.resume_claims(Pause.Scope.QUEUE)
    wait_until(lambda: Task.objects.get().status, lambda status: status == "succeeded")


def test_a_task_that_is_deleted_meanwhile_is_told(api: OpenAI) -> None:
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(api.images.generate, prompt="a beach", n=8, extra_body={"steps": 150})
        # Not between its claim and the row of its attempt.
        wait_until(lambda: Task.objects.filter(status="running", step__gt=0).exists(), bool)
        Task.objects.all().delete()
        with pytest.raises(openai.InternalServerError) as refusal:
            asked.result()
    assert (refusal.value.status_code, refusal.value.code) == (503, "unavailable")


def test_without_a_key_or_its_scope_nothing_is_made(guarded: str, make_key: MakeKey) -> None:
    for key in ("none", "dh_" + "0" * 64):
        with pytest.raises(openai.AuthenticationError) as refusal:
            client(guarded, key).images.generate(prompt="a beach")
        assert refusal.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError, match="scope"):
        client(guarded, make_key("reader", (Scope.READ,))).images.generate(prompt="a beach")
    with pytest.raises(openai.PermissionDeniedError, match="scope"):
        client(guarded, make_key("maker", (Scope.SUBMIT,))).models.list()
    assert not Task.objects.exists()


def test_what_takes_too_long_goes_on_and_is_not_sent_again(guarded: str, make_key: MakeKey) -> None:
    services.pause_claims(Pause.Scope.QUEUE)  # the other server's worker would take it
    patient = client(guarded, make_key()).with_options(max_retries=2)
    with pytest.raises(openai.InternalServerError, match="it continues in the background") as refusal:
        patient.images.generate(prompt="a beach")
    task = Task.objects.get()  # the only one
    assert (refusal.value.status_code, refusal.value.code) == (504, "wait_timeout")
    assert str(task.pk) in refusal.value.message


def test_one_too_many_is_a_rate_limit(guarded: str, make_key: MakeKey) -> None:
    mine = client(guarded, make_key(max_queued=0))
    with pytest.raises(openai.RateLimitError, match="queued tasks") as refusal:
        mine.images.generate(prompt="a beach")
    assert (refusal.value.code, refusal.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    assert refusal.value.response.headers["Retry-After"]


def test_every_other_refusal_has_the_shape_too(guarded: str, make_key: MakeKey) -> None:
    headers = {"Authorization": f"Bearer {make_key()}", "Content-Type": "application/json"}
    with httpx2.Client(base_url=guarded, headers=headers) as raw:
        answers = [
            raw.get("/v1/images/generations/"),
            raw.get("/v1/audio"),
            raw.post("/v1/images/generations", content=b"x" * 300_000),
            raw.post("/v1/images/generations", content=b"{"),
            raw.post("/v1/images/generations", content=b"[]"),
            raw.post("/v1/images/generations", content=b"x", headers={"Content-Type": "text/plain"}),
            raw.get("/v1/models", headers={"Host": "elsewhere.example"}),
        ]
    assert [answer.status_code for answer in answers] == [405, 404, 413, 400, 400, 415, 400]
    for answer in answers:
        error = answer.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["message"]
        assert error["type"] == "invalid_request_error"
