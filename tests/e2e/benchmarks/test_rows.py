"""How a large table is compared with a small one."""

import pytest

from tools.benchmarks import rows

TAKEN = {"small": [10.0, 20.0, 40.0], "large": [15.0, 20.0, 20.0]}


def test_each_run_is_compared_with_its_neighbour() -> None:
    assert rows.ratios(TAKEN) == [1.5, 1.0, 0.5]


def test_a_line_has_both_medians_the_ratio_its_bounds_and_the_verdict() -> None:
    assert rows.row("claim", TAKEN).split() == ["claim", "20.0", "20.0", "1.00", "(0.50", "…", "1.50)", "met"]


@pytest.mark.parametrize(("middle", "verdict"), [(1.5, "met"), (1.51, "missed")])
def test_the_median_decides(middle: float, verdict: str) -> None:
    assert rows.verdict("claim", [0.1, middle, 99.0]) == verdict


def test_what_costs_by_its_window_has_no_target() -> None:
    assert rows.row(rows.UNBOUNDED[0], TAKEN).endswith("1.50)")


def test_short_is_smaller_and_each_size_can_be_said() -> None:
    short, full = rows.arguments(["--short"]), rows.arguments([])
    assert (short.small, short.large, short.runs) == (10_000, 50_000, 3)
    assert (full.small, full.large, full.runs) == (10_000, 1_000_000, 7)
    assert rows.arguments(["--short", "--large", "20000"]).large == 20_000
