"""Model selected by clients of the A1111 API, stored per key, so that no client changes another's."""

from __future__ import annotations

from tasks_app.contracts import Principal
from tasks_app.models import SelectedCheckpoint


def get_selected_checkpoint(caller: Principal) -> str | None:
    """Return the name of the model that the caller selected last; None if it selected none."""
    return SelectedCheckpoint.objects.filter(key_id=caller.key_id).values_list("name", flat=True).first()


def select_checkpoint(caller: Principal, name: str) -> None:
    """Store the caller's selection of a model."""
    SelectedCheckpoint.objects.update_or_create(key_id=caller.key_id, defaults={"name": name})
