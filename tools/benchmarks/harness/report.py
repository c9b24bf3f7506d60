"""Reports of benchmark results: spreads, targets and tables, with machine and date."""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil


@dataclass(frozen=True, kw_only=True)
class Target:
    """Target of a figure: an upper or a lower bound."""

    bound: float
    at_least: bool = False
    unit: str = ""

    def judge(self, value: float) -> str:
        """Return the target, and whether the figure meets it."""
        met = value >= self.bound if self.at_least else value <= self.bound
        return f"{'≥' if self.at_least else '≤'}{self.bound:g}{self.unit}: {'met' if met else 'missed'}"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a table: a figure as the median of its measurements, with minimum and maximum, and its target."""

    title: str
    values: Sequence[float]
    unit: str = ""
    digits: int = 2
    target: Target | None = None

    def cells(self) -> list[str]:
        """Return the title, the median, the extremes and the verdict."""
        middle, least, most = (f"{value:.{self.digits}f}" for value in spread(self.values))
        judged = "" if self.target is None else self.target.judge(statistics.median(self.values))
        return [self.title, f"{middle}{self.unit}", f"{least} … {most}", judged]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return median, minimum and maximum."""
    return statistics.median(values), min(values), max(values)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the ratio of our value to theirs for each round."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def percentile(values: Sequence[float], share: int) -> float:
    """Return an interpolated percentile; for a single value, that value."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def table(lines: Sequence[Line]) -> str:
    """Return the lines as a Markdown table that is readable as plain text."""
    return grid([["", "median", "min … max", "target"], *(line.cells() for line in lines)])


def grid(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as a Markdown table with aligned columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    heading, *rest = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heading, ["-" * width for width in widths], *rest])


def machine() -> str:
    """Return a description of this machine and its load, with the date."""
    memory = psutil.virtual_memory().total / 2**30
    load = psutil.getloadavg()[0]
    now = datetime.now(UTC)
    return (
        f"{_processor()}, {psutil.cpu_count()} cores, {memory:.0f} GiB; Python {platform.python_version()}; "
        f"load {load:.1f}; {now:%Y-%m-%d %H:%M} UTC"
    )


def _processor() -> str:
    """Return the processor's name if Linux provides it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.machine()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())


def arguments(about: str | None, *, rounds: int | None = None) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="few and small: counts hold, times mean little")
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help="how often all sides take turns")
    return parser
