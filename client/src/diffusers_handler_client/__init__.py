"""Client of Diffusers Handler: submit a prompt, follow the task, save the images."""

from diffusers_handler_client.asynchronous import AsyncClient
from diffusers_handler_client.errors import ApiError, FieldError, TaskFailed, Unreachable, WaitTimeout
from diffusers_handler_client.protocol import Options
from diffusers_handler_client.shapes import Event, Image, Progress, Task, TaskError, TaskWarning, Upload, Webhook
from diffusers_handler_client.synchronous import Client

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "Event",
    "FieldError",
    "Image",
    "Options",
    "Progress",
    "Task",
    "TaskError",
    "TaskFailed",
    "TaskWarning",
    "Unreachable",
    "Upload",
    "WaitTimeout",
    "Webhook",
]
