"""Errors that reach Sentry, over HTTP, from a web server and a worker."""

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.models.functions import Now

from project import sentry
from tasks_app.models import Task
from tests.support import stack as stacks
from tests.support.stack import Stack, wait_until

Event = dict[str, Any]
PROMPT = "fail with a-hushed-prompt"


class Sentry(ThreadingHTTPServer):
    """What Sentry's SDK sends its envelopes to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.bodies: list[str] = []

    def events(self, error: str) -> list[Event]:
        """Return the events of an error's type."""
        items = [json.loads(line) for body in list(self.bodies) for line in body.splitlines() if line]
        return [item for item in items if error in [one["type"] for one in item.get("exception", {}).get("values", [])]]


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Sentry)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.bodies.append(body.decode())
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def receiver() -> Iterator[Sentry]:
    with Sentry() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def stack(
    django_db_setup: None, django_db_blocker: Any, receiver: Sentry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    with django_db_blocker.unblock():
        environment = stacks.build_environment(SENTRY_DSN=f"http://key@127.0.0.1:{receiver.server_port}/1")
    with stacks.run_stack(tmp_path_factory.mktemp("logs"), environment) as running:
        yield running


@pytest.mark.django_db(transaction=True)
def test_a_tasks_unexpected_error_arrives_without_its_prompt(stack: Stack, receiver: Sentry) -> None:
    task = stack.wait_for_task(stack.submit_task(PROMPT, provider="fake"))
    (event,) = wait_until(lambda: receiver.events("RuntimeError"), bool)
    assert (task["error"]["code"], event["level"]) == ("internal", "error")
    assert task["id"] in json.dumps(event)
    assert event["release"] == settings.VERSION
    frames = event["exception"]["values"][0]["stacktrace"]["frames"]
    assert "fail" in [frame["function"] for frame in frames]
    assert "hushed" not in "".join(receiver.bodies)


@pytest.mark.django_db(transaction=True)
def test_a_views_error_arrives_once_without_what_the_client_sent(
    stack: Stack, receiver: Sentry, make_task: Callable[..., Task]
) -> None:
    task = make_task()
    # No task fails with such a code.
    Task.objects.filter(pk=task.pk).update(status="failed", error_code="unheard-of", finished_at=Now())
    headers = {"Cookie": "other=a-hushed-cookie", "X-Own": "hushed"}
    answer = stack.api.get(f"/task/{task.pk}?secret=a-hushed-secret&who=hushed", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    wait_until(lambda: receiver.events("KeyError"), bool)
    stack.wait_for_task(
        stack.submit_task(PROMPT, provider="fake")
    )  # whatever else there was to send has been sent by then
    (event,) = receiver.events("KeyError")
    assert event["request"]["url"].endswith(f"/task/{task.pk}")
    assert "hushed" not in "".join(receiver.bodies)


def test_an_address_that_is_none_is_told() -> None:
    with pytest.raises(ImproperlyConfigured, match="SENTRY_DSN"):
        sentry.init_sentry("nowhere", "1")
