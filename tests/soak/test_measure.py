"""The soak's own checks: what grows is seen, what wavers is not."""

from dataclasses import replace

from tests.soak.measure import Sample, growth, quarters, rising

STEADY = Sample(
    tasks=0, resident=800_000, anonymous=500_000, descriptors=17, threads=16, postgres=3, redis=4, tickets=0
)
TASKS = range(10, 410, 10)


def test_samples_are_split_by_their_number_of_tasks() -> None:
    parts = quarters([replace(STEADY, tasks=tasks) for tasks in TASKS])
    assert [part[-1].tasks for part in parts] == [90, 190, 290, 400]


def test_what_wavers_is_let_pass() -> None:
    samples = [replace(STEADY, tasks=tasks, descriptors=17 + tasks % 3) for tasks in TASKS]
    assert (rising(samples), growth(samples)) == ([], 1.0)


def test_a_descriptor_in_fifty_tasks_is_seen() -> None:
    samples = [replace(STEADY, tasks=tasks, descriptors=17 + tasks // 50) for tasks in TASKS]
    assert rising(samples) == ["descriptors: 20 -> 25"]


def test_half_a_mebibyte_a_task_is_seen() -> None:
    samples = [replace(STEADY, tasks=tasks, resident=800_000 + 512 * tasks) for tasks in TASKS]
    assert growth(samples) > 1.05
