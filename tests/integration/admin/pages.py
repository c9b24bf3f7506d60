"""URLs of the admin's pages, and helpers that read them."""

from collections.abc import Callable, Mapping
from uuid import uuid4

from django.test import Client

from tasks_app.contracts import Claim
from tasks_app.models import Task

MakeTask = Callable[..., Task]
LIST = "/admin/tasks_app/task/"
TASK_ACTIONS = ["cancel", "reprioritize", "retry", "reproduce", "remove"]


WORKERS = "/admin/tasks_app/worker/"
MODELS = "/admin/tasks_app/diffusionmodel/"
PAUSES = "/admin/tasks_app/pause/"
DELIVERIES = "/admin/tasks_app/webhookdelivery/"


def claim_of(task: Task) -> Claim:
    return Claim(task_id=task.pk, attempt=task.attempt)


def url_of(task: Task) -> str:
    return f"{LIST}{task.pk}/change/"


def action_url(task: Task, action: str) -> str:
    return f"{LIST}{task.pk}/{action}/"


def form_data(action: str) -> dict[str, object]:
    """Return what people fill into the action's confirmation, or find in it."""
    once: dict[str, object] = {"key": str(uuid4())}
    forms: dict[str, dict[str, object]] = {"retry": once, "reproduce": once, "reprioritize": {"priority": "5"}}
    return forms.get(action, {})


def body(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


def messages(client: Client, url: str, data: Mapping[str, object]) -> list[str]:
    response = client.post(url, data, follow=True)
    assert response.status_code == 200
    return [str(message) for message in response.context["messages"]]


def states() -> dict[str, str]:
    return {str(task.pk): task.status for task in Task.objects.all()}
