"""Fixtures of ended tasks, workers, and users with permissions."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from tasks_app.contracts import StoredImage
from tasks_app.engine.types import EngineState
from tasks_app.models import Task, Worker
from tasks_app.queue import lifecycle, workers
from tests.integration.admin.pages import MakeTask, claim_of
from tests.support.claims import succeed_one


@pytest.fixture
def succeeded(claimed: MakeTask) -> MakeTask:
    """Return a factory of tasks with images."""

    def make(*, images: int = 1, side: int = 32, **fields: object) -> Task:
        task = claimed(**fields)
        stored = [
            StoredImage(
                index=index,
                name=f"tasks/x/1-{index}.png",
                content_type="image/png",
                seed=7 + index,
                width=side,
                height=side,
                sha256="ab" * 32,
                flagged=False,
                blank=False,
            )
            for index in range(images)
        ]
        timings = {"denoising": 1.5, "loading": 0.5}
        size = {"width": side, "height": side}
        assert succeed_one(claim_of(task), stored, revision="r1", timings=timings, size=size)
        task.refresh_from_db()
        return task

    return make


@pytest.fixture
def failed(claimed: MakeTask) -> MakeTask:
    """Return a factory of failed tasks."""

    def make(*, message: str = "It broke.", traceback: str = "Traceback …", **fields: object) -> Task:
        task = claimed(**fields)
        assert lifecycle.mark_failed(claim_of(task), code="internal", message=message, traceback=traceback)
        task.refresh_from_db()
        return task

    return make


@pytest.fixture
def one_of_each(
    make_task: MakeTask, claimed: MakeTask, succeeded: MakeTask, failed: MakeTask
) -> Callable[[], dict[str, Task]]:
    """Return a factory of one task of each status."""

    def make() -> dict[str, Task]:
        tasks = {"succeeded": succeeded(), "failed": failed(), "running": claimed()}
        tasks["canceled"], tasks["queued"] = make_task(), make_task()
        lifecycle.cancel_task(tasks["canceled"].pk)
        return tasks

    return make


@pytest.fixture
def alive(db: None) -> Callable[..., Worker]:
    """Return a factory of workers with a recent heartbeat, with or without an engine."""

    def arrive(name: str, engine: EngineState | None = None) -> Worker:
        identity: dict[str, Any] = {"host": "here", "pid": 1, "version": "1"}
        workers.register_worker(name, age=timedelta(minutes=1), **identity)
        workers.record_heartbeat(name, engine=engine, **identity)
        return Worker.objects.get(pk=name)

    return arrive


@pytest.fixture
def staff(db: None) -> Callable[..., Client]:
    """Return a factory of clients whose user has only these permissions."""

    def login(*permissions: str) -> Client:
        user = User.objects.create_user("-".join(permissions) or "nobody", password="pw", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client()
        client.force_login(user)
        return client

    return login
