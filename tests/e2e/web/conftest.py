"""Fixtures of the running service, its pages in a browser, and finished tasks that need no worker."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import transaction
from PIL import Image

from tasks_app.contracts import Claim
from tasks_app.engine.types import GeneratedImage
from tasks_app.models import Task
from tests.support import stack as stacks
from tests.support.acting import store_images
from tests.support.browser import (
    OpenPage,
    WatchedPage,
)
from tests.support.claims import claim_one, succeed_one
from tests.support.stack import Stack

FinishTask = Callable[..., Task]
# These files are only listed and named; no worker could load them.
ADD_ONS = ("loras/ink.safetensors", "loras/glow.safetensors", "embeddings/cat.safetensors")


@pytest.fixture(scope="package")
def stack(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run the service for all tests of the web UI."""
    add_ons = tmp_path_factory.mktemp("add-ons")
    for name in ADD_ONS:
        (add_ons / name).parent.mkdir(exist_ok=True)
        (add_ons / name).touch()
    folders = {"LORAS_DIR": str(add_ons / "loras"), "EMBEDDINGS_DIR": str(add_ons / "embeddings")}
    with django_db_blocker.unblock():
        environment = stacks.build_environment(DEFAULT_MODEL_ID="demo", **folders)
    with stacks.run_stack(tmp_path_factory.mktemp("logs"), environment) as running:
        yield running


@pytest.fixture
def visit(stack: Stack, transactional_db: None, open_page: OpenPage) -> Callable[..., WatchedPage]:
    """Return a function that opens the web UI and waits until its scripts are active."""

    def open_it(path: str = "/", **options: Any) -> WatchedPage:
        watched = open_page(str(stack.api.base_url), **options)
        answer = watched.page.goto(path)
        assert answer is not None
        assert answer.ok, answer.text()
        watched.page.wait_for_selector("#composer [type=submit]:enabled")
        return watched

    return open_it


@pytest.fixture
def finish_task(make_task: Callable[..., Task]) -> FinishTask:
    """Return a factory of tasks with images, created in one transaction, so that no worker claims them first."""

    @transaction.atomic
    def make(*, images: int = 1, side: int = 32, **fields: Any) -> Task:
        task = make_task(**{"params": {"num_images": images}, **fields})
        claimed = claim_one(worker="a-worker:1", lease_seconds=30)
        assert claimed is not None
        assert claimed.pk == task.pk
        claim = Claim(task_id=task.pk, attempt=claimed.attempt)
        drawn = [
            GeneratedImage(seed=7 + index, image=Image.new("RGB", (side, side), (200, 60 * index % 256, 40)))
            for index in range(images)
        ]
        size = {"width": side, "height": side}
        assert succeed_one(claim, store_images(claim, drawn), revision="r1", timings={"denoising": 1.5}, size=size)
        task.refresh_from_db()
        return task

    return make
