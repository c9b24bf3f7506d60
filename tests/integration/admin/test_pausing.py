"""Pausing and resuming: asked about, confirmed by a POST, logged, and seen on every page."""

from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client

from tasks_app.models import DiffusionModel, Pause, Task, Worker
from tasks_app.queue import pauses
from tests.integration.admin.pages import LIST, MODELS, PAUSES, WORKERS, MakeTask, body, messages, url_of

QUEUE, MODEL, WORKER = Pause.Scope.QUEUE, Pause.Scope.MODEL, Pause.Scope.WORKER
EVERY = [(QUEUE, ""), (MODEL, "demo"), (WORKER, "gpu:1")]


def url(action: str, scope: str, target: str = "", **more: str) -> str:
    return f"{PAUSES}{action}/?{urlencode({'scope': scope, 'target': target, **more})}"


@pytest.fixture(autouse=True)
def _things(alive: Callable[..., Worker]) -> None:
    alive("gpu:1")
    assert DiffusionModel.objects.filter(model_id="demo").exists()


@pytest.mark.parametrize(("scope", "target"), EVERY)
def test_a_get_asks_and_a_post_pauses_and_resumes(
    admin_client: Client, admin_user: User, scope: Pause.Scope, target: str
) -> None:
    name = f"The {scope} {target}".strip()
    assert f"Pause the {scope}" in body(admin_client, url("pause", scope, target))
    assert not Pause.objects.exists()
    assert messages(admin_client, url("pause", scope, target), {}) == [f"{name} is paused."]
    assert Pause.objects.get().by == admin_user
    assert messages(admin_client, url("pause", scope, target), {}) == [f"{name} was already paused."]
    body(admin_client, url("resume", scope, target))
    assert pauses.is_paused(scope, target)
    assert messages(admin_client, url("resume", scope, target), {}) == [f"{name} is resumed."]
    assert messages(admin_client, url("resume", scope, target), {}) == [f"{name} was not paused."]
    assert [(entry.user, entry.change_message) for entry in LogEntry.objects.order_by("pk")] == [
        (admin_user, "Paused."),
        (admin_user, "Resumed."),
    ]


def test_the_log_of_a_worker_and_of_a_model_says_who_paused_it(admin_client: Client) -> None:
    model = DiffusionModel.objects.get(model_id="demo")
    admin_client.post(url("pause", MODEL, "demo"))
    admin_client.post(url("pause", WORKER, "gpu:1"))
    for page in (f"{MODELS}{model.pk}/history/", f"{WORKERS}gpu_3A1/history/"):
        assert "Paused." in body(admin_client, page)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("scope=room", 400),
        ("scope=queue&target=x", 400),
        ("scope=model", 400),
        ("scope=model&target=%00", 400),
        ("scope=model&target=nobody/knows", 404),
        ("scope=worker&target=nobody", 404),
        ("", 400),
    ],
)
def test_what_is_not_there_cannot_be_paused(admin_client: Client, query: str, status: int) -> None:
    for action in ("pause", "resume"):
        assert admin_client.post(f"{PAUSES}{action}/?{query}").status_code == status
    assert not Pause.objects.exists()


def test_the_pause_of_something_that_is_gone_can_be_ended(admin_client: Client) -> None:
    pauses.create_pause(MODEL, "old/gone")
    page = body(admin_client, PAUSES)
    assert "old/gone" in page
    assert messages(admin_client, url("resume", MODEL, "old/gone"), {}) == ["The model old/gone is resumed."]


@pytest.mark.parametrize(
    ("back", "there"),
    [(LIST, LIST), ("https://elsewhere.example/", PAUSES), ("//elsewhere.example", PAUSES), ("", PAUSES)],
)
def test_one_comes_back_to_where_one_was_but_nowhere_else(admin_client: Client, back: str, there: str) -> None:
    assert admin_client.post(url("pause", QUEUE, back=back)).headers["Location"] == there


def test_every_page_says_that_the_queue_is_paused_and_offers_to_resume_it(
    admin_client: Client, admin_user: User, make_task: MakeTask
) -> None:
    task = make_task()
    model = DiffusionModel.objects.get(model_id="demo")
    pages = [
        *("/admin/", LIST, url_of(task), f"{LIST}{task.pk}/cancel/", WORKERS, f"{WORKERS}gpu_3A1/change/", PAUSES),
        *(MODELS, f"{MODELS}{model.pk}/change/", f"{MODELS}add/", "/admin/auth/user/", "/admin/password_change/"),
    ]
    assert not [page for page in pages if "The queue is paused" in body(admin_client, page)]
    pauses.create_pause(QUEUE, by=admin_user)
    for page in pages:
        text = body(admin_client, page)
        assert "The queue is paused" in text, page
        assert "by admin" in text
        assert f"{PAUSES}resume/?scope=queue" in text


@pytest.mark.parametrize(("scope", "target"), EVERY)
def test_whoever_may_only_look_sees_what_is_paused_and_can_neither_pause_nor_resume(
    staff: Callable[..., Client], scope: Pause.Scope, target: str
) -> None:
    client = staff("view_pause", "view_worker", "view_diffusionmodel")
    for action in ("pause", "resume"):
        pages = [body(client, page) for page in (PAUSES, WORKERS, MODELS)]
        assert not [page for page in pages if f"{PAUSES}{action}/" in page]
        assert client.get(url(action, scope, target)).status_code == 403
        assert client.post(url(action, scope, target)).status_code == 403
        pauses.create_pause(scope, target)
    assert "paused" in body(client, PAUSES).lower()
    assert pauses.is_paused(scope, target)


def test_pauses_are_neither_added_nor_changed_nor_deleted_by_djangos_forms(admin_client: Client) -> None:
    pauses.create_pause(QUEUE)
    pk = Pause.objects.get().pk
    assert admin_client.get(f"{PAUSES}add/").status_code == 403
    assert admin_client.post(f"{PAUSES}{pk}/change/", {"scope": "queue"}).status_code == 403
    assert admin_client.post(f"{PAUSES}{pk}/delete/", {"post": "yes"}).status_code == 403
    assert pauses.is_paused(QUEUE)


def test_a_post_without_a_csrf_token_is_refused(admin_user: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    assert client.post(url("pause", QUEUE)).status_code == 403
    assert not Pause.objects.exists()


def test_a_task_says_that_it_is_held(client: Client, make_task: Callable[..., Task]) -> None:
    task = make_task()
    pauses.create_pause(MODEL, "demo")
    assert client.get(f"/task/{task.pk}").json()["paused"] is True
    pauses.delete_pause(MODEL, "demo")
    assert client.get(f"/task/{task.pk}").json()["paused"] is False
