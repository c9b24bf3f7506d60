"""Authentication by API key, signed URL or admin session; all other callers are anonymous."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.utils import timezone
from knox.auth import TokenAuthentication
from rest_framework.authentication import BaseAuthentication, SessionAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from tasks_app.access import api_keys, permissions
from tasks_app.api.http import signed_urls
from tasks_app.contracts import Principal
from tasks_app.models import ApiKey, Scope

if TYPE_CHECKING:
    from rest_framework.views import APIView  # imports this module through the settings

AuthResult = tuple[Any, Principal] | None
UNKNOWN_KEY_MESSAGE = "This API key is unknown, expired or revoked."
_KEY_PATTERN = re.compile(rb"dh_[0-9a-f]{64}")


def get_principal(request: Request) -> Principal:
    """Return the caller; an anonymous one has no scopes if API_AUTH requires a key."""
    found = cast(Principal | None, request.auth)
    return permissions.get_user_principal(None) if found is None else found


class KeyAuthentication(TokenAuthentication):  # type: ignore[misc]  # knox has no types
    """Authentication by `Authorization: Bearer KEY`, or Basic with the key as password, as old clients send it."""

    def authenticate(self, request: Request) -> AuthResult:
        """Return the key's owner and the key's principal; None if the request has no key.

        Raises:
            AuthenticationFailed: the key is unknown, expired or revoked.
        """
        token = _get_token(request)
        if token is None:
            return None
        if not _KEY_PATTERN.fullmatch(token):
            raise AuthenticationFailed(UNKNOWN_KEY_MESSAGE)
        try:
            user, key = self.authenticate_credentials(token)
        except AuthenticationFailed:
            raise AuthenticationFailed(UNKNOWN_KEY_MESSAGE) from None
        api_keys.touch_api_key(key)
        return user, api_keys.get_key_principal(key)

    def _cleanup_token(self, auth_token: ApiKey) -> bool:
        # Knox would delete expired keys, and with them the ownership of tasks.
        return auth_token.expiry is not None and auth_token.expiry <= timezone.now()


def _get_token(request: Request) -> bytes | None:
    """Return the API key that the request sends, or None.

    A Basic password that does not look like a key is ignored, and so is a Bearer token if API_AUTH is optional.
    """
    scheme, _, credentials = get_authorization_header(request).partition(b" ")
    token = credentials.strip()
    if scheme.lower() == b"basic":
        token = _decode_password(token)
        return token if token.startswith(b"dh_") else None
    if scheme.lower() != b"bearer":
        return None
    return None if settings.API_AUTH == "optional" and not token.startswith(b"dh_") else token


def _decode_password(credentials: bytes) -> bytes:
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


class SignedUrlAuthentication(BaseAuthentication):
    """Authentication by `?signature=…`: anyone with the URL may read its resource for a limited time."""

    def authenticate(self, request: Request) -> AuthResult:
        """Return an anonymous principal for this URL; None if it is not signed or the method is not GET or HEAD.

        Raises:
            AuthenticationFailed: the signature is wrong or has expired.
        """
        signature = request.query_params.get(signed_urls.SIGNATURE_PARAMETER)
        if signature is None or request.method not in ("GET", "HEAD"):
            return None
        if not signed_urls.is_valid_signature(request.path, signature):
            raise AuthenticationFailed("The signature of this URL is invalid or has expired.")
        return None, Principal(scopes=frozenset([Scope.READ, Scope.READ_ANY]))


class StaffAuthentication(SessionAuthentication):
    """Authentication by a staff session of the admin, as in the web UI; unsafe methods need the CSRF token."""

    def authenticate(self, request: Request) -> AuthResult:
        """Return the user and a principal with the scopes of their admin permissions; None without a staff session."""
        user = request._request.user
        if not user.is_staff or super().authenticate(request) is None:
            return None
        return user, permissions.get_user_principal(user)


class HasScope(BasePermission):
    """Permission for callers with the scope that the view requires for the method, READ by default."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Return whether the caller has the required scope."""
        wanted = getattr(view, "scopes", {}).get(request.method, Scope.READ)
        self.message = f"You don't have permission to do this (missing scope: {wanted})."
        return wanted in get_principal(request).scopes
