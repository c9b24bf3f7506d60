"""Where webhooks may go, and where they may not."""

from ipaddress import ip_address, ip_network
from typing import NoReturn

import pytest

from tasks_app.errors import WebhookUrlRefusedError
from tasks_app.webhooks import url_policy
from tasks_app.webhooks.url_policy import Destination, UrlPolicy

STRICT = UrlPolicy()
# What an IPv6 address can hide an IPv4 address in, and what else leads nowhere public.
NOT_PUBLIC = [
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456:789a::1",
    "fe80::1",
    "fe80::1%1",
    "2606:4700::1111%1",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["8.8.8.8", "93.184.215.14", "::ffff:8.8.8.8", "2606:4700::1111", "2a00:1450:4001::1"]


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_not_allowed(text: str) -> None:
    assert not url_policy.is_allowed_address(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_is_allowed(text: str) -> None:
    assert url_policy.is_allowed_address(ip_address(text))


def test_an_address_of_an_allowed_network_is_allowed_in_every_form_and_its_neighbour_is_not() -> None:
    networks = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    allowed = ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1"]
    assert all(url_policy.is_allowed_address(ip_address(text), networks) for text in allowed)
    assert not any(
        url_policy.is_allowed_address(ip_address(text), networks)
        for text in ["192.168.0.1", "fc00::1", "::ffff:127.0.0.1"]
    )


def refusal(url: str, policy: UrlPolicy = STRICT) -> str:
    with pytest.raises(WebhookUrlRefusedError) as refused:
        url_policy.parse_url(url, policy)
    return str(refused.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "https://"),
        ("nonsense", "https://"),
        ("//example.com/", "https://"),
        ("http://example.com/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("gopher://example.com/", "https://"),
        ("https://user@example.com/", "user name"),
        ("https://user:password@example.com/", "user name"),
        ("https://example.com@127.0.0.1/", "user name"),
        ("https://", "valid host"),
        ("https:///path", "valid host"),
        ("https://a b/", "valid host"),
        ("https://exa%6dple.com/", "valid host"),
        ("https://ex\\ample.com/", "valid host"),
        ("https://example.com\\@127.0.0.1/", "user name"),
        ("https://１２７.0.0.1/", "valid URL"),
        ("https://example\n.com/", "valid URL"),
        ("https://[::1/", "valid URL"),
        ("https://[zzz]/", "valid URL"),
        ("https://example.com:0/", "port"),
        ("https://example.com:65536/", "port"),
        ("https://2130706433/", "valid host"),
        ("https://017700000001/", "valid host"),
        ("https://0x7f000001/", "valid host"),
        ("https://0x7f.1/", "valid host"),
        ("https://127.1/", "valid host"),
        ("https://0177.0.0.1/", "valid URL"),
        ("https://127.0.0.1.nothing.0x1/", "valid host"),
        ("https://127.0.0.1/", "public address"),
        ("https://127.0.0.1./", "public address"),
        ("https://169.254.169.254/latest/meta-data/", "public address"),
        ("https://[::1]/", "public address"),
        ("https://[::ffff:127.0.0.1]:8443/", "public address"),
        ("https://[64:ff9b::7f00:1]/", "public address"),
        ("https://[fe80::1%25eth0]/", "public address"),
        ("https://example.com/" + "x" * 2000, "characters"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_without_looking_its_name_up(url: str, reason: str) -> None:
    assert reason in refusal(url)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://example.com", ("https", "example.com", 443, "/", "example.com")),
        ("HTTPS://EXAMPLE.com.:443/a?b=c#d", ("https", "example.com", 443, "/a?b=c", "example.com")),
        ("https://hooks.example.com:8443/ü", ("https", "hooks.example.com", 8443, "/%C3%BC", "hooks.example.com:8443")),
        ("https://bücher.example/", ("https", "xn--bcher-kva.example", 443, "/", "xn--bcher-kva.example")),
        ("https://8.8.8.8/", ("https", "8.8.8.8", 443, "/", "8.8.8.8")),
        ("https://[2606:4700::1111]:1/", ("https", "2606:4700::1111", 1, "/", "[2606:4700::1111]:1")),
        ("https://my_host.1and1.example/", ("https", "my_host.1and1.example", 443, "/", "my_host.1and1.example")),
    ],
)
def test_a_good_url_is_taken_apart(url: str, parts: tuple[str, str, int, str, str]) -> None:
    found = url_policy.parse_url(url, STRICT)
    assert (found.scheme, found.host, found.port, found.target, found.authority) == parts


def test_http_and_private_addresses_are_taken_where_the_server_allows_them() -> None:
    policy = UrlPolicy(allow_http=True, private_networks=(ip_network("127.0.0.0/8"),))
    found = url_policy.parse_url("http://127.0.0.1:8080/", policy)
    assert (found.scheme, found.host, found.port) == ("http", "127.0.0.1", 8080)
    assert "public address" in refusal("http://10.0.0.1/", policy)


HERE = Destination(scheme="https", host="example.com", port=443, target="/")


def test_every_address_of_a_name_must_be_public() -> None:
    good, bad = ["8.8.8.8", "2606:4700::1111"], ["8.8.8.8", "127.0.0.1"]
    assert url_policy.resolve_addresses(HERE, STRICT, lambda *_: good) == [ip_address(text) for text in good]
    with pytest.raises(WebhookUrlRefusedError, match="not public"):
        url_policy.resolve_addresses(HERE, STRICT, lambda *_: bad)


def unknown(host: str, port: int) -> NoReturn:
    raise OSError("no such name")


def test_a_name_that_leads_nowhere_is_refused() -> None:
    for resolve in (unknown, lambda *_: [], lambda *_: ["what"]):
        with pytest.raises(WebhookUrlRefusedError, match="couldn't be resolved"):
            url_policy.resolve_addresses(HERE, STRICT, resolve)


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f.1", "2130706433", "x" * 64 + ".example", "a..example"])
def test_whatever_the_system_makes_of_a_name_its_addresses_are_judged(host: str) -> None:
    there = Destination(scheme="https", host=host, port=443, target="/")
    with pytest.raises(WebhookUrlRefusedError):
        url_policy.resolve_addresses(there, STRICT, url_policy.resolve_by_system)
