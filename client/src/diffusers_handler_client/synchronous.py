"""The client for code that does not use asyncio."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Self, Unpack

import httpx2

from diffusers_handler_client import protocol
from diffusers_handler_client.errors import ApiError
from diffusers_handler_client.patience import DEFAULT_RETRIES, PollPolicy, RetryPolicy, StreamState
from diffusers_handler_client.shapes import Event, Task, Upload


class Client:
    """Client of one service; threads may share it."""

    def __init__(self, url: str | None = None, api_key: str | None = None, *, retries: int = DEFAULT_RETRIES) -> None:
        """Use DIFFUSERS_HANDLER_URL and DIFFUSERS_HANDLER_API_KEY for arguments that are not given."""
        self._http = httpx2.Client(**protocol.build_client_options(url, api_key))
        self._retries = retries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def submit(self, prompt: str, **options: Unpack[protocol.Options]) -> Task:
        """Queue a task and return it; see `protocol.Options` for the options.

        Raises:
            ApiError: the service refuses the request; `fields` has the reasons.
        """
        return protocol.parse_task(self._send_call(protocol.submit_call(prompt, options)))

    def upload(self, picture: bytes | str | os.PathLike[str]) -> Upload:
        """Upload an image, given as bytes or as a file, for tasks to start from; the service deletes it after a while.

        Raises:
            ApiError: the service can't read the image, or it is too large.
        """
        return Upload.parse(self._send_call(protocol.upload_call(picture)).json())

    def get(self, task: Task | str) -> Task:
        """Return the task in its current state."""
        return protocol.parse_task(self._send_call(protocol.get_task_call(task)))

    def list(self, *, status: str | None = None, model: str | None = None) -> Iterator[Task]:
        """Yield the tasks, the newest first, reading page by page."""
        call: protocol.Call | None = protocol.list_tasks_call(status, model)
        while call is not None:
            tasks, call = protocol.parse_page(self._send_call(call))
            yield from tasks

    def wait(self, task: Task | str, timeout: float | None = None) -> Task:
        """Wait until the task has succeeded, and return it.

        Raises:
            TaskFailed: the task failed or was canceled.
            WaitTimeout: the task has not ended after `timeout` seconds; the service continues it.
        """
        waiting = PollPolicy(timeout)
        while pause := waiting.delay_after(now := self.get(task)):
            time.sleep(pause)
        return now

    def stream(self, task: Task | str) -> Generator[Event, None, None]:
        """Yield the task's events; the last one is `done`, whether the task succeeded or not.

        If the connection breaks, the stream resumes after the last event received.
        """
        following = StreamState(task, self._retries)
        while not following.ended:
            try:
                yield from self._stream_events(following)
            except ApiError as error:
                time.sleep(following.delay_after(error))

    def reproduce(self, task: Task | str) -> Task:
        """Queue a succeeded task again, and return the new task; when that ends, it has a `reproduction`.

        Raises:
            ApiError: the task has not succeeded, or the service refuses the request.
        """
        return protocol.parse_task(self._send_call(protocol.reproduce_call(task)))

    def cancel(self, task: Task | str) -> Task:
        """Cancel the task and return it; a running task stops within a step, an ended one does not change."""
        return protocol.parse_task(self._send_call(protocol.cancel_call(task)))

    def image(self, task: Task | str, index: int = 0) -> bytes:
        """Return an image's bytes."""
        return self._send_call(protocol.image_call(task, index), "image/").content

    def download(self, task: Task | str, directory: str | os.PathLike[str] = ".") -> tuple[Path, ...]:
        """Save the task's images and return their paths; wait for the task first if it has not ended.

        Raises:
            TaskFailed: the task failed or was canceled.
        """
        done = task if isinstance(task, Task) and task.succeeded else self.wait(task)
        return tuple(
            protocol.save_image(protocol.image_path(directory, done, image), self.image(done, image.index))
            for image in done.images
        )

    def _send_call(self, call: protocol.Call, content_type: str = protocol.JSON_CONTENT_TYPE) -> httpx2.Response:
        attempts = RetryPolicy(self._retries)
        while True:
            try:
                with protocol.translate_errors():
                    return protocol.check_response(self._http.request(**call.to_request_options()), content_type)
            except ApiError as error:
                time.sleep(attempts.delay_after(error))

    def _stream_events(self, following: StreamState) -> Generator[Event, None, None]:
        with protocol.translate_errors(), self._http.stream(**following.build_call().to_request_options()) as answer:
            if answer.is_error:
                answer.read()
            protocol.check_response(answer, protocol.STREAM_CONTENT_TYPE)
            for sent in httpx2.EventSource(answer):
                if event := following.parse_event(sent):
                    yield event
                if following.ended:
                    return
        following.raise_if_unfinished()
