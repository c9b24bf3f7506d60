"""Cache of loaded pipelines: each is loaded once, leased to one call at a time, and evicted when space is needed."""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class _Entry:
    pipeline: Any = None
    lease_count: int = 0
    last_used_at: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class PipelineCache:
    """Cache that evicts the least recently used pipeline first, and never one that is leased or waited for."""

    def __init__(
        self, *, on_evict: Callable[[], None] = lambda: None, size_of: Callable[[Any], int] = lambda pipeline: 0
    ) -> None:
        """Create an empty cache; `on_evict` is called after evictions, to free the memory of the device.

        `size_of` returns the size of a pipeline in bytes.
        """
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._loads: Counter[Hashable] = Counter()
        self._hits: Counter[Hashable] = Counter()
        self._sizes: dict[Hashable, int] = {}
        self._discarded = False
        self._on_evict = on_evict
        self._size_of = size_of

    @contextmanager
    def lease(
        self, key: Hashable, load: Callable[[], Any], *, capacity: int, max_bytes: int | None = None
    ) -> Iterator[Any]:
        """Lease the pipeline of this key exclusively; load it if it is not in the cache.

        Other pipelines that are not leased are evicted until, including this one, at most `capacity` pipelines and
        `max_bytes` remain: once before it is loaded, and again after loading, since its size is unknown before its
        first load. The leased pipeline itself is kept, whatever its size.
        """
        entry = self._acquire_entry(key)
        try:
            with entry.lock:
                found = entry.pipeline is not None
                if not found:
                    self._evict_to_fit(capacity, max_bytes)
                    if self._discarded:
                        self._collect_garbage()  # not earlier: it was in use when it was discarded
                    entry.pipeline = load()
                    self._sizes[key] = self._size_of(entry.pipeline)
                    self._evict_to_fit(capacity, max_bytes)
                self._count_lease(key, found=found)
                yield entry.pipeline
        finally:
            self._release_entry(key, entry)

    def update_size(self, key: Hashable, *, capacity: int, max_bytes: int | None = None) -> None:
        """Measure a leased pipeline again, and evict others as `lease` does."""
        self._sizes[key] = self._size_of(self._entries[key].pipeline)
        self._evict_to_fit(capacity, max_bytes)

    def discard(self, key: Hashable) -> None:
        """Drop a leased pipeline that must not be used again; the next lease reloads it."""
        self._entries[key].pipeline = None
        self._discarded = True

    def keys(self) -> list[Any]:
        """Return the keys of the loaded pipelines, the least recently used first."""
        with self._lock:
            return [key for key, entry in self._entries.items() if entry.pipeline is not None]

    def get_usage(self) -> list[tuple[Any, int, int]]:
        """Return each key with the number of loads of its pipeline and of leases that found it loaded."""
        with self._lock:
            return [(key, loads, self._hits[key]) for key, loads in self._loads.items()]

    def clear(self) -> None:
        """Evict all pipelines that are not leased."""
        self.evict(lambda key: True)

    def evict(self, wanted: Callable[[Any], bool]) -> None:
        """Evict the pipelines that are not leased and whose key `wanted` accepts."""
        with self._lock:
            self._drop_entries([key for key, entry in self._entries.items() if not entry.lease_count and wanted(key)])

    def evict_idle(self, seconds: float) -> None:
        """Evict the pipelines that have not been leased for this many seconds."""
        with self._lock:
            since = time.monotonic() - seconds
            self._drop_entries(
                [key for key, entry in self._entries.items() if not entry.lease_count and entry.last_used_at <= since]
            )

    def _acquire_entry(self, key: Hashable) -> _Entry:
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            entry.lease_count += 1
            return entry

    def _count_lease(self, key: Hashable, *, found: bool) -> None:
        with self._lock:
            (self._hits if found else self._loads)[key] += 1

    def _release_entry(self, key: Hashable, entry: _Entry) -> None:
        with self._lock:
            entry.lease_count -= 1
            entry.last_used_at = time.monotonic()
            if entry.pipeline is None and not entry.lease_count:
                del self._entries[key]

    def _evict_to_fit(self, capacity: int, max_bytes: int | None) -> None:
        with self._lock:
            kept = {key: self._sizes.get(key, 0) for key in self._entries}
            dropped = []
            for key in [key for key, entry in self._entries.items() if not entry.lease_count]:
                if len(kept) <= capacity and (max_bytes is None or sum(kept.values()) <= max_bytes):
                    break
                del kept[key]
                dropped.append(key)
            self._drop_entries(dropped)

    def _drop_entries(self, keys: list[Hashable]) -> None:
        for key in keys:
            del self._entries[key]
        if keys:
            self._collect_garbage()

    def _collect_garbage(self) -> None:
        # Pipelines contain reference cycles: without a garbage collection their memory is not freed.
        gc.collect()
        self._on_evict()
        self._discarded = False
