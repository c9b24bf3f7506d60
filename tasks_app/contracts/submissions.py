"""Types for callers, their requests and webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """URL that is notified when a task ends, and the final statuses that it is notified of."""

    url: str
    events: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A task to create, validated and resolved; without a batch key it runs alone.

    `explicit_params` is as in `GenerationRequest`; `uploads` are those that the parameters name; `reproduces` is the
    task whose images the new ones are compared with.
    """

    task_type: str
    provider: str
    requested_model_id: str
    model_id: str
    revision: str
    params: Mapping[str, Any]
    seed: int
    priority: int
    batch_key: str = ""
    explicit_params: frozenset[str] = frozenset()
    uploads: tuple[UUID, ...] = ()
    webhook: Webhook | None = None
    reproduces: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class WebhookRequest:
    """Content and headers of the request to a webhook's receiver."""

    content: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class DeliveryResult:
    """Result of a delivery: the HTTP status, if there was one, and a description of the error, if any."""

    status: int | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class IdempotentRequest:
    """A client's idempotency key for one request, and the hash that identifies the request's body."""

    name: str
    body_sha256: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of an API key; None means unlimited."""

    rate_per_minute: int | None = None
    max_queued: int | None = None
    max_running: int | None = None


@dataclass(frozen=True, kw_only=True)
class Principal:
    """The caller, with or without an API key, and its permissions."""

    scopes: frozenset[str]
    key_id: int | None = None
    limits: Limits = Limits()
    webhook: Webhook | None = None
