"""Webhook payloads: the end of a task as signed JSON.

They are small on purpose; receivers can request more from the API.
"""

from __future__ import annotations

import json
import time
from typing import Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.urls import reverse

from tasks_app import answers
from tasks_app.contracts import WebhookRequest
from tasks_app.models import Task, TaskImage, WebhookDelivery
from tasks_app.webhooks import signatures
from tasks_app.webhooks.url_policy import UrlPolicy


def get_url_policy() -> UrlPolicy:
    """Return this server's policy for webhook URLs."""
    return UrlPolicy(allow_http=settings.WEBHOOK_ALLOW_HTTP, private_networks=tuple(settings.WEBHOOK_PRIVATE_NETWORKS))


def build_webhook_request(delivery: WebhookDelivery) -> WebhookRequest | None:
    """Return the signed request of a delivery, or None if the task or the secret is gone."""
    tasks = Task.objects.select_related("key").prefetch_related("images")
    task = tasks.filter(pk=delivery.task_id).first()
    secret = task and (task.key.webhook_secret if task.key else settings.WEBHOOK_SECRET)
    if not task or not secret:
        return None
    body: answers.WebhookBody = {
        "type": f"task.{delivery.event}",
        "timestamp": task.finished_at,
        "data": _build_data(task),
    }
    content = json.dumps(body, cls=DjangoJSONEncoder).encode()
    signed = signatures.build_signature_headers(secret, str(delivery.pk), int(time.time()), content)
    return WebhookRequest(
        content=content, headers={"Content-Type": "application/json", "User-Agent": _USER_AGENT, **signed}
    )


_USER_AGENT = f"DiffusersHandler/{settings.VERSION}"


def _build_data(task: Task) -> answers.WebhookTask:
    return {
        **answers.serialize_task_core(task),
        "images": [_serialize_image(image) for image in task.images.all()],
        "urls": {"self": _build_url("task", task.pk), "images": _build_url("task-images", task.pk)},
    }


def _serialize_image(image: TaskImage) -> answers.WebhookImage:
    return {
        "index": image.index,
        "url": _build_url("task-image", image.task_id, image.index),
        "seed": image.seed,
        "width": image.width,
        "height": image.height,
        "content_type": image.content_type,
        "sha256": image.sha256,
    }


def _build_url(name: str, *of: Any) -> str:
    return settings.PUBLIC_URL + reverse(name, args=of)
