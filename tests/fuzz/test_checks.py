"""The fuzz's own checks: each wrong answer is seen, and a right one is let pass."""

import json
from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.fuzz.checks import Case, Target
from tests.fuzz.test_fuzz import campaign
from tests.support import stack

SENT: dict[str, Any] = {"task_type": "text-to-image", "params": {"prompt": "x", "steps": 0}}
REFUSED = Case(content=json.dumps(SENT).encode(), status=400, bad=frozenset({"params.steps"}))
ACCEPTED = Case(content=json.dumps(SENT).encode(), status=201, sent=SENT)
FIELD = {"path": "params.steps", "code": "range", "message": "Must be between 1 and 150."}


def error(fields: list[dict[str, str]], **more: Any) -> dict[str, Any]:
    refusal = {"code": "invalid_params", "message": "Wrong.", "retryable": False, "fields": fields}
    return {"error": {**refusal, **more}}


def task(**more: Any) -> dict[str, Any]:
    shown = {"id": str(uuid4()), "task_type": "text-to-image", "status": "queued", "priority": 0, "attempt": 0}
    return {**shown, "params": SENT["params"], **more}


def stub(status: int, content: Any, *, made: int = 0, kind: str = "application/json") -> Target:
    """Return a target that gives the same answer to everything, and makes so many rows each time."""
    rows = 0

    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        nonlocal rows
        rows += made
        text = content if isinstance(content, str) else json.dumps(content)
        location = f"/task/{content['id']}" if "id" in content and isinstance(content, dict) else ""
        start(f"{status} Stub", [("Content-Type", kind), ("Location", location)])
        return iter([text.encode()])

    api = httpx2.Client(transport=httpx2.WSGITransport(app=application), base_url="http://stub")
    return Target(api=api, count_rows=lambda: rows)


def test_right_answers_pass() -> None:
    assert stub(400, error([FIELD])).send_case(REFUSED).status_code == 400
    assert stub(201, task(), made=1).send_case(ACCEPTED).status_code == 201


WRONG: dict[str, tuple[Target, Case, str]] = {
    "a failure": (stub(500, error([])), REFUSED, "the server failed"),
    "accepted though wrong": (stub(201, task(), made=1), REFUSED, "400 was due"),
    "refused though right": (stub(400, error([FIELD])), ACCEPTED, "201 was due"),
    "no row": (stub(201, task()), ACCEPTED, "0 rows were made"),
    "two rows": (stub(201, task(), made=2), ACCEPTED, "2 rows were made"),
    "a row of a refusal": (stub(400, error([FIELD]), made=1), REFUSED, "1 rows were made"),
    "a page": (stub(400, "<h1>No</h1>", kind="text/html"), REFUSED, "the error is no JSON"),
    "another shape": (stub(400, error([FIELD], detail="x")), REFUSED, "another shape"),
    "an unknown code": (stub(400, error([FIELD], code="oops")), REFUSED, "a code that is not documented"),
    "no field": (stub(400, error([])), REFUSED, "no field is named"),
    "another field": (stub(400, error([{**FIELD, "path": "params.seed"}])), REFUSED, "not named: ['params.steps']"),
    "one field too many": (stub(400, error([FIELD, {**FIELD, "path": "x"}])), REFUSED, "named without need: ['x']"),
    "a traceback": (stub(400, error([FIELD], message='File "x", line 1, in y')), REFUSED, "a traceback is told"),
    "a path": (stub(400, error([FIELD], message=f"{stack.ROOT}/models")), REFUSED, "a path of this machine is told"),
    "another echo": (stub(201, task(params={**SENT["params"], "steps": 1}), made=1), ACCEPTED, "steps is not echoed"),
    "a task that runs": (stub(201, task(status="running"), made=1), ACCEPTED, "a new task is not queued"),
}


@pytest.mark.parametrize(("target", "case", "complaint"), WRONG.values(), ids=WRONG)
def test_a_wrong_answer_is_seen(target: Target, case: Case, complaint: str) -> None:
    with pytest.raises(AssertionError) as seen:
        target.send_case(case)
    assert complaint in str(seen.value)


@pytest.fixture(params=["fails", "makes no row", "makes a row of everything"])
def wrong_server(request: pytest.FixtureRequest) -> Target:
    """Return a server that is wrong throughout."""
    return {
        "fails": stub(500, error([])),
        "makes no row": stub(201, task()),
        "makes a row of everything": stub(400, error([FIELD]), made=1),
    }[request.param]


def test_the_fuzz_fails_at_a_server_that_is_wrong(wrong_server: Target) -> None:
    with pytest.raises(AssertionError, match=r"the server failed|rows were made"):
        campaign(wrong_server, [], 100, derandomize=True)
