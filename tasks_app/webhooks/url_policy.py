"""Policy for webhook URLs: public addresses over HTTPS, unless the server allows more.

A URL is parsed once and its host is resolved once; the connection is made to the addresses that were checked.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpx2

from tasks_app.errors import WebhookUrlRefusedError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
# Takes a host and a port, and returns all addresses in the order to try them.
Resolver = Callable[[str, int], Sequence[str]]

MAX_URL_LENGTH = 2000
_PORTS = {"https": 443, "http": 80}
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9._-]{0,251}[a-z0-9_])?")
# Hosts that C libraries parse as an IPv4 address: the last part is a decimal, octal or hexadecimal number.
_NUMERIC_HOST = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)")
_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")
# In addition to Python's own list: prefixes that embed an IPv4 address (Teredo, 6to4 and its relays), documentation.
_BLOCKED_NETWORKS = tuple(map(ip_network, ("2001::/23", "2002::/16", "3fff::/20", "192.88.99.0/24")))


@dataclass(frozen=True, kw_only=True)
class UrlPolicy:
    """Exceptions that a server allows: plain HTTP, and networks that are not public."""

    allow_http: bool = False
    private_networks: tuple[Network, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Destination:
    """The parts of a URL that are needed to connect and to send the request; the host is ASCII."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Return the value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(url: str, policy: UrlPolicy) -> Destination:
    """Parse a URL, and check everything that doesn't depend on resolving its host.

    Raises:
        WebhookUrlRefusedError: the URL is invalid or not allowed; the message is for users.
    """
    if len(url) > MAX_URL_LENGTH:
        raise WebhookUrlRefusedError(f"Must have at most {MAX_URL_LENGTH} characters.")
    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL:
        raise WebhookUrlRefusedError("Must be a valid URL.") from None
    if parts.scheme not in (schemes := ("https", "http") if policy.allow_http else ("https",)):
        raise WebhookUrlRefusedError(f"Must start with {' or '.join(f'{scheme}://' for scheme in schemes)}.")
    if parts.userinfo:
        raise WebhookUrlRefusedError("Must not contain a user name or password.")
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    if not 0 < port < 2**16:
        raise WebhookUrlRefusedError("Must have a port between 1 and 65535.")
    host = _validate_host(parts.raw_host.decode(), policy)
    return Destination(scheme=parts.scheme, host=host, port=port, target=parts.raw_path.decode())


def resolve_addresses(destination: Destination, policy: UrlPolicy, resolve: Resolver) -> list[Address]:
    """Resolve the destination's host, once, and return the addresses to connect to.

    Raises:
        WebhookUrlRefusedError: the host is unknown, or one of its addresses is not allowed.
    """
    try:
        found = [ip_address(text) for text in resolve(destination.host, destination.port)]
    except (OSError, ValueError):  # unknown host, or an address with a zone, which is not public
        found = []
    if not found:
        raise WebhookUrlRefusedError("The host name couldn't be resolved.")
    if not all(is_allowed_address(address, policy.private_networks) for address in found):
        raise WebhookUrlRefusedError("The host name resolves to an address that is not public.")
    return found


def is_allowed_address(address: Address, networks: Iterable[Network] = ()) -> bool:
    """Return whether an address is public, or in one of the networks."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if any(address in network for network in networks):
        return True
    if not address.is_global or address.is_multicast or any(address in net for net in _BLOCKED_NETWORKS):
        return False
    return isinstance(address, IPv4Address) or (address in _GLOBAL_UNICAST_V6 and address.scope_id is None)


def resolve_by_system(host: str, port: int) -> list[str]:
    """Resolve a host with the operating system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def _validate_host(host: str, policy: UrlPolicy) -> str:
    """Check a host, and return it without the trailing dot of an absolute name."""
    host = host.removesuffix(".")
    if ":" not in host and not _HOST_NAME.fullmatch(host):
        raise WebhookUrlRefusedError("Must have a valid host.")
    if ":" in host or _NUMERIC_HOST.fullmatch(host):
        try:
            address = ip_address(host)
        except ValueError:
            raise WebhookUrlRefusedError("Must have a valid host.") from None
        if not is_allowed_address(address, policy.private_networks):
            raise WebhookUrlRefusedError("Must have a public address.")
    return host
