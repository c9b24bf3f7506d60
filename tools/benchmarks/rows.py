"""A table of many tasks against a small one: cost of requests, claims, sweeps and retention, as ratios.

    uv run python -m tools.benchmarks.rows [--short] [--small 10000] [--large 1000000] [--runs 7]

Two databases on one embedded PostgreSQL hold the same kinds of tasks; the operations alternate between both.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from project.embedded import servers as embedded_servers

if TYPE_CHECKING:
    from django.test import Client

FILL = """
INSERT INTO tasks_app_task (
    id, task_type, provider, requested_model_id, model_id, revision, params, seed, priority, status, phase, step,
    total_steps, attempt, lost_workers, max_lost_workers, worker, error_code, error_message, error_traceback,
    created_at, updated_at, started_at, finished_at, timings, webhook_url, webhook_events, webhook_due,
    batch_key, explicit_params, provenance)
SELECT gen_random_uuid(), 'text-to-image', 'diffusers', 'demo', CASE WHEN n %% 7 = 0 THEN 'other' ELSE 'demo' END, '',
    jsonb_build_object('prompt', 'a ' || (ARRAY['red','blue','green','old','tiny'])[1 + n %% 5] || ' '
        || (ARRAY['house','beach','forest','city','flower','fox'])[1 + n %% 6] || ' n' || n || 'x',
        'negative_prompt', '', 'steps', 25, 'guidance_scale', 4.0, 'width', null, 'height', null, 'num_images', 1),
    n, 0, state, '', CASE state WHEN 'succeeded' THEN 25 ELSE 0 END, 25, 1, 0, 3, 'gpu-' || n %% 8,
    CASE state WHEN 'failed' THEN (ARRAY['internal','timed_out','out_of_memory'])[1 + n %% 3]
               WHEN 'canceled' THEN 'canceled' ELSE '' END, '', '',
    made, made, made + interval '1 second',
    CASE state WHEN 'queued' THEN NULL ELSE made + interval '3 seconds' END, '{}', '', '{}', false, '', '{}', '{}'
FROM (
    SELECT n, now() - n * interval '1 second' AS made,
        CASE WHEN n <= 500 THEN 'queued' WHEN n %% 20 = 0 THEN 'failed' WHEN n %% 33 = 0 THEN 'canceled'
             ELSE 'succeeded' END AS state
    FROM generate_series(1, %s) AS n
) AS rows
"""
SIDES = ("small", "large")
SIZES = {"small": 10_000, "large": 1_000_000}
SHORT = {"small": 10_000, "large": 50_000}
MOST = 1.5
# Its cost depends on the hours that it shows, in which the large table has more tasks.
UNBOUNDED = ("dashboard, 24h",)
BODY = {"task_type": "text-to-image", "params": {"model_id": "demo", "prompt": "a red house"}}
Operations = dict[str, Callable[[], Any]]


def use(name: str) -> None:
    """Connect Django to the other database."""
    from django.db import connection

    connection.close()
    connection.settings_dict["NAME"] = name


def prepare(sizes: dict[str, int]) -> None:
    """Create both databases, each with its number of tasks and an admin user."""
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connection

    for name in SIDES:
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}"')
    for name in SIDES:
        use(name)
        call_command("migrate", verbosity=0)
        User.objects.create_superuser("admin", password="only here")
        began = time.perf_counter()
        with connection.cursor() as cursor:
            cursor.execute(FILL, [sizes[name]])
            cursor.execute("VACUUM ANALYZE tasks_app_task")
        print(f"{name}: {sizes[name]:,} tasks in {time.perf_counter() - began:.0f} s", flush=True)


def operations() -> Operations:
    """Return the operations to measure; each may run on either side."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.db import transaction
    from django.test import Client

    from tasks_app.models import Task
    from tasks_app.queue import lifecycle
    from tasks_app.worker import sweeper

    settings.ALLOWED_HOSTS = ["testserver"]
    settings.RETENTION = {"failed": {"age_days": None, "count": 100}}
    listed = "/admin/tasks_app/task/"
    clients: dict[str, Client] = {}

    def get(path: str) -> Callable[[], Any]:
        def ask() -> None:
            from django.db import connection

            side = str(connection.settings_dict["NAME"])
            if side not in clients:
                clients[side] = Client()
                clients[side].force_login(User.objects.get())
            assert clients[side].get(path).status_code == 200, path

        return ask

    def undone(work: Callable[[], Any]) -> Callable[[], Any]:
        def do() -> None:
            with transaction.atomic():
                work()
                transaction.set_rollback(True)

        return do

    return {
        "POST /task": undone(lambda: post("/task", BODY, 201)),
        "POST /task/{id}/cancel": undone(cancel),
        "GET /task/{id}, the oldest": get_oldest,
        "GET /task, the last page": get_last_page,
        "retention, 100 tasks": undone(purge),
        "admin list": get(listed),
        "admin list, succeeded": get(f"{listed}?status__exact=succeeded"),
        "admin list, failed": get(f"{listed}?status__exact=failed"),
        "admin list, one model": get(f"{listed}?model_id=other"),
        "admin list, one worker": get(f"{listed}?worker=gpu-3"),
        "admin list, one error": get(f"{listed}?error_code=timed_out"),
        "admin list, page 50": get(f"{listed}?p=50"),
        "admin list, rare word": get(f"{listed}?q=n4321x"),
        "admin list, common word": get(f"{listed}?q=house"),
        "dashboard, 24h": get("/admin/?window=24h"),
        "GET /task": get("/task"),
        "GET /task?status=failed": get("/task?status=failed"),
        "GET /metrics": get("/metrics"),
        "claim": undone(lambda: lifecycle.claim_batch(worker="w", lease_seconds=30)),
        "insert": undone(lambda: Task.objects.create(**_fields())),
        "sweep": sweeper.sweep_tasks,
    }


