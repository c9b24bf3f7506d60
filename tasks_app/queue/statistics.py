"""Statistics over many tasks for the dashboard: queue depth, throughput, latency and failures.

Every query reads the queue or a time window through an index; none scans the whole table.
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
    """Numbers of queued and running tasks; `oldest` is the creation time of the oldest queued task."""

    queued: int
    running: int
    oldest: datetime | None


@dataclass(frozen=True, kw_only=True)
class PriorityDepth:
    """Number of queued tasks of one priority, and the waiting time of the oldest of them in seconds."""

    priority: int
    queued: int
    oldest_seconds: float


@dataclass(frozen=True, kw_only=True)
class TimeWindow:
    """A period of time up to now, divided into buckets of equal length."""

    name: str
    length: timedelta
    bucket_length: timedelta


@dataclass(frozen=True, kw_only=True)
class TimeBucket:
    """Tasks that ended within one bucket of a window.

    Times are medians and 95th percentiles, in seconds, of the tasks that succeeded: `run` from the last claim to the
    end, `wait` from the submission to that claim. They are None if no task succeeded.
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
    """Return the current numbers of queued and running tasks."""
    queued = Task.objects.filter(status=Status.QUEUED).aggregate(count=Count("*"), oldest=Min("created_at"))
    return QueueSummary(queued=queued["count"], running=count_running(), oldest=queued["oldest"])


def count_running() -> int:
    """Return the number of running tasks."""
    return Task.objects.filter(status=Status.RUNNING).count()


def list_priority_depths() -> list[PriorityDepth]:
    """Return the number of queued tasks and the longest waiting time for each priority."""
    with connection.cursor() as cursor:
        cursor.execute(_SELECT_DEPTHS)
        return [
            PriorityDepth(priority=priority, queued=queued, oldest_seconds=float(seconds))
            for priority, queued, seconds in cursor.fetchall()
        ]


def list_time_buckets(window: TimeWindow, now: datetime) -> list[TimeBucket]:
    """Return all buckets of the window, the oldest first; the last one is not complete yet."""
    starts = list(_bucket_starts(window, now))
    with connection.cursor() as cursor:
        cursor.execute(_SELECT_BUCKETS, {"piece": window.bucket_length.total_seconds(), "since": starts[0]})
        found = {row[0]: row for row in cursor.fetchall()}
    return [_build_bucket(*found[start]) if start in found else TimeBucket(start=start) for start in starts]


def count_failures(window: TimeWindow) -> dict[str, int]:
    """Return the number of tasks that failed in the window by error code, the most frequent first."""
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
