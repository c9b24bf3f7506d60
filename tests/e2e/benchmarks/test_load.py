"""The clients of a comparison, asking a server that fails when it is told to."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Barrier

import pytest

from tools.benchmarks.harness.load import PNG, Found, Plan, ask, load


class Peer(BaseHTTPRequestHandler):
    asked: list[str]
    broken: set[int]

    def do_POST(self) -> None:
        wish = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(wish["prompt"])
        self._answer(500 if len(self.asked) in self.broken else 200, PNG)

    def do_GET(self) -> None:
        self._answer(200, b"ok")

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def peer() -> Iterator[tuple[type[Peer], Plan]]:
    kind = type("ThisPeer", (Peer,), {"asked": [], "broken": set()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    yield kind, Plan(kind="lit", url=url, clients=2, each=2, steps=1, ready="/health")
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_client_asks_for_its_pictures_each_with_another_prompt(peer: tuple[type[Peer], Plan]) -> None:
    server, plan = peer
    counts: list[int] = []
    found = load(plan, on_picture=counts.append)
    assert sorted(server.asked) == ["a red house a0", "a red house a1", "a red house b0", "a red house b1"]
    assert counts == [1, 2, 3, 4]
    assert (len(found.latencies), found.lost) == (4, 0)
    assert found.seconds >= max(found.latencies)


def test_a_request_that_fails_is_lost_and_not_sent_again(peer: tuple[type[Peer], Plan]) -> None:
    server, plan = peer
    server.broken.add(1)
    found = Found()
    ask(plan, "a", found, Barrier(1))
    assert server.asked == ["a red house a0", "a red house a1"]
    assert (len(found.latencies), found.lost) == (1, 1)
