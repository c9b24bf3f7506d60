"""The admin: everything to be seen, nothing changed but by a confirmed POST, and nobody acts without permission."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from html import unescape

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tasks_app import lifecycle, progress
from tasks_app.contracts import Claim, StoredImage
from tasks_app.models import Status, Task

MakeTask = Callable[..., Task]
LIST = "/admin/tasks_app/task/"
DEEDS = ["cancel", "retry"]


def claim_of(task: Task) -> Claim:
    return Claim(task_id=task.pk, attempt=task.attempt)


def url_of(task: Task) -> str:
    return f"{LIST}{task.pk}/change/"


def deed_url(task: Task, deed: str) -> str:
    return f"{LIST}{task.pk}/{deed}/"


def body(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


def messages(client: Client, url: str, data: dict[str, object]) -> list[str]:
    response = client.post(url, data, follow=True)
    assert response.status_code == 200
    return [str(message) for message in response.context["messages"]]


def states() -> dict[str, str]:
    return {str(task.pk): task.status for task in Task.objects.all()}


@pytest.fixture
def succeeded(claimed: MakeTask) -> MakeTask:
    """Return a factory of tasks with pictures."""

    def make(*, images: int = 1, side: int = 32, **fields: object) -> Task:
        task = claimed(**fields)
        stored = [
            StoredImage(
                index=index,
                name=f"tasks/x/1-{index}.png",
                content_type="image/png",
                seed=7 + index,
                width=side,
                height=side,
                sha256="ab" * 32,
                flagged=False,
            )
            for index in range(images)
        ]
        timings = {"denoising": 1.5, "loading": 0.5}
        size = {"width": side, "height": side}
        assert lifecycle.succeed(claim_of(task), stored, revision="r1", timings=timings, size=size)
        task.refresh_from_db()
        return task

    return make


@pytest.fixture
def failed(claimed: MakeTask) -> MakeTask:
    """Return a factory of tasks that failed."""

    def make(*, message: str = "It broke.", traceback: str = "Traceback …", **fields: object) -> Task:
        task = claimed(**fields)
        assert lifecycle.fail(claim_of(task), code="internal", message=message, traceback=traceback)
        task.refresh_from_db()
        return task

    return make


@pytest.fixture
def one_of_each(
    make_task: MakeTask, claimed: MakeTask, succeeded: MakeTask, failed: MakeTask
) -> Callable[[], dict[str, Task]]:
    """Return a factory of one task of each status."""

    def make() -> dict[str, Task]:
        tasks = {"succeeded": succeeded(), "failed": failed(), "running": claimed()}
        tasks["canceled"], tasks["queued"] = make_task(), make_task()
        lifecycle.cancel(tasks["canceled"].pk)
        return tasks

    return make


@pytest.fixture
def staff(db: None) -> Callable[..., Client]:
    """Return a factory of clients whose user has these permissions alone."""

    def login(*permissions: str) -> Client:
        user = User.objects.create_user("-".join(permissions) or "nobody", password="pw", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client()
        client.force_login(user)
        return client

    return login


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
    span = re.search(r'<span class="task-prompt" title="([^"]*)">([^<]*)</span>', page)
    assert span is not None
    assert unescape(span.group(1)) == prompt
    assert len(unescape(span.group(2))) <= 90


def test_a_running_task_is_as_far_as_redis_knows(admin_client: Client, claimed: MakeTask) -> None:
    task = claimed(params={"steps": 30})
    live = {"attempt": 1, "phase": "denoising", "step": 12, "total_steps": 30, "eta_seconds": 9.0}
    progress.publish(task.pk, "progress", live)
    for url in (LIST, url_of(task)):
        page = body(admin_client, url)
        assert "12/30" in page
        assert "denoising" in page
    assert "about 9.0 s left" in body(admin_client, url_of(task))


def test_progress_of_an_earlier_attempt_is_not_shown(admin_client: Client, claimed: MakeTask) -> None:
    task = claimed(params={"steps": 30})
    live = {"attempt": 0, "phase": "denoising", "step": 12, "total_steps": 30, "eta_seconds": 9.0}
    progress.publish(task.pk, "progress", live)
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
        ("q=demo", {"fox", "owl"}),
        ("q=%25", set()),
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


def test_the_list_keeps_up_to_date_what_has_not_ended(
    admin_client: Client, one_of_each: Callable[[], dict[str, Task]]
) -> None:
    tasks = one_of_each()
    found = re.search(r'hx-select-oob="([^"]+)"', body(admin_client, LIST))
    assert found is not None
    for status, task in tasks.items():
        assert (f"#progress-{task.pk}" in found.group(1)) is (status in {"queued", "running"})


def test_search_takes_an_id_for_what_it_is(admin_client: Client, make_task: MakeTask) -> None:
    wanted, other = make_task(), make_task()
    page = body(admin_client, f"{LIST}?q={wanted.pk}")
    assert url_of(wanted) in page
    assert url_of(other) not in page


def test_the_page_of_a_task_shows_every_picture_in_full(admin_client: Client, succeeded: MakeTask) -> None:
    task = succeeded(images=3)
    page = body(admin_client, url_of(task))
    for index in range(3):
        assert f'<img src="{reverse("task-image", args=[task.pk, index])}"' in page
        assert f"seed {7 + index}" in page


@pytest.mark.parametrize(("side", "pixelated"), [(32, True), (128, True), (136, False)])
def test_only_small_pictures_are_enlarged_with_square_pixels(
    admin_client: Client, succeeded: MakeTask, side: int, pixelated: bool
) -> None:
    page = body(admin_client, url_of(succeeded(side=side)))
    assert ('class="task-pixelated" style="width: 384px"' in page) is pixelated


def test_the_page_of_a_task_shows_parameters_and_timings(admin_client: Client, succeeded: MakeTask) -> None:
    task = succeeded(params={"negative_prompt": "fog <i>", "guidance_scale": 3.25}, seed=4_000_000_000)
    page = body(admin_client, url_of(task))
    for text in ("fog &lt;i&gt;", "3.25", "4000000000", "r1", "1.50 s", "0.50 s"):
        assert text in page
    assert page.index(">Loading<") < page.index(">Denoising<")


def test_the_error_and_its_traceback_are_shown_escaped(admin_client: Client, failed: MakeTask) -> None:
    task = failed(message="<script>alert(1)</script>", traceback="File <module>\n  & more")
    page = body(admin_client, url_of(task))
    assert "internal" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert(1)" not in page
    assert re.search(r"<pre[^>]*>File &lt;module&gt;\n  &amp; more</pre>", page)


def test_a_retry_and_its_origin_link_to_each_other(admin_client: Client, make_task: MakeTask, failed: MakeTask) -> None:
    origin = failed()
    retry = make_task(retried_from=origin)
    assert url_of(retry) in body(admin_client, url_of(origin))
    assert url_of(origin) in body(admin_client, url_of(retry))


def test_every_status_has_its_page_and_offers_what_fits(
    admin_client: Client, one_of_each: Callable[[], dict[str, Task]]
) -> None:
    for status, task in one_of_each().items():
        page = body(admin_client, url_of(task))
        offered = {deed for deed in DEEDS if deed_url(task, deed) in page}
        assert offered == ({"cancel"} if status in {"queued", "running"} else {"retry"})


def test_only_a_page_whose_task_has_not_ended_fetches_itself_anew(
    admin_client: Client, one_of_each: Callable[[], dict[str, Task]]
) -> None:
    for status, task in one_of_each().items():
        page = body(admin_client, url_of(task))
        assert ("hx-get" in page.split('id="task-page"')[1].split(">")[0]) is (status in {"queued", "running"})


def test_tasks_can_be_neither_added_nor_changed_nor_deleted(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task()
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.get(f"{LIST}{task.pk}/delete/").status_code == 403
    assert admin_client.post(f"{LIST}{task.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.post(url_of(task), {"status": "succeeded", "_save": "1"}).status_code == 403
    assert "delete_selected" not in body(admin_client, LIST)
    assert states() == {str(task.pk): Status.QUEUED}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_get_asks_and_changes_nothing(
    admin_client: Client, one_of_each: Callable[[], dict[str, Task]], deed: str
) -> None:
    tasks = one_of_each()
    before = states()
    for task in tasks.values():
        page = body(admin_client, deed_url(task, deed))
        assert 'method="post"' in page
        assert "csrfmiddlewaretoken" in page
    assert admin_client.get(f"{LIST}{deed}/").status_code == 405
    assert admin_client.get(f"{LIST}?action={deed}_chosen&_selected_action={task.pk}").status_code in {200, 302}
    assert states() == before
    assert not Task.objects.filter(cancel_requested_at__isnull=False)
    assert not LogEntry.objects.exists()


def test_the_confirmation_says_which_tasks_stay_as_they_are(
    admin_client: Client, one_of_each: Callable[[], dict[str, Task]]
) -> None:
    tasks = one_of_each()
    assert "Cancel 1 task?" in body(admin_client, deed_url(tasks["queued"], "cancel"))
    page = body(admin_client, deed_url(tasks["failed"], "cancel"))
    assert "has already ended" in page
    assert "Yes, cancel" not in page


@pytest.mark.parametrize("deed", DEEDS)
def test_choosing_tasks_in_the_list_only_asks(
    admin_client: Client, one_of_each: Callable[[], dict[str, Task]], deed: str
) -> None:
    tasks = one_of_each()
    before = states()
    chosen = [str(task.pk) for task in tasks.values()]
    data = {"action": f"{deed}_chosen", "_selected_action": chosen, "index": "0"}
    response = admin_client.post(f"{LIST}?status__exact=queued", data)
    page = response.content.decode()
    assert response.status_code == 200
    assert f'action="{LIST}{deed}/?_changelist_filters=status__exact%3Dqueued"' in page
    assert states() == before
    assert not Task.objects.filter(cancel_requested_at__isnull=False)


def test_a_confirmed_cancel_cancels_a_queued_task(admin_client: Client, admin_user: User, make_task: MakeTask) -> None:
    task = make_task()
    assert messages(admin_client, deed_url(task, "cancel"), {}) == ["1 canceled."]
    assert states() == {str(task.pk): Status.CANCELED}
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id, entry.change_message) == (admin_user, str(task.pk), "Canceled.")


def test_a_confirmed_cancel_asks_the_worker_of_a_running_task(admin_client: Client, claimed: MakeTask) -> None:
    task = claimed()
    assert messages(admin_client, deed_url(task, "cancel"), {}) == ["1 asked to stop at the next step."]
    task.refresh_from_db()
    assert task.status == Status.RUNNING
    assert task.cancel_requested_at is not None
    assert LogEntry.objects.get().change_message == "Asked to stop."


def test_a_confirmed_retry_queues_the_same_request_again(
    admin_client: Client, admin_user: User, failed: MakeTask
) -> None:
    task = failed()
    response = admin_client.post(deed_url(task, "retry"))
    new = Task.objects.get(retried_from=task)
    assert response.headers["Location"] == url_of(new)
    assert (new.status, new.params, new.seed) == (Status.QUEUED, task.params, task.seed)
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (admin_user, str(task.pk))
    assert str(new.pk) in entry.change_message


def test_a_task_that_has_not_ended_is_not_retried(admin_client: Client, claimed: MakeTask) -> None:
    task = claimed()
    said = messages(admin_client, deed_url(task, "retry"), {})
    assert said == ["1 not queued again, because it has not ended."]
    assert Task.objects.count() == 1
    assert not LogEntry.objects.exists()


def test_canceling_many_counts_what_moved_and_what_did_not(
    admin_client: Client, make_task: MakeTask, claimed: MakeTask, failed: MakeTask
) -> None:
    tasks = [failed(), claimed(), make_task(), make_task()]
    data = {"task": [str(task.pk) for task in tasks]}
    said = messages(admin_client, f"{LIST}cancel/", data)[0]
    assert set(said.rstrip(".").split(", ")) == {
        "2 canceled",
        "1 asked to stop at the next step",
        "1 had already ended",
    }
    assert LogEntry.objects.count() == 3


def test_retrying_many_queues_one_new_task_for_each_that_ended(
    admin_client: Client, one_of_each: Callable[[], dict[str, Task]]
) -> None:
    tasks = one_of_each()
    data = {"task": [str(task.pk) for task in tasks.values()]}
    said = messages(admin_client, f"{LIST}retry/", data)[0]
    assert "3 queued again as a new task" in said
    assert "2 not queued again, because it has not ended" in said
    retried = Task.objects.filter(retried_from__isnull=False).values_list("retried_from_id", flat=True)
    assert set(retried) == {tasks[status].pk for status in ("succeeded", "failed", "canceled")}


def test_retried_tasks_queue_in_the_order_in_which_they_came(admin_client: Client, failed: MakeTask) -> None:
    now = timezone.now()
    tasks = [failed(created_at=now - timedelta(hours=hours)) for hours in (2, 3, 1)]
    admin_client.post(f"{LIST}retry/", {"task": [str(task.pk) for task in tasks]})
    retries = Task.objects.filter(status=Status.QUEUED).order_by("retried_from__created_at")
    queued = [entry.change_message for entry in LogEntry.objects.order_by("pk")]
    assert queued == [f"Queued again as {task.pk}." for task in retries]


def test_after_many_the_list_comes_back_with_its_filters(admin_client: Client, make_task: MakeTask) -> None:
    url = f"{LIST}cancel/?_changelist_filters=status__exact%3Dqueued"
    response = admin_client.post(url, {"task": [str(make_task().pk)]})
    assert response.headers["Location"] == f"{LIST}?status__exact=queued"


def test_too_many_tasks_at_a_time_are_refused_in_words(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task()
    Task.objects.bulk_create(
        Task(
            task_type=task.task_type,
            provider=task.provider,
            requested_model_id="demo",
            model_id="demo",
            params=task.params,
            seed=1,
            total_steps=4,
        )
        for _ in range(500)
    )
    data = {"action": "cancel_chosen", "_selected_action": [str(task.pk)], "select_across": "1", "index": "0"}
    assert messages(admin_client, LIST, data) == ["Choose at most 500 tasks at a time."]


@pytest.mark.parametrize("ids", [["x"], ["1' OR '1'='1"]])
def test_ids_that_are_none_are_a_bad_request(admin_client: Client, ids: list[str]) -> None:
    assert admin_client.post(f"{LIST}cancel/", {"task": ids}).status_code == 400


def test_a_post_without_a_csrf_token_is_refused(admin_user: User, make_task: MakeTask) -> None:
    task = make_task()
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    assert client.post(deed_url(task, "cancel")).status_code == 403
    assert states() == {str(task.pk): Status.QUEUED}


def test_whoever_may_only_look_cannot_act(staff: Callable[..., Client], make_task: MakeTask, failed: MakeTask) -> None:
    ended, queued = failed(), make_task()
    client = staff("view_task")
    assert "cancel_chosen" not in body(client, LIST)
    for task, deed in ((queued, "cancel"), (ended, "retry")):
        assert deed_url(task, deed) not in body(client, url_of(task))
        assert client.get(deed_url(task, deed)).status_code == 403
        assert client.post(deed_url(task, deed)).status_code == 403
        assert client.post(f"{LIST}{deed}/", {"task": [str(task.pk)]}).status_code == 403
        data = {"action": f"{deed}_chosen", "_selected_action": [str(task.pk)], "index": "0"}
        assert 'name="task"' not in client.post(LIST, data, follow=True).content.decode()
    assert states() == {str(ended.pk): Status.FAILED, str(queued.pk): Status.QUEUED}


def test_whoever_may_change_tasks_sees_and_acts(staff: Callable[..., Client], make_task: MakeTask) -> None:
    task = make_task()
    client = staff("change_task")
    assert deed_url(task, "cancel") in body(client, url_of(task))
    assert client.post(deed_url(task, "cancel")).status_code == 302
    assert states() == {str(task.pk): Status.CANCELED}


def test_without_any_permission_nothing_is_seen(staff: Callable[..., Client], make_task: MakeTask) -> None:
    client, task = staff(), make_task()
    assert client.get(LIST).status_code == 403
    assert client.get(url_of(task)).status_code == 403
    assert LIST not in body(client, "/admin/")


def test_the_sidebar_leads_to_tasks_people_and_groups(admin_client: Client) -> None:
    page = body(admin_client, "/admin/")
    for url in (LIST, "/admin/auth/user/", "/admin/auth/group/"):
        assert f'href="{url}"' in page
        assert admin_client.get(url).status_code == 200


def test_people_are_added_and_their_passwords_changed(admin_client: Client, admin_user: User) -> None:
    assert admin_client.get("/admin/auth/user/add/").status_code == 200
    assert admin_client.get(f"/admin/auth/user/{admin_user.pk}/change/").status_code == 200
    assert admin_client.get(f"/admin/auth/user/{admin_user.pk}/password/").status_code == 200


def test_the_history_says_who_did_what(admin_client: Client, make_task: MakeTask) -> None:
    task = make_task()
    admin_client.post(deed_url(task, "cancel"))
    page = body(admin_client, f"{LIST}{task.pk}/history/")
    assert "Canceled." in page
    assert "admin" in page


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
    urls = ["/admin/", LIST, url_of(task), deed_url(task, "retry")]
    name = connection.settings_dict["NAME"]
    command = [sys.executable, "-c", WITHOUT_TORCH, name, *urls]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ.copy(), check=False)
    assert done.returncode == 0, done.stderr
