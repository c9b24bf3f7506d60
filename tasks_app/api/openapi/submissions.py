"""Examples of `POST /task`."""

from drf_spectacular.utils import OpenApiExample

_PARAMS = {"model_id": "demo", "prompt": "a red house", "steps": 25, "guidance_scale": 3.0, "seed": 42}
_UPLOAD = {"image": "7d9f3f8e-8a35-4f0c-9a52-0d6f4b1f2c11", "strength": 0.6}
SUBMISSIONS = [
    OpenApiExample(name, value, request_only=True)
    for name, value in {
        "least": {"task_type": "text-to-image", "params": {"prompt": "a red house", "model_id": "demo"}},
        "more": {"task_type": "text-to-image", "params": {**_PARAMS, "num_images": 2}, "priority": 1},
        "from an upload": {"task_type": "image-to-image", "params": {**_PARAMS, **_UPLOAD}},
    }.items()
]
