"""Requests and answers of both clients, as data."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import quote
from uuid import uuid4

import httpx2

from diffusers_handler_client.errors import ApiError, FieldError, Unreachable
from diffusers_handler_client.shapes import Image, Task, Upload, Webhook

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
PAGE_SIZE = 100
JSON_CONTENT_TYPE, STREAM_CONTENT_TYPE = "application/json", "text/event-stream"
# Options whose names differ from the API's parameters, and options that are not parameters.
PARAM_NAMES = {"model": "model_id"}
NON_PARAM_OPTIONS = frozenset({"params", "priority", "batchable", "idempotency_key", "webhook", "wait"})
FIELD_ERROR_KEYS = ("path", "code", "message")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request that is safe to repeat."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    content: bytes | None = None
    read_seconds: float = READ_SECONDS
    follow_redirects: bool = False

    def to_request_options(self) -> dict[str, Any]:
        """Return the arguments for httpx2's clients."""
        return {
            "method": self.method,
            "url": self.path,
            "params": self.query or None,
            "headers": self.headers,
            "json": self.body,
            "content": self.content,
            "timeout": httpx2.Timeout(CONNECT_SECONDS, read=self.read_seconds),
            "follow_redirects": self.follow_redirects,
        }


class Options(TypedDict, total=False):
    """Options of a submission beside the prompt; the service chooses the value of a missing one or None.

    `params` are parameters that this version has no name for. `idempotency_key` makes it safe to send the submission
    again; without one, a key is generated. With `wait` the service answers when the task has ended, or after this many
    seconds.

    `image` is an upload to start from, `strength`, from 0 to 1, how much to change of it, and `mask` an upload that is
    white in the area to change.
    """

    model: str | None
    negative_prompt: str | None
    steps: int | None
    guidance_scale: float | None
    seed: int | None
    width: int | None
    height: int | None
    num_images: int | None
    scheduler: str | None
    loras: Sequence[Mapping[str, Any]] | None
    embeddings: Sequence[str] | None
    output_format: str | None
    image: Upload | str | None
    mask: Upload | str | None
    strength: float | None
    params: Mapping[str, Any] | None
    priority: int | None
    batchable: bool | None
    idempotency_key: str | None
    webhook: Webhook | None
    wait: int | None


def build_client_options(url: str | None, api_key: str | None) -> dict[str, Any]:
    """Return the base of all requests, from the arguments or else from the environment."""
    key = os.environ.get("DIFFUSERS_HANDLER_KEY") if api_key is None else api_key
    return {
        "base_url": url or os.environ.get("DIFFUSERS_HANDLER_URL") or DEFAULT_URL,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
    }


def task_path(task: Task | str) -> str:
    """Return the path of a task."""
    return f"/task/{quote(task.id if isinstance(task, Task) else task, safe='')}"


def submit_call(prompt: str, options: Options) -> Call:
    """Return the call that queues a task."""
    named = {PARAM_NAMES.get(name, name): value for name, value in options.items() if name not in NON_PARAM_OPTIONS}
    params = {"prompt": prompt, **_drop_none(named), **(options.get("params") or {})}
    params |= {name: value.id for name, value in params.items() if isinstance(value, Upload)}
    body: dict[str, Any] = {"task_type": _infer_task_type(params), "params": params}
    webhook, wait = options.get("webhook"), options.get("wait")
    body |= _drop_none(
        {"webhook": webhook and webhook.body()} | {name: options.get(name) for name in ("priority", "batchable")}
    )
    headers = {"Idempotency-Key": options.get("idempotency_key") or str(uuid4())}
    if wait is not None:
        headers["Prefer"] = f"wait={wait}"
    return Call(method="POST", path="/task", headers=headers, body=body, read_seconds=READ_SECONDS + (wait or 0))


