"""Retention: what goes, what stays, and what happens when a file can't be removed."""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings as configured
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from PIL import Image

from tasks_app import services
from tasks_app.contracts import Claim
from tasks_app.engine.types import GeneratedImage
from tasks_app.models import Status, Task, TaskImage, WebhookDelivery
from tasks_app.queue import lifecycle
from tasks_app.worker import retention, sweeper
from tests.support.acting import store_images
from tests.support.claims import succeed_one

MakeTask = Callable[..., Task]
EndTask = Callable[..., Task]
SUCCEEDED, FAILED, CANCELED = Status.SUCCEEDED, Status.FAILED, Status.CANCELED


@pytest.fixture
def end_task(claimed: MakeTask) -> EndTask:
    """Return a factory of tasks that ended so many days ago; those that succeeded have two pictures."""

    def make(status: Status, *, days: float = 0) -> Task:
        task = claimed()
        claim = Claim(task_id=task.pk, attempt=task.attempt)
        if status == SUCCEEDED:
            drawn = [GeneratedImage(seed=seed, image=Image.new("RGB", (8, 8))) for seed in (1, 2)]
            assert succeed_one(claim, store_images(claim, drawn))
        elif status == FAILED:
            assert lifecycle.mark_failed(claim, code="internal", message="")
        else:
            services.cancel_task(task.pk)
            assert lifecycle.confirm_cancel(claim)
        Task.objects.filter(pk=task.pk).update(finished_at=Now() - timedelta(days=days))
        return task

    return make


@pytest.fixture
def keep(settings: Any) -> Callable[..., None]:
    """Return a function that sets the rules of one status and lets all others keep everything."""

    def rule(status: Status, *, age_days: float | None = None, count: int | None = None) -> None:
        nothing = {"age_days": None, "count": None}
        rules = {"age_days": age_days, "count": count}
        settings.RETENTION = {SUCCEEDED: nothing, FAILED: nothing, CANCELED: nothing, status: rules}

    return rule


def purged() -> list[UUID]:
    return [task_id for task_id, _ in retention.purge_tasks()]


def files(task: Task) -> list[str]:
    return [str(image.file.name) for image in TaskImage.objects.filter(task=task)]


def test_by_default_everything_is_kept(end_task: EndTask) -> None:
    for status in (SUCCEEDED, FAILED, CANCELED):
        end_task(status, days=4000)
    assert purged() == []


def test_old_pictures_are_purged_and_their_task_stays(end_task: EndTask, keep: Callable[..., None]) -> None:
    old, young = end_task(SUCCEEDED, days=8), end_task(SUCCEEDED, days=6)
    names = files(old)
    keep(SUCCEEDED, age_days=7)
    assert purged() == [old.pk]
    assert not any(default_storage.exists(name) for name in names)
    assert all(image.purged_at for image in TaskImage.objects.filter(task=old))
    assert all(default_storage.exists(name) for name in files(young))
    assert Task.objects.get(pk=old.pk).status == SUCCEEDED
    assert purged() == []


def test_the_newest_are_kept_by_count(end_task: EndTask, keep: Callable[..., None]) -> None:
    tasks = [end_task(SUCCEEDED, days=days) for days in (3, 1, 4, 2)]
    keep(SUCCEEDED, count=2)
    assert purged() == [tasks[2].pk, tasks[0].pk]
    keep(SUCCEEDED, count=0)
    assert purged() == [tasks[3].pk, tasks[1].pk]


@pytest.mark.parametrize(("age_days", "count"), [(2.5, 3), (9, 2)])
def test_of_two_rules_the_one_that_keeps_less_holds(
    end_task: EndTask, keep: Callable[..., None], age_days: float, count: int
) -> None:
    tasks = [end_task(SUCCEEDED, days=days) for days in (1, 2, 3, 4)]
    keep(SUCCEEDED, age_days=age_days, count=count)
    assert purged() == [tasks[3].pk, tasks[2].pk]


