"""Worker thread that delivers webhooks in parallel to tasks.

Each delivery has its own thread, since receivers may be slow.
"""

from __future__ import annotations

import logging
import threading

from django.db import DatabaseError, InterfaceError, connection

from tasks_app.contracts import DeliveryResult
from tasks_app.models import WebhookDelivery
from tasks_app.webhooks import deliveries, http, payload

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
# Maximum number of concurrent deliveries per worker.
MAX_PARALLEL = 8
SECRET_MISSING = DeliveryResult(error="Not sent. The secret to sign it no longer exists.")


def run_forever(stop: threading.Event) -> None:
    """Deliver due webhooks until `stop` is set; the next worker repeats deliveries that are unfinished then."""
    free = threading.BoundedSemaphore(MAX_PARALLEL)
    while not stop.is_set():
        if not free.acquire(timeout=POLL_SECONDS):
            continue
        if delivery := _claim_due_delivery():
            threading.Thread(target=_send_and_release, args=[delivery, free], daemon=True).start()
        else:
            free.release()
            stop.wait(POLL_SECONDS)


def send_delivery(delivery: WebhookDelivery) -> None:
    """Send a delivery and record the result."""
    letter = payload.build_webhook_request(delivery)
    connection.close()  # not needed while waiting for the receiver
    answer = letter and http.post_webhook(delivery.url, letter.content, letter.headers, policy=payload.get_url_policy())
    answer = answer or SECRET_MISSING
    if answer.error:
        logger.warning("Delivery %s, attempt %s: %s", delivery.pk, delivery.attempts, answer.error)
    deliveries.record_result(delivery, answer)


def _claim_due_delivery() -> WebhookDelivery | None:
    try:
        deliveries.enqueue_deliveries()
        return deliveries.claim_delivery()
    except (DatabaseError, InterfaceError) as error:
        logger.warning("Webhook pass failed: %s", type(error).__name__)
        return None
    finally:
        connection.close()


def _send_and_release(delivery: WebhookDelivery, free: threading.BoundedSemaphore) -> None:
    try:
        send_delivery(delivery)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("Delivery %s will be retried: %s", delivery.pk, type(error).__name__)
    finally:
        connection.close()
        free.release()
