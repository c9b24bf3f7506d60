"""Request body of A1111's `txt2img`: the supported, the ignored and the rejected fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from rest_framework import serializers

from tasks_app.api.compat.tasks import CompatSerializer, UnsupportedField, pick_params
from tasks_app.engine import addon_files, trigger_words
from tasks_app.fields import StrictBooleanField, StrictCharField, StrictIntegerField, escape_surrogates
from tasks_app.images.metadata import a1111_samplers, lora_tags
from tasks_app.submissions import AnyField

RANDOM_SEED = -1
# A1111's default for a width or height that the body omits.
DEFAULT_SIDE = 512
MAX_COUNT = 1000
_FIELD_NAMES = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "steps": "steps",
    "guidance_scale": "cfg_scale",
}
# Fields that only matter with UNSUPPORTED_FIELDS, control A1111's own files, or fine-tune samplers.
IGNORED_FIELDS = (
    *("denoising_strength", "firstphase_width", "firstphase_height", "hr_scale", "hr_upscaler"),
    *("hr_second_pass_steps", "hr_resize_x", "hr_resize_y", "hr_checkpoint_name", "hr_sampler_name", "hr_scheduler"),
    *("hr_prompt", "hr_negative_prompt", "hr_additional_modules", "hr_cfg", "hr_distilled_cfg"),
    *("subseed", "seed_resize_from_h", "seed_resize_from_w", "refiner_switch_at", "script_args"),
    *("save_images", "do_not_save_samples", "do_not_save_grid", "override_settings_restore_afterwards"),
    *("eta", "s_churn", "s_tmax", "s_tmin", "s_noise", "s_min_uncond", "force_task_id", "comments"),
)
UNSUPPORTED_FIELDS = (
    "enable_hr",
    "restore_faces",
    "tiling",
    "styles",
    "subseed_strength",
    "script_name",
    "refiner_checkpoint",
)
# Options that are accepted only with a value that describes how this server works anyway.
FIXED_OPTIONS: Mapping[str, tuple[Any, ...]] = {
    "CLIP_stop_at_last_layers": (1,),
    "samples_format": ("png",),
    "sd_vae": ("Automatic", "None"),
}
MODEL_OPTION = "sd_model_checkpoint"


class OptionsField(serializers.Field[Any, Any, Any, Any]):
    """A1111's options: the model, and others as long as they change nothing."""

    default_error_messages = {
        "invalid": "Must be an object.",
        "unsupported": "This server doesn't support changing: {names}.",
    }

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return the options unchanged."""
        if not isinstance(data, dict):
            self.fail("invalid")
        changed = [name for name, value in data.items() if name != MODEL_OPTION and not _is_noop_option(name, value)]
        if changed:
            self.fail("unsupported", names=escape_surrogates(", ".join(sorted(changed))))
        return data


def _is_noop_option(name: str, value: Any) -> bool:
    return not value or value in FIXED_OPTIONS.get(name, ())


class ScriptsField(serializers.Field[Any, Any, Any, Any]):
    """Scripts of A1111's extensions, accepted only if they are inactive."""

    default_error_messages = {"invalid": "Must be an object.", "unsupported": "This server doesn't support: {names}."}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return the scripts unchanged."""
        if not isinstance(data, dict):
            self.fail("invalid")
        wanted = [name for name, script in data.items() if _is_active_script(script)]
        if wanted:
            self.fail("unsupported", names=escape_surrogates(", ".join(sorted(wanted))))
        return data


def _is_active_script(script: Any) -> bool:
    """Return whether one of a script's arguments is neither empty nor disabled."""
    arguments = script.get("args") if isinstance(script, dict) else script
    if not isinstance(arguments, list):
        return bool(arguments)
    return any(
        argument and not (isinstance(argument, dict) and argument.get("enabled") is False) for argument in arguments
    )


class SamplerField(StrictCharField):
    """A1111's name of a sampler that this server supports."""

    default_error_messages = {"sampler": "Must be one of: {names}."}

    def to_internal_value(self, data: Any) -> str:
        """Return the name unchanged."""
        if not a1111_samplers.is_known_sampler(data):
            self.fail("sampler", names=", ".join(a1111_samplers.SCHEDULERS_BY_SAMPLER))
        return str(data)


