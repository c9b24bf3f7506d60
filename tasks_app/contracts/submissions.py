"""Who asks for what, and who is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Who is told how a task ended, and of which ends."""

    url: str
    events: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A task to be: everything validated and resolved; without a batch key it runs alone.

    `sent` is as in a `GenerationRequest`; `uploads` are those that the parameters name; `reproduces` is the task whose
    pictures its own are compared with.
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
    """What a webhook's receiver is sent."""

    content: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class DeliveryResult:
    """What came of a delivery: the status, if there was one, and what went wrong in words, if something did."""

    status: int | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class IdempotentRequest:
    """A client's name for one request, and what tells its body from another's."""

    name: str
    body_sha256: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a key is held to; None is no limit."""

    rate_per_minute: int | None = None
    max_queued: int | None = None
    max_running: int | None = None


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who asks: a key, or somebody without one, and what they may."""

    scopes: frozenset[str]
    key_id: int | None = None
    limits: Limits = Limits()
    webhook: Webhook | None = None
