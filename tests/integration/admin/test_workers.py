"""The list of workers and a worker's page."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tasks_app.engine.types import EngineState, WarmModel
from tasks_app.models import Pause, Worker, WorkerCommand
from tasks_app.queue import lifecycle, pauses, workers
from tests.integration.admin.pages import PAUSES, WORKERS, MakeTask, body, claim_of, url_of
from tests.support.claims import claim_one

Alive = Callable[..., Worker]


def row(page: str, name: str) -> str:
    """Return the worker's row of the list."""
    rows: list[str] = re.findall(r"<tr.*?</tr>", page, re.DOTALL)
    return next(found for found in rows if f">{name}<" in found)


def test_the_list_shows_every_worker_in_its_state_the_living_first(
    admin_client: Client, alive: Alive, make_task: MakeTask
) -> None:
    for name in ("a-dead", "b-stopped", "busy", "draining", "idle", "paused"):
        alive(name)
    Worker.objects.filter(name="a-dead").update(seen_at=Now() - timedelta(hours=1))
    workers.deregister_worker("b-stopped")
    for name in ("busy", "draining"):
        make_task()
        assert claim_one(worker=name, lease_seconds=30)
    for name in ("draining", "paused"):
        pauses.create_pause(Pause.Scope.WORKER, name)
    page = body(admin_client, WORKERS)
    for name in ("a-dead", "b-stopped", "busy", "draining", "idle", "paused"):
        assert f"\n{name.rpartition('-')[2]}\n" in row(page, name)
    places = [page.index(f">{name}<") for name in ("busy", "draining", "idle", "paused", "a-dead", "b-stopped")]
    assert places == sorted(places)


def test_a_row_shows_device_memory_warm_models_and_the_task(
    admin_client: Client, alive: Alive, make_task: MakeTask
) -> None:
    alive(
        "gpu",
        EngineState(
            device="cuda:0",
            device_name="A <card>",
            memory_used=6 * 2**30,
            memory_total=24 * 2**30,
            warm=(WarmModel(model_id="demo", revision="local"),),
        ),
    )
    task = make_task(params={"prompt": "a fox <i>"})
    assert claim_one(worker="gpu", lease_seconds=30)
    found = row(body(admin_client, WORKERS), "gpu")
    for text in ("cuda:0", "A &lt;card&gt;", "6.0 / 24.0 GiB", "width: 25.0%", "demo", url_of(task), "a fox &lt;i&gt;"):
        assert text in found


def test_what_is_gone_shows_neither_memory_nor_models_nor_a_task(
    admin_client: Client, alive: Alive, make_task: MakeTask
) -> None:
    engine = EngineState(
        device="cuda:0",
        device_name="",
        memory_used=1,
        memory_total=2,
        warm=(WarmModel(model_id="demo", revision="local"),),
    )
    alive("gpu", engine)
    Worker.objects.update(seen_at=Now() - timedelta(hours=1))
    for page in (WORKERS, f"{WORKERS}gpu/change/"):
        text = body(admin_client, page)
        assert "GiB" not in text
        assert ">demo<" not in text
    assert "dead" in row(body(admin_client, WORKERS), "gpu")


def test_the_number_of_queries_does_not_grow_with_the_workers(
    admin_client: Client, alive: Alive, make_task: MakeTask
) -> None:
    counts = []
    for number in (1, 8):
        for index in range(number):
            name = f"w{number}-{index}"
            alive(name)
            make_task()
            assert claim_one(worker=name, lease_seconds=30)
        with CaptureQueriesContext(connection) as queries:
            body(admin_client, WORKERS)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 12


def test_the_page_of_a_worker_shows_its_tasks_and_commands(
    admin_client: Client, alive: Alive, make_task: MakeTask
) -> None:
    alive("host:17")
    ended = make_task()
    task = claim_one(worker="host:17", lease_seconds=30)
    assert task == ended
    assert lifecycle.mark_failed(claim_of(task), code="internal", message="")
    (command,) = workers.enqueue_commands(WorkerCommand.Kind.PRELOAD, "demo", ["host:17"])
    workers.complete_command(command, error="It is <broken>.")
    page = body(admin_client, f"{WORKERS}host_3A17/change/")
    for text in (url_of(ended), "Preload demo", "It is &lt;broken&gt;.", "failed"):
        assert text in page


def test_a_page_and_a_list_offer_to_pause_or_to_resume(admin_client: Client, alive: Alive) -> None:
    alive("gpu")
    for paused, action in ((False, "pause"), (True, "resume")):
        if paused:
            pauses.create_pause(Pause.Scope.WORKER, "gpu")
        for page in (WORKERS, f"{WORKERS}gpu/change/"):
            offers = re.findall(rf"{PAUSES}(\w+)/\?scope=worker&amp;target=gpu", body(admin_client, page))
            assert offers == [action]


def test_workers_can_be_neither_added_nor_changed_nor_deleted(admin_client: Client, alive: Alive) -> None:
    alive("gpu")
    before = Worker.objects.values().get()
    assert admin_client.get(f"{WORKERS}add/").status_code == 403
    assert admin_client.post(f"{WORKERS}gpu/change/", {"host": "x"}).status_code == 403
    assert admin_client.post(f"{WORKERS}gpu/delete/", {"post": "yes"}).status_code == 403
    assert Worker.objects.values().get() == before


def test_without_workers_the_list_says_how_to_start_one(admin_client: Client) -> None:
    assert "manage.py rundramatiq" in body(admin_client, WORKERS)


@pytest.mark.parametrize("page", ["", "gpu/change/"])
def test_whoever_may_not_see_workers_does_not(staff: Callable[..., Client], alive: Alive, page: str) -> None:
    alive("gpu")
    client = staff("view_task")
    assert client.get(f"{WORKERS}{page}").status_code == 403
    assert f'href="{WORKERS}"' not in body(client, "/admin/")
