"""Which model a client of the A1111 API said to go on with: kept for each key, so that nobody changes another's."""

from __future__ import annotations

from tasks_app.contracts import Principal
from tasks_app.models import SelectedCheckpoint


def get_selected_checkpoint(caller: Principal) -> str | None:
    """Return the name of the model that the caller chose last, if it did."""
    return SelectedCheckpoint.objects.filter(key_id=caller.key_id).values_list("name", flat=True).first()


def select_checkpoint(caller: Principal, name: str) -> None:
    """Go on with another model."""
    SelectedCheckpoint.objects.update_or_create(key_id=caller.key_id, defaults={"name": name})
