"""Responses in the format of A1111's API: `txt2img`, `png-info` and progress."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from tasks_app import answers
from tasks_app.api.compat.tasks import encode_image
from tasks_app.contracts import GenerationMetadata
from tasks_app.events import progress
from tasks_app.images.metadata import infotext, lora_tags
from tasks_app.images.metadata.a1111_samplers import SAMPLERS_BY_SCHEDULER
from tasks_app.models import Status, Task, TaskImage


def build_txt2img_response(sent: Mapping[str, Any], task: Task) -> answers.Pictures:
    """Return the response for a task that has succeeded; `sent` is the request's body.

    Raises:
        FileNotFoundError: an image's file is missing.
        StorageError: an image's file can't be read.
    """
    images = list(task.images.all())
    effective = _get_effective_params(sent, task, images[0])
    wanted = sent.get("send_images") is not False
    return {
        "images": [encode_image(image) for image in images] if wanted else [],
        "parameters": effective,
        "info": json.dumps(_build_info(task, images, effective)),
    }


def _get_effective_params(sent: Mapping[str, Any], task: Task, image: TaskImage) -> dict[str, Any]:
    return {
        "prompt": lora_tags.append_tags(task.params["prompt"], task.params["loras"]),
        "negative_prompt": task.params["negative_prompt"],
        "seed": task.seed,
        "sampler_name": SAMPLERS_BY_SCHEDULER.get(task.params["scheduler"]),
        "steps": task.params["steps"],
        "cfg_scale": task.params["guidance_scale"],
        "width": image.width,
        "height": image.height,
        "batch_size": sent.get("batch_size") or 1,
        "n_iter": sent.get("n_iter") or 1,
    }


def _build_info(task: Task, images: list[TaskImage], effective: Mapping[str, Any]) -> dict[str, Any]:
    seeds = [image.seed for image in images]
    return {
        **effective,
        "all_prompts": [effective["prompt"]] * len(images),
        "all_negative_prompts": [effective["negative_prompt"]] * len(images),
        "all_seeds": seeds,
        "subseed": seeds[0],
        "all_subseeds": seeds,
        "subseed_strength": 0,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": task.requested_model_id,
        "sd_model_hash": task.revision or None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": 0,
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": [_build_infotext(task, image) for image in images],
        "styles": [],
        "job_timestamp": f"{task.created_at:%Y%m%d%H%M%S}",
        "clip_skip": 1,
        "is_using_inpainting_conditioning": False,
        "version": f"diffusers-handler {settings.VERSION}",
    }


def _build_infotext(task: Task, image: TaskImage) -> str:
    params = {**task.params, "seed": image.seed, "width": image.width, "height": image.height}
    recipe = GenerationMetadata(
        task_type=task.task_type,
        params={"model_id": task.requested_model_id},
        model_id=task.model_id,
        revision=task.revision,
        provenance={"diffusers-handler": settings.VERSION, **task.provenance},
    )
    return infotext.format_infotext(params, recipe)


def build_png_info(text: str) -> answers.PictureInfo:
    """Return the response of `png-info` for an image with this infotext, which may be empty."""
    if not text:
        return {"info": "", "items": {}, "parameters": {}}
    prompt, negative, pairs = infotext.split_infotext(text)
    return {
        "info": text,
        "items": {"parameters": text},
        "parameters": {"Prompt": prompt, "Negative prompt": negative, **pairs},
    }


def build_idle_progress() -> answers.WebUIProgress:
    """Return the progress of a caller without queued or running tasks."""
    return {
        "progress": 0.0,
        "eta_relative": 0.0,
        "state": _build_state(None, 0, {}),
        "current_image": None,
        "textinfo": None,
    }


def build_task_progress(task: Task, jobs: int, *, with_picture: bool) -> answers.WebUIProgress:
    """Return the progress of a queued or running task; `jobs` counts all such tasks of the caller."""
    known = progress.progress_from_row(task) | progress.get_live_progress([task]).get(task.pk, {})
    total = known["total_steps"]
    return {
        "progress": known["step"] / total if total else 0.0,
        "eta_relative": known["eta_seconds"] or 0.0,
        "state": _build_state(task, jobs, known),
        "current_image": _get_preview(task) if with_picture else None,
        "textinfo": known["phase"] or str(Status.QUEUED),
    }


def _build_state(task: Task | None, jobs: int, known: Mapping[str, Any]) -> answers.WebUIState:
    return {
        "skipped": False,
        "interrupted": task is not None and task.cancel_requested_at is not None,
        "stopping_generation": False,
        "job": "" if task is None else str(task.pk),
        "job_count": jobs,
        "job_timestamp": "0" if task is None else f"{task.created_at:%Y%m%d%H%M%S}",
        "job_no": 0,
        "sampling_step": known.get("step", 0),
        "sampling_steps": known.get("total_steps", 0),
    }


def _get_preview(task: Task) -> str | None:
    """Return the preview of the current attempt, a WebP in Base64; None if there is none yet."""
    trail = progress.read_streams([task.pk]).get(task.pk)
    if trail is None or trail.preview is None or trail.preview.data["attempt"] != task.attempt:
        return None
    return str(trail.preview.data["src"]).partition(",")[2]
