"""The client for code with asyncio."""

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
from diffusers_handler_client.patience import RETRIES, Attempts, Following, Waiting
from diffusers_handler_client.shapes import Event, Task, Upload


class AsyncClient:
    """A service at an address; the tasks of one event loop may share it."""

    def __init__(self, url: str | None = None, api_key: str | None = None, *, retries: int = RETRIES) -> None:
        """Take DIFFUSERS_HANDLER_URL and DIFFUSERS_HANDLER_API_KEY for what is not given."""
        self._http = httpx2.AsyncClient(**protocol.connection(url, api_key))
        self._retries = retries

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def submit(self, prompt: str, **options: Unpack[protocol.Options]) -> Task:
        """Queue a task and return it; `protocol.Options` says what the options mean.

        Raises:
            ApiError: the service refuses it; `fields` says why.
        """
        return protocol.task(await self._send(protocol.submission(prompt, options)))

    async def upload(self, picture: bytes | str | os.PathLike[str]) -> Upload:
        """Send a picture, or the file of one, for tasks to begin with; the service keeps it for a while.

        Raises:
            ApiError: the service can't read it, or doesn't take one so large.
        """
        return Upload.parse((await self._send(await asyncio.to_thread(protocol.upload, picture))).json())

    async def get(self, task: Task | str) -> Task:
        """Return the task as it is now."""
        return protocol.task(await self._send(protocol.reading(task)))

    async def list(self, *, status: str | None = None, model: str | None = None) -> AsyncIterator[Task]:
        """Yield the tasks, the newest first, reading page after page."""
        call: protocol.Call | None = protocol.first_page(status, model)
        while call is not None:
            tasks, call = protocol.page(await self._send(call))
            for one in tasks:
                yield one

    async def wait(self, task: Task | str, timeout: float | None = None) -> Task:
        """Return the task when it has succeeded.

        Raises:
            TaskFailed: it failed or was canceled.
            WaitTimeout: it has not ended after `timeout` seconds; it goes on.
        """
        waiting = Waiting(timeout)
        while pause := waiting.pause_after(now := await self.get(task)):
            await asyncio.sleep(pause)
        return now

    async def stream(self, task: Task | str) -> AsyncGenerator[Event, None]:
        """Yield what happens to the task; the last event is `done`, whichever way it ended.

        A stream that breaks is taken up where it broke.
        """
        following = Following(task, self._retries)
        while not following.ended:
            try:
                async with aclosing(self._streamed(following)) as events:
                    async for event in events:
                        yield event
            except ApiError as error:
                await asyncio.sleep(following.pause_after(error))

    async def reproduce(self, task: Task | str) -> Task:
        """Queue a task that succeeded once more, and return the new one; at its end it has a `reproduction`.

        Raises:
            ApiError: it has not succeeded, or the service refuses it.
        """
        return protocol.task(await self._send(protocol.reproduction(task)))

    async def cancel(self, task: Task | str) -> Task:
        """Cancel the task and return it; one that runs ends within a step, one that has ended stays as it is."""
        return protocol.task(await self._send(protocol.cancellation(task)))

    async def image(self, task: Task | str, index: int = 0) -> bytes:
        """Return a picture's bytes."""
        return (await self._send(protocol.picture(task, index), "image/")).content

    async def download(self, task: Task | str, directory: str | os.PathLike[str] = ".") -> tuple[Path, ...]:
        """Save the task's pictures and return their files; a task that has not ended is waited for.

        Raises:
            TaskFailed: it failed or was canceled.
        """
        done = task if isinstance(task, Task) and task.succeeded else await self.wait(task)
        files: list[Path] = []
        for image in done.images:
            content = await self.image(done, image.index)
            files.append(await asyncio.to_thread(protocol.save, protocol.place(directory, done, image), content))
        return tuple(files)

    async def _send(self, call: protocol.Call, content_type: str = protocol.JSON) -> httpx2.Response:
        attempts = Attempts(self._retries)
        while True:
            try:
                with protocol.translated():
                    return protocol.good(await self._http.request(**call.options()), content_type)
            except ApiError as error:
                await asyncio.sleep(attempts.pause_after(error))

    async def _streamed(self, following: Following) -> AsyncGenerator[Event, None]:
        with protocol.translated():
            async with self._http.stream(**following.call().options()) as answer:
                if answer.is_error:
                    await answer.aread()
                protocol.good(answer, protocol.STREAM)
                async for sent in httpx2.EventSource(answer):
                    if event := following.event(sent):
                        yield event
                    if following.ended:
                        return
        following.closed()
