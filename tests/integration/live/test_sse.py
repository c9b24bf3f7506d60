"""Event streams over HTTP: a real web server, while the test does to tasks what a worker would."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from django.db import connection

from tasks_app import services
from tasks_app.api.live.sse import MAX_TASKS
from tasks_app.events import progress
from tasks_app.models import Pause, Task
from tasks_app.queue import lifecycle
from tests.chaos.processes import Child
from tests.support import stack as stacks
from tests.support.acting import ScriptedWorker
from tests.support.listeners import Listener
from tests.support.openapi import check_event
from tests.support.stack import wait_until
from tests.support.streams import read_entries

pytestmark = pytest.mark.django_db(transaction=True)
MakeTask = Callable[..., Task]


@pytest.fixture(scope="module")
def api(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx2.Client]:
    """Run a web server for all tests of this module."""
    with django_db_blocker.unblock():
        environment = stacks.build_environment(STREAM_HEARTBEAT_SECONDS="0.5")
    with stacks.run_web(tmp_path_factory.mktemp("logs"), environment) as (client, _):
        yield client


def listen(api: httpx2.Client, *tasks: Task, after: str | None = None) -> Listener:
    path = f"/task/{tasks[0].pk}/events" if len(tasks) == 1 else f"/events?{many(tasks)}"
    return Listener(api, path, {"Last-Event-ID": after} if after else None)


def many(tasks: Any) -> str:
    return "&".join(f"task={task.pk}" for task in tasks)


def test_from_the_queue_to_the_picture_everything_is_told_once(api: httpx2.Client, make_task: MakeTask) -> None:
    task = make_task()
    with listen(api, task) as stream:
        wait_until(lambda: stream.event_names, lambda names: names == ["status"])
        worker = ScriptedWorker(task)
        for step in (1, 2, 3, 4):
            worker.publish_step(step)
            worker.publish_preview(step)
        worker.succeed_task()
        stream.join(10)
    assert not stream.is_alive()
    queued, running, *steps, succeeded, image, done = stream.events_named("status", "progress", "image", "done")
    assert (stream.status, stream.retry) == (200, 2000)
    assert queued.data == {"task": str(task.pk), "status": "queued", "attempt": 0, "queue_position": 1, "paused": False}
    assert running.data == {"task": str(task.pk), "status": "running", "attempt": 1}
    assert [one.data["step"] for one in steps] == [1, 2, 3, 4]
    assert succeeded.data == {"task": str(task.pk), "status": "succeeded", "attempt": 1}
    now = api.get(f"/task/{task.pk}").json()
    assert image.data == {"task": str(task.pk), **now["images"][0]}
    assert done.data == {"task": str(task.pk), **now}
    for one in stream.events_named("status", "progress", "preview", "image", "done"):
        check_event(one.name, one.data)
    entries = [entry for entry, _ in read_entries(task.pk)]
    assert [one.id for one in (running, *steps, succeeded)] == entries
    previews = stream.events_named("preview")
    assert (previews[-1].data["step"], {one.id for one in previews}) == (4, {None})


def test_the_stream_is_not_cached_nor_held_up_by_proxies(api: httpx2.Client, make_task: MakeTask) -> None:
    for slash in ("", "/"):
        task = make_task()
        for path in (f"/task/{task.pk}/events{slash}", f"/events{slash}?task={task.pk}"):
            with Listener(api, path) as stream:
                assert stream.headers["Content-Type"] == "text/event-stream"
                assert stream.headers["Cache-Control"] == "no-store"
                assert stream.headers["X-Accel-Buffering"] == "no"
            head = api.head(path)
            assert (head.status_code, head.headers["Content-Type"], head.content) == (200, "text/event-stream", b"")
    assert api.get(f"/task/{task.pk}").json()["urls"]["events"] == f"{api.base_url}/task/{task.pk}/events"


def test_whoever_comes_late_gets_a_snapshot(api: httpx2.Client, make_task: MakeTask) -> None:
    task = make_task()
    worker = ScriptedWorker(task)
    worker.publish_step(2)
    worker.publish_preview(2)
    *_, (newest, _) = read_entries(task.pk)
    for after in (None, "nonsense", "99999999999999999999-0", "1-18446744073709551616"):
        with listen(api, task, after=after) as stream:
            wait_until(lambda: stream.event_names, lambda names: names == ["status", "progress", "preview"])
            status, step, preview = stream.events_named("status", "progress", "preview")
            assert [one.id for one in (status, step, preview)] == [newest, newest, None]
            assert step.data["step"] == 2


def test_whoever_comes_back_gets_what_was_missed_and_nothing_twice(api: httpx2.Client, make_task: MakeTask) -> None:
    task = make_task()
    worker = ScriptedWorker(task)
    worker.publish_step(1)
    with listen(api, task) as stream:
        wait_until(lambda: stream.event_names, lambda names: names == ["status", "progress"])
        last = stream.events_named("progress")[0].id
    worker.publish_step(2)
    worker.publish_step(3)
    with listen(api, task, after=last) as stream:
        wait_until(lambda: stream.event_names, lambda names: len(names) == 2)
        worker.publish_step(4)
        worker.succeed_task()
        stream.join(10)
    assert [one.data["step"] for one in stream.events_named("progress")] == [2, 3, 4]
    assert stream.event_names == ["progress"] * 3 + ["status", "image", "done"]
    with listen(api, task, after=stream.events_named("status")[0].id) as stream:
        stream.join(10)
    assert stream.event_names == ["image", "done"]


def test_whoever_comes_back_after_redis_forgot_gets_a_snapshot(api: httpx2.Client, make_task: MakeTask) -> None:
    worker = ScriptedWorker(task := make_task())
    worker.send_heartbeat(3)
    progress.client.delete(progress.events_key(task.pk), progress.progress_key(task.pk))
    with listen(api, task, after="1700000000000-0") as stream:
        wait_until(lambda: stream.event_names, lambda names: names == ["status", "progress"])
    status, step = stream.events_named("status", "progress")
    assert (status.id, step.id, step.data["step"]) == (None, None, 3)


@pytest.mark.parametrize("end", ["succeeded", "failed", "canceled"])
def test_a_task_that_ended_long_ago_answers_its_end_and_closes(
    api: httpx2.Client, make_task: MakeTask, end: str
) -> None:
    task = make_task()
    if end == "canceled":
        services.cancel_task(task.pk)
    elif end == "failed":
        assert lifecycle.mark_failed(ScriptedWorker(task).claim, code="internal", message="It failed.")
    else:
        ScriptedWorker(task).succeed_task()
    progress.client.delete(progress.events_key(task.pk))
    with listen(api, task) as stream:
        stream.join(10)
    assert not stream.is_alive()
    assert stream.event_names == (["status", "image", "done"] if end == "succeeded" else ["status", "done"])
    assert stream.seen[0].data["status"] == stream.seen[-1].data["status"] == end
    assert stream.seen[-1].data == {"task": str(task.pk), **api.get(f"/task/{task.pk}").json()}


def test_what_redis_never_told_is_found_in_the_rows(api: httpx2.Client, make_task: MakeTask) -> None:
    task = make_task()
    with listen(api, task) as stream:
        wait_until(lambda: stream.event_names, len)
        worker = ScriptedWorker(task, quietly=True)
        wait_until(lambda: stream.events_named("status"), lambda seen: seen[-1].data["status"] == "running")
        worker.send_heartbeat(3)
        wait_until(lambda: stream.events_named("progress"), lambda seen: seen and seen[-1].data["step"] == 3)
        worker.succeed_task(quietly=True)
        stream.join(10)
    assert stream.event_names[-3:] == ["status", "image", "done"]


def test_a_released_task_goes_back_to_the_queue_and_runs_again(api: httpx2.Client, make_task: MakeTask) -> None:
    task = make_task()
    with listen(api, task) as stream:
        wait_until(lambda: stream.event_names, len)
        first = ScriptedWorker(task)
        first.publish_step(3)
        assert lifecycle.release_task(first.claim) == "queued"
        first.publish_event("status", status="queued")
        wait_until(lambda: stream.events_named("status"), lambda seen: seen[-1].data.get("queue_position") == 1)
        again = ScriptedWorker(task)
        first.publish_step(4)  # it was frozen, and does not know yet
        first.publish_preview(4)
        again.publish_step(1)
        wait_until(lambda: stream.events_named("progress"), lambda seen: seen[-1].data["attempt"] == 2)
    statuses = [(one.data["status"], one.data["attempt"]) for one in stream.events_named("status")]
    assert list(dict.fromkeys(statuses)) == [("queued", 0), ("running", 1), ("queued", 1), ("running", 2)]
    assert [(one.data["attempt"], one.data["step"]) for one in stream.events_named("progress")][-2:] == [(1, 3), (2, 1)]
    assert not stream.events_named("preview")


def test_a_cancel_of_a_queued_task_ends_its_stream(api: httpx2.Client, make_task: MakeTask) -> None:
    task = make_task()
    with listen(api, task) as stream:
        wait_until(lambda: stream.event_names, len)
        assert api.post(f"/task/{task.pk}/cancel").status_code == 200
        stream.join(10)
    assert [one.data["status"] for one in stream.events_named("status", "done")] == ["queued", "canceled", "canceled"]


def test_a_pause_is_told_to_whoever_watches_what_waits_for_it(api: httpx2.Client, make_task: MakeTask) -> None:
    task, other = make_task(), make_task(model_id="other")
    with listen(api, task) as stream, listen(api, other) as unmoved:
        wait_until(lambda: stream.events_named("status"), lambda seen: seen and not seen[-1].data["paused"])
        services.pause_claims(Pause.Scope.MODEL, task.model_id)
        wait_until(lambda: stream.events_named("status"), lambda seen: seen[-1].data["paused"])
        services.resume_claims(Pause.Scope.MODEL, task.model_id)
        wait_until(lambda: stream.events_named("status"), lambda seen: not seen[-1].data["paused"])
    assert [one.data["paused"] for one in unmoved.events_named("status")] == [False]


def test_places_in_the_queue_are_told_as_they_change(api: httpx2.Client, make_task: MakeTask) -> None:
    first, second = make_task(), make_task()
    with listen(api, second) as stream:
        wait_until(lambda: stream.events_named("status"), lambda seen: seen and seen[-1].data["queue_position"] == 2)
        services.cancel_task(first.pk)
        wait_until(lambda: stream.events_named("status"), lambda seen: seen[-1].data["queue_position"] == 1)
    assert {one.id for one in stream.events_named("status")} == {None}


def test_one_stream_tells_of_many_tasks_and_closes_after_the_last_one(api: httpx2.Client, make_task: MakeTask) -> None:
    tasks = [make_task() for _ in range(3)]
    with listen(api, *tasks, tasks[0]) as stream:
        wait_until(lambda: stream.events_named("status"), lambda seen: len(seen) == 3)
        workers = [ScriptedWorker(task) for task in tasks]
        for worker in workers:
            worker.publish_step(1)
        workers[1].succeed_task()
        wait_until(lambda: stream.events_named("done"), len)
        assert stream.is_alive()
        last = stream.events_named("progress")[-1].id
        workers[0].publish_step(2)
        with listen(api, *tasks, after=last) as again:
            wait_until(lambda: again.events_named("done"), len)
            wait_until(lambda: again.events_named("progress"), lambda seen: 2 in [one.data["step"] for one in seen])
        for worker in (workers[0], workers[2]):
            worker.succeed_task()
        stream.join(10)
    assert not stream.is_alive()
    assert sorted(one.data["id"] for one in stream.events_named("done")) == sorted(str(task.pk) for task in tasks)
    assert all(one.data["task"] for one in stream.events_named("status", "progress", "image", "done"))


def test_a_task_whose_row_is_deleted_ends_its_stream(api: httpx2.Client, make_task: MakeTask) -> None:
    task = make_task()
    with listen(api, task) as stream:
        wait_until(lambda: stream.event_names, len)
        task.delete()
        stream.join(10)
    assert not stream.is_alive()
    assert stream.event_names.count("status") == 1


def test_a_silent_stream_has_a_heartbeat(api: httpx2.Client, make_task: MakeTask) -> None:
    with listen(api, make_task()) as stream:
        wait_until(lambda: stream.seen, lambda seen: sum(one.comment is not None for one in seen) >= 2)


def refused(api: httpx2.Client, path: str) -> tuple[int, str, list[str]]:
    answer = api.get(path, headers={"Accept": "text/event-stream"})
    error = answer.json()["error"]
    return answer.status_code, error["message"], [one["path"] for one in error.get("fields", [])]


def test_unknown_and_malformed_ids_are_refused_and_named(api: httpx2.Client, make_task: MakeTask) -> None:
    task, unknown = make_task(), uuid4()
    status, message, _ = refused(api, f"/task/{unknown}/events")
    assert (status, str(unknown) in message) == (404, True)
    status, message, _ = refused(api, f"/events?task={task.pk}&task={unknown}")
    assert (status, str(unknown) in message, str(task.pk) in message) == (404, True, False)
    for query in ("", "?task=", "?task=nonsense", f"?task={task.pk}&task=%00", "?" + many([task] * (MAX_TASKS + 1))):
        status, _, fields = refused(api, f"/events{query}")
        assert (status, fields) == (400, ["task"])
    for method in ("POST", "PUT", "DELETE"):
        answer = api.request(method, f"/task/{task.pk}/events")
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


def watchers() -> int:
    return int(progress.client.pubsub_numsub(progress.CHANNEL)[0][1])


def test_when_the_last_watcher_leaves_the_server_stops_listening(api: httpx2.Client, make_task: MakeTask) -> None:
    with listen(api, make_task()), listen(api, make_task()):
        wait_until(watchers, lambda number: number == 1)
    wait_until(watchers, lambda number: number == 0)


@pytest.fixture
def own(db: None, tmp_path: Path) -> Iterator[tuple[httpx2.Client, Child]]:
    """Run a web server whose connections bear a name."""
    environment = stacks.build_environment()
    environment["DATABASE_URL"] += "?application_name=streams"
    with stacks.run_web(tmp_path, environment) as running:
        yield running


def threads(web: Child) -> int:
    return len(os.listdir(f"/proc/{web.command}/task"))


def database_connections() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'streams'")
        return int(cursor.fetchone()[0])


def open_streams(api: httpx2.Client, task: Task, number: int) -> list[socket.socket]:
    """Open streams without a thread for each, and wait until they have begun."""
    sockets = [socket.create_connection((api.base_url.host, api.base_url.port or 0)) for _ in range(number)]
    for one in sockets:
        one.sendall(f"GET /task/{task.pk}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    for one in sockets:
        wait_until(lambda: one.recv(65536), lambda got: b"event: status" in got)  # noqa: B023
    return sockets


def test_a_hundred_streams_need_no_threads_and_no_connections_and_hold_up_no_stop(
    own: tuple[httpx2.Client, Child], make_task: MakeTask
) -> None:
    api, web = own
    task = make_task()
    with ExitStack() as stack:
        for number in (10, 90):
            for one in open_streams(api, task, number):
                stack.callback(one.close)
            held = wait_until(lambda: (threads(web), database_connections()), lambda held: held[0] < 20)
        assert held[1] <= 16  # the pool's
        pid = web.command
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        ended = threading.Event()

        def stop() -> None:
            web.stop()
            ended.set()

        threading.Thread(target=stop, daemon=True).start()
        assert ended.wait(20)  # the streams have no end, so that it would wait for ever
