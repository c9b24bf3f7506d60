"""`Prefer: wait=N`: answers that are held, by the real web server, without a thread."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx2
import psutil
import pytest
from django.http import HttpRequest
from rest_framework.request import Request

from tasks_app.api.live import prefer_wait
from tasks_app.models import Task
from tasks_app.queue import lifecycle
from tests.chaos.processes import Child
from tests.support import stack
from tests.support.acting import ScriptedWorker

BODY = {"task_type": "text-to-image", "params": {"model_id": "demo", "prompt": "a house"}}
Web = tuple[httpx2.Client, Child]
HELD = 24


@pytest.fixture(scope="module")
def server(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with (
        django_db_blocker.unblock(),
        stack.run_web(tmp_path_factory.mktemp("web"), stack.build_environment()) as served,
    ):
        yield served


@pytest.fixture
def api(server: Web, transactional_db: None) -> httpx2.Client:
    return server[0]


def ask(api: httpx2.Client, seconds: int, **headers: str) -> httpx2.Response:
    return api.post("/task", json=BODY, headers={"Prefer": f"wait={seconds}", **headers}, timeout=30)


@pytest.fixture
def asking(api: httpx2.Client) -> Iterator[Callable[..., Future[httpx2.Response]]]:
    with ThreadPoolExecutor(HELD) as pool:
        yield lambda seconds, **headers: pool.submit(ask, api, seconds, **headers)


def queued(number: int = 1) -> list[Task]:
    return stack.wait_until(lambda: list(Task.objects.filter(status="queued")), lambda tasks: len(tasks) == number)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", None),
        ("wait=5", 5),
        ("respond-async, Wait = 7", 7),
        ('wait="3"; foo=bar', 3),
        ("wait=999999", 60),
        ("wait=0", 0),
        ("wait=", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("waits=5", None),
    ],
)
def test_a_preference_is_read_as_its_standard_writes_it(header: str, seconds: int | None) -> None:
    plain = HttpRequest()
    plain.META["HTTP_PREFER"] = header
    assert prefer_wait.parse_prefer_wait(Request(plain)) == seconds


def test_an_answer_is_held_until_its_task_has_ended(asking: Any) -> None:
    held = asking(20)
    (task,) = queued()
    assert not held.done()
    ScriptedWorker(task).succeed_task()
    answer = held.result()
    assert answer.status_code == 201
    assert answer.headers["Preference-Applied"] == "wait=20"
    assert answer.headers["Location"] == f"/task/{task.pk}"
    found = answer.json()
    assert (found["id"], found["status"], len(found["images"])) == (str(task.pk), "succeeded", 1)
    assert int(answer.headers["Content-Length"]) == len(answer.content)


def test_an_end_that_redis_did_not_tell_is_seen_all_the_same(asking: Any) -> None:
    held = asking(20)
    (task,) = queued()
    ScriptedWorker(task, quietly=True).succeed_task(quietly=True)
    assert held.result().json()["status"] == "succeeded"


def test_a_cancel_ends_the_wait(api: httpx2.Client, asking: Any) -> None:
    held = asking(20)
    (task,) = queued()
    api.post(f"/task/{task.pk}/cancel").raise_for_status()
    assert held.result().json()["status"] == "canceled"


def test_a_wait_that_is_over_answers_with_the_task_as_it_is(api: httpx2.Client) -> None:
    began = time.monotonic()
    answer = ask(api, 1)
    assert time.monotonic() - began >= 1
    assert (answer.status_code, answer.json()["status"]) == (201, "queued")


def test_a_task_that_ended_before_is_not_waited_for(api: httpx2.Client) -> None:
    name = {"Idempotency-Key": "one"}
    task_id = ask(api, 0, **name).json()["id"]
    lifecycle.cancel_task(task_id)
    began = time.monotonic()
    again = ask(api, 20, **name)
    assert time.monotonic() - began < 10
    assert (again.status_code, again.json()["status"]) == (200, "canceled")


def test_held_answers_take_neither_threads_nor_database_connections(
    api: httpx2.Client, server: Web, asking: Any
) -> None:
    process = psutil.Process(server[1].command)
    ask(api, 0)
    before = process.num_threads()
    held = [asking(20) for _ in range(HELD)]
    tasks = queued(HELD + 1)
    # Requests that were busy a moment ago may still be giving their threads back.
    stack.wait_until(process.num_threads, lambda threads: threads <= before + 2)
    # More than the pool has connections: were each kept, nobody else would get one.
    assert api.get("/task").status_code == 200
    assert not any(answer.done() for answer in held)
    for task in tasks:
        lifecycle.cancel_task(task.pk)
    assert {answer.result().json()["status"] for answer in held} == {"canceled"}


def test_a_client_that_goes_away_leaves_its_task(api: httpx2.Client) -> None:
    with socket.create_connection((api.base_url.host, api.base_url.port or 0)) as client:
        body = json.dumps(BODY).encode()
        head = "POST /task HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nPrefer: wait=30\r\n"
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        (task,) = queued()
    assert api.get(f"/task/{task.pk}").json()["status"] == "queued"
