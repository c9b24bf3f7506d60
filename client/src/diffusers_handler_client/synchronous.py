"""The client for code without asyncio."""

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
    """A service at an address; threads may share it."""

    def __init__(self, url: str | None = None, api_key: str | None = None, *, retries: int = DEFAULT_RETRIES) -> None:
        """Take DIFFUSERS_HANDLER_URL and DIFFUSERS_HANDLER_API_KEY for what is not given."""
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
        """Queue a task and return it; `protocol.Options` says what the options mean.

        Raises:
            ApiError: the service refuses it; `fields` says why.
        """
        return protocol.parse_task(self._send_call(protocol.submit_call(prompt, options)))

    def upload(self, picture: bytes | str | os.PathLike[str]) -> Upload:
        """Send a picture, or the file of one, for tasks to begin with; the service keeps it for a while.

        Raises:
            ApiError: the service can't read it, or doesn't take one so large.
        """
        return Upload.parse(self._send_call(protocol.upload_call(picture)).json())

    def get(self, task: Task | str) -> Task:
        """Return the task as it is now."""
        return protocol.parse_task(self._send_call(protocol.get_task_call(task)))

    def list(self, *, status: str | None = None, model: str | None = None) -> Iterator[Task]:
        """Yield the tasks, the newest first, reading page after page."""
        call: protocol.Call | None = protocol.list_tasks_call(status, model)
        while call is not None:
            tasks, call = protocol.parse_page(self._send_call(call))
            yield from tasks

    def wait(self, task: Task | str, timeout: float | None = None) -> Task:
        """Return the task when it has succeeded.

        Raises:
            TaskFailed: it failed or was canceled.
            WaitTimeout: it has not ended after `timeout` seconds; it goes on.
        """
        waiting = PollPolicy(timeout)
        while pause := waiting.delay_after(now := self.get(task)):
            time.sleep(pause)
        return now

    def stream(self, task: Task | str) -> Generator[Event, None, None]:
        """Yield what happens to the task; the last event is `done`, whichever way it ended.

        A stream that breaks is taken up where it broke.
        """
        following = StreamState(task, self._retries)
        while not following.ended:
            try:
                yield from self._stream_events(following)
            except ApiError as error:
                time.sleep(following.delay_after(error))

    def reproduce(self, task: Task | str) -> Task:
        """Queue a task that succeeded once more, and return the new one; at its end it has a `reproduction`.

        Raises:
            ApiError: it has not succeeded, or the service refuses it.
        """
        return protocol.parse_task(self._send_call(protocol.reproduce_call(task)))

    def cancel(self, task: Task | str) -> Task:
        """Cancel the task and return it; one that runs ends within a step, one that has ended stays as it is."""
        return protocol.parse_task(self._send_call(protocol.cancel_call(task)))

    def image(self, task: Task | str, index: int = 0) -> bytes:
        """Return a picture's bytes."""
        return self._send_call(protocol.image_call(task, index), "image/").content

    def download(self, task: Task | str, directory: str | os.PathLike[str] = ".") -> tuple[Path, ...]:
        """Save the task's pictures and return their files; a task that has not ended is waited for.

        Raises:
            TaskFailed: it failed or was canceled.
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
