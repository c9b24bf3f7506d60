"""Model list and model form: the models that requests may name, their load options and their defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from tasks_app.admin import columns
from tasks_app.admin.actions import commands
from tasks_app.admin.actions.model_actions import MODEL_ACTIONS, PRELOAD, UNLOAD
from tasks_app.admin.actions.pause_actions import build_pause_button, build_pause_column
from tasks_app.admin.actions.views import ConfirmedActionsAdmin
from tasks_app.catalog import resolve
from tasks_app.catalog import rows as model_rows
from tasks_app.models import DiffusionModel, Pause
from tasks_app.queue import workers
from tasks_app.task_types import parameters

# Unfold has no type hints; its change list has the same interface as Django's.
if TYPE_CHECKING:
    from django.contrib.admin.views.main import ChangeList

    DiffusionModelForm = forms.ModelForm[DiffusionModel]
else:
    from unfold.views import ChangeList

    DiffusionModelForm = forms.ModelForm

# The meaning of a choice that is left empty.
_EMPTY_CHOICE_LABELS = {
    "dtype": "the server's setting",
    "attention_backend": "the model's own",
    "step_cache": "none",
    "quantization": "none",
}
_SWITCH_LABELS = {
    "compile_blocks": "compiled",
    "fuse_qkv": "fused QKV",
    "channels_last": "channels last",
    "vae_slicing": "sliced VAE",
    "vae_tiling": "tiled VAE",
    "prompt_weighting": "weighted prompts",
}


class CatalogForm(DiffusionModelForm):
    """Form of a model's row; defaults are validated by the rules for request parameters."""

    class Meta:
        model = DiffusionModel
        exclude = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rules = parameters.get_param_fields()
        # The form has no fields for users with only the permission to view.
        for name in self.fields.keys() & set(resolve.DEFAULT_COLUMNS):
            self.fields[name].help_text = _build_help_text(rules[name])
        if "scheduler" in self.fields:
            names = [("", "the model's own"), *((name, name) for name in rules["scheduler"].choices)]  # type: ignore[attr-defined]
            self.fields["scheduler"] = forms.ChoiceField(
                choices=names,
                required=False,
                widget=UnfoldAdminSelectWidget(),
                help_text="Sampling method.",
            )

    def clean_model_id(self) -> str:
        """Reject an id that is neither in MODELS_DIR nor a Hub id, or that is another model's alias."""
        name: str = self.cleaned_data["model_id"]
        if not resolve.is_valid_model_id(name):
            raise forms.ValidationError("This is neither a model of MODELS_DIR nor an id on the Hub (owner/name).")
        holder = resolve.find_name_owners([name], besides=self.instance.pk or 0).get(name, name)
        if holder != name:
            raise forms.ValidationError(f"{holder} has this name as an alias.")
        return name

    def clean_aliases(self) -> list[str]:
        """Reject aliases that belong to another model or repeat the model's own name."""
        names: list[str] = list(dict.fromkeys(self.cleaned_data["aliases"]))
        taken = resolve.find_name_owners(names, besides=self.instance.pk or 0)
        own = self.cleaned_data.get("model_id", self.instance.model_id)
        wrong = [f"{name} is the name of {holder}." for name, holder in taken.items() if holder != own]
        if own in names:
            wrong.append(f"{own} is the model's own name.")
        if wrong:
            raise forms.ValidationError(wrong)
        return names

    def clean_max_batch(self) -> int | None:
        """Reject 0: a model is disabled with `allowed` instead."""
        most: int | None = self.cleaned_data["max_batch"]
        if most == 0:
            raise forms.ValidationError("Must be at least 1.")
        return most

    def clean(self) -> dict[str, Any]:
        """Add an error to each default that no request could use."""
        cleaned = super().clean() or self.cleaned_data
        given = {name: cleaned[name] for name in resolve.DEFAULT_COLUMNS if cleaned.get(name) not in (None, "")}
        for name, messages in parameters.find_default_errors(given).items():
            self.add_error(name, messages)
        return cleaned


