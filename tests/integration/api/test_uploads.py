"""Pictures that tasks begin with: sent, named by tasks, kept as long as those need them, gone after that."""

import hashlib
import io
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.db.models.functions import Now
from django.test import Client
from PIL import ExifTags, Image

from tasks_app import errors, services, submissions
from tasks_app.access import api_keys
from tasks_app.contracts import Principal
from tasks_app.models import DiffusionModel, Scope, Status, Task, Upload
from tasks_app.queue import lifecycle
from tasks_app.worker import retention
from tests.support.openapi import check_response
from tests.unit.images.test_decoding import bare, file, noise

pytestmark = pytest.mark.django_db
NOBODY = Principal(scopes=frozenset([Scope.SUBMIT]))


def send(client: Client, content: bytes, kind: str = "image/png", **headers: str) -> Any:
    answer = client.post("/upload", content, content_type=kind, headers=headers)
    check_response("post", "/upload", answer)
    return answer


@pytest.fixture
def image(client: Client) -> dict[str, Any]:
    """Return an upload of 70×50 pixels."""
    sent: dict[str, Any] = send(client, file(noise().resize((70, 50)))).json()
    return sent


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """Return a place where no file can be."""
    place = tmp_path / "a file"
    place.touch()
    return place


def body(image: dict[str, Any], /, task_type: str = "image-to-image", **params: Any) -> dict[str, Any]:
    values = {"model_id": "demo", "prompt": "a house", "image": image["id"], "steps": 10, **params}
    return {"task_type": task_type, "params": values}


def post(client: Client, body: dict[str, Any]) -> Any:
    answer = client.post("/task", body, content_type="application/json")
    check_response("post", "/task", answer)
    return answer


def refused(client: Client, body: dict[str, Any]) -> dict[str, str]:
    answer = post(client, body)
    assert answer.status_code == 400, answer.content
    return {field["path"]: field["message"] for field in answer.json()["error"]["fields"]}


def name(upload: dict[str, Any]) -> str:
    return f"inputs/{upload['id']}.png"


def test_a_picture_is_kept_as_its_pixels_alone(client: Client) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "where I live"
    answer = send(client, file(noise(), "JPEG", exif=exif, comment=b"who I am"), "image/jpeg")
    told = answer.json()
    assert (answer.status_code, told["width"], told["height"]) == (201, 48, 32)
    with default_storage.open(name(told)) as kept:
        content = kept.read()
    assert hashlib.sha256(content).hexdigest() == told["sha256"]
    assert b"where I live" not in content
    assert b"who I am" not in content
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.format, picture.mode, picture.size, picture.info) == ("PNG", "RGB", (48, 32), {})


def test_what_the_file_is_its_bytes_say(client: Client) -> None:
    assert send(client, file(noise()), "image/webp").status_code == 201


def test_what_is_kept_can_be_fetched_and_need_not_be_twice(client: Client, image: dict[str, Any]) -> None:
    path = f"/upload/{image['id']}"
    answer = client.get(path)
    check_response("get", "/upload/{upload_id}", answer)
    assert (answer.status_code, answer["Content-Type"]) == (200, "image/png")
    assert hashlib.sha256(answer.content).hexdigest() == image["sha256"]
    known = client.get(path, headers={"if-none-match": answer["ETag"]})
    assert (known.status_code, known.content) == (304, b"")
    assert client.get(path, headers={"if-match": '"another"'}).status_code == 412


