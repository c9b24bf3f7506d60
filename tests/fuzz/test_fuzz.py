"""No request of hundreds, or of thousands, breaks the contract."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tasks_app.models import Task
from tests.fuzz import bodies, requests
from tests.fuzz.checks import Case, Target

# How many of a hundred requests are of which kind.
SHARES = {"accepted": 22, "refused": 34, "body": 14, "large": 1, "type": 4, "header": 10, "query": 7, "path": 8}
SHORT, FULL = 400, 6000


def strategies(tasks: list[Task]) -> dict[str, st.SearchStrategy[Case]]:
    return {
        "accepted": bodies.accepted_cases(),
        "refused": bodies.refused_cases(),
        "body": requests.odd_bodies,
        "large": requests.large,
        "type": requests.other_types,
        "header": requests.odd_headers,
        "query": requests.queries,
        "path": requests.path_cases([task.pk for task in tasks]),
    }


def campaign(target: Target, tasks: list[Task], total: int, **options: Any) -> None:
    """Send so many requests of all kinds."""
    for kind, strategy in strategies(tasks).items():
        rounds: Callable[..., Any] = hypothesis_settings(
            max_examples=total * SHARES[kind] // 100,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            **options,
        )
        due = target.requests + total * SHARES[kind] // 100
        while target.requests < due:  # a kind with few different requests is gone through again
            rounds(given(strategy)(lambda case: _ask(target, case)))()


def _ask(target: Target, case: Case) -> None:
    answer = target.send_case(case)
    if answer.status_code == 201 and target.statuses[201] % 4 == 0:
        again = target.send_case(Case(method="GET", path=answer.headers["location"], headers={}, status=200))
        # Others may have been canceled meanwhile, and the URLs are those of the host that was asked for.
        changing = {"queue_position": None, "urls": None}
        assert {**again.json(), **changing} == {**answer.json(), **changing}, "the task is another than was told"


def test_hundreds_of_odd_requests_keep_the_contract(
    target: Target, tasks: list[Task], capsys: pytest.CaptureFixture[str]
) -> None:
    campaign(target, tasks, SHORT, derandomize=True)
    with capsys.disabled():
        print(f"\n{target.format_summary()}")
    assert target.requests >= SHORT


@pytest.mark.fuzz
@pytest.mark.timeout(1800)
def test_thousands_of_odd_requests_keep_the_contract(
    target: Target, tasks: list[Task], capsys: pytest.CaptureFixture[str]
) -> None:
    campaign(target, tasks, FULL, print_blob=True)
    with capsys.disabled():
        print(f"\n{target.format_summary()}")
    assert target.requests >= FULL