@cache
def api() -> Client:
    """Return a client without a key, cached because creating one takes longer than the measured operations."""
    from django.test import Client

    return Client()


def post(path: str, body: Any, status: int) -> None:
    """Post JSON without a key."""
    answer = api().post(path, body, content_type="application/json")
    assert answer.status_code == status, answer.content


def cancel() -> None:
    """Cancel a queued task."""
    from tasks_app.models import Status, Task

    post(f"/task/{Task.objects.filter(status=Status.QUEUED)[0].pk}/cancel", {}, 200)


def get_oldest() -> None:
    """Read the task that is last in every list."""
    from tasks_app.models import Task

    task = Task.objects.order_by("created_at", "id")[0]
    assert api().get(f"/task/{task.pk}").status_code == 200


def get_last_page() -> None:
    """Read the last page of the list, with the cursor that `next` would have."""
    from tasks_app.models import Task

    task = Task.objects.order_by("created_at", "id")[50]
    cursor = b64encode(urlencode({"p": str(task.created_at)}).encode()).decode()
    query: dict[str, str | int] = {"cursor": cursor, "limit": 50}
    assert len(api().get("/task", query).json()["results"]) == 50


def purge() -> None:
    """Delete a batch of failed tasks."""
    from tasks_app.worker import retention

    with closing(retention.purge_tasks()) as purged:
        assert len(list(islice(purged, retention.BATCH_SIZE))) == retention.BATCH_SIZE


def _fields() -> dict[str, Any]:
    from tasks_app.models import Task

    newest = Task.objects.values().first()
    assert newest is not None
    return {**newest, "id": "00000000-0000-4000-8000-000000000000"}


def measure(work: Callable[[], Any], runs: int) -> dict[str, list[float]]:
    """Return the milliseconds of each side's runs, taken in turns; the first run of each does not count."""
    taken: dict[str, list[float]] = {name: [] for name in SIDES}
    for number in range(runs + 1):
        for name in SIDES:
            use(name)
            from django.db import connection

            connection.ensure_connection()
            began = time.perf_counter()
            work()
            if number:
                taken[name].append(1000 * (time.perf_counter() - began))
    return taken


def ratios(taken: dict[str, list[float]]) -> list[float]:
    """Return the ratio of the large table's time to the small one's, for each run."""
    return [large / small for small, large in zip(taken["small"], taken["large"], strict=True)]


def row(name: str, taken: dict[str, list[float]]) -> str:
    """Return an operation's line: the medians in milliseconds, their ratio, and the verdict."""
    found = ratios(taken)
    small, large = (statistics.median(taken[side]) for side in SIDES)
    line = f"{name:<28}{small:9.1f}{large:9.1f}   {statistics.median(found):.2f} ({min(found):.2f} … {max(found):.2f})"
    return f"{line}   {verdict(name, found)}".rstrip()


def verdict(name: str, found: Sequence[float]) -> str:
    """Return whether the median meets the target; empty for an operation without a target."""
    if name in UNBOUNDED:
        return ""
    return "met" if statistics.median(found) <= MOST else "missed"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the sizes and the number of runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="50,000 rows and three runs: times mean little")
    parser.add_argument("--small", type=int)
    parser.add_argument("--large", type=int)
    parser.add_argument("--runs", type=int)
    options = parser.parse_args(given)
    sizes = SHORT if options.short else SIZES
    options.small, options.large = options.small or sizes["small"], options.large or sizes["large"]
    options.runs = options.runs or (3 if options.short else 7)
    return options


def main() -> None:
    """Fill the databases, measure, and print the table."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="dh-rows-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        os.environ |= {"VAR_DIR": f"{folder}/var", "DJANGO_SETTINGS_MODULE": "project.settings"}
        os.environ |= {"DATABASE_URL": "", "REDIS_URL": "", "API_AUTH": "optional", "LOG_FORMAT": "json"}
        with embedded_servers.run_services(Path(folder) / "var"):
            import django

            django.setup()
            from django.db import connection

            connection.settings_dict["OPTIONS"]["pool"] = False  # a pool would keep connections to one database
            logging.disable(logging.INFO)
            prepare({"small": options.small, "large": options.large})
            title = f"median of {options.runs}, ms"
            print(f"\n{title:<28}{'small':>9}{'large':>9}   ratio (min … max), target ≤{MOST}")
            for name, work in operations().items():
                print(row(name, measure(work, options.runs)), flush=True)
            use("postgres")


if __name__ == "__main__":
    main()
