"""`/metrics`, as Prometheus reads it."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client import parser

from tasks_app import services
from tasks_app.engine.types import EngineState, ModelUsage
from tasks_app.events import progress, status_events
from tasks_app.models import Pause, Status, Task, Worker
from tasks_app.queue import workers
from tasks_app.worker import supervisor
from tests.support import stack as stacks
from tests.support.stack import free_port, wait_until

MakeTask = Callable[..., Task]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
ENGINE = EngineState(
    device="cuda:0",
    device_name="A GPU",
    memory_used=1_000,
    memory_total=4_000,
    warm=(),
    uses=(ModelUsage(model_id="demo", loads=2, hits=5),),
)


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    progress.client.delete(status_events.COUNTERS_KEY)


def parsed(text: str) -> Samples:
    """Return every sample by its name, without the prefix, and labels."""
    found: Samples = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            key = sample.name.removeprefix("diffusers_handler_"), frozenset(sample.labels.items())
            assert sample.name.startswith("diffusers_handler_")
            assert key not in found
            found[key] = sample.value
    return found


def settled(samples: Samples) -> Samples:
    """Return what does not pass with time."""
    passing = ("oldest_queued_task_seconds", "worker_silent_seconds")
    return {key: value for key, value in samples.items() if key[0] not in passing}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def scrape(client: Client, **headers: str) -> Samples:
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parsed(answer.content.decode())


def beat(name: str, engine: EngineState | None = ENGINE) -> None:
    workers.record_heartbeat(name, host="here", pid=1, version="1", engine=engine)


def test_the_queue_is_told_by_priority_with_its_oldest(client: Client, make_task: MakeTask, claimed: MakeTask) -> None:
    claimed()
    make_task(priority=3), make_task(priority=3)
    make_task(priority=-2, created_at=timezone.now() - timedelta(hours=1))
    samples = scrape(client)
    assert [value(samples, "tasks_queued", priority=priority) for priority in ("3", "0", "-2")] == [2, 0, 1]
    assert 3600 <= value(samples, "oldest_queued_task_seconds") < 3660
    assert value(samples, "tasks_running") == 1


def test_an_idle_service_tells_zeros(client: Client, db: None) -> None:
    samples = scrape(client)
    assert value(samples, "tasks_queued", priority="0") == value(samples, "oldest_queued_task_seconds") == 0
    assert value(samples, "tasks_running") == value(samples, "paused", scope="queue", target="") == 0
    assert value(samples, "redis_up") == 1


@pytest.mark.django_db(transaction=True)
def test_what_ended_is_told_by_status_and_code_and_how_long_it_took(client: Client, make_task: MakeTask) -> None:
    for _ in range(2):
        make_task()
        supervisor.run_once()
    services.cancel_task(make_task().pk)
    samples = scrape(client)
    assert value(samples, "tasks_ended_total", status="succeeded", model="demo") == 2
    assert value(samples, "tasks_ended_total", status="canceled", model="demo") == 1
    rows = Task.objects.filter(status=Status.SUCCEEDED)
    ran = [(row.finished_at - row.started_at).total_seconds() for row in rows]  # type: ignore[operator]
    assert value(samples, "task_run_seconds_sum", model="demo") == pytest.approx(sum(ran))
    assert value(samples, "task_run_seconds_count", model="demo") == 2
    below = {bound: value(samples, "task_run_seconds_bucket", model="demo", le=bound) for bound in ("0.1", "60.0")}
    assert below == {"0.1": sum(seconds <= 0.1 for seconds in ran), "60.0": 2}
    assert value(samples, "task_wait_seconds_bucket", model="demo", le="+Inf") == 2


def test_workers_are_told_as_they_live_but_not_when_they_left(client: Client, db: None) -> None:
    for name in ("alive", "dead", "left"):
        beat(name)
    beat("starting", None)
    Worker.objects.filter(name="dead").update(seen_at=Now() - timedelta(seconds=100))
    workers.deregister_worker("left")
    samples = scrape(client)
    up = {dict(labels)["worker"]: up for (name, labels), up in samples.items() if name == "worker_up"}
    assert up == {"alive": 1, "dead": 0, "starting": 1}
    assert 100 <= value(samples, "worker_silent_seconds", worker="dead") < 160
    assert value(samples, "device_memory_used_bytes", worker="alive", device="cuda:0") == 1_000
    assert value(samples, "device_memory_total_bytes", worker="alive", device="cuda:0") == 4_000
    assert value(samples, "model_loads_total", worker="alive", model="demo") == 2
    assert value(samples, "model_cache_hits_total", worker="alive", model="demo") == 5
    assert not [labels for name, labels in samples if "memory" in name and ("worker", "dead") in labels]


def test_pauses_are_told(client: Client, db: None) -> None:
    services.pause_claims(Pause.Scope.QUEUE)
    services.pause_claims(Pause.Scope.MODEL, 'a "model"\n')
    samples = scrape(client)
    assert value(samples, "paused", scope="queue", target="") == 1
    assert value(samples, "paused", scope="model", target='a "model"\n') == 1


def test_without_redis_the_rows_are_told(client: Client, make_task: MakeTask) -> None:
    make_task()
    progress.trip_breaker(TimeoutError())
    samples = scrape(client)
    assert value(samples, "tasks_queued", priority="0") == 1
    assert value(samples, "redis_up") == 0
    assert not [name for name, _ in samples if name.startswith("tasks_ended")]


def test_a_scrape_costs_four_queries_and_scans_no_table_of_tasks(
    client: Client, make_task: MakeTask, claimed: MakeTask
) -> None:
    claimed(), make_task(priority=-3)
    beat("a-worker:1")
    with CaptureQueriesContext(connection) as captured:
        scrape(client)
    asked = [query["sql"] for query in captured]
    assert len(asked) == 4
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        plans = []
        for sql in asked:
            cursor.execute("EXPLAIN " + sql)
            plans.append("\n".join(row[0] for row in cursor.fetchall()))
    assert not [plan for plan in plans if "Seq Scan on tasks_app_task" in plan]
    # Which of the indexes that fit it is, depends on what the planner remembers of other tests' rows.
    assert re.search("task_(claim|lane)", plans[0])
    assert re.search("task_(running|newest_of_status)", plans[1])


def test_with_a_token_nobody_reads_without_it(client: Client, db: None, settings: Any) -> None:
    settings.METRICS_TOKEN = "a-token"
    assert client.get("/metrics").status_code == 401
    for wrong in ("Bearer a-toke", "a-token", "Bearer é"):
        answer = client.get("/metrics", headers={"Authorization": wrong})
        assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")
        assert answer.json()["error"]["code"] == "unauthorized"
    assert scrape(client, Authorization="Bearer a-token")


def test_over_plain_http_it_is_not_redirected(client: Client, db: None, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert client.get("/task").status_code == 301
    assert scrape(client)


def test_it_is_read_and_nothing_else(client: Client, db: None) -> None:
    assert client.head("/metrics").status_code == 200
    answer = client.post("/metrics")
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")


@pytest.fixture
def two_webs(transactional_db: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[httpx2.Client]]:
    with ExitStack() as exits:
        env = stacks.build_environment(METRICS_TOKEN="a-token")
        yield [exits.enter_context(stacks.run_web(tmp_path_factory.mktemp("web"), env))[0] for _ in range(2)]


def test_two_web_processes_say_the_same(two_webs: list[httpx2.Client], make_task: MakeTask) -> None:
    for web in two_webs:
        for _ in range(3):
            make_task()
            supervisor.run_once()
        doomed = make_task()
        assert web.post(f"/task/{doomed.pk}/cancel").json()["status"] == "canceled"
    make_task()
    beat("a-worker")
    answers = [web.get("/metrics", headers={"Authorization": "Bearer a-token"}) for web in two_webs]
    assert [web.get("/metrics").status_code for web in two_webs] == [401, 401]
    one, other = (settled(parsed(answer.text)) for answer in answers)
    assert one == other
    assert value(one, "tasks_ended_total", status="succeeded", model="demo") == 6
    assert value(one, "tasks_ended_total", status="canceled", model="demo") == 2
    assert value(one, "tasks_queued", priority="0") == 1


def test_without_a_database_it_is_unavailable(db: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    env = stacks.build_environment(DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    port = free_port()
    uvicorn = ["-m", "uvicorn", "project.asgi:application", "--host=127.0.0.1", f"--port={port}", "--lifespan=off"]
    log = tmp_path_factory.mktemp("web") / "web.log"

    def status(api: httpx2.Client, path: str) -> int:
        try:
            return api.get(path).status_code
        except httpx2.TransportError:
            return 0

    with stacks.run_process(log, env, *uvicorn), httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as api:
        wait_until(lambda: status(api, "/healthz"), lambda seen: seen == 200)
        assert status(api, "/metrics") == 503
