"""How lines are logged: by the formatter alone, and by a web server and a worker."""

import io
import json
import logging
import logging.config
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars

from project import log_config
from tasks_app.models import Task
from tests.support import stack as stacks
from tests.support.stack import Stack, wait_until

Line = dict[str, Any]


@pytest.fixture
def logged() -> Callable[..., str]:
    """Return a function that logs something in a format and returns what is written."""

    def write(log: Callable[[logging.Logger], None], *, as_json: bool) -> str:
        configurator: Any = logging.config.DictConfigurator(log_config.build_logging_config(as_json=as_json))
        written = io.StringIO()
        handler = logging.StreamHandler(written)
        handler.setFormatter(configurator.configure_formatter(configurator.config["formatters"]["structured"]))
        logger = logging.Logger("a.logger")
        logger.addHandler(handler)
        log(logger)
        return written.getvalue()

    return write


def test_a_line_of_json_says_what_it_belongs_to(logged: Callable[..., str]) -> None:
    with bound_contextvars(request_id="abc"):
        extra = {"task": "1", "request": object()}
        text = logged(lambda logger: logger.warning("Two\nlines, %s.", "of one", extra=extra), as_json=True)
    line = json.loads(text)
    assert line.pop("timestamp").endswith("Z")
    assert text.count("\n") == 1
    assert line == {
        "event": "Two\nlines, of one.",
        "level": "warning",
        "logger": "a.logger",
        "request_id": "abc",
        "task": "1",
    }


def test_a_line_for_people_is_no_json_and_says_the_same(logged: Callable[..., str]) -> None:
    with bound_contextvars(request_id="abc"):
        text = logged(lambda logger: logger.warning("Two of %s.", "one"), as_json=False)
    assert "Two of one." in text
    assert "request_id=abc" in text
    assert "\x1b" not in text
    assert not text.startswith("{")


def fail(logger: logging.Logger) -> None:
    prompt = "a secret prompt"
    try:
        raise ValueError("Bearer abcdefgh12345678 is wrong")
    except ValueError:
        logger.exception("It failed, with a prompt of %s characters.", len(prompt))


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_is_in_the_line_without_variables_or_tokens(logged: Callable[..., str], as_json: bool) -> None:
    text = logged(fail, as_json=as_json)
    assert "Traceback (most recent call last)" in text
    assert "ValueError: Bearer " in text
    assert "abcdefgh12345678" not in text
    assert "a secret prompt" not in text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Authorization: Bearer abc.def-1234", "Authorization: Bearer …"),
        ("Authorization: Token 0123456789abcdef", "Authorization: Token …"),
        ("hf_abcdefghijkl, dh_0123456789abcdef, whsec_abc+/def12=", "hf_…, dh_…, whsec_…="),
        ("GET /x?a=1&signature=abc%3D&b=2", "GET /x?a=1&signature=…&b=2"),
        ("https://s3/x?X-Amz-Signature=ab&X-Amz-Credential=cd", "https://s3/x?X-Amz-Signature=…&X-Amz-Credential=…"),
        ("postgresql://me:a-password@host/db", "postgresql://me:…@host/db"),
        ("redis://:a-password@host", "redis://:…@host"),
    ],
)
def test_secrets_are_not_written(text: str, written: str) -> None:
    assert log_config.redact_secrets(text) == written


@pytest.mark.parametrize("text", ["A basic understanding of tokens.", "http://host:8000/task?limit=5&cursor=abc"])
def test_other_words_stay(text: str) -> None:
    assert log_config.redact_secrets(text) == text


@pytest.fixture(scope="module")
def stack(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with django_db_blocker.unblock():
        environment = stacks.build_environment()
    with stacks.run_stack(tmp_path_factory.mktemp("logs"), environment) as running:
        yield running


def lines(stack: Stack, part: str) -> list[Line]:
    """Return what a part has logged, but for the lines of Dramatiq's master, which never loads Django."""
    written = (stack.logs / f"{part}.log").read_text().splitlines()
    return [json.loads(line) for line in written if "[dramatiq.MainProcess]" not in line and line[:2] not in ("", " *")]


def those(stack: Stack, part: str, **fields: Any) -> list[Line]:
    return [line for line in lines(stack, part) if fields.items() <= line.items()]


@pytest.mark.django_db(transaction=True)
def test_a_task_is_followed_from_its_request_to_its_end(stack: Stack) -> None:
    stack.api.headers["X-Request-ID"] = "the-post"
    task = stack.submit_task("pace 0", provider="fake", steps=2)
    stack.api.headers["X-Request-ID"] = "the-stream"
    with stack.api.stream("GET", f"/task/{task['id']}/events") as stream:
        assert stream.headers["X-Request-ID"] == "the-stream"
        assert "event: done" in "".join(stream.iter_text())
    del stack.api.headers["X-Request-ID"]
    (queued,) = those(stack, "web", task=task["id"])
    assert (queued["request_id"], queued["level"]) == ("the-post", "info")
    assert (
        wait_until(lambda: those(stack, "web", request_id="the-stream", status=200), bool)[0]["path"]
        == f"/task/{task['id']}/events"
    )
    # What has ended is logged once its watchers know.
    both = wait_until(lambda: those(stack, "worker", task=task["id"], attempt=1), lambda found: len(found) > 1)
    events = [line["event"] for line in both]
    assert [event.rpartition("attempt 1 ")[2] for event in events] == ["starts with demo.", "succeeded."]
    worker = Task.objects.get(pk=task["id"]).worker
    assert {line["worker"] for line in those(stack, "worker", task=task["id"])} == {worker}


@pytest.mark.django_db(transaction=True)
def test_an_unexpected_error_is_logged_with_its_traceback_and_its_task(stack: Stack) -> None:
    task = stack.wait_for_task(stack.submit_task("fail", provider="fake"))
    (line,) = wait_until(lambda: those(stack, "worker", task=task["id"], level="error"), bool)
    assert "RuntimeError: as the test wants it" in line["exception"]
    assert line["attempt"] == 1


@pytest.mark.django_db(transaction=True)
def test_requests_that_never_reach_django_are_told_too(stack: Stack) -> None:
    answer = stack.api.post("/task?token=abcdefgh1", content=b"x" * 300_000)
    assert answer.status_code == 413
    (line,) = wait_until(lambda: those(stack, "web", request_id=answer.headers["X-Request-ID"]), bool)
    assert (line["method"], line["path"], line["status"]) == ("POST", "/task", 413)


@pytest.mark.django_db(transaction=True)
def test_what_a_client_does_wrong_leaves_its_line_and_no_traceback(stack: Stack) -> None:
    answer = stack.api.get("/task", headers={"Host": "elsewhere"})
    assert answer.status_code == 400
    told = wait_until(lambda: those(stack, "web", request_id=answer.headers["X-Request-ID"]), bool)
    assert [(line["event"], "exception" in line) for line in told] == [("GET /task: 400", False)]


@pytest.mark.django_db(transaction=True)
def test_what_libraries_log_goes_through_the_same_formatter(stack: Stack) -> None:
    assert [line for line in lines(stack, "web") if line["logger"].startswith("uvicorn") and line["level"] == "info"]
    assert [line for line in lines(stack, "worker") if line["logger"].startswith("dramatiq")]
