"""Figures over many tasks, for the dashboard: what waits, what ended when and how quickly, what failed and why.

Every query looks at the queue or at a window of time through an index; none counts the whole table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import connection
from django.db.models import Count, Min
from django.db.models.functions import Now

from tasks_app.models import TERMINAL, Status, Task


@dataclass(frozen=True, kw_only=True)
class QueueSummary:
    """What waits and what runs; `oldest` came first of those that wait."""

    queued: int
    running: int
    oldest: datetime | None


@dataclass(frozen=True, kw_only=True)
class PriorityDepth:
    """How many tasks of a priority wait, and for how many seconds the oldest of them."""

    priority: int
    queued: int
    oldest_seconds: float


@dataclass(frozen=True, kw_only=True)
class TimeWindow:
    """A stretch of time up to now, cut into equal pieces."""

    name: str
    length: timedelta
    bucket_length: timedelta


@dataclass(frozen=True, kw_only=True)
class TimeBucket:
    """What ended in a piece of a window. Seconds are medians and 95th percentiles of the tasks that succeeded.

    `run` is from the last claim to the end, `wait` from the submission to that claim; None where nothing succeeded.
    """

    start: datetime
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    run_p50: float | None = None
    run_p95: float | None = None
    wait_p50: float | None = None
    wait_p95: float | None = None


WINDOWS = (
    TimeWindow(name="1h", length=timedelta(hours=1), bucket_length=timedelta(minutes=1)),
    TimeWindow(name="24h", length=timedelta(hours=24), bucket_length=timedelta(minutes=30)),
    TimeWindow(name="7d", length=timedelta(days=7), bucket_length=timedelta(hours=3)),
)

_TABLE = Task._meta.db_table
_SELECT_DEPTHS = f"""
SELECT priority, count(*), EXTRACT(epoch FROM statement_timestamp() - min(created_at))
FROM {_TABLE} WHERE status = 'queued' GROUP BY priority
"""
_ENDED = ", ".join(f"'{status}'" for status in TERMINAL)
_RUN_SECONDS = "EXTRACT(epoch FROM finished_at - started_at)"
_WAIT_SECONDS = "EXTRACT(epoch FROM started_at - created_at)"


def _percentile_sql(share: float, seconds: str) -> str:
    return f"percentile_cont({share}) WITHIN GROUP (ORDER BY {seconds}) FILTER (WHERE status = 'succeeded')"


_SELECT_BUCKETS = f"""
SELECT date_bin(make_interval(secs => %(piece)s), finished_at, 'epoch'),
       count(*) FILTER (WHERE status = 'succeeded'),
       count(*) FILTER (WHERE status = 'failed'),
       count(*) FILTER (WHERE status = 'canceled'),
       {_percentile_sql(0.5, _RUN_SECONDS)}, {_percentile_sql(0.95, _RUN_SECONDS)},
       {_percentile_sql(0.5, _WAIT_SECONDS)}, {_percentile_sql(0.95, _WAIT_SECONDS)}
FROM {_TABLE}
WHERE status IN ({_ENDED}) AND finished_at >= %(since)s
GROUP BY 1
"""


def get_queue_summary() -> QueueSummary:
    """Return what waits and what runs now."""
    queued = Task.objects.filter(status=Status.QUEUED).aggregate(count=Count("*"), oldest=Min("created_at"))
    return QueueSummary(queued=queued["count"], running=count_running(), oldest=queued["oldest"])


def count_running() -> int:
    """Return how many tasks run now."""
    return Task.objects.filter(status=Status.RUNNING).count()


def list_priority_depths() -> list[PriorityDepth]:
    """Return what waits now, by priority."""
    with connection.cursor() as cursor:
        cursor.execute(_SELECT_DEPTHS)
        return [
            PriorityDepth(priority=priority, queued=queued, oldest_seconds=float(seconds))
            for priority, queued, seconds in cursor.fetchall()
        ]


def list_time_buckets(window: TimeWindow, now: datetime) -> list[TimeBucket]:
    """Return every piece of the window, the oldest first; the last one is not over yet."""
    starts = list(_bucket_starts(window, now))
    with connection.cursor() as cursor:
        cursor.execute(_SELECT_BUCKETS, {"piece": window.bucket_length.total_seconds(), "since": starts[0]})
        found = {row[0]: row for row in cursor.fetchall()}
    return [_build_bucket(*found[start]) if start in found else TimeBucket(start=start) for start in starts]


def count_failures(window: TimeWindow) -> dict[str, int]:
    """Return how many tasks failed in the window, by code, the most frequent first."""
    failed = Task.objects.filter(status=Status.FAILED, finished_at__gte=Now() - window.length)
    counts = failed.order_by().values_list("error_code").annotate(count=Count("*"))
    return dict(sorted(counts, key=lambda row: -row[1]))


def _bucket_starts(window: TimeWindow, now: datetime) -> Iterator[datetime]:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    last = epoch + (now - epoch) // window.bucket_length * window.bucket_length
    count = window.length // window.bucket_length
    return (last - (count - 1 - index) * window.bucket_length for index in range(count))


def _build_bucket(start: datetime, succeeded: int, failed: int, canceled: int, *seconds: float | None) -> TimeBucket:
    run_p50, run_p95, wait_p50, wait_p95 = (None if value is None else round(float(value), 3) for value in seconds)
    return TimeBucket(
        start=start,
        succeeded=succeeded,
        failed=failed,
        canceled=canceled,
        run_p50=run_p50,
        run_p95=run_p95,
        wait_p50=wait_p50,
        wait_p95=wait_p95,
    )
