"""Posts to receivers: where the connection really goes, what is not followed, and how long it may take."""

import socket
import ssl
import subprocess
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tasks_app.contracts import DeliveryResult
from tasks_app.webhooks import http
from tasks_app.webhooks.http import Timeouts
from tasks_app.webhooks.url_policy import Resolver, UrlPolicy
from tests.support.receivers import respond_with, run_receiver

LOOPBACK = UrlPolicy(allow_http=True, private_networks=(ip_network("127.0.0.1/32"),))
NEVER = threading.Event()
QUICK = Timeouts(step=0.4, total=1)


def post(url: str, *, policy: UrlPolicy = LOOPBACK, **options: Any) -> DeliveryResult:
    return http.post_webhook(url, b'{"a": 1}', {"webhook-id": "7"}, policy=policy, **options)


def names(*answers: str | list[str]) -> tuple[Resolver, list[str]]:
    """Return a resolver that answers one look-up after another, and the names that it was asked for."""
    waiting, asked = [[answer] if isinstance(answer, str) else answer for answer in answers], []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return waiting[len(asked) - 1]

    return resolve, asked


def test_a_receiver_gets_the_content_and_the_headers() -> None:
    with run_receiver() as receiver:
        assert post(receiver.build_url()) == DeliveryResult(status=204)
        call = receiver.wait_for_call()
    assert (call.path, call.content, call.headers["webhook-id"]) == ("/hook?x=1", b'{"a": 1}', "7")
    assert call.headers["Host"] == f"127.0.0.1:{receiver.port}"


@pytest.mark.parametrize("number", [400, 404, 410, 429, 500, 503])
def test_any_other_status_is_told(number: int) -> None:
    with run_receiver(respond_with(number)) as receiver:
        assert post(receiver.build_url()) == DeliveryResult(
            status=number, error=f"The receiver returned HTTP {number}."
        )


