"""Frozen, keyword-only dataclasses that more than one package needs."""

from tasks_app.contracts.claims import NO_MODELS, Claim, HeartbeatResult, Success, WorkerCapacity
from tasks_app.contracts.events import Event, QueuePosition, StreamSlice
from tasks_app.contracts.images import (
    GenerationMetadata,
    ImageComparison,
    ParsedMetadata,
    Reproduction,
    StoredImage,
    Verdict,
)
from tasks_app.contracts.submissions import (
    DeliveryResult,
    IdempotentRequest,
    Limits,
    Principal,
    Submission,
    Webhook,
    WebhookRequest,
)

__all__ = [
    "NO_MODELS",
    "Claim",
    "DeliveryResult",
    "Event",
    "GenerationMetadata",
    "HeartbeatResult",
    "IdempotentRequest",
    "ImageComparison",
    "Limits",
    "ParsedMetadata",
    "Principal",
    "QueuePosition",
    "Reproduction",
    "StoredImage",
    "StreamSlice",
    "Submission",
    "Success",
    "Verdict",
    "Webhook",
    "WebhookRequest",
    "WorkerCapacity",
]
