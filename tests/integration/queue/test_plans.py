"""A large table: nothing that people or workers wait for reads all of it."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tasks_app.access import api_keys
from tasks_app.models import Status, Task
from tasks_app.queue import lifecycle, position
from tasks_app.worker import retention, sweeper
from tools.benchmarks import rows

MANY = 20_000
# What the admin's list counts ends here, however many rows there are.
BOUNDED = "LIMIT 10000) subquery"


@pytest.fixture
def large_table(db: None) -> None:
    """Fill the table as the benchmark does, 500 of its tasks queued, and let the planner know."""
    with connection.cursor() as cursor:
        cursor.execute(rows.FILL, [MANY])
        cursor.execute(f"ANALYZE {Task._meta.db_table}")


def plans(work: Callable[[], Any]) -> Iterator[str]:
    """Do it, then yield the plan of each statement on tasks that it took."""
    with CaptureQueriesContext(connection) as asked:
        work()
    statements = [query["sql"] for query in asked.captured_queries if Task._meta.db_table in query["sql"]]
    with connection.cursor() as cursor:
        for sql in statements:
            if BOUNDED not in sql:
                cursor.execute(f"EXPLAIN {sql}")
                yield "\n".join(line for (line,) in cursor.fetchall())


def works(client: Client, admin_client: Client, user: Any) -> dict[str, Callable[[], Any]]:
    """Return by name what must cost the same for any number of rows."""
    _, token = api_keys.create_api_key(user=user, name="k", scopes=api_keys.DEFAULT_SCOPES, max_queued=10)
    queued = list(Task.objects.filter(status=Status.QUEUED).values_list("pk", flat=True)[:50])

    def post(path: str, body: Any, **headers: str) -> None:
        assert client.post(path, body, content_type="application/json", headers=headers).status_code < 300, path

    def get(path: str, asking: Client = client) -> Callable[[], None]:
        def ask() -> None:
            assert asking.get(path).status_code == 200, path

        return ask

    listed = "/admin/tasks_app/task/"
    return {
        "POST": lambda: post("/task", rows.BODY),
        "POST with a capped key": lambda: post("/task", rows.BODY, Authorization=f"Bearer {token}"),
        "POST with a name": lambda: post("/task", rows.BODY, **{"Idempotency-Key": "one"}),
        "cancel": lambda: post(f"/task/{queued[0]}/cancel", {}),
        "the oldest": rows.get_oldest,
        "the last page": rows.get_last_page,
        "the list": get("/task"),
        "the list of a status": get("/task?status=failed"),
        "the list of a model": get("/task?model_id=other"),
        "A1111's progress": get("/sdapi/v1/progress"),
        "the page": get("/"),
        "the places of fifty": lambda: position.get_positions(queued),
        "the admin's list": get(listed, admin_client),
        "the admin's list of failures": get(f"{listed}?status__exact=failed", admin_client),
        "a task in the admin": get(f"{listed}{queued[1]}/change/", admin_client),
        "metrics": get("/metrics"),
        "claim": lambda: lifecycle.claim_batch(worker="w", lease_seconds=30),
        "claimable": lifecycle.find_claimable,
        "sweep": sweeper.sweep_tasks,
        "lost tickets": lambda: lifecycle.mark_woken(worker="w", after_seconds=5, limit=1),
        "retention": lambda: list(retention.purge_tasks()),
    }


def test_nothing_reads_the_whole_table(
    large_table: None, client: Client, admin_client: Client, admin_user: Any, settings: Any
) -> None:
    settings.RETENTION = {"failed": {"age_days": None, "count": 900}}
    scans = {
        name: plan
        for name, work in works(client, admin_client, admin_user).items()
        for plan in plans(work)
        if re.search(rf"Seq Scan on {Task._meta.db_table}\b", plan)
    }
    assert scans == {}


def test_a_scan_of_the_whole_table_is_seen(large_table: None) -> None:
    plan = "\n".join(plans(lambda: Task.objects.filter(seed=7).exists() or Task.objects.filter(lost_workers=5).count()))
    assert f"Seq Scan on {Task._meta.db_table}" in plan