def upload_call(image: bytes | str | os.PathLike[str]) -> Call:
    """Return the call that uploads an image, or the file of one."""
    content = image if isinstance(image, bytes) else Path(image).read_bytes()
    # The service detects the image format from the bytes.
    return Call(method="POST", path="/upload", headers={"Content-Type": "image/png"}, content=content)


def get_task_call(task: Task | str) -> Call:
    """Return the call that reads a task."""
    return Call(method="GET", path=task_path(task))


def cancel_call(task: Task | str) -> Call:
    """Return the call that cancels a task."""
    return Call(method="POST", path=f"{task_path(task)}/cancel")


def reproduce_call(task: Task | str) -> Call:
    """Return the call that queues a task again, to compare the images."""
    return Call(method="POST", path=f"{task_path(task)}/reproduce", headers={"Idempotency-Key": str(uuid4())})


def image_call(task: Task | str, index: int) -> Call:
    """Return the call that reads an image, which may be stored elsewhere."""
    return Call(method="GET", path=f"{task_path(task)}/images/{index}", follow_redirects=True)


def list_tasks_call(status: str | None, model: str | None) -> Call:
    """Return the call that reads the newest tasks."""
    query = {"limit": str(PAGE_SIZE), **_drop_none({"status": status, "model_id": model})}
    return Call(method="GET", path="/task", query=query)


def parse_page(answer: httpx2.Response) -> tuple[list[Task], Call | None]:
    """Return a page's tasks, and the call that reads the next page."""
    data = answer.json()
    following = data["next"]
    # Only the query counts: behind a proxy the service may not know its own address.
    query = dict(httpx2.URL(following).params) if following else {}
    return [Task.parse(task) for task in data["results"]], Call(
        method="GET", path="/task", query=query
    ) if query else None


def parse_task(answer: httpx2.Response) -> Task:
    """Return the task of a response."""
    return Task.parse(answer.json())


def image_path(directory: str | os.PathLike[str], task: Task, image: Image) -> Path:
    """Return the file to save an image to."""
    return Path(directory) / f"{task.id}-{image.index}.{image.suffix}"


def save_image(file: Path, content: bytes) -> Path:
    """Write an image to a file and create the missing folders."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def check_response(answer: httpx2.Response, content_type: str = JSON_CONTENT_TYPE) -> httpx2.Response:
    """Return the response; its body must have been read, unless it is a stream.

    Raises:
        ApiError: It is an error, or comes from another service.
    """
    if answer.is_error:
        raise _build_api_error(answer)
    if not answer.headers.get("Content-Type", "").startswith(content_type):
        where = f" but points to {answer.headers['Location']}" if answer.is_redirect else ""
        raise ApiError(
            f"What answers at {answer.url} is not the service{where}.", code="unexpected", status=answer.status_code
        )
    return answer


@contextmanager
def translate_errors() -> Iterator[None]:
    """Translate httpx2's errors into this package's.

    Raises:
        Unreachable: No answer came, or it broke off.
    """
    try:
        yield
    except httpx2.RequestError as error:
        raise Unreachable(f"No answer from {error.request.url}: {str(error) or type(error).__name__}") from error


def _infer_task_type(params: Mapping[str, Any]) -> str:
    if "image" not in params:
        return "text-to-image"
    return "inpainting" if "mask" in params else "image-to-image"


def _drop_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _build_api_error(answer: httpx2.Response) -> ApiError:
    after = answer.headers.get("Retry-After", "")
    details: dict[str, Any] = {
        "status": answer.status_code,
        "retry_after": float(after) if after.isdecimal() else None,
    }
    try:
        error = answer.json()["error"]
        fields = tuple(
            FieldError(**{name: one[name] for name in FIELD_ERROR_KEYS}) for one in error.get("fields") or ()
        )
        return ApiError(error["message"], code=error["code"], fields=fields, **details)
    except (ValueError, LookupError, TypeError, AttributeError):  # a proxy's own page, or another service's JSON
        return ApiError(f"The service answers with {answer.status_code}.", code="unexpected", **details)
