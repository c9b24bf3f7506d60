"""`manage.py status`, to people and to pipes."""

import socket
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db.models.functions import Now

from tasks_app.engine.types import EngineState, WarmModel
from tasks_app.models import DiffusionModel, Pause, Worker
from tasks_app.queue import pauses, workers
from tests.support.claims import claim_one

IDENTITY: dict[str, Any] = {"host": "here", "pid": 1, "version": "1"}
ENGINE = EngineState(
    device="cuda:0",
    device_name="A card",
    memory_used=3 * 2**30,
    memory_total=24 * 2**30,
    warm=(WarmModel(model_id="demo", revision="local"),),
)


def status() -> dict[str, list[str]]:
    """Return the lines of each table by its title."""
    out = StringIO()
    call_command("status", stdout=out, no_color=True)
    blocks = [block.splitlines() for block in out.getvalue().strip().split("\n\n")]
    return {title: lines for title, *lines in blocks}


def cells(line: str, head: str) -> dict[str, str]:
    """Cut a line where the columns of its head begin."""
    names = [name for name in head.split("  ") if name.strip()]
    starts = [head.index(name.strip()) for name in names]
    ends = [*starts[1:], None]
    return {name.strip(): line[start:end].strip() for name, start, end in zip(names, starts, ends, strict=True)}


def table(title: str) -> list[dict[str, str]]:
    head, *lines = status()[title]
    return [cells(line, head) for line in lines]


def test_an_empty_service_says_so(db: None) -> None:
    assert table("Queue") == [{"QUEUED": "0", "OLDEST WAITS": "-", "RUNNING": "0", "PAUSED": "no"}]
    assert table("Workers") == []
    assert {row["MODEL"] for row in table("Models")} == set(DiffusionModel.objects.values_list("model_id", flat=True))


def test_the_queue_says_what_waits_how_long_and_who_paused_it(admin_user: User, make_task: Callable[..., Any]) -> None:
    make_task(created_at=Now() - timedelta(hours=2))
    make_task()
    pauses.create_pause(Pause.Scope.QUEUE, by=admin_user)
    Pause.objects.update(since=Now() - timedelta(minutes=5))
    (row,) = table("Queue")
    assert (row["QUEUED"], row["RUNNING"]) == ("2", "0")
    assert row["OLDEST WAITS"].startswith("2:00:0")
    assert row["PAUSED"].startswith("for 0:05:0")
    assert row["PAUSED"].endswith("by admin")


def test_workers_and_models_are_shown_as_they_stand(make_task: Callable[..., Any]) -> None:
    for name in ("one", "a-dead-one-with-a-long-name"):
        workers.register_worker(name, age=timedelta(minutes=1), **IDENTITY)
        workers.record_heartbeat(name, engine=ENGINE, **IDENTITY)
    Worker.objects.filter(name__startswith="a-dead").update(seen_at=Now() - timedelta(hours=1))
    task = make_task()
    claim_one(worker="one", lease_seconds=30)
    pauses.create_pause(Pause.Scope.MODEL, "demo")
    DiffusionModel.objects.filter(model_id="demo").update(revision="c0ffee")
    DiffusionModel.objects.exclude(model_id="demo").update(allowed=False)
    one, dead = table("Workers")
    assert (one["WORKER"], one["STATE"], one["DEVICE"], one["MEMORY"], one["WARM"], one["TASK"]) == (
        *("one", "busy", "cuda:0", "3.0/24.0 GiB", "demo"),
        str(task.pk),
    )
    assert (dead["STATE"], dead["MEMORY"], dead["WARM"], dead["TASK"]) == ("dead", "-", "-", "-")
    assert dead["SEEN"].startswith("1:00:0")
    rows = {row.pop("MODEL"): row for row in table("Models")}
    assert rows["demo"] == {"ALLOWED": "yes", "REVISION": "c0ffee", "WARM ON": "one", "PAUSED": "yes"}
    assert {row["ALLOWED"] for name, row in rows.items() if name != "demo"} == {"no"}


@pytest.mark.parametrize("title", ["Queue", "Workers", "Models"])
def test_lines_end_without_blanks(db: None, title: str) -> None:
    workers.register_worker("one", age=timedelta(minutes=1), **IDENTITY)
    assert not [line for line in status()[title] if line != line.rstrip()]


def test_a_probe_asks_for_a_living_worker_of_its_own_host(db: None) -> None:
    workers.register_worker("other", age=timedelta(minutes=1), **IDENTITY)
    with pytest.raises(CommandError, match="No live worker on"):
        call_command("status", "--worker")
    workers.register_worker("mine", age=timedelta(minutes=1), **{**IDENTITY, "host": socket.gethostname()})
    out = StringIO()
    call_command("status", "--worker", stdout=out)
    assert out.getvalue() == "mine is idle.\n"
    Worker.objects.filter(name="mine").update(seen_at=Now() - timedelta(hours=1))
    with pytest.raises(CommandError, match="No live worker on"):
        call_command("status", "--worker")
