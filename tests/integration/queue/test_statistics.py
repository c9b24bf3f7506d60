"""The dashboard's figures."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tasks_app.models import Status, Task
from tasks_app.queue import statistics
from tasks_app.queue.statistics import WINDOWS

MakeTask = Callable[..., Task]
HOUR = WINDOWS[0]


@pytest.fixture
def ended(make_task: MakeTask) -> MakeTask:
    """Return a factory of tasks that ended so long ago, after so many seconds of waiting and running."""

    def make(
        *, ago: timedelta, status: Status = Status.SUCCEEDED, wait: float = 1, run: float = 2, **more: Any
    ) -> Task:
        finished = timezone.now() - ago
        started = finished - timedelta(seconds=run)
        code = {Status.FAILED: "internal", Status.CANCELED: "canceled"}.get(status, "")
        return make_task(
            status=status,
            attempt=1,
            created_at=started - timedelta(seconds=wait),
            started_at=started,
            finished_at=finished,
            **{"error_code": code, **more},
        )

    return make


def test_the_queue_is_what_waits_and_what_runs(make_task: MakeTask, claimed: MakeTask, ended: MakeTask) -> None:
    claimed()
    old = timezone.now() - timedelta(hours=1)
    make_task(created_at=old), make_task()
    ended(ago=timedelta(minutes=1))
    assert statistics.get_queue_summary() == statistics.QueueSummary(queued=2, running=1, oldest=old)


def test_without_tasks_there_is_nothing_that_waits(db: None) -> None:
    assert statistics.get_queue_summary() == statistics.QueueSummary(queued=0, running=0, oldest=None)


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: window.name)
def test_a_window_is_cut_into_equal_pieces_up_to_now(db: None, window: statistics.TimeWindow) -> None:
    now = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
    pieces = statistics.list_time_buckets(window, now)
    assert len(pieces) * window.bucket_length == window.length
    assert pieces[-1].start <= now < pieces[-1].start + window.bucket_length
    assert {after.start - before.start for before, after in pairwise(pieces)} == {window.bucket_length}


def test_what_ended_is_counted_by_outcome_in_its_piece(ended: MakeTask) -> None:
    now = timezone.now().replace(second=30, microsecond=0)
    moment = timezone.now() - now
    for status in (Status.SUCCEEDED, Status.SUCCEEDED, Status.FAILED, Status.CANCELED):
        ended(ago=moment + timedelta(minutes=5), status=status)
    ended(ago=moment + timedelta(hours=3))
    pieces = statistics.list_time_buckets(HOUR, now)
    assert [(piece.succeeded, piece.failed, piece.canceled) for piece in pieces if piece != pieces[-6]] == [
        (0, 0, 0)
    ] * 59
    assert (pieces[-6].succeeded, pieces[-6].failed, pieces[-6].canceled) == (2, 1, 1)


def test_latencies_are_percentiles_of_what_succeeded(ended: MakeTask) -> None:
    now = timezone.now().replace(second=30, microsecond=0)
    moment = timezone.now() - now + timedelta(minutes=5)
    for run in range(1, 101):
        ended(ago=moment, wait=2 * run, run=run)
    ended(ago=moment, status=Status.FAILED, wait=10_000, run=10_000)
    piece = statistics.list_time_buckets(HOUR, now)[-6]
    assert (piece.run_p50, piece.run_p95, piece.wait_p50, piece.wait_p95) == (50.5, 95.05, 101, 190.1)


def test_failures_are_counted_by_code_the_most_frequent_first(ended: MakeTask) -> None:
    for code in ("internal", "timed_out", "timed_out"):
        ended(ago=timedelta(minutes=1), status=Status.FAILED, error_code=code)
    ended(ago=timedelta(hours=2), status=Status.FAILED)
    ended(ago=timedelta(minutes=1), status=Status.CANCELED)
    assert list(statistics.count_failures(HOUR).items()) == [("timed_out", 2), ("internal", 1)]


def test_a_window_is_read_through_its_index(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("EXPLAIN " + statistics._SELECT_BUCKETS, {"piece": 60, "since": timezone.now()})
        assert "task_finished" in "\n".join(row[0] for row in cursor.fetchall())
