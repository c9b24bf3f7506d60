"""What the commands know of a running server: post a task over HTTP, follow it on a bar, save its pictures."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from django.core.management.base import CommandError
from tqdm import tqdm

from tasks_app.engine.types import percent
from tasks_app.task_types.registry import TEXT_TO_IMAGE

PAUSE_SECONDS = 1.0
# So long a server may be away, as while it is restarted, before following a task is given up.
PATIENCE_SECONDS = 60.0
# No stream is silent for longer than its heartbeat.
STREAM_TIMEOUT = httpx2.Timeout(10, read=20)
BAR = "{desc:>12} {bar} {n_fmt}/{total_fmt} steps [{elapsed}{postfix}]"
WIDEST = 100

Json = dict[str, Any]
Told = tuple[str, Json]


def authorization(key: str | None) -> dict[str, str]:
    """Return the headers that a key is sent in."""
    return {"Authorization": f"Bearer {key}"} if key else {}


@contextmanager
def every(seconds: float, do: Callable[[], object]) -> Iterator[None]:
    """Do something again and again, in a thread, until the block ends."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            do()

    # Ctrl-C may come at any moment, also while it starts.
    thread = threading.Thread(target=repeat, daemon=True)
    try:
        thread.start()
        yield
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()


class NoAnswer(CommandError):
    """No server answers at this address."""


class Server:
    """A running server, through its API."""

    def __init__(self, api: httpx2.Client, *, options: Mapping[str, str] | None = None) -> None:
        """Take the client; `options` says which option people gave what the API calls by a path."""
        self.api = api
        self._options = options or {}

    def upload(self, path: Path) -> str:
        """Send a picture's file for a task to begin with, and return the upload's id.

        Raises:
            CommandError: it can't be read, the server refuses it, or none answers.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}.") from None
        try:
            # Of which kind it is, the server sees by its bytes.
            return str(self._ask("POST", "/upload", content=content, headers={"Content-Type": "image/png"})["id"])
        except NoAnswer:
            raise
        except CommandError as refused:
            raise CommandError(f"{path}: {refused}") from None

    def post(self, params: Json, *, task_type: str = TEXT_TO_IMAGE.name, priority: int = 0) -> Json:
        """Queue a task and return it.

        Raises:
            CommandError: the server refuses it, field by field; or none answers.
        """
        body = {"task_type": task_type, "priority": priority, "params": params}
        return self._ask("POST", "/task", json=body)

    def get(self, task_id: str) -> Json:
        """Return a task.

        Raises:
            CommandError: there is no such task, or no server answers.
        """
        return self._ask("GET", f"/task/{task_id}")

    def follow(self, task: Json) -> Json:
        """Show a task on a bar until it has ended, and return it; without a terminal nothing is shown.

        Raises:
            CommandError: it did not succeed, or no server answers any more.
        """
        width = min(WIDEST, shutil.get_terminal_size().columns)
        with (
            tqdm(total=task["progress"]["total_steps"], disable=None, bar_format=BAR, ncols=width) as bar,
            every(1, bar.refresh),
        ):
            for name, data in _Following(self, task["id"]).told():
                _show(bar, name, data)
                task = data if name == "done" else task
        if task["status"] != "succeeded":
            raise CommandError(f"The task {task['status']}: {task['error']['message']}")
        return task

    def save(self, image: Json, path: Path) -> None:
        """Write one of a task's pictures to a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        answer = self.api.get(image["url"], follow_redirects=True)
        path.write_bytes(answer.raise_for_status().content)

    def _ask(self, method: str, path: str, **options: Any) -> Json:
        try:
            answer = self.api.request(method, path, **options)
        except httpx2.TransportError:
            raise NoAnswer(f"No server answers at {self.api.base_url}; `manage.py quickstart` starts one.") from None
        if answer.status_code >= 500:
            raise NoAnswer(f"The server at {self.api.base_url} answers with {answer.status_code}.")
        if answer.is_error:
            raise CommandError(self._refusal(answer))
        task: Json = answer.json()
        return task

    def _refusal(self, answer: httpx2.Response) -> str:
        if answer.headers.get("Content-Type") != "application/json":
            return f"What answers at {self.api.base_url} is another service."
        error = answer.json()["error"]
        fields = [f"{self._named(one['path'])}: {one['message']}" for one in error.get("fields", [])]
        return "\n".join(fields) or str(error["message"])

    def _named(self, path: str) -> str:
        """Return what people call this path, or the list or object that it leads into."""
        return self._options.get(".".join(path.split(".")[:2]), path)


class _Following:
    """What happens to one task: from its stream, and by asking wherever that breaks or can't be had."""

    def __init__(self, server: Server, task_id: str) -> None:
        self._server = server
        self._task_id = task_id
        self._streams = True
        self._last_id = ""
        self._answered_at = time.monotonic()

    def told(self) -> Iterator[Told]:
        """Yield events as a stream has them; `done` is the last one."""
        while True:
            for name, data in itertools.chain(self._streamed(), self._asked()):
                self._answered_at = time.monotonic()
                yield name, data
                if name == "done":
                    return
            time.sleep(PAUSE_SECONDS)

    def _streamed(self) -> Iterator[Told]:
        """Yield what a stream tells until it breaks; if it tells nothing, as behind some proxies, no other is tried."""
        told = False
        if not self._streams:
            return
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        try:
            path = f"/task/{self._task_id}/events"
            with self._server.api.sse(path, headers=headers, timeout=STREAM_TIMEOUT) as stream:
                for event in stream:
                    self._last_id = event.id or self._last_id
                    if event.data:
                        told = True
                        yield event.event, json.loads(event.data)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            return  # it may be restarting
        except httpx2.TransportError:
            self._streams = told

    def _asked(self) -> Iterator[Told]:
        try:
            task = self._server.get(self._task_id)
        except NoAnswer:
            if time.monotonic() - self._answered_at > PATIENCE_SECONDS:
                raise
            return
        yield "status", task
        if task["status"] == "running":
            yield "progress", task["progress"]
        if task["finished_at"]:
            yield "done", task


def _show(bar: Any, name: str, data: Json) -> None:
    """Bring the bar to what an event says."""
    match name:
        case "status" if data.get("queue_position"):
            bar.set_description_str(f"queued, no. {data['queue_position']}", refresh=False)
        case "status":
            bar.set_description_str(data["status"], refresh=False)
        case "progress":
            bar.set_description_str(_phase(data), refresh=False)
            bar.total, bar.n = data["total_steps"], data["step"]
            eta = data["eta_seconds"]
            bar.set_postfix_str("" if eta is None else f"{eta:.0f} s left", refresh=False)
        case "done":
            bar.set_description_str(data["status"], refresh=False)
            bar.n = data["progress"]["step"]
            bar.set_postfix_str("", refresh=False)
    bar.refresh()


def _phase(data: Json) -> str:
    total = data.get("bytes_total")
    return f"{data['phase']} {percent(data['bytes_done'], total)} %" if total else str(data["phase"])
