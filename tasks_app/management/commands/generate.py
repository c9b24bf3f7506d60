"""`manage.py generate "a prompt"`: submit a task to a running server, follow it and save its images."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

import httpx2
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from tasks_app.management.client import Json, Server, build_auth_headers
from tasks_app.task_types.registry import IMAGE_TO_IMAGE, INPAINTING, TEXT_TO_IMAGE

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


def _parse_lora(text: str) -> Json:
    name, separator, weight = text.rpartition(":")
    if not separator:
        return {"id": text}
    try:
        return {"id": name, "weight": float(weight)}
    except ValueError:
        raise ArgumentTypeError("must be NAME or NAME:WEIGHT, as in lines:0.8") from None


class Command(BaseCommand):
    """Generate images on a running server, from a terminal."""

    help = "Makes pictures on a running server and saves them; Ctrl-C leaves the task running."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options; the server chooses the value of an omitted one."""
        parser.add_argument("prompt", nargs="?", help="what to draw")
        parser.add_argument("--watch", metavar="ID", help="follow this task instead of posting one")
        parser.add_argument("--model", help="a model that the server allows")
        parser.add_argument("--negative", metavar="PROMPT", help="what not to draw")
        parser.add_argument("--steps", type=int)
        parser.add_argument("--guidance", type=float)
        parser.add_argument("--seed", type=int, help="the same seed makes the same picture")
        parser.add_argument("--count", type=int, help="how many pictures")
        parser.add_argument("--size", type=_parse_size, metavar="WxH", help="in pixels")
        parser.add_argument("--format", metavar="png|jpeg|webp", help="of the pictures' files (png)")
        parser.add_argument("--scheduler", metavar="NAME", help="another one than the model's own, as in euler_a")
        parser.add_argument(
            "--lora", type=_parse_lora, action="append", metavar="NAME[:WEIGHT]", help="can be repeated"
        )
        parser.add_argument("--embedding", action="append", metavar="NAME", help="can be repeated")
        parser.add_argument("--image", type=Path, metavar="FILE", help="a picture to begin with")
        parser.add_argument("--strength", type=float, help="how much of it is drawn anew, from 0 to 1 (0.8)")
        parser.add_argument(
            "--mask", type=Path, metavar="FILE", help="white where it is drawn anew, black where it stays"
        )
        parser.add_argument("--priority", type=int, default=0)
        parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where the pictures go (here)")
        parser.add_argument("--key", default=settings.DIFFUSERS_HANDLER_KEY, help="the API key (DIFFUSERS_HANDLER_KEY)")
        url = settings.DIFFUSERS_HANDLER_URL
        parser.add_argument("--url", default=url, help=f"the server (DIFFUSERS_HANDLER_URL, {url})")

    def handle(self, *args: Any, **options: Any) -> None:
        """Submit the task, follow it, save its images and print their paths."""
        if bool(options["prompt"]) == bool(options["watch"]):
            raise CommandError("Give either a prompt or --watch ID.")
        if options["image"] is None and (options["mask"] or options["strength"] is not None):
            raise CommandError("--mask and --strength go with --image.")
        task: Json | None = None
        with httpx2.Client(base_url=options["url"], timeout=10, headers=build_auth_headers(options["key"])) as api:
            try:
                server = Server(api, options=OPTION_NAMES)
                task = self._get_or_submit_task(server, options)
                self._save_images(server, task, options["out"])
            except KeyboardInterrupt:
                self.stderr.write(_build_interrupt_message(task, options["url"]) if task else "", str)
                raise SystemExit(EXIT_INTERRUPTED) from None

    def _get_or_submit_task(self, server: Server, options: dict[str, Any]) -> Json:
        if options["watch"]:
            return server.get_task(options["watch"])
        uploads = {name: server.upload_image(options[name]) for name in ("image", "mask") if options[name]}
        return server.submit_task(
            _build_params(options) | uploads, task_type=_infer_task_type(uploads), priority=options["priority"]
        )

    def _save_images(self, server: Server, task: Json, folder: Path) -> None:
        self.stderr.write(f"Task {task['id']}, seed {task['params']['seed']}", str)
        for image in server.follow_task(task)["images"]:
            if image["purged"]:
                self.stderr.write(f"Picture {image['index']} was purged.", str)
                continue
            path = folder / f"{task['id']}-{image['index']}.{image['content_type'].removeprefix('image/')}"
            server.save_image(image, path)
            self.stdout.write(str(path))


def _build_params(options: dict[str, Any]) -> Json:
    width, height = options["size"] or (None, None)
    params = {
        "prompt": options["prompt"],
        "negative_prompt": options["negative"],
        "model_id": options["model"],
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
    }
    return {name: value for name, value in params.items() if value is not None}


def _infer_task_type(uploads: Json) -> str:
    if "image" not in uploads:
        return TEXT_TO_IMAGE.name
    return (INPAINTING if "mask" in uploads else IMAGE_TO_IMAGE).name


def _build_interrupt_message(task: Json, url: str) -> str:
    there = "" if url == settings.DIFFUSERS_HANDLER_URL else f" --url {url}"
    return (
        f"\nThe task goes on. Watch it:\n  manage.py generate --watch {task['id']}{there}"
        f"\nor cancel it:\n  curl -X POST {task['urls']['cancel']}"
    )