class TextToImageSerializer(CompatSerializer):
    """Body of `POST /sdapi/v1/txt2img`; `model` in the context, if any, is the default for bodies without a model."""

    field_names = {
        "guidance_scale": "cfg_scale",
        "num_images": "batch_size × n_iter",
        "model_id": f"override_settings.{MODEL_OPTION}",
        "loras": "prompt",
        "embeddings": "prompt",
    }

    batch_size = StrictIntegerField(min_value=1, max_value=MAX_COUNT, required=False, allow_null=True)
    n_iter = StrictIntegerField(min_value=1, max_value=MAX_COUNT, required=False, allow_null=True)
    sampler_name = SamplerField(required=False, allow_null=True, allow_blank=True)
    sampler_index = SamplerField(required=False, allow_null=True, allow_blank=True)
    scheduler = StrictCharField(required=False, allow_null=True, allow_blank=True)
    override_settings = OptionsField(required=False, allow_null=True)
    alwayson_scripts = ScriptsField(required=False, allow_null=True)
    send_images = StrictBooleanField(required=False, allow_null=True)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Return the declared fields and those listed in this module's constants."""
        passed = ("seed", "width", "height", *_FIELD_NAMES.values(), *IGNORED_FIELDS)
        fields: dict[str, serializers.Field[Any, Any, Any, Any]] = super().get_fields()
        fields |= {name: AnyField(required=False, allow_null=True) for name in passed}
        return fields | {name: UnsupportedField() for name in UNSUPPORTED_FIELDS}

    def build_params(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters in the format of `POST /task`."""
        params = {"prompt": "", **pick_params(data, _FIELD_NAMES), **_get_size(data), "num_images": _count_images(data)}
        if isinstance(params["prompt"], str):
            params["prompt"], params["loras"] = lora_tags.extract_tags(params["prompt"])
        params["embeddings"] = _find_embeddings(params)
        options = data.get("override_settings")
        chosen = options.get(MODEL_OPTION) if isinstance(options, dict) else None
        if model := chosen or self.context["model"]:
            params["model_id"] = model
        if data.get("seed") not in (None, RANDOM_SEED):
            params["seed"] = data["seed"]
        scheduler = _get_scheduler(data)
        return params if scheduler is None else params | {"scheduler": scheduler}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return the validated values; an unknown field is rejected only if its value is not empty."""
        if isinstance(data, dict):
            data = {name: value for name, value in data.items() if value or name in self.fields}
        return super().to_internal_value(data)

    def find_conflicts(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return an error if the sampler does not support the schedule."""
        sampler, schedule = _get_sampler(data), data.get("scheduler") or ""
        if (
            not isinstance(schedule, str)
            or schedule.casefold() in ("", "automatic")
            or _get_scheduler(data) is not None
        ):
            return {}
        used_with = sampler or "requests without a sampler"
        message = f"The schedule {escape_surrogates(schedule)} is not supported for {used_with}."
        return {"scheduler": [serializers.ErrorDetail(message, code="unsupported")]}


def _find_embeddings(params: Mapping[str, Any]) -> list[str]:
    """Return the names of embeddings in the prompts; a prompt that is not text is rejected by its field."""
    texts = (params["prompt"], params.get("negative_prompt"))
    text = "\n".join(text for text in texts if isinstance(text, str))
    return trigger_words.find_trigger_words(text, addon_files.get_addon_paths(settings.EMBEDDINGS_DIR))


def _get_sampler(data: Mapping[str, Any]) -> str:
    """Return the sampler's name; empty if it is missing or wrong, which its field rejects."""
    named = data.get("sampler_name") or data.get("sampler_index")
    return named if isinstance(named, str) and a1111_samplers.is_known_sampler(named) else ""


def _get_scheduler(data: Mapping[str, Any]) -> str | None:
    """Return the scheduler; None for the model's own, and for values that their field rejects."""
    sampler, schedule = _get_sampler(data), data.get("scheduler") or ""
    return a1111_samplers.find_scheduler(sampler, schedule) if sampler and isinstance(schedule, str) else None


def _get_size(data: Mapping[str, Any]) -> dict[str, Any]:
    sides = pick_params(data, {"width": "width", "height": "height"})
    return {"width": DEFAULT_SIDE, "height": DEFAULT_SIDE} | sides if sides else {}


def _count_images(data: Mapping[str, Any]) -> int:
    """Return the number of images requested; a wrong number counts as 1, because its field rejects it."""
    numbers = [data.get(name) for name in ("batch_size", "n_iter")]
    batch, times = (number if type(number) is int and 1 <= number <= MAX_COUNT else 1 for number in numbers)
    return batch * times