class CatalogChangeList(ChangeList):
    """A page of models, each with the workers that have it loaded."""

    def get_results(self, request: HttpRequest) -> None:
        """Fetch the page and the workers on which its models are warm."""
        super().get_results(request)
        models: list[Any] = list(self.result_list)
        warm = workers.get_workers_by_model()
        for model in models:
            model.loaded_on = warm.get(model.model_id, [])
        self.result_list = models


@admin.register(DiffusionModel)
class CatalogAdmin(ConfirmedActionsAdmin):
    """Admin of the models: allow, configure, load and pause them."""

    confirmed_actions = MODEL_ACTIONS
    form = CatalogForm
    list_display = (
        "name_column",
        "access_column",
        "revision_column",
        "defaults_column",
        "load_options_column",
        "warm_column",
    )
    list_display_links = None
    list_fullwidth = True
    change_list_template = "admin/tasks_app/steering/change_list.html"
    change_form_outer_before_template = "admin/tasks_app/diffusionmodel/before_form.html"
    ordering = ("model_id",)
    sortable_by = ()
    search_fields = ("model_id", "aliases")
    actions = None
    fieldsets = (
        # At most two fields per row: the help texts of three would not fit side by side.
        (None, {"fields": (("model_id", "aliases"), ("revision", "license_note"), ("allowed", "is_default"))}),
        (
            "Request defaults",
            {"fields": (("steps", "guidance_scale"), ("width", "height"), ("scheduler", "negative_prompt"))},
        ),
        ("Running", {"fields": (("dtype", "offload"), ("max_batch", "prompt_weighting"))}),
        (
            "Speed",
            {
                "description": "Measure before enabling: what each does depends on the model and the device.",
                "fields": (
                    ("compile_blocks", "fuse_qkv"),
                    ("channels_last", "attention_backend"),
                    ("step_cache", "quantization"),
                    ("vae_slicing", "vae_tiling"),
                ),
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[DiffusionModel]:
        """Annotate each model with `is_paused`."""
        return model_rows.annotate_paused(super().get_queryset(request))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the change list that shows warm models."""
        return CatalogChangeList

    def get_list_display(self, request: HttpRequest) -> Any:
        """Add the column that pauses or resumes a model."""
        return [*self.list_display, build_pause_column(request, _get_pause_target)]

    def get_readonly_fields(self, request: HttpRequest, obj: DiffusionModel | None = None) -> list[str]:
        """Make the name of an existing row read-only: its tasks, pauses and commands refer to it."""
        return [] if obj is None else ["model_id"]

    def has_delete_permission(self, request: HttpRequest, obj: DiffusionModel | None = None) -> bool:
        """Refuse for models named in the settings: the next worker would add them again; disallow them instead."""
        may = super().has_delete_permission(request, obj)
        return may and (obj is None or resolve.resolve_from_settings(obj.model_id) is None)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> forms.Field | None:
        """Label empty choices with their meaning, and use smaller widgets for the aliases and the long texts."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and db_field.name in _EMPTY_CHOICE_LABELS:
            names = [(name, name) for name, _ in db_field.choices]
            field.choices = [("", _EMPTY_CHOICE_LABELS[db_field.name]), *names]  # type: ignore[attr-defined]
        if field is not None and db_field.name == "aliases":
            field.widget = UnfoldAdminTextInputWidget()
        if field is not None and db_field.name in {"license_note", "negative_prompt"}:
            field.widget.attrs["rows"] = 2
        return field

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        """Add the model's pause, workers and commands, which are not part of its row."""
        if obj is not None:
            context |= _build_page_context(request, obj)
        return super().render_change_form(request, context, add, change, form_url, obj)

    @admin.display(description="model")
    def name_column(self, model: DiffusionModel) -> str:
        """Show the model's name and its aliases."""
        address = reverse("admin:tasks_app_diffusionmodel_change", args=[model.pk])
        small = '<small class="steer-more" title="{0}">{0}</small>'
        also = format_html_join("", small, [(alias,) for alias in model.aliases])
        return format_html('<a class="text-link" href="{}">{}</a>{}', address, model.model_id, also)

    @admin.display(description="access")
    def access_column(self, model: Any) -> str:
        """Show badges for allowed, default and paused."""
        return format_html('<span class="steer-badges">{}</span>', _render_access(model))

    @admin.display(description="revision")
    def revision_column(self, model: DiffusionModel) -> str:
        """Show the commit that the model is pinned to."""
        pinned = resolve.get_pinned_revision(model)
        return format_html('<span title="{}">{}</span>', pinned, pinned[:12] or "newest")

    @admin.display(description="defaults")
    def defaults_column(self, model: DiffusionModel) -> str:
        """Show the defaults for parameters that a request omits."""
        return ", ".join(_describe_defaults(model)) or "–"

    @admin.display(description="loading")
    def load_options_column(self, model: DiffusionModel) -> str:
        """Show the options that the model is loaded with."""
        return ", ".join(_describe_load_options(model)) or "–"

    @admin.display(description="warm on")
    def warm_column(self, model: Any) -> str:
        """Show the workers that have the model loaded."""
        return format_html_join("", '<span class="steer-model">{}</span>', [(name,) for name in model.loaded_on]) or "–"


def _get_pause_target(model: Any) -> tuple[Pause.Scope, str, bool]:
    return Pause.Scope.MODEL, model.model_id, model.is_paused


def _build_page_context(request: HttpRequest, model: Any) -> dict[str, Any]:
    loaded_on = workers.get_workers_by_model().get(model.model_id, [])
    return {
        "model": model,
        "access": _render_access(model),
        "loaded_on": loaded_on,
        "buttons": [
            model.allowed and PRELOAD.build_button(request, model.pk),
            loaded_on and UNLOAD.build_button(request, model.pk),
            build_pause_button(request, Pause.Scope.MODEL, model.model_id, paused=model.is_paused),
        ],
        "commands": commands.get_latest_commands(model_id=model.model_id),
    }


def _render_access(model: Any) -> str:
    allowed = (
        columns.render_label("allowed", "success") if model.allowed else columns.render_label("not allowed", "default")
    )
    default = columns.render_label("default", "info") if model.is_default else ""
    paused = columns.render_label("paused", "warning") if model.is_paused else ""
    return format_html("{} {} {}", allowed, default, paused)


def _describe_defaults(model: DiffusionModel) -> list[str]:
    found = [] if model.steps is None else [f"{model.steps} steps"]
    found += [] if model.guidance_scale is None else [f"guidance {model.guidance_scale:g}"]
    found += [] if model.width is None else [f"{model.width} × {model.height}"]
    return [*found, *filter(None, [model.scheduler])]


def _describe_load_options(model: DiffusionModel) -> list[str]:
    found = [model.dtype] if model.dtype else []
    found += [] if model.offload == DiffusionModel.Offload.NONE else [f"{model.get_offload_display()} offloaded"]
    found += filter(None, [model.quantization, model.step_cache, model.attention_backend])
    found += [words for name, words in _SWITCH_LABELS.items() if getattr(model, name)]
    return [*found, *([f"at most {model.max_batch} images"] if model.max_batch else [])]


def _build_help_text(field: Any) -> str:
    """Return the help text of a default: its bounds and the meaning of an empty value."""
    low, high = getattr(field, "min_value", None), getattr(field, "max_value", None)
    step = getattr(field, "multiple_of", 1)
    bounds = "" if low is None else f"{low} to {high}{f', in multiples of {step}' if step > 1 else ''}. "
    empty = "the model's own" if field.default is None else field.default
    return f"{bounds}Empty: {empty}." if empty != "" else ""
