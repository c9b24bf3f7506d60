"""Checks of the contract that hold for every response to any request."""

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from django.conf import settings

from tests.support.stack import ROOT

CODES = {
    400: {"invalid_params", "model_not_allowed", "bad_request"},
    404: {"not_found"},
    405: {"method_not_allowed"},
    406: {"not_acceptable"},
    412: {"precondition_failed"},
    413: {"body_too_large"},
    415: {"unsupported_media_type"},
}
SIZE = {"params.width", "params.height"}
TRACE = re.compile(r'Traceback \(most|File "|line \d+, in |site-packages|\.py\b')
PLACES = {str(path) for path in (ROOT, settings.VAR_DIR, sys.prefix, sys.base_prefix, Path.home()) if str(path) != "/"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One request, and the parts of its expected response that are known beforehand."""

    method: str = "POST"
    path: str = "/task"
    headers: Mapping[str, str | bytes] = field(default_factory=lambda: {"content-type": "application/json"})
    content: bytes | None = None
    chunked: bool = False
    status: int | None = None
    # The field paths in a refusal; size fields may come in pairs.
    bad: frozenset[str] | None = None
    # The values that an accepted task echoes.
    sent: dict[str, Any] | None = None

    def __str__(self) -> str:
        shown = repr(self.content)
        shown = shown if len(shown) < 600 else f"{shown[:300]} … {len(shown)} characters"
        return f"{self.method} {self.path[:300]} {str(dict(self.headers))[:300]} {shown}"


@dataclass(kw_only=True)
class Target:
    """A server, and a function that counts its rows."""

    api: httpx2.Client
    count_rows: Callable[[], int]
    statuses: Counter[int] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")

    def __post_init__(self) -> None:
        self.before = self.first = self.count_rows()

    @property
    def requests(self) -> int:
        return self.statuses.total()

    def send_case(self, case: Case) -> httpx2.Response:
        """Send a request and check its response against the contract."""
        answer = self._send_request(case)
        after = self.count_rows()
        made, self.before = after - self.before, after
        try:
            check_response(case, answer, made)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{case}\n{answer.status_code} {answer.text[:1000]}") from None
        return answer

    def _send_request(self, case: Case) -> httpx2.Response:
        content = _split_content(case.content) if case.chunked and case.content is not None else case.content
        headers: dict[str, Any] = dict(case.headers)  # text and bytes in one, which httpx2 takes but does not declare
        started = time.perf_counter()
        answer = self.api.request(case.method, case.path, headers=headers, content=content)
        self.slowest = max(self.slowest, (time.perf_counter() - started, f"{answer.status_code} {case}"[:120]))
        self.statuses[answer.status_code] += 1
        return answer

    def format_summary(self) -> str:
        by_status = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        seconds, slowest = self.slowest
        made = self.before - self.first
        return f"{self.requests} requests ({by_status}); {made} rows; slowest {seconds * 1000:.0f} ms: {slowest}"


def _split_content(content: bytes) -> Iterable[bytes]:
    middle = len(content) // 2
    return iter([part for part in (content[:middle], content[middle:]) if part])


def check_response(case: Case, answer: httpx2.Response, made: int) -> None:
    """Raise an AssertionError if a response, or the number of rows that it created, breaks the contract."""
    status = answer.status_code
    assert status < 500, "the server failed"
    assert made == (status == 201), f"{made} rows were made"
    assert case.status in (None, status), f"{case.status} was due"
    # The root redirects to the admin, whose pages are HTML.
    for_people = answer.request.url.path.strip("/") == "" or answer.request.url.path.startswith("/admin")
    if status >= 400 and case.method != "HEAD" and not for_people:
        _check_error(answer)
    if status >= 400:
        assert not TRACE.search(answer.text), "a traceback is told"
        assert not any(place in answer.text for place in PLACES), "a path of this machine is told"
    if status == 400 and case.bad is not None:
        _check_paths(case.bad, answer)
    if status == 201:
        _check_task(case, answer)


def _check_error(answer: httpx2.Response) -> None:
    assert answer.headers["content-type"] == "application/json", "the error is no JSON"
    body = answer.json()
    error = body["error"]
    assert body.keys() == {"error"}, "more than an error"
    assert error.keys() - {"fields"} == {"code", "message", "retryable"}, "another shape than documented"
    assert error["code"] in CODES.get(answer.status_code, ()), "a code that is not documented"
    assert error["message"], "no message"
    assert error["retryable"] is False, "a refusal is no use to try again"
    if error["code"] in ("invalid_params", "model_not_allowed"):
        assert error["fields"], "no field is named"
        shapes = {(*one,) for one in error["fields"]}
        assert shapes == {("path", "code", "message")}, "a field of another shape than documented"


def _check_paths(bad: frozenset[str], answer: httpx2.Response) -> None:
    named = {one["path"] for one in answer.json()["error"]["fields"]}
    assert bad <= named, f"not named: {sorted(bad - named)}"
    beside = named - bad - (SIZE if bad & SIZE else set())
    assert not beside, f"named without need: {sorted(beside)}"


def _check_task(case: Case, answer: httpx2.Response) -> None:
    task = answer.json()
    assert answer.headers["location"] == f"/task/{task['id']}", "no Location"
    assert (task["status"], task["attempt"]) == ("queued", 0), "a new task is not queued"
    sent = case.sent if case.sent is not None else json.loads(case.content or b"")
    for name, value in sent["params"].items():
        shown = task["params"][name]
        assert (shown, isinstance(shown, str)) == (value, isinstance(value, str)), f"{name} is not echoed"
    assert task["priority"] == sent.get("priority", 0), "the priority is not echoed"
    assert task["task_type"] == sent["task_type"], "the type is not echoed"