@pytest.mark.parametrize("number", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(number: int) -> None:
    with run_receiver() as private, run_receiver(respond_with(number, Location=private.build_url())) as receiver:
        answer = post(receiver.build_url())
        assert private.calls.empty()
    assert answer == DeliveryResult(
        status=number, error=f"The receiver returned HTTP {number}. Redirects are not followed."
    )


def test_the_connection_goes_to_the_address_that_was_judged_though_the_name_changes_its_mind() -> None:
    resolve, asked = names("127.0.0.1", "127.0.0.2")
    with run_receiver() as receiver:
        # No resolver but ours knows the name: a second look-up, by whomever, could not lead here.
        assert post(receiver.build_url("rebind.invalid"), resolve=resolve) == DeliveryResult(status=204)
        assert receiver.wait_for_call().headers["Host"] == f"rebind.invalid:{receiver.port}"
    assert asked == ["rebind.invalid"]


def test_a_name_that_turns_private_between_two_attempts_is_not_called_the_second_time() -> None:
    resolve, _ = names("127.0.0.1", "127.0.0.2", ["127.0.0.1", "169.254.169.254"])
    with run_receiver() as receiver:
        url = receiver.build_url("rebind.invalid")
        assert post(url, resolve=resolve) == DeliveryResult(status=204)
        for _ in range(2):
            refused = post(url, resolve=resolve)
            assert refused == DeliveryResult(error="Not sent. The host name resolves to an address that is not public.")
        receiver.wait_for_call()
        assert receiver.calls.empty()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0x7f.1"])
def test_without_an_exception_nothing_on_this_machine_is_called(host: str) -> None:
    with run_receiver() as receiver:
        answer = post(receiver.build_url(host), policy=UrlPolicy(allow_http=True))
        assert receiver.calls.empty()
    assert answer.status is None
    assert answer.error.startswith("Not sent. ")


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    resolve, _ = names(["127.0.0.2", "127.0.0.1"])
    policy = UrlPolicy(allow_http=True, private_networks=(ip_network("127.0.0.0/8"),))
    with run_receiver() as receiver:
        assert post(receiver.build_url("two.invalid"), policy=policy, resolve=resolve) == DeliveryResult(status=204)


def drip(request: BaseHTTPRequestHandler) -> None:
    """Send a header, and no end of it."""
    with suppress(OSError):
        request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        for _ in range(200):
            request.wfile.write(b"x")
            NEVER.wait(0.05)


def continue_forever(request: BaseHTTPRequestHandler) -> None:
    """Send informational answers, and never the answer."""
    with suppress(OSError):
        for _ in range(200):
            request.wfile.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            NEVER.wait(0.05)


def say_nothing(request: BaseHTTPRequestHandler) -> None:
    NEVER.wait(2)


@pytest.mark.parametrize("answer", [drip, continue_forever, say_nothing])
def test_a_slow_receiver_is_given_up_after_the_time_for_everything(answer: Any) -> None:
    with run_receiver(answer) as receiver:
        began = time.monotonic()
        assert post(receiver.build_url(), patience=QUICK) == DeliveryResult(
            error="The receiver did not respond in time."
        )
        assert time.monotonic() - began < 8  # they go on for 10


def test_a_body_without_end_is_not_read() -> None:
    sent = 0

    def flood(request: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        request.send_response(200)
        request.end_headers()
        with suppress(OSError):
            while sent < 10**9:
                sent += request.connection.send(b"x" * 65536)

    with run_receiver(flood) as receiver:
        assert post(receiver.build_url()) == DeliveryResult(status=200)
    # No more than what the buffers of both ends hold.
    assert sent < 2**24


def test_headers_without_end_are_not_read() -> None:
    def flood(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"x" * 2**20)

    with run_receiver(flood) as receiver:
        assert post(receiver.build_url()) == DeliveryResult(error="The connection to the receiver was lost.")


def test_a_receiver_that_is_not_there_is_told() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        answer = post(f"http://127.0.0.1:{bound.getsockname()[1]}/")
    assert answer == DeliveryResult(error="Couldn't connect to the receiver.")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make a certificate for hooks.example alone."""
    folder = tmp_path_factory.mktemp("tls")
    key, pem = folder / "key.pem", folder / "cert.pem"
    made = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {pem} -days 2 -subj /CN=hooks.example"
    subprocess.run([*made.split(), "-addext", "subjectAltName=DNS:hooks.example"], check=True, capture_output=True)
    return key, pem


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("hooks.example", DeliveryResult(status=204)),
        ("other.example", DeliveryResult(error="The receiver's certificate is not valid.")),
    ],
)
def test_over_https_the_certificate_must_be_for_the_name_though_the_connection_goes_to_an_address(
    certificate: tuple[Path, Path], host: str, answer: DeliveryResult
) -> None:
    key, pem = certificate
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem, key)
    asked: list[str | None] = []
    server.sni_callback = lambda _, name, __: asked.append(name)
    policy = UrlPolicy(private_networks=LOOPBACK.private_networks)
    with run_receiver(tls=server) as receiver:
        trusting = ssl.create_default_context(cafile=str(pem))
        resolve, _ = names("127.0.0.1")
        assert post(receiver.build_url(host), policy=policy, resolve=resolve, tls=trusting) == answer
    assert asked == [host]


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: tuple[Path, Path]) -> None:
    key, pem = certificate
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem, key)
    resolve, _ = names("127.0.0.1")
    with run_receiver(tls=server) as receiver:
        answer = post(
            receiver.build_url("hooks.example"),
            policy=UrlPolicy(private_networks=LOOPBACK.private_networks),
            resolve=resolve,
        )
        assert receiver.calls.empty()
    assert answer == DeliveryResult(error="The receiver's certificate is not valid.")


def test_https_to_a_receiver_that_speaks_http_is_told() -> None:
    with run_receiver() as receiver:
        url = receiver.build_url().replace("http:", "https:")
        assert post(url) == DeliveryResult(error="The receiver does not support TLS.")
