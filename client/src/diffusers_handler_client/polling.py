"""Events of a task that is polled, for where its stream is unavailable."""

from __future__ import annotations

from diffusers_handler_client.shapes import Event, Json, Task

STATUS_KEYS = ("status", "attempt", "queue_position", "paused")


class PolledEvents:
    """Changes of one task from poll to poll, as events of the stream; previews are missing."""

    def __init__(self) -> None:
        """Start with a task that has not been read."""
        self._last: dict[str, Json] = {}

    def list_changes(self, task: Task) -> list[Event]:
        """Return the events since the last poll; `done` is the last one of a task that has ended."""
        current = {"status": {key: task.raw[key] for key in STATUS_KEYS}}
        if task.status == "running":
            current["progress"] = {"attempt": task.attempt, **task.raw["progress"]}
        changed = [(name, data) for name, data in current.items() if data != self._last.get(name)]
        self._last.update(current)
        if task.ended:
            changed += [("image", image) for image in task.raw["images"]] + [("done", task.raw)]
        return [Event.parse(name, {"task": task.id, **data}) for name, data in changed]