@pytest.mark.parametrize("status", [FAILED, CANCELED])
def test_of_the_others_the_rows_go(status: Status, end_task: EndTask, keep: Callable[..., None]) -> None:
    old, young = end_task(status, days=3), end_task(status)
    other, succeeded = end_task(CANCELED if status == FAILED else FAILED, days=9), end_task(SUCCEEDED, days=9)
    retry = Task.objects.filter(pk=young.pk)
    retry.update(retried_from=old)
    keep(status, age_days=2)
    assert purged() == [old.pk]
    assert set(Task.objects.values_list("pk", flat=True)) == {young.pk, other.pk, succeeded.pk}
    assert retry.get().retried_from is None


def test_a_task_that_a_webhook_is_still_to_tell_of_stays(end_task: EndTask, keep: Callable[..., None]) -> None:
    due, pending, told = (end_task(FAILED, days=3) for _ in range(3))
    Task.objects.filter(pk=due.pk).update(
        webhook_due=True, webhook_url="https://example.com", webhook_events=["failed"]
    )
    for task, state in ((pending, "pending"), (told, "delivered")):
        WebhookDelivery.objects.create(task=task, event="failed", url="https://example.com", state=state)
    keep(FAILED, age_days=1)
    assert purged() == [told.pk]


def test_what_has_not_ended_is_never_due(make_task: MakeTask, claimed: MakeTask, keep: Callable[..., None]) -> None:
    running = claimed()
    make_task()
    Task.objects.update(created_at=Now() - timedelta(days=900))
    for status in (SUCCEEDED, FAILED, CANCELED):
        keep(status, age_days=0, count=0)
        assert purged() == []
    assert Task.objects.get(pk=running.pk).status == Status.RUNNING


def test_a_file_that_can_t_be_removed_is_tried_again_and_holds_up_no_other(
    end_task: EndTask, keep: Callable[..., None]
) -> None:
    stuck, other = end_task(SUCCEEDED, days=9), end_task(SUCCEEDED, days=8)
    file = Path(default_storage.path(files(stuck)[0]))
    content = file.read_bytes()
    file.unlink()
    (file / "in the way").mkdir(parents=True)
    keep(SUCCEEDED, age_days=1)
    assert purged() == [other.pk]
    assert not TaskImage.objects.filter(task=stuck, purged_at__isnull=False).exists()
    (file / "in the way").rmdir()
    file.rmdir()
    file.write_bytes(content)
    assert purged() == [stuck.pk]


def test_more_than_a_batch_goes_in_one_pass(claimed: MakeTask, keep: Callable[..., None]) -> None:
    many = retention.BATCH_SIZE + 5
    rows = {"status": FAILED, "error_code": "internal", "finished_at": Now(), "task_type": "x", "provider": "fake"}
    Task.objects.bulk_create(Task(**rows, model_id="demo", params={}, seed=1) for _ in range(many))
    keep(FAILED, count=1)
    assert len(purged()) == many - 1


@pytest.mark.parametrize("many", [2, 50])
def test_rows_go_a_batch_at_a_time(
    many: int, make_task: MakeTask, keep: Callable[..., None], django_assert_num_queries: Any
) -> None:
    for _ in range(many):
        make_task(status=FAILED, error_code="internal", finished_at=Now())
    keep(FAILED, count=0)
    # The lock; the last that goes, the batch, what webhooks wait for; what hangs on it and the rows; no more; uploads;
    # the lock.
    with django_assert_num_queries(19):
        assert len(purged()) == many


@pytest.mark.django_db(transaction=True)
def test_of_several_one_purges_and_leases_expire_meanwhile(
    end_task: EndTask, claimed: MakeTask, keep: Callable[..., None]
) -> None:
    end_task(FAILED, days=9)
    keep(FAILED, age_days=1)
    holding, release = threading.Event(), threading.Event()

    def another() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [retention.ADVISORY_LOCK_ID])
            holding.set()
            release.wait(30)
            cursor.execute("SELECT pg_advisory_unlock(%s)", [retention.ADVISORY_LOCK_ID])
        connection.close()

    thread = threading.Thread(target=another)
    thread.start()
    holding.wait(30)
    running = claimed()
    Task.objects.filter(pk=running.pk).update(lease_until=Now() - timedelta(seconds=1))
    assert purged() == []
    assert sweeper.sweep_tasks() == [(running.pk, Status.QUEUED)]
    release.set()
    thread.join()
    assert len(purged()) == 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        assert cursor.fetchone() == (0,)


