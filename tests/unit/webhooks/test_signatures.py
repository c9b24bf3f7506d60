"""Signatures, as receivers check them with the scheme's own package."""

import base64
import time

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tasks_app.webhooks import signatures

SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(24)).decode()


def test_the_schemes_own_package_verifies_a_signature() -> None:
    content = '{"prompt": "ä"}'.encode()
    headers = signatures.build_signature_headers(SECRET, "an-id", int(time.time()), content)
    assert headers["webhook-id"] == "an-id"
    assert Webhook(SECRET).verify(content, headers) == {"prompt": "ä"}


def test_the_signature_is_the_one_that_the_schemes_own_example_shows() -> None:
    secret, content = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    headers = signatures.build_signature_headers(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, content)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("secret", "identifier", "content", "later"),
    [
        (OTHER, "an-id", b"{}", 0),
        (SECRET, "another", b"{}", 0),
        (SECRET, "an-id", b"[]", 0),
        (SECRET, "an-id", b"{}", 1),
    ],
    ids=["secret", "id", "content", "timestamp"],
)
def test_whatever_is_changed_spoils_the_signature(secret: str, identifier: str, content: bytes, later: int) -> None:
    now = int(time.time())
    signed = signatures.build_signature_headers(SECRET, "an-id", now, b"{}")
    changed = {**signed, "webhook-id": identifier, "webhook-timestamp": str(now + later)}
    assert Webhook(SECRET).verify(b"{}", signed) == {}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(content, changed)
