"""The list of tasks, and the site around it."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from html import unescape

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tasks_app.admin import task_list
from tasks_app.admin import tasks as admin_tasks
from tasks_app.events import progress
from tasks_app.models import Task
from tests.integration.admin.pages import LIST, MakeTask, action_url, body, url_of
from tools.benchmarks import rows


def test_the_list_shows_tasks_of_every_status(admin_client: Client, one_of_each: Callable[[], dict[str, Task]]) -> None:
    tasks = one_of_each()
    page = body(admin_client, LIST)
    for status, task in tasks.items():
        assert url_of(task) in page
        cell = re.search(rf'id="status-{task.pk}".*?</div>', page, re.DOTALL)
        assert cell is not None
        assert status in cell.group().lower()


def test_the_list_shows_the_first_picture_at_the_api_address(admin_client: Client, succeeded: MakeTask) -> None:
    task = succeeded(images=2)
    page = body(admin_client, LIST)
    assert reverse("task-image", args=[task.pk, 0]) in page
    assert reverse("task-image", args=[task.pk, 1]) not in page


def test_the_list_is_newest_first(admin_client: Client, make_task: MakeTask) -> None:
    now = timezone.now()
    old, new = (make_task(created_at=now - timedelta(hours=hours)) for hours in (2, 1))
    page = body(admin_client, LIST)
    assert page.index(url_of(new)) < page.index(url_of(old))


def test_a_long_prompt_is_shortened_in_the_list_and_whole_in_its_title(
    admin_client: Client, make_task: MakeTask
) -> None:
    prompt = 'a "house" <b>& ' + "very " * 60 + "far away"
    make_task(params={"prompt": prompt})
    page = body(admin_client, LIST)
    span = re.search(r'<span data-task="[^"]*" class="task-prompt" title="([^"]*)">([^<]*)</span>', page)
    assert span is not None
    assert unescape(span.group(1)) == prompt
    assert len(unescape(span.group(2))) <= 90


def test_a_running_task_is_as_far_as_redis_knows(admin_client: Client, claimed: MakeTask) -> None:
    task = claimed(params={"steps": 30})
    live = {"attempt": 1, "phase": "denoising", "step": 12, "total_steps": 30, "eta_seconds": 9.0}
    progress.publish_event(task.pk, "progress", live)
    for url in (LIST, url_of(task)):
        page = body(admin_client, url)
        assert "12/30" in page
        assert "denoising" in page
    assert "about 9.0 s left" in body(admin_client, url_of(task))


def test_progress_of_an_earlier_attempt_is_not_shown(admin_client: Client, claimed: MakeTask) -> None:
    task = claimed(params={"steps": 30})
    live = {"attempt": 0, "phase": "denoising", "step": 12, "total_steps": 30, "eta_seconds": 9.0}
    progress.publish_event(task.pk, "progress", live)
    page = body(admin_client, LIST)
    assert "0/30" in page
    assert "12/30" not in page


@pytest.mark.parametrize("make", ["succeeded", "claimed", "failed"])
def test_the_number_of_queries_does_not_grow_with_the_rows(
    admin_client: Client, request: pytest.FixtureRequest, make: str
) -> None:
    factory = request.getfixturevalue(make)
    counts = []
    for more in (2, 18):
        for _ in range(more):
            factory()
        with CaptureQueriesContext(
            connection,
        ) as queries:
            body(admin_client, LIST)
        counts.append(len(queries))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status__exact=failed", {"fox"}),
        ("error_code=internal", {"fox"}),
        ("error_code=canceled", set()),
        ("model_id=demo", {"fox", "owl"}),
        ("model_id=other", set()),
        ("q=FOX", {"fox"}),
        ("q=fo", {"fox"}),
        ("q=owl+an", {"owl"}),
        ("q=owl+fox", set()),
        ("q=demo", set()),
        ("q=%25", set()),
        ("q=%21%26%7C%28%27:*", set()),
        ("worker=a-worker:1", {"fox"}),
        ("worker=nobody", set()),
        ("before=2ec9eca9-5d9c-42e1-b61b-a0c953b31c95", set()),
        ("before=x", set()),
        ("created_at__gte=2999-01-01T00:00:00Z", set()),
    ],
)
def test_filters_and_search_find_tasks(
    admin_client: Client, make_task: MakeTask, failed: MakeTask, query: str, expected: set[str]
) -> None:
    failed(params={"prompt": "a fox"})
    make_task(params={"prompt": "an owl"})
    page = body(admin_client, f"{LIST}?{query}")
    assert {name for name in ("fox", "owl") if f"{name}</span>" in page} == expected


def test_scripts_find_what_has_not_ended(admin_client: Client, one_of_each: Callable[[], dict[str, Task]]) -> None:
    tasks = one_of_each()
    page = body(admin_client, LIST)
    live = set(re.findall(r'data-live="([^"]+)"', page))
    assert live == {str(tasks["queued"].pk), str(tasks["running"].pk)}


def test_the_count_and_the_pages_end_at_a_bound_and_older_tasks_are_a_link_away(
    admin_client: Client, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (task_list, admin_tasks):
        monkeypatch.setattr(module, "MAX_COUNTED", 3)
    now = timezone.now()
    newest_first = [make_task(created_at=now - timedelta(minutes=number // 2)) for number in range(5)]
    newest_first.sort(key=lambda task: (task.created_at, task.pk), reverse=True)
    monkeypatch.setattr(admin.site._registry[Task], "list_per_page", 1)
    response = admin_client.get(LIST, {"status__exact": "queued", "p": "3"})
    changelist = response.context["cl"]
    assert changelist.result_count == 3
    monkeypatch.setattr(admin.site._registry[Task], "list_per_page", 100)
    older = admin_client.get(f"{LIST}{unescape(changelist.older_url)}").context["cl"]
    assert f"before={newest_first[2].pk}" in changelist.older_url
    assert "status__exact=queued" in changelist.older_url
    assert [task.pk for task in older.result_list] == [task.pk for task in newest_first[3:]]


def test_the_list_begins_below_a_task_and_ties_are_kept(admin_client: Client, make_task: MakeTask) -> None:
    now = timezone.now()
    tasks = [make_task(created_at=now) for _ in range(3)] + [make_task(created_at=now - timedelta(minutes=1))]
    tasks.sort(key=lambda task: (task.created_at, task.pk), reverse=True)
    for place, task in enumerate(tasks):
        older = admin_client.get(LIST, {"before": str(task.pk)}).context["cl"].result_list
        assert [each.pk for each in older] == [each.pk for each in tasks[place + 1 :]]


@pytest.fixture
def large_table(db: None) -> None:
    """Fill the table so that the planner has a choice, and tell it what there is."""
    with connection.cursor() as cursor:
        cursor.execute(rows.FILL, [5000])
        cursor.execute(f"ANALYZE {Task._meta.db_table}")


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ({}, "task_newest"),
        ({"status__exact": "running"}, "task_newest_of_status"),
        ({"model_id": "nobody's"}, "task_newest_of_model"),
        ({"worker": "w"}, "task_newest_of_worker"),
        ({"error_code": "internal"}, "task_newest_of_error"),
        ({"q": "n4321x"}, "task_prompt_words"),
    ],
    ids=str,
)
def test_each_way_to_look_has_an_index(
    admin_client: Client, large_table: None, query: dict[str, str], index: str
) -> None:
    shown = admin_client.get(LIST, query).context["cl"].queryset[:100]
    assert f"{index} " in shown.explain()


def test_search_takes_an_id_for_what_it_is(admin_client: Client, make_task: MakeTask) -> None:
    wanted, other = make_task(), make_task()
    page = body(admin_client, f"{LIST}?q={wanted.pk}")
    assert url_of(wanted) in page
    assert url_of(other) not in page


def test_the_sidebar_leads_to_tasks_people_and_groups(admin_client: Client) -> None:
    page = body(admin_client, "/admin/")
    for url in (LIST, "/admin/auth/user/", "/admin/auth/group/"):
        assert f'href="{url}"' in page
        assert admin_client.get(url).status_code == 200


def test_people_are_added_and_their_passwords_changed(admin_client: Client, admin_user: User) -> None:
    assert admin_client.get("/admin/auth/user/add/").status_code == 200
    assert admin_client.get(f"/admin/auth/user/{admin_user.pk}/change/").status_code == 200
    assert admin_client.get(f"/admin/auth/user/{admin_user.pk}/password/").status_code == 200


def test_dramatiqs_own_table_is_not_in_the_admin() -> None:
    assert {model._meta.label for model in admin.site._registry} >= {"tasks_app.Task", "auth.User", "auth.Group"}
    assert not {model for model in admin.site._registry if model._meta.app_label == "django_dramatiq"}


@pytest.mark.parametrize("page", ["", "tasks_app/task/"])
def test_pages_fetch_nothing_from_elsewhere(admin_client: Client, page: str) -> None:
    sources = re.findall(r'(?:src|href)="((?:https?:)?//[^"]+)"', body(admin_client, f"/admin/{page}"))
    assert sources == []


WITHOUT_TORCH = """
import sys
from django.conf import settings
settings.DATABASES["default"]["NAME"] = sys.argv[1]
import django
django.setup()
from django.contrib.auth.models import User
from django.test import Client
client = Client(headers={"host": "localhost"})
client.force_login(User.objects.get(username="admin"))
for url in sys.argv[2:]:
    assert client.get(url).status_code == 200, url
assert not {"torch", "diffusers", "transformers"} & set(sys.modules)
"""


@pytest.mark.django_db(transaction=True)
def test_the_admin_leaves_torch_out(admin_user: User, succeeded: MakeTask) -> None:
    task = succeeded()
    urls = ["/admin/", LIST, url_of(task), action_url(task, "retry")]
    name = connection.settings_dict["NAME"]
    command = [sys.executable, "-c", WITHOUT_TORCH, name, *urls]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ.copy(), check=False)
    assert done.returncode == 0, done.stderr
