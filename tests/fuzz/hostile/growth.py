"""Measure how a parser's processor time grows with its input."""

import gc
import time
from collections.abc import Callable
from statistics import median
from typing import Any

# Below this, what the clock and the caches add would hide how the time grows.
SHORTEST_RUN_SECONDS = 0.05
RUNS = 5
# An input this long that is still parsed in less time needs no measuring.
LONGEST_INPUT = 2**23


def growth(parse: Callable[[Any], object], make: Callable[[int], Any]) -> float:
    """Return how many times as long `parse` takes when `make` is asked for an input twice as long."""
    size = 1024
    while cpu_seconds(parse, make(size)) < SHORTEST_RUN_SECONDS:
        if size >= LONGEST_INPUT:
            return 1.0
        size *= 2
    short, long = (median(cpu_seconds(parse, make(length)) for _ in range(RUNS)) for length in (size, 2 * size))
    return long / short


def cpu_seconds(parse: Callable[[Any], object], text: Any) -> float:
    """Return the processor time of this thread that one call takes."""
    gc.disable()
    try:
        started = time.thread_time()
        parse(text)
        return time.thread_time() - started
    finally:
        gc.enable()
