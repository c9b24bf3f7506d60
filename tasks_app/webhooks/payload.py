"""What a receiver is sent: the end of a task as JSON, signed. It is thin on purpose: who wants more asks the API."""

from __future__ import annotations

import json
import time
from typing import Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.urls import reverse

from tasks_app import errors
from tasks_app.contracts import Letter
from tasks_app.models import Task, TaskImage, WebhookDelivery
from tasks_app.webhooks import signatures
from tasks_app.webhooks.url_policy import Policy


def policy() -> Policy:
    """Return where this server's webhooks may go."""
    return Policy(http=settings.WEBHOOK_ALLOW_HTTP, networks=tuple(settings.WEBHOOK_PRIVATE_NETWORKS))


def letter(delivery: WebhookDelivery) -> Letter | None:
    """Return what is to be sent now; None when the task or the secret is gone."""
    tasks = Task.objects.select_related("key").prefetch_related("images")
    task = tasks.filter(pk=delivery.task_id).first()
    secret = task and (task.key.webhook_secret if task.key else settings.WEBHOOK_SECRET)
    if not task or not secret:
        return None
    body = {"type": f"task.{delivery.event}", "timestamp": task.finished_at, "data": _data(task)}
    content = json.dumps(body, cls=DjangoJSONEncoder).encode()
    signed = signatures.headers(secret, str(delivery.pk), int(time.time()), content)
    return Letter(content=content, headers={"Content-Type": "application/json", "User-Agent": _AGENT, **signed})


_AGENT = f"DiffusersHandler/{settings.VERSION}"


def _data(task: Task) -> dict[str, Any]:
    return {
        "id": str(task.pk),
        "task_type": task.task_type,
        "status": task.status,
        "model": {"id": task.model_id, "revision": task.revision or None},
        "images": [_image(image) for image in task.images.all()],
        "error": _error(task),
        "created_at": task.created_at,
        "started_at": task.started_at,
        "finished_at": task.finished_at,
        "retried_from": task.retried_from_id and str(task.retried_from_id),
        "urls": {"self": _url("task", task.pk), "images": _url("task-images", task.pk)},
    }


def _image(image: TaskImage) -> dict[str, Any]:
    return {
        "index": image.index,
        "url": _url("task-image", image.task_id, image.index),
        "seed": image.seed,
        "width": image.width,
        "height": image.height,
        "content_type": image.content_type,
        "sha256": image.sha256,
    }


def _error(task: Task) -> dict[str, Any] | None:
    if not task.error_code:
        return None
    return {
        "code": task.error_code,
        "message": task.error_message,
        "retryable": errors.RETRYABLE[task.error_code],
    }


def _url(name: str, *of: Any) -> str:
    return settings.PUBLIC_URL + reverse(name, args=of)
