"""Webhook deliveries: the list, a delivery's page, and the page that sends it again."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html

from tasks_app import services
from tasks_app.admin import columns
from tasks_app.admin.actions.confirmed_action import ActionResult, ConfirmedAction, FormData
from tasks_app.admin.actions.views import ConfirmedActionsAdmin
from tasks_app.admin.task_detail import DetailRow
from tasks_app.admin.task_list import BoundedPaginator
from tasks_app.models import WebhookDelivery

State = WebhookDelivery.State
_BADGES = {State.PENDING: "warning", State.SENDING: "info", State.DELIVERED: "success", State.FAILED: "danger"}


def _redeliver_webhook(delivery: WebhookDelivery, data: FormData, user: User) -> ActionResult:
    if not services.redeliver_webhook(delivery):
        return ActionResult(message="The webhook is already being sent.")
    return ActionResult(message="The webhook is being sent again.", log="Sent again.")


REDELIVER = ConfirmedAction[WebhookDelivery](
    name="again",
    title="Send again",
    icon="send",
    model=WebhookDelivery,
    permission="tasks_app.change_webhookdelivery",
    description="The webhook is sent now, with the same id, so that a receiver that already has it can ignore it. If "
    "that fails, it is retried for a day.",
    question="Send {target} again?",
    run=_redeliver_webhook,
    is_applicable=lambda delivery: delivery.state != State.SENDING,
    not_applicable="The webhook is already being sent.",
)


@admin.register(WebhookDelivery)
class DeliveryAdmin(ConfirmedActionsAdmin):
    """Admin of the deliveries: view them and send them again; they can't be edited otherwise."""

    confirmed_actions = (REDELIVER,)
    target_route = "<uuid:pk>/"
    # A delivery is deleted with its task.
    redirects_if_missing = True
    list_display = (
        "event_column",
        "state_badge",
        "task_link",
        "receiver_column",
        "attempts_column",
        "response_column",
        "created_column",
    )
    list_display_links = None
    list_filter = ("state", "event")
    list_fullwidth = True
    change_list_template = "admin/tasks_app/steering/change_list.html"
    ordering = ("-created_at", "-id")
    sortable_by = ()
    paginator = BoundedPaginator
    show_full_result_count = False
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: a delivery is created when a task ends."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: WebhookDelivery | None = None) -> bool:
        """Refuse: saving a form would overwrite a worker's concurrent update."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: WebhookDelivery | None = None) -> bool:
        """Refuse: deliveries are deleted with their tasks."""
        return False

    def get_fieldsets(self, request: HttpRequest, obj: WebhookDelivery | None = None) -> list[Any]:
        """Return no fieldsets: the page has its own template."""
        return []

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: WebhookDelivery | None = None,
    ) -> HttpResponse:
        """Add the variables of the page's template."""
        assert obj is not None, "nobody may add deliveries"
        context |= {
            "badge": render_state_badge(obj),
            "rows": _build_rows(obj),
            "button": REDELIVER.build_button(request, obj.pk) if REDELIVER.is_applicable(obj) else None,
        }
        return super().render_change_form(request, context, add, change, form_url, obj)

    @admin.display(description="event")
    def event_column(self, delivery: WebhookDelivery) -> str:
        """Show the event that the webhook reports."""
        return format_html('<a class="text-link" href="{}">task.{}</a>', delivery_url(delivery), delivery.event)

    @admin.display(description="state")
    def state_badge(self, delivery: WebhookDelivery) -> str:
        """Show the state in its color."""
        return render_state_badge(delivery)

    @admin.display(description="task")
    def task_link(self, delivery: WebhookDelivery) -> str:
        """Show the task, linked to its page."""
        return _render_task_link(delivery, str(delivery.task_id)[:8] + "…")

    @admin.display(description="receiver")
    def receiver_column(self, delivery: WebhookDelivery) -> str:
        """Show the receiver's URL."""
        return format_html('<span class="steer-name" title="{0}">{0}</span>', delivery.url)

    @admin.display(description="attempts")
    def attempts_column(self, delivery: WebhookDelivery) -> str:
        """Show the number of attempts and the time of the next one."""
        if delivery.state != State.PENDING or not delivery.attempts:
            return str(delivery.attempts)
        more = '{}<small class="steer-more" title="{next}">next {next}</small>'
        return format_html(more, delivery.attempts, next=_format_next_attempt(delivery))

    @admin.display(description="answer")
    def response_column(self, delivery: WebhookDelivery) -> str:
        """Show the error or the HTTP status of the last attempt."""
        return _format_response(delivery)

    @admin.display(description="created")
    def created_column(self, delivery: WebhookDelivery) -> str:
        """Show the time since the task ended."""
        return columns.render_time_since(delivery.created_at)


def delivery_url(delivery: WebhookDelivery) -> str:
    """Return the URL of the delivery's page."""
    return reverse("admin:tasks_app_webhookdelivery_change", args=[delivery.pk])


def render_state_badge(delivery: WebhookDelivery) -> str:
    """Render the state in its color."""
    return columns.render_label(delivery.get_state_display(), _BADGES[State(delivery.state)])


def _build_rows(delivery: WebhookDelivery) -> list[DetailRow]:
    return [
        DetailRow(label="Id", value=delivery.pk, hint="the same in every attempt"),
        DetailRow(label="Task", value=_render_task_link(delivery, str(delivery.task_id))),
        DetailRow(label="Receiver", value=delivery.url),
        DetailRow(label="Attempts", value=delivery.attempts),
        DetailRow(label="Answer", value=_format_response(delivery)),
        DetailRow(label="Created", value=columns.format_time(delivery.created_at)),
        DetailRow(label="Last tried", value=columns.format_time(delivery.last_at)),
        DetailRow(label="Next try", value=_format_next_attempt(delivery) if delivery.state == State.PENDING else "–"),
    ]


def _format_response(delivery: WebhookDelivery) -> str:
    return delivery.last_error or str(delivery.last_status or "–")


def _format_next_attempt(delivery: WebhookDelivery) -> str:
    return columns.format_time(delivery.next_at)


def _render_task_link(delivery: WebhookDelivery, text: str) -> str:
    address = reverse("admin:tasks_app_task_change", args=[delivery.task_id])
    return format_html('<a class="text-link" href="{}">{}</a>', address, text)
