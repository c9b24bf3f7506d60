"""The process's pipelines: each is loaded once however many ask, leased to one call at a time, and evicted in turn."""

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
    """Least recently used goes first; a pipeline that is leased or waited for never goes."""

    def __init__(
        self, *, on_evict: Callable[[], None] = lambda: None, size_of: Callable[[Any], int] = lambda pipeline: 0
    ) -> None:
        """`on_evict` is called when pipelines have been dropped, to give the device its memory back.

        `size_of` says how many bytes a pipeline takes.
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
        """Hold the pipeline of this key alone; it is loaded if nobody did so before.

        Others are evicted, as far as they are free, until with this one at most `capacity` and `max_bytes` are kept:
        before it is loaded, and again after its first load, before which nobody knows its size. It is kept itself,
        however large.
        """
        entry = self._acquire_entry(key)
        try:
            with entry.lock:
                found = entry.pipeline is not None
                if not found:
                    self._evict_to_fit(capacity, max_bytes)
                    if self._discarded:
                        self._collect_garbage()  # only now: it was in use when it was discarded
                    entry.pipeline = load()
                    self._sizes[key] = self._size_of(entry.pipeline)
                    self._evict_to_fit(capacity, max_bytes)
                self._count_lease(key, found=found)
                yield entry.pipeline
        finally:
            self._release_entry(key, entry)

    def update_size(self, key: Hashable, *, capacity: int, max_bytes: int | None = None) -> None:
        """Look anew how large a leased pipeline is, and make room for it as `lease` does."""
        self._sizes[key] = self._size_of(self._entries[key].pipeline)
        self._evict_to_fit(capacity, max_bytes)

    def discard(self, key: Hashable) -> None:
        """Let go of a leased pipeline, which is not to be used again: the next lease loads it anew."""
        self._entries[key].pipeline = None
        self._discarded = True

    def keys(self) -> list[Any]:
        """Return what is loaded, the least recently used first."""
        with self._lock:
            return [key for key, entry in self._entries.items() if entry.pipeline is not None]

    def get_usage(self) -> list[tuple[Any, int, int]]:
        """Return for every key how often its pipeline was loaded, and how often a lease found it loaded."""
        with self._lock:
            return [(key, loads, self._hits[key]) for key, loads in self._loads.items()]

    def clear(self) -> None:
        """Evict everything that is free."""
        self.evict(lambda key: True)

    def evict(self, wanted: Callable[[Any], bool]) -> None:
        """Evict what is free and whose key is wanted to go."""
        with self._lock:
            self._drop_entries([key for key, entry in self._entries.items() if not entry.lease_count and wanted(key)])

    def evict_idle(self, seconds: float) -> None:
        """Evict what is free and has been for so long."""
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
        # Pipelines hold themselves in cycles: without a collection the memory stays taken.
        gc.collect()
        self._on_evict()
        self._discarded = False
