"""How benchmarks write down what they found."""

import pytest

from tools.benchmarks.harness import report
from tools.benchmarks.harness.report import Line, Target


@pytest.mark.parametrize(
    ("target", "value", "judged"),
    [
        (Target(bound=60, unit=" ms"), 59.9, "≤60 ms: met"),
        (Target(bound=60, unit=" ms"), 60.1, "≤60 ms: missed"),
        (Target(bound=0.9, at_least=True), 0.9, "≥0.9: met"),
        (Target(bound=0.9, at_least=True), 0.89, "≥0.9: missed"),
    ],
)
def test_a_target_says_whether_it_is_met(target: Target, value: float, judged: str) -> None:
    assert target.judge(value) == judged


def test_a_line_tells_the_median_with_its_extremes_and_judges_the_median() -> None:
    line = Line(title="added", values=[90, 10, 20], unit=" ms", digits=0, target=Target(bound=30, unit=" ms"))
    assert line.cells() == ["added", "20 ms", "10 … 90", "≤30 ms: met"]


def test_ratios_are_those_of_each_round() -> None:
    assert report.ratios([10, 30], [5, 10]) == [2, 3]


def test_percentiles_are_interpolated() -> None:
    assert report.percentile([1.0, 2.0, 3.0], 50) == 2
    assert report.percentile([0.0, 10.0], 95) == pytest.approx(9.5)
    assert report.percentile([4.0], 99) == 4


def test_tables_are_markdown_with_aligned_columns() -> None:
    first, rule, *rest = report.grid([["", "s"], ["a title", "1.0"], ["b", "22.0"]]).splitlines()
    assert first == "|         | s    |"
    assert rule == "| ------- | ---- |"
    assert rest == ["| a title | 1.0  |", "| b       | 22.0 |"]


def test_the_machine_is_told_with_the_date() -> None:
    assert "cores" in report.machine()
    assert report.machine().endswith("UTC")
