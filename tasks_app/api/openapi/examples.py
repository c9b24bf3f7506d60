"""Examples in the OpenAPI schema; a test validates each against its schema."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from tasks_app.engine.types import LoadOptions

Example = dict[str, Any]
_ID = "2ec9eca9-5d9c-42e1-b61b-a0c953b31c95"
_PROGRESS = {"phase": "denoising", "step": 9, "total_steps": 25, "percent": 36, "eta_seconds": 0.5}
_ROOT = f"https://pictures.example/task/{_ID}"
_PARAMS = {"model_id": "demo", "prompt": "a red house", "steps": 25, "guidance_scale": 3.0, "seed": 42}
_UPLOAD = "7d9f3f8e-8a35-4f0c-9a52-0d6f4b1f2c11"

SUBMISSIONS: dict[str, Example] = {
    "least": {"task_type": "text-to-image", "params": {"prompt": "a red house", "model_id": "demo"}},
    "more": {"task_type": "text-to-image", "params": {**_PARAMS, "num_images": 2}, "priority": 1},
    "from an upload": {"task_type": "image-to-image", "params": {**_PARAMS, "image": _UPLOAD, "strength": 0.6}},
}
UPLOAD: Example = {
    "id": _UPLOAD,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "width": 64,
    "height": 64,
}
IMAGE: Example = {
    "index": 0,
    "url": f"{_ROOT}/images/0",
    "thumbnail_url": f"{_ROOT}/images/0/thumbnail",
    "seed": 42,
    "width": 64,
    "height": 64,
    "content_type": "image/png",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "flagged": False,
    "blank": False,
    "purged": False,
}
QUEUED: Example = {
    "id": _ID,
    "task_type": "text-to-image",
    "status": "queued",
    "priority": 0,
    "params": {
        "provider": "diffusers",
        **_PARAMS,
        "negative_prompt": "",
        "width": None,
        "height": None,
        "scheduler": None,
        "loras": [],
        "embeddings": [],
        "output_format": "png",
        "num_images": 1,
    },
    "model": {"id": "demo", "revision": None},
    "progress": {"phase": None, "step": 0, "total_steps": 25, "percent": 0, "eta_seconds": None},
    "queue_position": 1,
    "paused": False,
    "attempt": 0,
    "images": [],
    "error": None,
    "created_at": "2025-07-25T09:30:00.123456Z",
    "started_at": None,
    "finished_at": None,
    "warnings": [],
    "timings": {},
    "provenance": {},
    "retried_from": None,
    "reproduction": None,
    "urls": {"self": _ROOT, "events": f"{_ROOT}/events", "cancel": f"{_ROOT}/cancel", "images": f"{_ROOT}/images"},
}
LORA: Example = {"id": "watercolor", "bytes": 151_108_008}
EMBEDDING: Example = {"id": "mood", "bytes": 24_680}
MODEL: Example = {
    "id": "demo",
    "aliases": ["tiny"],
    "default": True,
    "allowed": True,
    "paused": False,
    "revision": None,
    "defaults": {
        "steps": 25,
        "guidance_scale": 3.0,
        "width": 64,
        "height": 64,
        "scheduler": None,
        "negative_prompt": None,
    },
    "task_types": ["text-to-image", "image-to-image"],
    "schedulers": ["ddim", "ddpm", "euler"],
    "max_images": 8,
    "max_batch": None,
    "load_options": asdict(LoadOptions()),
    "license": "apache-2.0",
    "loaded_on": ["gpu-host:4711"],
}
SUCCEEDED: Example = {
    **QUEUED,
    "status": "succeeded",
    "params": {**QUEUED["params"], "width": 64, "height": 64},
    "model": {"id": "demo", "revision": "local"},
    "progress": {"phase": None, "step": 25, "total_steps": 25, "percent": 100, "eta_seconds": None},
    "queue_position": None,
    "attempt": 1,
    "images": [IMAGE],
    "started_at": "2025-07-25T09:30:00.456789Z",
    "finished_at": "2025-07-25T09:30:01.789012Z",
    "timings": {"loading": 0.4, "denoising": 0.8, "decoding": 0.1, "saving": 0.02},
    "provenance": {"device": "cuda", "dtype": "float16", "batch_size": "1", "torch": "2.9.0"},
}
REPRODUCING: Example = {
    **QUEUED,
    "model": {"id": "demo", "revision": "local"},
    "reproduction": {"of": "7f1d6f0a-58cf-4b0c-9f3c-0a4c1f1c9f10", "verdict": None, "images": [], "differences": {}},
}
PAGE: Example = {"next": None, "previous": None, "results": [SUCCEEDED]}
RECOVERED: Example = {
    "source": "diffusers-handler",
    "task_type": "text-to-image",
    "params": {**_PARAMS, "width": 64, "height": 64, "num_images": 1},
    "ignored": {},
}
READY: Example = {
    "status": "ok",
    "database": "ok",
    "redis": "ok",
    "storage": "ok",
    "default_model": "ok",
    "workers": 2,
}
EVENT: Example = {
    "id": "1753437600456-0",
    "event": "progress",
    "data": json.dumps({"task": _ID, "attempt": 1, **_PROGRESS}),
}
