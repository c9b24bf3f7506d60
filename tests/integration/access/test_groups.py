"""The groups that a migration makes: viewers see and can act on nothing, operators act."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import connection
from django.test import Client

from tasks_app.models import DiffusionModel, Pause, Status, Task, WebhookDelivery, WorkerCommand
from tasks_app.queue import lifecycle, pauses, workers
from tests.integration.admin.pages import (
    DELIVERIES,
    LIST,
    MODELS,
    PAUSES,
    TASK_ACTIONS,
    WORKERS,
    MakeTask,
    action_url,
    body,
    claim_of,
    form_data,
    url_of,
)

migration: Any = importlib.import_module("tasks_app.migrations.0002_groups")
ACTS = {*migration.ACTS}
VIEWS = {f"view_{model._meta.model_name}" for model in apps.get_app_config("tasks_app").get_models()}


def permissions(name: str, using: str = "default") -> set[str]:
    group = Group.objects.using(using).get(name=name)
    return set(group.permissions.values_list("codename", flat=True))


@pytest.fixture
def member(db: None) -> Callable[[str], Client]:
    """Return a factory of clients whose user is in a group; other tests may have emptied the tables."""
    migration.create_groups(apps, connection.schema_editor())

    def login(group: str) -> Client:
        user = User.objects.create_user(group, password="pw", is_staff=True)
        user.groups.add(Group.objects.get(name=group))
        client = Client()
        client.force_login(user)
        return client

    return login


def test_on_an_empty_database_the_migrations_make_both_groups_and_take_them_away_again(empty_database: str) -> None:
    call_command("migrate", database=empty_database, verbosity=0)
    assert permissions("viewers", empty_database) == VIEWS
    assert permissions("operators", empty_database) == VIEWS | ACTS
    call_command("migrate", "tasks_app", "0001", database=empty_database, verbosity=0)
    assert not Group.objects.using(empty_database).exists()
    call_command("migrate", "tasks_app", database=empty_database, verbosity=0)
    assert permissions("operators", empty_database) == VIEWS | ACTS


def test_making_the_groups_again_keeps_what_people_added(member: Callable[[str], Client]) -> None:
    group = Group.objects.get(name="viewers")
    group.permissions.add(*Group.objects.get(name="operators").permissions.filter(codename="add_pause"))
    group.permissions.remove(*group.permissions.filter(codename="view_task"))
    migration.create_groups(apps, connection.schema_editor())
    assert permissions("viewers") == VIEWS | {"add_pause"}
    assert Group.objects.count() == 2


@pytest.fixture
def things(make_task: MakeTask, claimed: MakeTask) -> dict[str, Any]:
    """Return something of everything that can be acted on."""
    workers.register_worker("gpu", host="here", pid=1, version="1", age=workers.PRUNE_AFTER)
    ended = claimed()
    lifecycle.mark_failed(claim_of(ended), code="internal", message="")
    delivery = WebhookDelivery.objects.create(task=ended, event="failed", url="https://hooks.example/")
    return {
        "ended": ended,
        "queued": make_task(),
        "model": DiffusionModel.objects.get(model_id="demo"),
        "delivery": delivery,
    }


def acts(things: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the address and the form of everything that people can do."""
    model, queued, ended = things["model"], things["queued"], things["ended"]
    single = [
        (action_url(ended if action in {"retry", "remove"} else queued, action), form_data(action))
        for action in TASK_ACTIONS
    ]
    many = [(f"{LIST}{action}/", {"task": [str(queued.pk)], **form_data(action)}) for action in TASK_ACTIONS]
    targets = ("scope=queue", "scope=model&target=demo", "scope=worker&target=gpu")
    pausing: list[tuple[str, dict[str, Any]]] = [
        (f"{PAUSES}{action}/?{target}", {}) for action in ("pause", "resume") for target in targets
    ]
    commands = [(f"{MODELS}{model.pk}/{kind}/", {"workers": ["gpu"]}) for kind in ("preload", "unload")]
    edits = [(f"{MODELS}{model.pk}/change/", {"offload": "none"}), (f"{MODELS}add/", {"model_id": "org/new"})]
    again: tuple[str, dict[str, Any]] = (f"{DELIVERIES}{things['delivery'].pk}/again/", {})
    return [again, (f"{LIST}{queued.pk}/clone/", {}), *single, *many, *pausing, *commands, *edits]


def pages(things: dict[str, Any]) -> list[str]:
    tasks = [url_of(things["ended"]), url_of(things["queued"])]
    return [
        "/admin/",
        LIST,
        *tasks,
        WORKERS,
        f"{WORKERS}gpu/change/",
        MODELS,
        f"{MODELS}{things['model'].pk}/change/",
        PAUSES,
        DELIVERIES,
        f"{DELIVERIES}{things['delivery'].pk}/change/",
    ]


def test_a_viewer_sees_everything_and_can_act_on_nothing(
    member: Callable[[str], Client], things: dict[str, Any]
) -> None:
    client = member("viewers")
    # A model's page is its form, and everybody may see it.
    buttons = [address.replace("&", "&amp;") for address, _ in acts(things) if not address.endswith("/change/")]
    pauses.create_pause(Pause.Scope.QUEUE)
    for page in pages(things):
        text = body(client, page)
        assert "The queue is paused" in text
        assert not [address for address in buttons if f'"{address}' in text]
        assert "_chosen" not in text
    for address, form in acts(things):
        assert client.post(address, form).status_code == 403, address
    assert {task.status for task in Task.objects.all()} == {Status.QUEUED, Status.FAILED}
    assert not WorkerCommand.objects.exists()
    assert not LogEntry.objects.exists()


def test_an_operator_acts(member: Callable[[str], Client], things: dict[str, Any]) -> None:
    client = member("operators")
    for address, form in acts(things):
        assert client.post(address, form).status_code in {200, 302}, address
    # The queued task was canceled; the ended one was retried, then removed.
    assert {task.status for task in Task.objects.all()} <= {Status.CANCELED, Status.QUEUED}
    assert not Task.objects.filter(pk=things["ended"].pk).exists()
    assert WorkerCommand.objects.count() == 2
    assert not Pause.objects.exists()
    assert DiffusionModel.objects.filter(model_id="demo").exists()


def test_neither_group_sees_people(member: Callable[[str], Client]) -> None:
    for group in ("viewers", "operators"):
        assert member(group).get("/admin/auth/user/").status_code == 403
