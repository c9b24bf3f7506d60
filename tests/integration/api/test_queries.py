"""What each endpoint asks of PostgreSQL and Redis: exact numbers, the same for one row as for fifty."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks_app.access import api_keys
from tasks_app.events import progress
from tasks_app.models import Status, Task, TaskImage

MakeTask = Callable[..., Task]
Costs = Callable[..., Any]
BODY = {"task_type": "text-to-image", "params": {"model_id": "demo", "prompt": "a house"}}
# What holds more than one statement together, where it is needed.
TRANSACTION = 2


def round_trips() -> int:
    """Return how often Redis has read from anybody's connection, this question included."""
    return int(progress.client.info("stats")["total_reads_processed"])


@pytest.fixture
def costs(django_capture_on_commit_callbacks: Any) -> Costs:
    """Return a context in which exactly so many statements and round trips to Redis are made."""

    @contextmanager
    def counted(*, queries: int, redis: int = 0) -> Iterator[None]:
        before = round_trips()
        with CaptureQueriesContext(connection) as asked, django_capture_on_commit_callbacks(execute=True):
            yield
        assert (len(asked), round_trips() - before - 1) == (queries, redis), "\n".join(
            query["sql"] for query in asked.captured_queries
        )

    return counted


@pytest.fixture
def key(db: None) -> Callable[..., dict[str, str]]:
    """Return a factory of keys, as headers; each was used a moment ago."""

    def make(**limits: Any) -> dict[str, str]:
        user = User.objects.create_user("owner")
        row, token = api_keys.create_api_key(user=user, name="key", scopes=api_keys.DEFAULT_SCOPES, **limits)
        api_keys.touch_api_key(row)
        return {"Authorization": f"Bearer {token}"}

    return make


@pytest.fixture
def finished(make_task: MakeTask) -> MakeTask:
    """Return a factory of tasks that have succeeded, with eight pictures."""

    def make(**fields: Any) -> Task:
        task = make_task(status=Status.SUCCEEDED, finished_at=timezone.now(), **fields)
        row = {"task": task, "attempt": 1, "file": "x.png", "width": 8, "height": 8, "sha256": "0" * 64}
        TaskImage.objects.bulk_create(TaskImage(**row, index=index, seed=index) for index in range(8))
        return task

    return make


def post(client: Client, path: str = "/task", body: Any = BODY, **headers: str) -> Any:
    return client.post(path, body, content_type="application/json", headers=headers)


class TestPost:
    """A task costs the model's row, the INSERT and its place in line; a ticket, one round trip."""

    @pytest.fixture(autouse=True)
    def _connected(self, client: Client, db: None, django_capture_on_commit_callbacks: Any) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            assert post(client).status_code == 201

    @pytest.mark.parametrize("waiting", [1, 50])
    def test_without_a_key(self, client: Client, make_task: MakeTask, costs: Costs, waiting: int) -> None:
        for _ in range(waiting):
            make_task()
        with costs(queries=3, redis=1):
            assert post(client).status_code == 201

    def test_with_a_key_its_row(self, client: Client, key: Any, costs: Costs, settings: Any) -> None:
        settings.MAX_QUEUED_PER_KEY = settings.RATE_LIMIT_PER_MINUTE = None
        headers = key()
        with costs(queries=4, redis=1):
            assert post(client, **headers).status_code == 201

    def test_a_rate_is_one_round_trip_to_redis(self, client: Client, key: Any, costs: Costs, settings: Any) -> None:
        settings.MAX_QUEUED_PER_KEY = None
        headers = key(rate_per_minute=10)
        with costs(queries=4, redis=2):
            assert post(client, **headers).status_code == 201

    @pytest.mark.parametrize("waiting", [1, 50])
    def test_a_cap_is_a_lock_and_a_count(
        self, client: Client, key: Any, costs: Costs, settings: Any, waiting: int
    ) -> None:
        settings.RATE_LIMIT_PER_MINUTE = None
        headers = key(max_queued=100)
        for _ in range(waiting):
            post(client, **headers)
        with costs(queries=4 + TRANSACTION + 2, redis=1):
            assert post(client, **headers).status_code == 201

    def test_a_name_is_kept_with_one_statement(self, client: Client, costs: Costs) -> None:
        with costs(queries=3 + TRANSACTION + 1, redis=1):
            assert post(client, **{"Idempotency-Key": "one"}).status_code == 201

    def test_a_repeated_request_reads_its_task(self, client: Client, costs: Costs) -> None:
        post(client, **{"Idempotency-Key": "one"})
        with costs(queries=1 + TRANSACTION + 3 + 1):
            assert post(client, **{"Idempotency-Key": "one"}).status_code == 200

    def test_a_refused_request_costs_nothing(self, client: Client, costs: Costs) -> None:
        with costs(queries=0):
            assert post(client, body={"task_type": "text-to-video"}).status_code == 400

    def test_openai(self, client: Client, costs: Costs) -> None:
        with costs(queries=2, redis=1):
            assert post(client, "/v1/images/generations", {"prompt": "a house", "model": "demo"}).status_code == 202

    def test_a1111_reads_the_model_that_was_chosen(self, client: Client, costs: Costs) -> None:
        with costs(queries=3, redis=1):
            assert post(client, "/sdapi/v1/txt2img", {"prompt": "a house"}).status_code == 202


