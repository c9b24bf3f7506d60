"""POST requests to webhook receivers: one try, to the checked addresses only, without redirects, within a time limit.

Only the status of the response is read, so that no body can be too long or too slow.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpcore2

from tasks_app.contracts import DeliveryResult
from tasks_app.errors import WebhookUrlRefusedError
from tasks_app.webhooks import url_policy
from tasks_app.webhooks.url_policy import Address, Destination, Resolver, UrlPolicy


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Time limits in seconds: for connecting and for the response (`step`), and for the whole request (`total`)."""

    step: float = 5
    total: float = 10


def post_webhook(
    url: str,
    content: bytes,
    headers: Mapping[str, str],
    *,
    policy: UrlPolicy,
    resolve: Resolver = url_policy.resolve_by_system,
    tls: ssl.SSLContext | None = None,
    patience: Timeouts | None = None,
) -> DeliveryResult:
    """Send the content and return the result, which has no error only for a 2xx response."""
    patience = patience or Timeouts()
    deadline = time.monotonic() + patience.total
    try:
        destination = url_policy.parse_url(url, policy)
        line = _PinnedBackend(url_policy.resolve_addresses(destination, policy, resolve), deadline)
        status = _send_request(destination, line, content, headers, tls, patience)
    except WebhookUrlRefusedError as error:
        return DeliveryResult(error=f"Not sent. {error}")
    except httpcore2.TimeoutException:
        return DeliveryResult(error="The receiver did not respond in time.")
    except httpcore2.ConnectError as error:
        return DeliveryResult(error=_describe_connect_error(error))
    except (httpcore2.NetworkError, httpcore2.ProtocolError):
        return DeliveryResult(error="The connection to the receiver was lost.")
    if 200 <= status < 300:
        return DeliveryResult(status=status)
    why = " Redirects are not followed." if 300 <= status < 400 else ""
    return DeliveryResult(status=status, error=f"The receiver returned HTTP {status}.{why}")


def _send_request(
    destination: Destination,
    line: _PinnedBackend,
    content: bytes,
    headers: Mapping[str, str],
    tls: ssl.SSLContext | None,
    patience: Timeouts,
) -> int:
    url = httpcore2.URL(
        scheme=destination.scheme, host=destination.host, port=destination.port, target=destination.target
    )
    asked = [("Host", destination.authority), *headers.items()]
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), patience.step)
    with (
        httpcore2.ConnectionPool(ssl_context=tls, network_backend=line) as pool,
        pool.stream("POST", url, headers=asked, content=content, extensions={"timeout": timeouts}) as answer,
    ):
        return answer.status


def _describe_connect_error(error: httpcore2.ConnectError) -> str:
    if isinstance(error.__context__, ssl.SSLCertVerificationError):
        return "The receiver's certificate is not valid."
    if isinstance(error.__context__, ssl.SSLError):
        return "The receiver does not support TLS."
    return "Couldn't connect to the receiver."


class _PinnedBackend(httpcore2.NetworkBackend):
    """Network backend that connects only to the given addresses.

    It ignores the requested host name, since a second lookup could return other addresses.
    """

    def __init__(self, addresses: Sequence[Address], deadline: float) -> None:
        self._addresses, self._deadline = addresses, deadline
        self._system = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the first address that responds."""
        *others, last = self._addresses
        for address in others:
            try:
                return self._connect_address(address, port, timeout)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return self._connect_address(last, port, timeout)

    def _connect_address(self, address: Address, port: int, timeout: float | None) -> httpcore2.NetworkStream:
        stream = self._system.connect_tcp(str(address), port, timeout=_remaining_seconds(self._deadline, timeout))
        return _DeadlineStream(stream, self._deadline)


class _DeadlineStream(httpcore2.NetworkStream):
    """A stream that ends at a deadline, even if data keeps trickling in."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read the available bytes."""
        return self._stream.read(max_bytes, _remaining_seconds(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write the whole buffer."""
        self._stream.write(buffer, _remaining_seconds(self._deadline, timeout))

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        """Return the stream wrapped in TLS."""
        inner = self._stream.start_tls(ssl_context, server_hostname, _remaining_seconds(self._deadline, timeout))
        return _DeadlineStream(inner, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """Return information about the underlying stream."""
        return self._stream.get_extra_info(info)


def _remaining_seconds(deadline: float, timeout: float | None) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("The time limit is reached.")
    return left if timeout is None else min(left, timeout)
