"""Deliberate defects of the service, to check that the chaos suite detects them; CHAOS_MUTATION selects one."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tasks_app.contracts import Claim, Success
from tasks_app.models import Task
from tasks_app.queue import lifecycle, sql


def no_sweeper() -> None:
    """Never expire the leases of workers that went silent."""
    lifecycle.expire_leases = list


def no_fencing() -> None:
    """Treat every claim as one of the row's current attempt, regardless of its own attempt."""
    for name in ("renew_leases", "mark_succeeded", "mark_failed", "confirm_cancel", "release_task"):
        setattr(lifecycle, name, _remove_fence(getattr(lifecycle, name)))


def _remove_fence(write: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(write)
    def written(claim: Claim | Sequence[Claim | Success], *arguments: Any, **options: Any) -> Any:
        present = _current_claim(claim) if isinstance(claim, Claim) else [_hold_current(one) for one in claim]
        return write(present, *arguments, **options)

    return written


def _hold_current(held: Claim | Success) -> Claim | Success:
    return replace(held, claim=_current_claim(held.claim)) if isinstance(held, Success) else _current_claim(held)


def _current_claim(claim: Claim) -> Claim:
    attempt = Task.objects.values_list("attempt", flat=True).get(pk=claim.task_id)
    return Claim(task_id=claim.task_id, attempt=attempt)


def no_status_guard() -> None:
    """Allow a claim to take a row that another worker runs."""
    guarded = sql.CLAIM_BATCH
    sql.CLAIM_BATCH = guarded.replace("status = 'queued'", "status IN ('queued', 'running')")
    assert guarded != sql.CLAIM_BATCH, "the claim has no such condition any more"


MUTATIONS = {function.__name__: function for function in (no_sweeper, no_fencing, no_status_guard)}


def apply_mutation(name: str) -> None:
    """Apply the mutation in this process."""
    MUTATIONS[name]()
