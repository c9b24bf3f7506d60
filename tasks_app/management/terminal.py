"""Output of the commands that use the API: a task's progress on a bar, and errors with the option's name."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from diffusers_handler_client import ApiError, Client, Event, FieldError, Image, Progress, Task, Unreachable
from django.core.management.base import CommandError
from tqdm import tqdm

from tasks_app.engine.types import percent_done

# About a minute, in which the server may restart.
FOLLOW_RETRIES = 14
BAR_FORMAT = "{desc:>12} {bar} {n_fmt}/{total_fmt} steps [{elapsed}{postfix}]"
MAX_BAR_WIDTH = 100


def open_client(url: str, key: str | None) -> Client:
    """Return a client of a server; it doesn't retry, so that a user learns at once that no server answers."""
    return Client(url, key or "", retries=0)


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


@contextmanager
def translate_errors(url: str, options: Mapping[str, str] | None = None) -> Iterator[None]:
    """Turn the client's errors into the command's; `options` maps a path of the API to the option that sets it.

    Raises:
        CommandError: The server at this URL rejects a request or is unreachable.
    """
    try:
        yield
    except ApiError as error:
        raise CommandError(format_error(error, url, options)) from None


def format_error(error: ApiError, url: str, options: Mapping[str, str] | None = None) -> str:
    """Return the text of an error, a line for each rejected field with its option."""
    if isinstance(error, Unreachable):
        return f"No server answers at {url}; `manage.py quickstart` starts one."
    if is_outage(error):
        return f"The server at {url} answers with {error.status}."
    if error.code == "unexpected":
        return f"What answers at {url} is another service."
    return "\n".join(_format_field(field, options or {}) for field in error.fields) or error.message


def is_outage(error: ApiError) -> bool:
    """Return whether the server failed, rather than rejected the request."""
    return isinstance(error, Unreachable) or (error.status is not None and error.status >= 500)


def follow_task(client: Client, task: Task) -> Task:
    """Show a task's progress on a bar until it has ended and return it; without a terminal, show nothing.

    Raises:
        ApiError: The server became unreachable.
        CommandError: The task did not succeed.
    """
    width = min(MAX_BAR_WIDTH, shutil.get_terminal_size().columns)
    with (
        tqdm(total=task.progress.total_steps, disable=None, bar_format=BAR_FORMAT, ncols=width) as bar,
        run_every(1, bar.refresh),
        closing(client.stream(task, retries=FOLLOW_RETRIES)) as events,
    ):
        for event in events:
            _update_bar(bar, event)
            task = event.task or task
    if not task.succeeded:
        raise CommandError(f"The task {task.status}: {task.error.message if task.error else 'unknown error'}")
    return task


def save_image(client: Client, task: Task, image: Image, path: Path) -> None:
    """Download one of a task's images to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(client.image(task, image.index))


def _format_field(field: FieldError, options: Mapping[str, str]) -> str:
    """Return a field's error under the option of its path, or of the list or object that contains it."""
    option = options.get(".".join(field.path.split(".")[:2]), field.path)
    return f"{option}: {field.message}"


def _update_bar(bar: Any, event: Event) -> None:
    """Update the bar with an event."""
    if event.name == "status":
        place = event.data.get("queue_position")
        bar.set_description_str(f"queued, no. {place}" if place else event.data["status"], refresh=False)
    elif event.progress:
        bar.set_description_str(_format_phase(event.progress), refresh=False)
        bar.total, bar.n = event.progress.total_steps, event.progress.step
        eta = event.progress.eta_seconds
        bar.set_postfix_str("" if eta is None else f"{eta:.0f} s left", refresh=False)
    elif event.task:
        bar.set_description_str(event.task.status, refresh=False)
        bar.n = event.task.progress.step
        bar.set_postfix_str("", refresh=False)
    bar.refresh()


def _format_phase(progress: Progress) -> str:
    if not progress.bytes_total:
        return str(progress.phase)
    return f"{progress.phase} {percent_done(progress.bytes_done or 0, progress.bytes_total)} %"
