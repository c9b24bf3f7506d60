"""Client for code with asyncio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Self, Unpack

import httpx2

from diffusers_handler_client import protocol
from diffusers_handler_client.errors import ApiError
from diffusers_handler_client.patience import DEFAULT_RETRIES, PollPolicy, RetryPolicy, StreamState
from diffusers_handler_client.shapes import Event, Task, Upload


class AsyncClient:
    """Client of the service at a URL; the tasks of one event loop may share it."""

    def __init__(self, url: str | None = None, api_key: str | None = None, *, retries: int = DEFAULT_RETRIES) -> None:
        """Read a missing URL or key from DIFFUSERS_HANDLER_URL or DIFFUSERS_HANDLER_KEY; `""` sends no key."""
        self._http = httpx2.AsyncClient(**protocol.build_client_options(url, api_key))
        self._retries = retries

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def submit(self, prompt: str, **options: Unpack[protocol.Options]) -> Task:
        """Queue a task and return it; `Options` describes the options.

        Raises:
            ApiError: The service rejects it; `fields` has an error per field.
        """
        return protocol.parse_task(await self._send_call(protocol.submit_call(prompt, options)))

    async def upload(self, image: bytes | str | os.PathLike[str]) -> Upload:
        """Upload an image, or the file of one, as the input of tasks; the service keeps it for some hours.

        Raises:
            ApiError: It is not a valid image, or too large.
            OSError: The file can't be read.
        """
        return Upload.parse((await self._send_call(await asyncio.to_thread(protocol.upload_call, image))).json())

    async def get(self, task: Task | str) -> Task:
        """Return the task in its current state."""
        return protocol.parse_task(await self._send_call(protocol.get_task_call(task)))

    async def list(self, *, status: str | None = None, model: str | None = None) -> AsyncIterator[Task]:
        """Yield the tasks, newest first; pages are read as they are needed."""
        call: protocol.Call | None = protocol.list_tasks_call(status, model)
        while call is not None:
            tasks, call = protocol.parse_page(await self._send_call(call))
            for one in tasks:
                yield one

    async def wait(self, task: Task | str, timeout: float | None = None) -> Task:
        """Wait until the task has succeeded, and return it.

        Raises:
            TaskFailed: It failed or was canceled.
            WaitTimeout: It has not ended after `timeout` seconds; it continues.
        """
        waiting = PollPolicy(timeout)
        while pause := waiting.delay_after(now := await self.get(task)):
            await asyncio.sleep(pause)
        return now

    async def stream(self, task: Task | str, *, retries: int | None = None) -> AsyncGenerator[Event, None]:
        """Yield the task's events; `done` is the last one, however the task ended.

        A stream that breaks off resumes after its last event, up to `retries` times in a row (default: the client's).
        While the service answers but its stream doesn't, as behind some proxies, the task is polled instead.

        Raises:
            ApiError: The task does not exist, or no retry is left.
        """
        following = StreamState(task, self._retries if retries is None else retries)
        while not following.ended:
            try:
                read_events = self._poll_events if following.polling else self._stream_events
                async with aclosing(read_events(following)) as events:
                    async for event in events:
                        yield event
            except ApiError as error:
                await asyncio.sleep(following.delay_after(error))

    async def reproduce(self, task: Task | str) -> Task:
        """Queue a succeeded task again and return the new one; its `reproduction` compares the images at the end.

        Raises:
            ApiError: It has not succeeded, or the service rejects it.
        """
        return protocol.parse_task(await self._send_call(protocol.reproduce_call(task)))

    async def cancel(self, task: Task | str) -> Task:
        """Cancel the task and return it; a running one stops within a step, an ended one does not change."""
        return protocol.parse_task(await self._send_call(protocol.cancel_call(task)))

    async def image(self, task: Task | str, index: int = 0) -> bytes:
        """Return an image's bytes."""
        return (await self._send_call(protocol.image_call(task, index), "image/")).content

    async def download(self, task: Task | str, directory: str | os.PathLike[str] = ".") -> tuple[Path, ...]:
        """Wait for the task's end, save its images and return their files.

        Raises:
            TaskFailed: It failed or was canceled.
        """
        done = task if isinstance(task, Task) and task.succeeded else await self.wait(task)
        files: list[Path] = []
        for image in done.images:
            content = await self.image(done, image.index)
            files.append(
                await asyncio.to_thread(protocol.save_image, protocol.image_path(directory, done, image), content)
            )
        return tuple(files)

    async def _send_call(self, call: protocol.Call, content_type: str = protocol.JSON_CONTENT_TYPE) -> httpx2.Response:
        attempts = RetryPolicy(self._retries)
        while True:
            try:
                return await self._send_once(call, content_type)
            except ApiError as error:
                await asyncio.sleep(attempts.delay_after(error))

    async def _send_once(self, call: protocol.Call, content_type: str = protocol.JSON_CONTENT_TYPE) -> httpx2.Response:
        with protocol.translate_errors():
            return protocol.check_response(await self._http.request(**call.to_request_options()), content_type)

    async def _poll_events(self, following: StreamState) -> AsyncGenerator[Event, None]:
        while not following.ended:
            for event in following.parse_polled(await self._send_once(following.build_poll_call())):
                yield event
            if not following.ended:
                await asyncio.sleep(following.poll_delay)

    async def _stream_events(self, following: StreamState) -> AsyncGenerator[Event, None]:
        with protocol.translate_errors():
            async with self._http.stream(**following.build_stream_call().to_request_options()) as answer:
                if answer.is_error:
                    await answer.aread()
                protocol.check_response(answer, protocol.STREAM_CONTENT_TYPE)
                async for sent in httpx2.EventSource(answer):
                    if event := following.parse_event(sent):
                        yield event
                    if following.ended:
                        return
        following.raise_if_unfinished()
