"""Webhook receivers on the loopback interface, which answer as the test defines and record each request."""

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import Any

Responder = Callable[[BaseHTTPRequestHandler], object]


@dataclass(frozen=True, kw_only=True)
class Call:
    """A received request."""

    path: str
    headers: Mapping[str, str]
    content: bytes


class Receiver:
    """Receiver with its address and its received requests."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port, self.scheme = port, scheme
        self.calls: SimpleQueue[Call] = SimpleQueue()

    def build_url(self, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}/hook?x=1"

    def wait_for_call(self) -> Call:
        """Wait for the next call."""
        return self.calls.get(timeout=30)


def respond_with(number: int, **headers: str) -> Responder:
    """Return a responder that sends a status and no body."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(number)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


@contextmanager
def run_receiver(*answers: Responder, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Run a receiver that gives one answer per call; the last answer is repeated."""
    waiting = list(answers or [respond_with(204)])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            receiver.calls.put(Call(path=self.path, headers=dict(self.headers), content=content))
            with suppress(ConnectionError):  # the client already has the response it needs
                answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass  # the client refused the certificate

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    receiver = Receiver(server.server_address[1], "https" if tls else "http")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
