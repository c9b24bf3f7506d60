"""Clone with edits: a form filled with a task's parameters, which queues a new task and keeps the original."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from tasks_app import services
from tasks_app.access import permissions
from tasks_app.admin import columns
from tasks_app.admin.actions.selected_tasks import TaskActionsAdmin
from tasks_app.catalog import choices as model_choices
from tasks_app.contracts import Principal
from tasks_app.models import Task
from tasks_app.submissions import SubmissionSerializer

# Parameters without a form field: they are copied from the original.
_COPIED_PARAMS = ("loras", "embeddings", "output_format", "image", "mask", "strength")


class CloneForm(forms.Form):
    """Form with the fields of a submission; the submission's serializer validates the values."""

    prompt = forms.CharField(required=False, strip=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}))
    negative_prompt = forms.CharField(required=False, strip=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}))
    model_id = forms.CharField(label="Model", widget=UnfoldAdminSelectWidget())
    steps = forms.IntegerField(widget=UnfoldAdminTextInputWidget())
    guidance_scale = forms.FloatField(widget=UnfoldAdminTextInputWidget())
    seed = forms.IntegerField(widget=UnfoldAdminTextInputWidget(), required=False, help_text="Empty: random.")
    width = forms.IntegerField(
        widget=UnfoldAdminTextInputWidget(), required=False, help_text="Empty: the model's default size."
    )
    height = forms.IntegerField(widget=UnfoldAdminTextInputWidget(), required=False)
    num_images = forms.IntegerField(widget=UnfoldAdminTextInputWidget(), label="Images")
    scheduler = forms.CharField(
        widget=UnfoldAdminTextInputWidget(), required=False, help_text="Empty: the model's default."
    )
    priority = forms.IntegerField(widget=UnfoldAdminTextInputWidget())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = dict.fromkeys([self["model_id"].value(), *model_choices.get_public_ids()])
        self.fields["model_id"].widget.choices = [(name, name) for name in names]

    def to_submission(self, task: Task, caller: Principal) -> SubmissionSerializer | None:
        """Return the valid submission, of the task's type; None if it is invalid, with errors added to the fields."""
        if not self.is_valid():
            return None
        params = {name: value for name, value in self.cleaned_data.items() if value is not None}
        body = {"task_type": task.task_type, "priority": params.pop("priority")}
        params |= {"provider": task.provider, "scheduler": params["scheduler"] or None}
        params |= {name: task.params[name] for name in _COPIED_PARAMS if name in task.params}
        serializer = SubmissionSerializer(data={**body, "params": params}, context={"caller": caller})
        if serializer.is_valid():
            return serializer
        self._add_submission_errors(serializer.errors)
        return None

    def _add_submission_errors(self, errors: Any) -> None:
        for name, messages in {**errors, **errors.get("params", {})}.items():
            if name != "params":
                for message in messages:
                    self.add_error(name if name in self.fields else None, str(message))


class CloneTaskAdmin(TaskActionsAdmin):
    """Task admin with a form that submits a task again with changes."""

    def get_urls(self) -> list[URLPattern]:
        """Add the form's URL before Django's own."""
        view = self.admin_site.admin_view(self.clone_view)
        return [path("<uuid:task_id>/clone/", view, name="tasks_app_task_clone"), *super().get_urls()]

    def clone_view(self, request: HttpRequest, task_id: UUID) -> HttpResponse:
        """Show the form on GET; queue the new task on POST."""
        if not self.has_act_permission(request):
            raise PermissionDenied
        task = self.get_queryset(request).filter(pk=task_id).first()
        if task is None:
            raise Http404
        caller = permissions.get_user_principal(request.user)
        form = CloneForm(request.POST or None, initial=_get_initial_values(task))
        submission = form.to_submission(task, caller) if request.method == "POST" else None
        if submission is None:
            return self._render_form(request, task, form)
        new, _ = services.submit_task(submission.build_submission(), caller=caller)
        self.log_addition(request, new, f"Cloned from {task.pk} with edits.")
        self.message_user(request, "Queued as a new task.")
        return HttpResponseRedirect(reverse("admin:tasks_app_task_change", args=[new.pk]))

    def _render_form(self, request: HttpRequest, task: Task, form: CloneForm) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Clone with edits",
            "form": form,
            "original": task,
            "thumbnail": columns.render_thumbnail(task),
            "back": reverse("admin:tasks_app_task_change", args=[task.pk]),
        }
        return TemplateResponse(request, "admin/tasks_app/task/clone.html", context)


def _get_initial_values(task: Task) -> dict[str, Any]:
    return {**task.params, "model_id": task.requested_model_id, "seed": task.seed, "priority": task.priority}
