"""Clone with edits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client

from tasks_app.models import Status, Task
from tests.integration.admin.pages import LIST, MakeTask, body, url_of


def clone_url(task: Task) -> str:
    return f"{LIST}{task.pk}/clone/"


def form_of(client: Client, task: Task) -> dict[str, Any]:
    """Return the form as a browser would send it back."""
    form = client.get(clone_url(task)).context["form"]
    return {field.name: "" if field.value() is None else field.value() for field in form}


def test_the_form_is_filled_with_the_tasks_parameters(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task(params={"prompt": "a <b>fox", "scheduler": "euler"}, priority=3)
    values = form_of(admin_client, task)
    assert values == {
        "prompt": "a <b>fox",
        "negative_prompt": "",
        "model_id": "demo",
        "steps": 4,
        "guidance_scale": 4.0,
        "seed": 7,
        "width": "",
        "height": "",
        "num_images": 1,
        "scheduler": "euler",
        "priority": 3,
    }
    assert "<b>fox" not in body(admin_client, clone_url(task))


def test_what_was_edited_is_queued_as_a_new_task_and_the_old_one_stays(
    admin_client: Client, admin_user: User, failed: MakeTask
) -> None:
    task = failed(provider="diffusers", params={"prompt": "a fox"})
    edited = form_of(admin_client, task) | {"prompt": "an owl", "steps": "9", "seed": "", "width": 64, "height": 48}
    answer = admin_client.post(clone_url(task), edited)
    new = Task.objects.exclude(pk=task.pk).get()
    assert answer.headers["Location"] == url_of(new)
    assert (new.status, new.params["prompt"], new.params["steps"], new.total_steps) == (Status.QUEUED, "an owl", 9, 9)
    assert (new.params["width"], new.params["height"], new.params["scheduler"]) == (64, 48, None)
    assert new.seed != task.seed
    task.refresh_from_db()
    assert (task.status, task.params["prompt"]) == (Status.FAILED, "a fox")
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (admin_user, str(new.pk))
    assert str(task.pk) in entry.change_message


def test_unedited_it_is_the_same_request(
    admin_client: Client, make_task: MakeTask, settings: Any, tmp_path: Path
) -> None:
    settings.LORAS_DIR = settings.EMBEDDINGS_DIR = tmp_path
    (tmp_path / "style.safetensors").touch()
    loras = [{"id": "style", "weight": 0.5}]
    task = make_task(params={"scheduler": None, "output_format": "webp", "loras": loras, "embeddings": ["style"]})
    admin_client.post(clone_url(task), form_of(admin_client, task))
    new = Task.objects.exclude(pk=task.pk).get()
    assert (new.params, new.seed, new.model_id, new.priority) == (task.params, task.seed, task.model_id, task.priority)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("prompt", "", "blank"),
        ("prompt", "x" * 4001, "4000"),
        ("steps", "151", "between 1 and 150"),
        ("steps", "x", "whole number"),
        ("guidance_scale", "51", "between 0 and 50"),
        ("width", "64", "Set both width and height"),
        ("scheduler", "magic", "Must be"),
        ("model_id", "org/unknown", "does not allow"),
        ("priority", "11", "between -10 and 10"),
        ("seed", "-1", "between"),
    ],
)
def test_what_the_api_would_refuse_is_told_at_its_field(
    admin_client: Client, make_task: MakeTask, field: str, value: str, words: str
) -> None:
    task = make_task(provider="diffusers")
    response = admin_client.post(clone_url(task), form_of(admin_client, task) | {field: value})
    errors = response.context["form"].errors
    named = "height" if words == "Set both width and height" else field
    assert words in " ".join(errors[named])
    assert Task.objects.count() == 1


def test_whoever_may_only_look_cannot_clone(staff: Callable[..., Client], make_task: MakeTask) -> None:
    task = make_task()
    client = staff("view_task")
    assert clone_url(task) not in body(client, url_of(task))
    assert client.get(clone_url(task)).status_code == 403
    assert client.post(clone_url(task), {"prompt": "x"}).status_code == 403
    assert Task.objects.count() == 1


def test_an_unknown_task_is_not_found(admin_client: Client, db: None) -> None:
    assert admin_client.get(f"{LIST}2ec9eca9-5d9c-42e1-b61b-a0c953b31c95/clone/").status_code == 404
