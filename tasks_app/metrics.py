"""Prometheus metrics, read from rows and Redis at each scrape, so that all web processes report the same values.

A scrape takes four queries through partial indexes and one call to Redis, with any number of tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from django.db.models import F
from django.db.models.functions import Extract, Now
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tasks_app.events import status_events
from tasks_app.models import Pause
from tasks_app.queue import pauses, statistics, workers

METRIC_PREFIX = "diffusers_handler_"


class _ServiceCollector(Collector):
    """Collector of the metrics of the whole service."""

    def collect(self) -> Iterable[Metric]:
        """Yield the current metrics.

        Raises:
            OperationalError, InterfaceError: the database is unavailable.
        """
        yield from _collect_queued()
        yield _build_gauge("tasks_running", "Running tasks.", statistics.count_running())
        yield from _collect_workers()
        yield _collect_paused()
        counts = status_events.read_counters()
        yield _build_gauge(
            "redis_up", "1 if Redis responds. Without it, metrics of ended tasks are missing.", int(counts is not None)
        )
        if counts is not None:
            yield _build_counter("tasks_ended", "Tasks that ended.", ["status", "model"], counts, "ended")
            yield _build_counter("task_failures", "Failed tasks.", ["code", "model"], counts, "failures")
            yield _build_histogram(
                "task_wait_seconds", "Succeeded tasks: time from the POST to the last claim.", counts, "wait"
            )
            yield _build_histogram(
                "task_run_seconds", "Succeeded tasks: time from the last claim to the end.", counts, "run"
            )


_registry = CollectorRegistry(auto_describe=False)
_registry.register(_ServiceCollector())


def render_metrics() -> bytes:
    """Return all metrics in the Prometheus text format."""
    return generate_latest(_registry)


def _build_gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(METRIC_PREFIX + name, about, value=value)


def _collect_queued() -> Iterator[Metric]:
    depths = statistics.list_priority_depths()
    queued = {0: 0} | {depth.priority: depth.queued for depth in depths}
    family = GaugeMetricFamily(METRIC_PREFIX + "tasks_queued", "Queued tasks.", labels=["priority"])
    for priority, count in sorted(queued.items()):
        family.add_metric([str(priority)], count)
    yield family
    oldest = max((depth.oldest_seconds for depth in depths), default=0.0)
    yield _build_gauge("oldest_queued_task_seconds", "Age of the oldest queued task.", oldest)


def _collect_workers() -> Iterator[Metric]:
    """Yield metrics of all workers except those that ended on purpose.

    A dead worker's row, and with it `worker_up 0`, stays for a day.
    """
    up = GaugeMetricFamily(METRIC_PREFIX + "worker_up", "1 if the worker is alive.", labels=["worker"])
    silent = GaugeMetricFamily(
        METRIC_PREFIX + "worker_silent_seconds", "Time since the last heartbeat.", labels=["worker"]
    )
    device = ["worker", "device"]
    used = GaugeMetricFamily(
        METRIC_PREFIX + "device_memory_used_bytes", "Used memory; on a CPU, by the worker.", labels=device
    )
    total = GaugeMetricFamily(
        METRIC_PREFIX + "device_memory_total_bytes", "Total memory; on a CPU, of the host.", labels=device
    )
    model = ["worker", "model"]
    loads = CounterMetricFamily(METRIC_PREFIX + "model_loads", "Loads of the model.", labels=model)
    hits = CounterMetricFamily(METRIC_PREFIX + "model_cache_hits", "Calls that found the model loaded.", labels=model)
    silence = Extract(Now() - F("seen_at"), "epoch")
    for worker in workers.list_workers().annotate(silence=silence).exclude(left_at__isnull=False):
        alive = worker.state in workers.ALIVE_STATES
        up.add_metric([worker.name], int(alive))
        silent.add_metric([worker.name], float(worker.silence))
        if alive and worker.memory_used is not None and worker.memory_total is not None:
            used.add_metric([worker.name, worker.device], worker.memory_used)
            total.add_metric([worker.name, worker.device], worker.memory_total)
        for use in worker.uses:
            loads.add_metric([worker.name, use["model_id"]], use["loads"])
            hits.add_metric([worker.name, use["model_id"]], use["hits"])
    yield from (up, silent, used, total, loads, hits)


def _collect_paused() -> Metric:
    active = pauses.list_active_pauses()
    family = GaugeMetricFamily(METRIC_PREFIX + "paused", "1 for each pause.", labels=["scope", "target"])
    family.add_metric([Pause.Scope.QUEUE, ""], int((Pause.Scope.QUEUE, "") in active))
    for scope, target in sorted(active - {(Pause.Scope.QUEUE, "")}):
        family.add_metric([scope, target], 1)
    return family


def _build_counter(name: str, about: str, labels: list[str], counts: status_events.Counters, kind: str) -> Metric:
    family = CounterMetricFamily(METRIC_PREFIX + name, about, labels=labels)
    for (found, *values), count in sorted(counts.items()):
        if found == kind:
            family.add_metric(values, count)
    return family


def _build_histogram(name: str, about: str, counts: status_events.Counters, kind: str) -> Metric:
    family = HistogramMetricFamily(METRIC_PREFIX + name, about, labels=["model"])
    bounds = [*map(floatToGoString, status_events.HISTOGRAM_BUCKETS), "+Inf"]
    for model in sorted({labels[1] for labels in counts if labels[0] == kind}):
        within = accumulate(counts.get((kind, model, str(index)), 0.0) for index in range(len(bounds)))
        family.add_metric([model], list(zip(bounds, within, strict=True)), counts[f"{kind}_sum", model])
    return family
