"""`manage.py generate "a prompt"`: submit a task to a running server, follow it and save its images."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from diffusers_handler_client import ApiError, Client, Options, Task, Upload
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from tasks_app.management import terminal

# The command line option for each path of the API.
OPTION_NAMES = {
    "params.prompt": "prompt",
    "params.negative_prompt": "--negative",
    "params.model_id": "--model",
    "params.steps": "--steps",
    "params.guidance_scale": "--guidance",
    "params.seed": "--seed",
    "params.num_images": "--count",
    "params.width": "--size",
    "params.height": "--size",
    "params.output_format": "--format",
    "params.scheduler": "--scheduler",
    "params.loras": "--lora",
    "params.embeddings": "--embedding",
    "params.image": "--image",
    "params.mask": "--mask",
    "params.strength": "--strength",
    "params": "--size",
    "priority": "--priority",
}
EXIT_INTERRUPTED = 130


def _parse_size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,5})[x×]([0-9]{1,5})", text)
    if found is None:
        raise ArgumentTypeError("must be WIDTHxHEIGHT in pixels, as in 512x512")
    return int(found[1]), int(found[2])


def _parse_lora(text: str) -> dict[str, Any]:
    name, separator, weight = text.rpartition(":")
    if not separator:
        return {"id": text}
    try:
        return {"id": name, "weight": float(weight)}
    except ValueError:
        raise ArgumentTypeError("must be NAME or NAME:WEIGHT, as in lines:0.8") from None


class Command(BaseCommand):
    """Generate images on a running server, from a terminal."""

    help = "Generates images on a running server and saves them; Ctrl-C leaves the task running."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options; the server chooses the value of an omitted one."""
        parser.add_argument("prompt", nargs="?", help="what to generate")
        parser.add_argument("--watch", metavar="ID", help="follow this task instead of posting one")
        parser.add_argument("--model", help="a model that the server allows")
        parser.add_argument("--negative", metavar="PROMPT", help="what to avoid")
        parser.add_argument("--steps", type=int)
        parser.add_argument("--guidance", type=float)
        parser.add_argument("--seed", type=int, help="the same seed reproduces an image (default: random)")
        parser.add_argument("--count", type=int, help="how many images")
        parser.add_argument("--size", type=_parse_size, metavar="WxH", help="in pixels")
        parser.add_argument("--format", metavar="png|jpeg|webp", help="output file format (png)")
        parser.add_argument("--scheduler", metavar="NAME", help="overrides the model's default, as in euler_a")
        parser.add_argument(
            "--lora", type=_parse_lora, action="append", metavar="NAME[:WEIGHT]", help="can be repeated"
        )
        parser.add_argument("--embedding", action="append", metavar="NAME", help="can be repeated")
        parser.add_argument("--image", type=Path, metavar="FILE", help="an image to start from")
        parser.add_argument("--strength", type=float, help="how much to change, from 0 to 1 (0.8)")
        parser.add_argument("--mask", type=Path, metavar="FILE", help="white in the area to change, else black")
        parser.add_argument("--priority", type=int, default=0)
        parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where to save the images (here)")
        parser.add_argument("--key", default=settings.DIFFUSERS_HANDLER_KEY, help="the API key (DIFFUSERS_HANDLER_KEY)")
        url = settings.DIFFUSERS_HANDLER_URL
        parser.add_argument("--url", default=url, help=f"the server (DIFFUSERS_HANDLER_URL, {url})")

    def handle(self, *args: Any, **options: Any) -> None:
        """Submit the task, follow it, save its images and print their paths."""
        if bool(options["prompt"]) == bool(options["watch"]):
            raise CommandError("Give either a prompt or --watch ID.")
        if options["image"] is None and (options["mask"] or options["strength"] is not None):
            raise CommandError("--mask and --strength go with --image.")
        task: Task | None = None
        url = options["url"]
        with terminal.open_client(url, options["key"]) as client, terminal.translate_errors(url, OPTION_NAMES):
            try:
                task = _get_or_submit_task(client, options)
                self._save_images(client, task, options["out"])
            except KeyboardInterrupt:
                self.stderr.write(_build_interrupt_message(task, url) if task else "", str)
                raise SystemExit(EXIT_INTERRUPTED) from None

    def _save_images(self, client: Client, task: Task, folder: Path) -> None:
        self.stderr.write(f"Task {task.id}, seed {task.seed}", str)
        for image in terminal.follow_task(client, task).images:
            if image.purged:
                self.stderr.write(f"Image {image.index} was purged.", str)
                continue
            path = folder / f"{task.id}-{image.index}.{image.content_type.removeprefix('image/')}"
            terminal.save_image(client, task, image, path)
            self.stdout.write(str(path))


def _get_or_submit_task(client: Client, options: dict[str, Any]) -> Task:
    if options["watch"]:
        return client.get(options["watch"])
    inputs = {name: _upload_image(client, options[name], options["url"]) for name in ("image", "mask") if options[name]}
    return client.submit(options["prompt"], **_build_submit_options(options, inputs))


def _upload_image(client: Client, path: Path, url: str) -> Upload:
    try:
        return client.upload(path)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}.") from None
    except ApiError as error:
        if terminal.is_outage(error):
            raise
        raise CommandError(f"{path}: {terminal.format_error(error, url)}") from None


def _build_submit_options(options: dict[str, Any], inputs: dict[str, Upload]) -> Options:
    width, height = options["size"] or (None, None)
    return {
        "model": options["model"],
        "negative_prompt": options["negative"],
        "steps": options["steps"],
        "guidance_scale": options["guidance"],
        "seed": options["seed"],
        "num_images": options["count"],
        "output_format": options["format"],
        "scheduler": options["scheduler"],
        "loras": options["lora"],
        "embeddings": options["embedding"],
        "strength": options["strength"],
        "width": width,
        "height": height,
        "image": inputs.get("image"),
        "mask": inputs.get("mask"),
        "priority": options["priority"],
    }


def _build_interrupt_message(task: Task, url: str) -> str:
    there = "" if url == settings.DIFFUSERS_HANDLER_URL else f" --url {url}"
    return (
        f"\nThe task goes on. Watch it:\n  manage.py generate --watch {task.id}{there}"
        f"\nor cancel it:\n  curl -X POST {task.raw['urls']['cancel']}"
    )
