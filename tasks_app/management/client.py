"""HTTP client of the commands: submit a task to a running server, show its progress and save its images."""

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

from tasks_app.engine.types import percent_done
from tasks_app.task_types.registry import TEXT_TO_IMAGE

POLL_SECONDS = 1.0
# The server may be unreachable this long, for example during a restart, before following a task fails.
UNREACHABLE_TIMEOUT_SECONDS = 60.0
# A stream sends heartbeats, so the read timeout only has to be longer than their interval.
STREAM_TIMEOUT = httpx2.Timeout(10, read=20)
BAR_FORMAT = "{desc:>12} {bar} {n_fmt}/{total_fmt} steps [{elapsed}{postfix}]"
MAX_BAR_WIDTH = 100

Json = dict[str, Any]
StreamEvent = tuple[str, Json]


def build_auth_headers(key: str | None) -> dict[str, str]:
    """Return the headers that authenticate with an API key."""
    return {"Authorization": f"Bearer {key}"} if key else {}


@contextmanager
def run_every(seconds: float, do: Callable[[], object]) -> Iterator[None]:
    """Call a function every `seconds`, in a thread, until the block ends."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            do()

    # Ctrl-C may arrive at any moment, even while the thread starts.
    thread = threading.Thread(target=repeat, daemon=True)
    try:
        thread.start()
        yield
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()


class ServerUnreachableError(CommandError):
    """The server is unreachable or answers with a server error."""


class Server:
    """Client of a running server's API."""

    def __init__(self, api: httpx2.Client, *, options: Mapping[str, str] | None = None) -> None:
        """Use this HTTP client; `options` maps a path of the API to the command's option that sets it."""
        self.api = api
        self._options = options or {}

    def upload_image(self, path: Path) -> str:
        """Upload an image file as the input of a task and return the upload's id.

        Raises:
            CommandError: The file can't be read, the server rejects it, or the server is unreachable.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}.") from None
        try:
            # The server detects the image format from the bytes.
            return str(
                self._send_request("POST", "/upload", content=content, headers={"Content-Type": "image/png"})["id"]
            )
        except ServerUnreachableError:
            raise
        except CommandError as refused:
            raise CommandError(f"{path}: {refused}") from None

    def submit_task(self, params: Json, *, task_type: str = TEXT_TO_IMAGE.name, priority: int = 0) -> Json:
        """Submit a task and return it.

        Raises:
            CommandError: The server rejects the request, with an error per field, or is unreachable.
        """
        body = {"task_type": task_type, "priority": priority, "params": params}
        return self._send_request("POST", "/task", json=body)

    def get_task(self, task_id: str) -> Json:
        """Return a task.

        Raises:
            CommandError: The task does not exist, or the server is unreachable.
        """
        return self._send_request("GET", f"/task/{task_id}")

    def follow_task(self, task: Json) -> Json:
        """Show a task's progress on a bar until it has ended and return it; without a terminal, show nothing.

        Raises:
            CommandError: The task did not succeed, or the server became unreachable.
        """
        width = min(MAX_BAR_WIDTH, shutil.get_terminal_size().columns)
        with (
            tqdm(total=task["progress"]["total_steps"], disable=None, bar_format=BAR_FORMAT, ncols=width) as bar,
            run_every(1, bar.refresh),
        ):
            for name, data in _TaskFollower(self, task["id"]).iter_events():
                _update_bar(bar, name, data)
                task = data if name == "done" else task
        if task["status"] != "succeeded":
            raise CommandError(f"The task {task['status']}: {task['error']['message']}")
        return task

    def save_image(self, image: Json, path: Path) -> None:
        """Download one of a task's images to a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        answer = self.api.get(image["url"], follow_redirects=True)
        path.write_bytes(answer.raise_for_status().content)

    def _send_request(self, method: str, path: str, **options: Any) -> Json:
        try:
            answer = self.api.request(method, path, **options)
        except httpx2.TransportError:
            raise ServerUnreachableError(
                f"No server answers at {self.api.base_url}; `manage.py quickstart` starts one."
            ) from None
        if answer.status_code >= 500:
            raise ServerUnreachableError(f"The server at {self.api.base_url} answers with {answer.status_code}.")
        if answer.is_error:
            raise CommandError(self._format_error(answer))
        task: Json = answer.json()
        return task

    def _format_error(self, answer: httpx2.Response) -> str:
        if answer.headers.get("Content-Type") != "application/json":
            return f"What answers at {self.api.base_url} is another service."
        error = answer.json()["error"]
        fields = [f"{self._option_of(one['path'])}: {one['message']}" for one in error.get("fields", [])]
        return "\n".join(fields) or str(error["message"])

    def _option_of(self, path: str) -> str:
        """Return the command's option for this path or for the list or object that contains it."""
        return self._options.get(".".join(path.split(".")[:2]), path)


class _TaskFollower:
    """Events of one task, from its stream; it polls when the stream breaks or is unavailable."""

    def __init__(self, server: Server, task_id: str) -> None:
        self._server = server
        self._task_id = task_id
        self._can_stream = True
        self._last_id = ""
        self._answered_at = time.monotonic()

    def iter_events(self) -> Iterator[StreamEvent]:
        """Yield the events in the format of the stream; `done` is the last one."""
        while True:
            for name, data in itertools.chain(self._stream_events(), self._poll_task()):
                self._answered_at = time.monotonic()
                yield name, data
                if name == "done":
                    return
            time.sleep(POLL_SECONDS)

    def _stream_events(self) -> Iterator[StreamEvent]:
        """Yield the events of a stream until it breaks; if it fails without any, as behind some proxies, disable it."""
        told = False
        if not self._can_stream:
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
            return  # the server may be restarting
        except httpx2.TransportError:
            self._can_stream = told

    def _poll_task(self) -> Iterator[StreamEvent]:
        try:
            task = self._server.get_task(self._task_id)
        except ServerUnreachableError:
            if time.monotonic() - self._answered_at > UNREACHABLE_TIMEOUT_SECONDS:
                raise
            return
        yield "status", task
        if task["status"] == "running":
            yield "progress", task["progress"]
        if task["finished_at"]:
            yield "done", task


def _update_bar(bar: Any, name: str, data: Json) -> None:
    """Update the bar with an event."""
    match name:
        case "status" if data.get("queue_position"):
            bar.set_description_str(f"queued, no. {data['queue_position']}", refresh=False)
        case "status":
            bar.set_description_str(data["status"], refresh=False)
        case "progress":
            bar.set_description_str(_format_phase(data), refresh=False)
            bar.total, bar.n = data["total_steps"], data["step"]
            eta = data["eta_seconds"]
            bar.set_postfix_str("" if eta is None else f"{eta:.0f} s left", refresh=False)
        case "done":
            bar.set_description_str(data["status"], refresh=False)
            bar.n = data["progress"]["step"]
            bar.set_postfix_str("", refresh=False)
    bar.refresh()


def _format_phase(data: Json) -> str:
    total = data.get("bytes_total")
    return f"{data['phase']} {percent_done(data['bytes_done'], total)} %" if total else str(data["phase"])
