"""Registry of task types and their providers; dotted paths, so that naming an engine doesn't import it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class TaskType:
    """One task type as implemented by one provider.

    `params` is the path of the parameters' serializer, which the web process loads. `handler` is the path of the engine
    class, which only workers load; its keyword arguments are in the PROVIDERS setting under the provider's name.
    """

    name: str
    provider: str
    params: str
    handler: str


TEXT_TO_IMAGE = TaskType(
    name="text-to-image",
    provider="diffusers",
    params="tasks_app.engine.diffusers.params.TextToImageParams",
    handler="tasks_app.engine.diffusers.handler.DiffusersHandler",
)
IMAGE_TO_IMAGE = replace(
    TEXT_TO_IMAGE, name="image-to-image", params="tasks_app.engine.diffusers.params.ImageToImageParams"
)
INPAINTING = replace(TEXT_TO_IMAGE, name="inpainting", params="tasks_app.engine.diffusers.params.InpaintingParams")

_registry: dict[tuple[str, str], TaskType] = {}


def register_task_type(task_type: TaskType) -> None:
    """Add a task type; other Django apps call this in their `ready()`."""
    _registry[task_type.name, task_type.provider] = task_type


def get_task_type(name: str, provider: str) -> TaskType:
    """Return the entry with this name and provider.

    Raises:
        KeyError: it is not registered.
    """
    return _registry[name, provider]


def get_task_types() -> list[TaskType]:
    """Return all entries."""
    return list(_registry.values())


for _task_type in (TEXT_TO_IMAGE, IMAGE_TO_IMAGE, INPAINTING):
    register_task_type(_task_type)