@pytest.mark.django_db(transaction=True)
def test_a_workers_thread_purges_by_itself(end_task: EndTask, keep: Callable[..., None]) -> None:
    task = end_task(SUCCEEDED, days=9)
    keep(SUCCEEDED, age_days=1)
    stop = threading.Event()
    thread = threading.Thread(target=retention.run_forever, args=[stop])
    thread.start()
    while not TaskImage.objects.filter(task=task, purged_at__isnull=False).exists():
        assert thread.is_alive()
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def test_the_command_tells_what_it_purged(
    end_task: EndTask, keep: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    task = end_task(SUCCEEDED, days=9)
    keep(SUCCEEDED, age_days=1)
    call_command("sweep")
    assert capsys.readouterr().out == f"0 moved.\n{task.pk} succeeded, purged\n1 purged.\n"


def test_a_purged_picture_is_gone_for_the_api_and_quiet_everywhere(
    end_task: EndTask, keep: Callable[..., None], client: Client, admin_client: Client
) -> None:
    task = end_task(SUCCEEDED, days=9)
    tag = f'"{TaskImage.objects.filter(task=task)[0].sha256}"'
    keep(SUCCEEDED, age_days=1)
    purged()
    shown = client.get(f"/task/{task.pk}").json()["images"][0]
    assert shown["purged"] is True
    for url in (shown["url"], shown["thumbnail_url"]):
        for headers in ({}, {"if-none-match": tag}):
            answer = client.get(url, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (410, "gone")
    page = client.get("/").content.decode()
    assert str(task.pk) in page
    assert 'class="purged"' in page
    assert f"/task/{task.pk}/images/0/thumbnail" not in page
    for path in ("/admin/", "/admin/tasks_app/task/", f"/admin/tasks_app/task/{task.pk}/change/"):
        answer = admin_client.get(path)
        assert (answer.status_code, f"/task/{task.pk}/images" in answer.content.decode()) == (200, False)
    assert services.delete_task(Task.objects.get(pk=task.pk))


def plan(sql: str, parameters: list[Any]) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}", parameters)
        return "\n".join(line for (line,) in cursor.fetchall())


# As after months: one in two hundred failed, of the others the pictures of all but the newest are purged.
FILLED = {
    "id": "gen_random_uuid()",
    "status": "CASE WHEN number % 200 = 0 THEN 'failed' ELSE 'succeeded' END",
    "error_code": "CASE WHEN number % 200 = 0 THEN 'internal' ELSE '' END",
    "finished_at": "now() - make_interval(mins => number)",
    "purged_at": "CASE WHEN number % 200 > 0 AND number > 100 THEN now() END",
}


def fill(task: Task, many: int) -> None:
    """Copy a task so many times, with other outcomes."""
    columns = [field.column for field in Task._meta.local_concrete_fields if field.column]
    values = ", ".join(FILLED.get(column, column) for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO tasks_app_task ({', '.join(columns)}) SELECT {values} "
            f"FROM tasks_app_task, generate_series(1, {many}) AS number WHERE id = '{task.pk}'"
        )
        cursor.execute("ANALYZE tasks_app_task")


def test_both_rules_find_what_is_due_by_an_index(make_task: MakeTask, keep: Callable[..., None]) -> None:
    fill(make_task(), 20_000)
    for status in (SUCCEEDED, FAILED):
        keep(status, count=90, age_days=5)
        last = retention._find_cutoff(status)
        assert last is not None
        for sql, parameters in (
            (retention.COUNT_CUTOFF, [status, 90]),
            (retention.SELECT_DUE, [status, *retention.CURSOR_START, *last]),
        ):
            told = plan(sql, parameters)
            assert "task_kept" in told, told
            assert "Seq Scan" not in told
            assert "Sort" not in told


def test_the_settings_name_every_status_that_ends(db: None) -> None:
    assert set(configured.RETENTION) == {SUCCEEDED, FAILED, CANCELED}
