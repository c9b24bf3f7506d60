"""Signed URLs, which grant read access to browsers and clients that can't send a header."""

from __future__ import annotations

from django.conf import settings
from django.core.signing import BadSignature, TimestampSigner
from rest_framework.request import Request
from rest_framework.reverse import reverse

SIGNATURE_PARAMETER = "signature"
_signer = TimestampSigner(salt="tasks_app.address")


def build_signed_url(request: Request, name: str, *args: object) -> str:
    """Return the absolute URL of a view, signed for SIGNED_URL_SECONDS."""
    path = reverse(name, args=args)
    signature = _signer.sign(path).removeprefix(path + _signer.sep)
    return request.build_absolute_uri(f"{path}?{SIGNATURE_PARAMETER}={signature}")


def is_valid_signature(path: str, signature: str) -> bool:
    """Return whether this server signed the path and the signature has not expired."""
    try:
        _signer.unsign(f"{path}{_signer.sep}{signature}", max_age=settings.SIGNED_URL_SECONDS)
    except BadSignature:
        return False
    return True
