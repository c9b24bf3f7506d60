"""Growth of a parser's processor time with the length of its input."""

import gc
import time
from collections.abc import Callable
from statistics import median
from typing import Any

# In shorter runs, the noise of clock and caches would hide the growth of the time.
SHORTEST_RUN_SECONDS = 0.05
RUNS = 5
# An input of this length that is parsed faster than that needs no measurement.
LONGEST_INPUT = 2**23


def growth(parse: Callable[[Any], object], make: Callable[[int], Any]) -> float:
    """Return the factor by which `parse` takes longer for an input of twice the length."""
    size = 1024
    while cpu_seconds(parse, make(size)) < SHORTEST_RUN_SECONDS:
        if size >= LONGEST_INPUT:
            return 1.0
        size *= 2
    short, long = (median(cpu_seconds(parse, make(length)) for _ in range(RUNS)) for length in (size, 2 * size))
    return long / short


def cpu_seconds(parse: Callable[[Any], object], text: Any) -> float:
    """Return the processor time of this thread for one call."""
    gc.disable()
    try:
        started = time.thread_time()
        parse(text)
        return time.thread_time() - started
    finally:
        gc.enable()
