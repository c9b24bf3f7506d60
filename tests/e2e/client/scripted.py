"""A scripted service, for responses that tests can't make the real one give."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

TASK: dict[str, Any] = {
    "id": "x",
    "task_type": "text-to-image",
    "status": "queued",
    "priority": 0,
    "params": {"seed": 7},
    "model": {"id": "demo", "revision": None},
    "progress": {"phase": None, "step": 0, "total_steps": 4, "percent": 0, "eta_seconds": None},
    "queue_position": 1,
    "paused": False,
    "attempt": 0,
    "images": [],
    "error": None,
    "created_at": "2026-01-01T00:00:00Z",
    "started_at": None,
    "finished_at": None,
    "timings": {},
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One response; without a status the connection is closed instead."""

    status: int | None = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One received request."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


def told(body: Any, status: int = 200, **headers: str) -> Answer:
    """Return a JSON response."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, headers={"Content-Type": "application/json", **named}, body=json.dumps(body).encode())


LOST = Answer(status=None)


class Handler(http.server.BaseHTTPRequestHandler):
    """Handler that gives the responses of the script in order, and repeats the last one."""

    answers: list[Answer]
    asked: list[Asked]

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.asked.append(Asked(method=self.command, path=self.path, headers=dict(self.headers), body=body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer.status is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    do_POST = do_GET

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def scripted(*answers: Answer) -> Iterator[tuple[str, list[Asked]]]:
    """Serve the responses; yield the address and the list of received requests."""
    asked: list[Asked] = []
    handler = type("Scripted", (Handler,), {"answers": list(answers), "asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