class TestTask:
    """One task is one query; its place in line is another while it waits."""

    def test_queued(self, client: Client, make_task: MakeTask, costs: Costs) -> None:
        task = make_task()
        with costs(queries=2):
            assert client.get(f"/task/{task.pk}").json()["queue_position"] == 1

    def test_running(self, client: Client, claimed: MakeTask, costs: Costs) -> None:
        task = claimed()
        with costs(queries=1, redis=1):
            assert client.get(f"/task/{task.pk}").status_code == 200

    @pytest.mark.parametrize("path", ["", "/images", "/links"])
    def test_succeeded_with_eight_pictures(self, client: Client, finished: MakeTask, costs: Costs, path: str) -> None:
        task = finished()
        with costs(queries=1):
            assert client.get(f"/task/{task.pk}{path}").status_code == 200

    def test_a_picture(self, client: Client, finished: MakeTask, costs: Costs) -> None:
        task = finished()
        TaskImage.objects.filter(index=3).update(file=default_storage.save("x.png", ContentFile(b"x")))
        with costs(queries=1):
            assert client.get(f"/task/{task.pk}/images/3").status_code == 200

    def test_a_cancel(self, client: Client, make_task: MakeTask, costs: Costs) -> None:
        task, another = make_task(), make_task()
        post(client, f"/task/{another.pk}/cancel", {})  # Redis gets to know its scripts
        # Who may; the transition, in a transaction with one inside; what its watchers are told; the answer.
        with costs(queries=1 + 2 * TRANSACTION + 3 + 1 + 1, redis=2):
            assert post(client, f"/task/{task.pk}/cancel", {}).json()["status"] == Status.CANCELED


class TestLists:
    """A list is one query for any number of rows, and one more for the places of those that wait."""

    @pytest.mark.parametrize("rows", [1, 50])
    def test_succeeded(self, client: Client, finished: MakeTask, costs: Costs, rows: int) -> None:
        for _ in range(rows):
            finished()
        with costs(queries=1):
            assert len(client.get("/task?limit=50").json()["results"]) == rows

    @pytest.mark.parametrize("rows", [1, 50])
    def test_queued(self, client: Client, make_task: MakeTask, costs: Costs, rows: int) -> None:
        for _ in range(rows):
            make_task()
        with costs(queries=2):
            assert len(client.get("/task?limit=50").json()["results"]) == rows

    def test_of_a_model_by_its_public_name(self, client: Client, finished: MakeTask, costs: Costs) -> None:
        finished()
        with costs(queries=2):
            assert client.get("/task?model_id=demo").status_code == 200

    @pytest.mark.parametrize(
        ("path", "queries"),
        [("/models", 2), ("/v1/models", 1), ("/sdapi/v1/sd-models", 1), ("/sdapi/v1/options", 2)],
    )
    def test_models(self, client: Client, db: None, costs: Costs, path: str, queries: int) -> None:
        with costs(queries=queries):
            assert client.get(path).status_code == 200

    def test_a1111s_progress_of_nothing(self, client: Client, db: None, costs: Costs) -> None:
        with costs(queries=2):
            assert client.get("/sdapi/v1/progress").status_code == 200

    @pytest.mark.parametrize("rows", [1, 50])
    def test_the_page(self, client: Client, finished: MakeTask, costs: Costs, rows: int) -> None:
        for _ in range(rows):
            finished()
        with costs(queries=3):
            assert client.get("/").status_code == 200


class TestAdmin:
    """A page of the admin is as many queries for one task as for fifty; two of them are who asks."""

    @pytest.mark.parametrize("rows", [1, 50])
    def test_the_list(self, admin_client: Client, finished: MakeTask, costs: Costs, rows: int) -> None:
        for _ in range(rows):
            finished()
        with costs(queries=8):
            assert admin_client.get("/admin/tasks_app/task/").status_code == 200

    @pytest.mark.parametrize("others", [0, 50])
    def test_a_task(self, admin_client: Client, finished: MakeTask, costs: Costs, others: int) -> None:
        task = finished()
        for _ in range(others):
            finished(retried_from=task)
        ContentType.objects.get_for_model(Task)  # which Django keeps from its first use on
        with costs(queries=8, redis=1):
            assert admin_client.get(f"/admin/tasks_app/task/{task.pk}/change/").status_code == 200
