"""API keys: creating them, showing them once, limiting and revoking them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.timesince import timesince
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextInputWidget

from tasks_app import errors
from tasks_app.access import api_keys
from tasks_app.admin import columns
from tasks_app.admin.actions.confirmed_action import ActionResult, ConfirmedAction, FormData
from tasks_app.admin.actions.views import ConfirmedActionsAdmin
from tasks_app.models import ApiKey, Scope, WebhookEvent
from tasks_app.webhooks import payload, url_policy

# Django's ModelForm can't be subscripted at run time.
if TYPE_CHECKING:
    ApiKeyForm = forms.ModelForm[ApiKey]
else:
    ApiKeyForm = forms.ModelForm

CHANGE_PERMISSION = "tasks_app.change_apikey"
_LIMIT_FIELDS = ("rate_per_minute", "max_queued", "max_running")
_WEBHOOK_FIELDS = ("webhook_url", "webhook_events")


class KeyForm(ApiKeyForm):
    """Form with a key's name, owner, scopes, expiry, limits and webhook."""

    scopes = forms.TypedMultipleChoiceField(
        choices=Scope.choices,
        coerce=Scope,
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        initial=api_keys.DEFAULT_SCOPES,
    )
    webhook_url = forms.CharField(
        required=False,
        max_length=2000,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Default webhook for this key's tasks.",
    )
    webhook_events = forms.MultipleChoiceField(
        choices=WebhookEvent.choices,
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text="Leave empty for all events.",
    )

    class Meta:
        model = ApiKey
        fields = ("name", "user", "scopes", "expiry", *_LIMIT_FIELDS, *_WEBHOOK_FIELDS)

    def clean_webhook_url(self) -> str:
        """Reject a URL that the server's webhook policy forbids."""
        url: str = self.cleaned_data["webhook_url"]
        try:
            if url:
                url_policy.parse_url(url, payload.get_url_policy())
        except errors.WebhookUrlRefusedError as error:
            raise forms.ValidationError(str(error)) from None
        return url


def _revoke_key(key: ApiKey, data: FormData, user: User) -> ActionResult:
    if not api_keys.revoke_api_key(key):
        return ActionResult(message=f"{key} was already revoked or expired.")
    return ActionResult(message=f"{key} is revoked.", log="Revoked.")


def _is_expired(key: ApiKey) -> bool:
    return key.expiry is not None and key.expiry <= timezone.now()


REVOKE = ConfirmedAction[ApiKey](
    name="revoke",
    title="Revoke",
    icon="key_off",
    model=ApiKey,
    permission=CHANGE_PERMISSION,
    description="Requests with this key are refused from now on. Its tasks continue and still belong to it.",
    run=_revoke_key,
    is_applicable=lambda key: not _is_expired(key),
    not_applicable="The key is already revoked or expired.",
)


@admin.register(ApiKey)
class KeyAdmin(ConfirmedActionsAdmin):
    """Admin of the keys, with their owners and the time of their last use."""

    confirmed_actions = (REVOKE,)
    form = KeyForm
    list_display = ("name", "user", "scopes_column", "state_column", "last_used_column")
    list_select_related = ("user",)
    list_fullwidth = True
    change_form_outer_before_template = "admin/tasks_app/apikey/before_form.html"
    ordering = ("name", "pk")
    sortable_by = ()
    search_fields = ("name", "user__username")
    autocomplete_fields = ("user",)
    actions = None
    fieldsets = (
        (None, {"fields": (("name", "user"), "scopes", "expiry")}),
        ("Limits", {"fields": (_LIMIT_FIELDS,)}),
        ("Webhook", {"fields": _WEBHOOK_FIELDS}),
    )

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """Refuse: the key's tasks would have no owner; revoke the key instead."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> list[str]:
        """Make the owner and the webhook secret of an existing key read-only."""
        return [] if obj is None else ["user", "signing_secret"]

    def get_fieldsets(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        """Add the webhook secret for users with permission to change keys."""
        if obj is None or not request.user.has_perm(CHANGE_PERMISSION):
            return self.fieldsets
        return (*self.fieldsets[:-1], ("Webhook", {"fields": (*_WEBHOOK_FIELDS, "signing_secret")}))

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """Create a new key with `create_api_key`, as everywhere else."""
        if change:
            super().save_model(request, obj, form, change)
            return
        given = dict(form.cleaned_data)
        expiry = given.pop("expiry")
        made, obj.token = api_keys.create_api_key(
            expires_in=None if expiry is None else expiry - timezone.now(), **given
        )
        obj.pk, obj.webhook_secret = made.pk, made.webhook_secret

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Show the new key's token, only this once."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "New key",
            "key": obj,
            "token": obj.token,
            "next": reverse("admin:tasks_app_apikey_changelist"),
        }
        return TemplateResponse(
            request, "admin/tasks_app/apikey/made.html", context, headers={"Cache-Control": "no-store"}
        )

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Offer to revoke a key that has not expired."""
        key = context.get("original")
        if key is not None and REVOKE.is_applicable(key):
            context |= {"button": REVOKE.build_button(request, key.pk), "used": _format_last_used(key)}
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description="scopes")
    def scopes_column(self, key: ApiKey) -> str:
        """Show the key's scopes."""
        return ", ".join(key.scopes)

    @admin.display(description="state")
    def state_column(self, key: ApiKey) -> str:
        """Show the key's state and its expiry date."""
        if _is_expired(key):
            return columns.render_label("expired/revoked", "default")
        return columns.render_label("active" if key.expiry is None else f"until {key.expiry:%Y-%m-%d}", "success")

    @admin.display(description="last used")
    def last_used_column(self, key: ApiKey) -> str:
        """Show the time since the key was last used."""
        return _format_last_used(key)

    @admin.display(description="webhook secret")
    def signing_secret(self, key: ApiKey) -> str:
        """Show the secret that signs the key's webhooks."""
        return key.webhook_secret


def _format_last_used(key: ApiKey) -> str:
    return "never used" if key.last_used_at is None else f"used {timesince(key.last_used_at)} ago"
