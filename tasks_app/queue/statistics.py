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
class Queue:
    """What waits and what runs; `oldest` came first of those that wait."""

    queued: int
    running: int
    oldest: datetime | None


@dataclass(frozen=True, kw_only=True)
class Depth:
    """How many tasks of a priority wait, and for how many seconds the oldest of them."""

    priority: int
    queued: int
    oldest_seconds: float


@dataclass(frozen=True, kw_only=True)
class Window:
    """A stretch of time up to now, cut into equal pieces."""

    name: str
    length: timedelta
    piece: timedelta


@dataclass(frozen=True, kw_only=True)
class Piece:
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
    Window(name="1h", length=timedelta(hours=1), piece=timedelta(minutes=1)),
    Window(name="24h", length=timedelta(hours=24), piece=timedelta(minutes=30)),
    Window(name="7d", length=timedelta(days=7), piece=timedelta(hours=3)),
)

_TABLE = Task._meta.db_table
_DEPTHS = f"""
SELECT priority, count(*), EXTRACT(epoch FROM statement_timestamp() - min(created_at))
FROM {_TABLE} WHERE status = 'queued' GROUP BY priority
"""
_ENDED = ", ".join(f"'{status}'" for status in TERMINAL)
_RUN = "EXTRACT(epoch FROM finished_at - started_at)"
_WAIT = "EXTRACT(epoch FROM started_at - created_at)"


def _percentile(share: float, seconds: str) -> str:
    return f"percentile_cont({share}) WITHIN GROUP (ORDER BY {seconds}) FILTER (WHERE status = 'succeeded')"


_PIECES = f"""
SELECT date_bin(make_interval(secs => %(piece)s), finished_at, 'epoch'),
       count(*) FILTER (WHERE status = 'succeeded'),
       count(*) FILTER (WHERE status = 'failed'),
       count(*) FILTER (WHERE status = 'canceled'),
       {_percentile(0.5, _RUN)}, {_percentile(0.95, _RUN)}, {_percentile(0.5, _WAIT)}, {_percentile(0.95, _WAIT)}
FROM {_TABLE}
WHERE status IN ({_ENDED}) AND finished_at >= %(since)s
GROUP BY 1
"""


def queue() -> Queue:
    """Return what waits and what runs now."""
    queued = Task.objects.filter(status=Status.QUEUED).aggregate(count=Count("*"), oldest=Min("created_at"))
    return Queue(queued=queued["count"], running=running(), oldest=queued["oldest"])


def running() -> int:
    """Return how many tasks run now."""
    return Task.objects.filter(status=Status.RUNNING).count()


def depths() -> list[Depth]:
    """Return what waits now, by priority."""
    with connection.cursor() as cursor:
        cursor.execute(_DEPTHS)
        return [
            Depth(priority=priority, queued=queued, oldest_seconds=float(seconds))
            for priority, queued, seconds in cursor.fetchall()
        ]


def pieces(window: Window, now: datetime) -> list[Piece]:
    """Return every piece of the window, the oldest first; the last one is not over yet."""
    starts = list(_starts(window, now))
    with connection.cursor() as cursor:
        cursor.execute(_PIECES, {"piece": window.piece.total_seconds(), "since": starts[0]})
        found = {row[0]: row for row in cursor.fetchall()}
    return [_piece(*found[start]) if start in found else Piece(start=start) for start in starts]


def failures(window: Window) -> dict[str, int]:
    """Return how many tasks failed in the window, by code, the most frequent first."""
    failed = Task.objects.filter(status=Status.FAILED, finished_at__gte=Now() - window.length)
    counts = failed.order_by().values_list("error_code").annotate(count=Count("*"))
    return dict(sorted(counts, key=lambda row: -row[1]))


def _starts(window: Window, now: datetime) -> Iterator[datetime]:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    last = epoch + (now - epoch) // window.piece * window.piece
    count = window.length // window.piece
    return (last - (count - 1 - index) * window.piece for index in range(count))


def _piece(start: datetime, succeeded: int, failed: int, canceled: int, *seconds: float | None) -> Piece:
    run_p50, run_p95, wait_p50, wait_p95 = (None if value is None else round(float(value), 3) for value in seconds)
    return Piece(
        start=start,
        succeeded=succeeded,
        failed=failed,
        canceled=canceled,
        run_p50=run_p50,
        run_p95=run_p95,
        wait_p50=wait_p50,
        wait_p95=wait_p95,
    )
