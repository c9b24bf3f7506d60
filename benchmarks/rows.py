"""A table of many tasks against a small one: what lists, pages, claims and sweeps cost, as ratios.

    uv run python -m benchmarks.rows [--small 10000] [--large 1000000] [--runs 7]

Two databases on one embedded PostgreSQL hold the same kinds of tasks; the operations take turns on both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from project import embedded

FILL = """
INSERT INTO tasks_app_task (
    id, task_type, provider, requested_model_id, model_id, revision, params, seed, priority, status, phase, step,
    total_steps, attempt, losses, max_attempts, worker, error_code, error_message, error_traceback, created_at,
    updated_at, started_at, finished_at, timings, webhook_url, webhook_events, webhook_due)
SELECT gen_random_uuid(), 'text-to-image', 'diffusers', 'demo', CASE WHEN n %% 7 = 0 THEN 'other' ELSE 'demo' END, '',
    jsonb_build_object('prompt', 'a ' || (ARRAY['red','blue','green','old','tiny'])[1 + n %% 5] || ' '
        || (ARRAY['house','beach','forest','city','flower','fox'])[1 + n %% 6] || ' n' || n || 'x',
        'negative_prompt', '', 'steps', 25, 'guidance_scale', 4.0, 'width', null, 'height', null, 'num_images', 1),
    n, 0, state, '', CASE state WHEN 'succeeded' THEN 25 ELSE 0 END, 25, 1, 0, 3, 'gpu-' || n %% 8,
    CASE state WHEN 'failed' THEN (ARRAY['internal','timed_out','out_of_memory'])[1 + n %% 3]
               WHEN 'canceled' THEN 'canceled' ELSE '' END, '', '',
    made, made, made + interval '1 second',
    CASE state WHEN 'queued' THEN NULL ELSE made + interval '3 seconds' END, '{}', '', '{}', false
FROM (
    SELECT n, now() - n * interval '1 second' AS made,
        CASE WHEN n <= 500 THEN 'queued' WHEN n %% 20 = 0 THEN 'failed' WHEN n %% 33 = 0 THEN 'canceled'
             ELSE 'succeeded' END AS state
    FROM generate_series(1, %s) AS n
) AS rows
"""
SIDES = ("small", "large")
Operations = dict[str, Callable[[], Any]]


def use(name: str) -> None:
    """Let Django talk to the other database."""
    from django.db import connection

    connection.close()
    connection.settings_dict["NAME"] = name


def prepare(sizes: dict[str, int]) -> None:
    """Make both databases, with as many tasks each and an admin user."""
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
    """Return what is measured; each may be called on either side."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.db import transaction
    from django.test import Client

    from tasks_app import lifecycle, sweeper
    from tasks_app.models import Task

    settings.ALLOWED_HOSTS = ["testserver"]
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
        "claim": undone(lambda: lifecycle.claim(worker="w", lease_seconds=30)),
        "insert": undone(lambda: Task.objects.create(**_fields())),
        "sweep": sweeper.sweep,
    }


def _fields() -> dict[str, Any]:
    from tasks_app.models import Task

    newest = Task.objects.values().first()
    assert newest is not None
    return {**newest, "id": "00000000-0000-4000-8000-000000000000"}


def measure(work: Callable[[], Any], runs: int) -> dict[str, list[float]]:
    """Return the milliseconds of each side's runs, taken in turns; the first of each is not counted."""
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


def main() -> None:
    """Fill, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dh-rows-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        os.environ |= {"VAR_DIR": f"{folder}/var", "DJANGO_SETTINGS_MODULE": "project.settings"}
        os.environ |= {"DATABASE_URL": "", "REDIS_URL": ""}
        with embedded.started(Path(folder) / "var"):
            import django

            django.setup()
            from django.db import connection

            connection.settings_dict["OPTIONS"]["pool"] = False  # a pool would stay with one database
            prepare({"small": options.small, "large": options.large})
            print(f"\n{'median of ' + str(options.runs) + ', ms':<28}{'small':>9}{'large':>9}   ratio (min … max)")
            for name, work in operations().items():
                taken = measure(work, options.runs)
                ratios = [large / small for small, large in zip(taken["small"], taken["large"], strict=True)]
                small, large = (statistics.median(taken[side]) for side in SIDES)
                print(
                    f"{name:<28}{small:9.1f}{large:9.1f}   {statistics.median(ratios):.2f} "
                    f"({min(ratios):.2f} … {max(ratios):.2f})",
                    flush=True,
                )
            use("postgres")


if __name__ == "__main__":
    main()