@pytest.mark.parametrize("gone", ["never sent", "given up", "its file"])
def test_what_is_gone_is_not_found(client: Client, image: dict[str, Any], gone: str) -> None:
    path = f"/upload/{uuid4() if gone == 'never sent' else image['id']}"
    if gone == "given up":
        Upload.objects.update(purged_at=Now())
    elif gone == "its file":
        default_storage.delete(name(image))
    answer = client.get(path)
    check_response("get", "/upload/{upload_id}", answer)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "content", [b"", b"text", file(noise(), "GIF"), file(noise())[:-50], bare(40_000, 40_000), bare(2049, 40)]
)
def test_what_is_no_picture_or_too_large_a_one_is_refused_and_leaves_nothing(client: Client, content: bytes) -> None:
    answer = send(client, content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_image")
    assert not Upload.objects.exists()


def test_other_types_and_large_bodies_are_refused(client: Client, settings: Any) -> None:
    assert send(client, b"GIF89a", "image/gif").status_code == 415
    assert send(client, b"{}", "application/json").status_code == 415
    settings.MAX_UPLOAD_BYTES = 100
    answer = send(client, file(noise()))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_a_storage_that_is_away_leaves_no_row(client: Client, settings: Any, nowhere: Path) -> None:
    settings.MEDIA_ROOT = nowhere
    answer = send(client, file(noise()))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_failed")
    assert not Upload.objects.exists()


def test_a_task_is_as_large_as_its_picture_and_takes_a_share_of_the_steps(
    client: Client, image: dict[str, Any]
) -> None:
    answer = post(client, body(image, strength=0.45))
    assert answer.status_code == 201, answer.content
    task = answer.json()
    assert (task["task_type"], task["params"]["image"]) == ("image-to-image", image["id"])
    assert (task["params"]["width"], task["params"]["height"], task["params"]["strength"]) == (64, 48, 0.45)
    assert task["progress"]["total_steps"] == 4
    again = post(client, {"task_type": task["task_type"], "params": task["params"]})
    assert (again.status_code, again.json()["params"]) == (201, task["params"])
    assert {each.batch_key for each in Task.objects.all()} == {""}


def test_the_size_of_a_model_is_none_of_a_picture(client: Client, image: dict[str, Any]) -> None:
    DiffusionModel.objects.update_or_create(model_id="demo", defaults={"width": 96, "height": 96})
    assert post(client, body(image)).json()["params"]["width"] == 64


@pytest.mark.parametrize(
    ("params", "wrong"),
    [
        ({"image": None}, {"params.image"}),
        ({"image": 5}, {"params.image"}),
        ({"image": "x"}, {"params.image"}),
        ({"image": str(uuid4())}, {"params.image"}),
        ({"strength": 1.1}, {"params.strength"}),
        ({"strength": 0}, {"params.strength"}),
        ({"strength": 0.09}, {"params.strength"}),
        ({"width": 96, "height": 48}, {"params.width"}),
        ({"width": 96, "height": 96, "strength": 0}, {"params.width", "params.height", "params.strength"}),
        ({"width": 64}, {"params.height"}),
        ({"mask": str(uuid4())}, {"params.mask"}),
        ({"steps": 0, "image": "x"}, {"params.steps", "params.image"}),
    ],
)
def test_wrong_parameters_are_named(
    client: Client, image: dict[str, Any], params: dict[str, Any], wrong: set[str]
) -> None:
    assert refused(client, body(image, **params)).keys() == wrong


def test_a_mask_has_the_size_of_its_picture(client: Client, image: dict[str, Any], settings: Any) -> None:
    unknown = {"model_id": "somebody/masked"}  # whose files are not here
    settings.ALLOWED_MODELS = ["somebody/masked"]
    assert refused(client, body(image, "inpainting", **unknown)).keys() == {"params.mask"}
    other = send(client, file(noise())).json()
    told = refused(client, body(image, "inpainting", mask=other["id"], **unknown))
    assert told == {"params.mask": "Must have the size of the source image, 70 × 50 pixels."}
    assert post(client, body(image, "inpainting", mask=image["id"], **unknown)).status_code == 201


def test_a_model_that_can_not_is_refused_at_once(client: Client, image: dict[str, Any]) -> None:
    told = refused(client, body(image, "inpainting", mask=image["id"]))  # the demo model's latents have 8 channels
    assert told == {"params.model_id": "This model doesn't support this task type."}


def test_text_to_image_knows_no_pictures(client: Client, image: dict[str, Any]) -> None:
    told = refused(client, body(image, "text-to-image", strength=0.5))
    assert told.keys() == {"params.image", "params.strength"}


def test_somebody_elses_upload_is_as_one_that_is_not_there(
    client: Client, image: dict[str, Any], settings: Any
) -> None:
    user = User.objects.create_user("ada")
    granted = ([Scope.SUBMIT, Scope.READ], [Scope.SUBMIT], [Scope.SUBMIT, Scope.READ, Scope.READ_ANY], [Scope.READ])
    one, other, staff, reader = (
        Client(
            headers={
                "authorization": f"Bearer {api_keys.create_api_key(user=user, name=str(number), scopes=scopes)[1]}"
            }
        )
        for number, scopes in enumerate(granted)
    )
    assert send(reader, file(noise())).status_code == 403
    mine = send(one, file(noise())).json()
    assert post(one, body(mine)).status_code == 201
    missing = refused(other, body({"id": str(uuid4())}))
    assert refused(other, body(mine)) == missing
    assert refused(client, body(mine)) == missing
    assert refused(one, body(image)) == missing
    assert post(staff, body(mine)).status_code == 201
    clients = (one, staff, reader, client, other)
    assert [each.get(f"/upload/{mine['id']}").status_code for each in clients] == [200, 200, 404, 404, 403]
    settings.API_AUTH = "required"
    assert send(Client(), file(noise())).status_code == 401


# --- What is kept ----------------------------------------------------------------------------------------------------


def later(**past: float) -> None:
    """Let all uploads be so much older, and purge."""
    Upload.objects.update(created_at=Now() - timedelta(**past))
    list(retention.purge_tasks())


def test_an_upload_that_no_task_begins_with_goes_after_its_hours(
    client: Client, image: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    later(hours=23)
    assert default_storage.exists(name(image))
    later(hours=25)
    assert not default_storage.exists(name(image))
    assert not Upload.objects.exists()
    assert f"Upload {image['id']}: deleted." in caplog.text
    assert refused(client, body(image)).keys() == {"params.image"}


def test_a_task_keeps_its_upload_and_a_retry_does_too(client: Client, image: dict[str, Any]) -> None:
    task = Task.objects.get(pk=post(client, body(image)).json()["id"])
    later(hours=1000)
    services.cancel_task(task.pk)
    again, _ = services.retry_task(Task.objects.get(pk=task.pk), key=uuid4())
    lifecycle.delete_tasks(task.pk)
    later(hours=1000)
    assert default_storage.exists(name(image))
    services.cancel_task(again.pk)
    lifecycle.delete_tasks(again.pk)
    later(hours=1000)
    assert not default_storage.exists(name(image))


def test_it_goes_with_the_pictures_of_its_task(client: Client, image: dict[str, Any]) -> None:
    task_id = post(client, body(image)).json()["id"]
    Task.objects.update(purged_at=Now())
    later(hours=25)
    assert not default_storage.exists(name(image))
    assert Task.objects.filter(pk=task_id).exists()
    assert client.get(f"/task/{task_id}").json()["params"]["image"] == image["id"]


def test_a_storage_that_is_away_is_asked_again(
    client: Client, image: dict[str, Any], settings: Any, nowhere: Path
) -> None:
    there, settings.MEDIA_ROOT = settings.MEDIA_ROOT, nowhere
    later(hours=25)
    settings.MEDIA_ROOT = there
    assert refused(client, body(image)).keys() == {"params.image"}  # given up all the same
    assert Upload.objects.get().purged_at is not None
    list(retention.purge_tasks())
    assert not Upload.objects.exists()


def test_a_task_whose_upload_goes_at_that_very_moment_is_refused(client: Client, image: dict[str, Any]) -> None:
    submission = submissions.SubmissionSerializer(data=body(image), context={"caller": NOBODY})
    submission.is_valid(raise_exception=True)
    later(hours=25)
    with pytest.raises(errors.InvalidParamsError, match="has expired"):
        services.submit_task(submission.build_submission(), caller=NOBODY)
    assert not Task.objects.exists()


def test_a_task_is_reproduced_with_its_upload_or_refused_in_words(client: Client, image: dict[str, Any]) -> None:
    task = Task.objects.get(pk=post(client, body(image, provider="diffusers")).json()["id"])
    task.status = Status.SUCCEEDED
    again, _ = services.reproduce_task(task, caller=NOBODY)
    assert [str(upload.pk) for upload in again.uploads.all()] == [image["id"]]
    Task.objects.update(purged_at=Now())
    later(hours=25)
    with pytest.raises(errors.InvalidParamsError, match="has expired"):
        services.reproduce_task(task, caller=NOBODY)
