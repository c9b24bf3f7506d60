"""The admin's first page."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks_app.engine.types import EngineState, WarmModel
from tasks_app.models import Task, Worker
from tasks_app.queue import workers
from tests.integration.admin.pages import LIST, MakeTask, body, url_of

ADMIN = "/admin/"


@pytest.fixture
def worker(db: None) -> Callable[..., str]:
    """Return a factory of workers that live, unless their silence says otherwise."""

    def make(name: str, *, warm: str = "", silent_seconds: float = 0) -> str:
        models = (WarmModel(model_id=warm, revision="local"),) if warm else ()
        engine = EngineState(device="cpu", device_name="CPU", memory_used=1, memory_total=2, warm=models)
        workers.record_heartbeat(name, host="host", pid=1, version="0", engine=engine)
        seen = timezone.now() - timezone.timedelta(seconds=silent_seconds)  # type: ignore[attr-defined]
        Worker.objects.filter(name=name).update(seen_at=seen)
        return name

    return make


def series(page: str) -> dict[str, Any]:
    found = re.search(r'<script id="series" type="application/json">(.*?)</script>', page)
    assert found is not None
    values: dict[str, Any] = json.loads(found.group(1))
    return values


def row_of(page: str, name: str) -> str:
    """Return the first row that is about a worker or a model."""
    rows: list[str] = re.findall(r"<tr>.*?</tr>", page, re.DOTALL)
    return next(row for row in rows if f'title="{name}"' in row)


def test_the_dashboard_shows_queue_outcomes_failures_and_pictures(
    admin_client: Client, one_of_each: Callable[[], dict[str, Task]]
) -> None:
    tasks = one_of_each()
    page = body(admin_client, ADMIN)
    tiles = dict(re.findall(r"<span>(\w+)</span>\s*<strong>([^<]*)</strong>", page))
    assert (tiles["Queued"], tiles["Running"], tiles["Succeeded"], tiles["Failed"]) == ("1", "1", "1", "1")
    assert f"{LIST}?status__exact=failed&amp;error_code=internal" in page
    assert url_of(tasks["succeeded"]) in page
    values = series(page)
    assert {name: sum(values[name]) for name in ("succeeded", "failed", "canceled")} == {
        "succeeded": 1,
        "failed": 1,
        "canceled": 1,
    }


@pytest.mark.parametrize(("window", "pieces"), [("1h", 60), ("24h", 48), ("7d", 56), ("", 48), ("x", 48)])
def test_the_window_of_the_charts_is_chosen_by_address(
    admin_client: Client, db: None, window: str, pieces: int
) -> None:
    assert len(series(body(admin_client, f"{ADMIN}?window={window}"))["labels"]) == pieces


def test_workers_are_shown_with_what_they_do_now(
    admin_client: Client, worker: Callable[..., str], claimed: MakeTask
) -> None:
    task = claimed(params={"prompt": "a lighthouse"})
    worker(task.worker), worker("idler", warm="demo")
    page = body(admin_client, ADMIN)
    assert "a lighthouse" in row_of(page, task.worker)
    assert "busy" in row_of(page, task.worker)
    assert "idle" in row_of(page, "idler")
    assert 'title="idler"' in row_of(page, "demo")


def test_a_worker_that_fell_silent_is_dead_and_does_nothing(
    admin_client: Client, worker: Callable[..., str], claimed: MakeTask
) -> None:
    task = claimed(params={"prompt": "a lighthouse"})
    worker(task.worker, warm="demo", silent_seconds=31)
    row = row_of(body(admin_client, ADMIN), task.worker)
    assert "dead" in row
    assert "a lighthouse" not in row
    assert "cold" in row_of(body(admin_client, ADMIN), "demo")


def test_the_number_of_queries_does_not_grow_with_what_there_is(
    admin_client: Client, worker: Callable[..., str], succeeded: MakeTask, claimed: MakeTask
) -> None:
    counts = []
    for more in (1, 9):
        for _ in range(more):
            succeeded()
            worker(f"w{Worker.objects.count()}", warm="demo")
            claimed()
        with CaptureQueriesContext(connection) as queries:
            body(admin_client, ADMIN)
        counts.append(len(queries))
    assert counts[0] == counts[1] < 20


def test_whoever_may_not_see_tasks_sees_none_of_it(staff: Callable[..., Client], succeeded: MakeTask) -> None:
    task = succeeded()
    page = body(staff(), ADMIN)
    assert 'id="series"' not in page
    assert url_of(task) not in page
    assert url_of(task) in body(staff("view_task"), ADMIN)
