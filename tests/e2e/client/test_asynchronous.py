"""The client with asyncio against the real web server."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest
from diffusers_handler_client import ApiError, AsyncClient, Event, TaskFailed
from django.db import connection
from PIL import Image

from tasks_app.models import Task
from tasks_app.queue import lifecycle
from tests.chaos.proxy import Proxy
from tests.e2e.client.conftest import port_of
from tests.support.acting import ScriptedWorker

Result = TypeVar("Result")
MakeTask = Callable[..., Task]
pytestmark = [pytest.mark.timeout(60), pytest.mark.django_db(transaction=True)]


async def aside(do: Callable[..., Result], *arguments: object) -> Result:
    """Do something with the database in a thread that keeps no connection."""

    def done() -> Result:
        try:
            return do(*arguments)
        finally:
            connection.close()

    return await asyncio.to_thread(done)


def test_a_picture_is_uploaded_and_begun_with(url: str, db: None, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "red").save(tmp_path / "picture.jpg")

    async def run() -> None:
        async with AsyncClient(url) as client:
            upload = await client.upload(tmp_path / "picture.jpg")
            task = await client.submit("a house", model="demo", image=upload)
            assert (task.raw["task_type"], task.params["image"]) == ("image-to-image", upload.id)

    asyncio.run(run())


def test_a_prompt_is_submitted_followed_and_saved(url: str, make_task: MakeTask, tmp_path: Path) -> None:
    async def run() -> tuple[list[str], tuple[Path, ...]]:
        async with AsyncClient(url) as client:
            task = await client.submit("a house", model="demo", steps=4)
            row = await aside(lambda: Task.objects.get(pk=task.id))
            names: list[str] = []
            async for event in client.stream(task):
                if not names:
                    worker = await aside(ScriptedWorker, row)
                    await aside(worker.succeed_task)
                names.append(event.name)
            assert [listed.id async for listed in client.list(status="succeeded")] == [task.id]
            return names, await client.download(task, tmp_path)

    names, (path,) = asyncio.run(run())
    assert names[0] == "status"
    assert names[-2:] == ["image", "done"]
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_stream_that_breaks_is_taken_up_where_it_broke(url: str, make_task: MakeTask) -> None:
    proxy = Proxy(port_of(url))
    row = make_task()
    worker = ScriptedWorker(row)
    worker.publish_step(1)

    async def run() -> list[Event]:
        told: list[Event] = []
        async with AsyncClient(f"http://127.0.0.1:{proxy.port}") as client:
            async for event in client.stream(str(row.pk)):
                told.append(event)
                if event.progress and event.progress.step == 1:
                    await asyncio.to_thread(proxy.cut_connections)
                    worker.publish_step(2)
                    worker.publish_step(3)
                    await aside(worker.succeed_task)
        return told

    with closing(proxy):
        told = asyncio.run(run())
    assert [event.progress.step for event in told if event.progress] == [1, 2, 3]
    assert told[-1].name == "done"


def test_what_goes_wrong_is_told_as_without_asyncio(url: str, make_task: MakeTask) -> None:
    failed, waiting = make_task(), make_task()
    lifecycle.mark_failed(ScriptedWorker(failed).claim, code="internal", message="It broke.")

    async def run() -> None:
        async with AsyncClient(url) as client:
            with pytest.raises(ApiError) as refused:
                await client.submit("", model="demo")
            assert [field.path for field in refused.value.fields] == ["params.prompt"]
            with pytest.raises(TaskFailed, match="It broke"):
                await client.wait(str(failed.pk))
            with pytest.raises(TimeoutError):
                await client.wait(str(waiting.pk), timeout=0.2)
            assert (await client.cancel(str(waiting.pk))).status == "canceled"

    asyncio.run(run())
