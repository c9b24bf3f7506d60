"""Helpers that claim and finish one task at a time."""

from collections.abc import Sequence
from typing import Any

from tasks_app.contracts import Claim, StoredImage, Success
from tasks_app.models import Task
from tasks_app.queue import lifecycle


def claim_one(**how: Any) -> Task | None:
    """Claim one task as a worker does, for tests whose tasks run alone."""
    tasks = lifecycle.claim_batch(**how)
    assert len(tasks) <= 1
    return tasks[0] if tasks else None


def succeed_one(claim: Claim, images: Sequence[StoredImage], *, revision: str = "", **more: Any) -> bool:
    """Mark one task as succeeded with these images."""
    return bool(lifecycle.mark_succeeded([Success(claim=claim, images=tuple(images), revision=revision, **more)]))
