"""`manage.py quickstart`: everything started, a first picture made through the real path, then served until Ctrl-C."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from project import embedded
from project.keeper import Kept
from tasks_app.management.client import Json, Server, authorization, every

MODEL = "demo"
PROMPT = "a red house"
START_PATIENCE_SECONDS = 60
POLL_SECONDS = 0.1
TEND_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 60.0
ADMIN = "admin"


class Command(BaseCommand):
    """Start all parts, post the first prompt over HTTP, follow it, and serve."""

    help = "Starts everything on this machine, makes a first picture and serves until Ctrl-C."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--port", type=int, default=8000, help="the web server's port on 127.0.0.1 (8000)")
        parser.add_argument("--prompt", default=PROMPT, help=f'what to draw first ("{PROMPT}")')
        parser.add_argument("--once", action="store_true", help="end after the first picture")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it; ends with 0 after Ctrl-C, and with a reason otherwise."""
        for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts what is in the background without the first
            signal.signal(number, signal.default_int_handler)
        try:
            with ExitStack() as stack:
                self._run(stack, options["port"], options["prompt"], once=options["once"])
        except KeyboardInterrupt:
            self.stdout.write("\nStopped; the data stays.")
        except embedded.EmbeddedError as error:
            raise CommandError(str(error)) from None

    def _run(self, stack: ExitStack, port: int, prompt: str, *, once: bool) -> None:
        _require_free(port)
        if settings.EMBED_POSTGRES or settings.EMBED_REDIS:
            self.stdout.write("Starting PostgreSQL and Redis …")
            servers = embedded.started(settings.VAR_DIR, postgres=settings.EMBED_POSTGRES, valkey=settings.EMBED_REDIS)
            stack.enter_context(servers)
        _manage("migrate", "--no-input")
        self._ensure_admin()
        web = _start(stack, "web.log", "-m", "uvicorn", "project.asgi:application", f"--port={port}", *UVICORN)
        worker = Restarted(lambda: _start(stack, "worker.log", "manage.py", "rundramatiq"))
        headers = authorization(settings.API_KEY)
        api = stack.enter_context(httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, headers=headers))
        _until_ready(api, web)
        self.stdout.write(f"The web server answers. The default model here is the small demo model, “{MODEL}”.")
        server = Server(api)
        self._report(server, self._first_picture(server, prompt, worker))
        if not once:
            self._serve(web, worker)

    def _ensure_admin(self) -> None:
        password = secrets.token_urlsafe(12)
        account = {"DJANGO_SUPERUSER_USERNAME": ADMIN, "DJANGO_SUPERUSER_PASSWORD": password}
        arguments = ["createsuperuser", "--no-input", "--email="]
        done = subprocess.run(_command("manage.py", *arguments), env=os.environ | account, **RUN)
        if done.returncode == 0:
            self.stdout.write(f"Admin user: {ADMIN}, password: {password} (shown only now)")
        elif "already taken" not in done.stderr:
            raise CommandError(done.stderr.strip())

    def _first_picture(self, server: Server, prompt: str, worker: Restarted) -> Json:
        task = server.post({"model_id": MODEL, "prompt": prompt, "steps": 25, "guidance_scale": 3})
        self.stdout.write(f"POST /task → 201, {task['id']}: “{prompt}”")
        with every(TEND_SECONDS, worker.tend):
            return server.follow(task)

    def _report(self, server: Server, task: Json) -> None:
        image = task["images"][0]
        path = settings.VAR_DIR / "first-picture.png"
        server.save(image, path)
        self.stdout.write(f"Picture  {path}  ({image['width']}×{image['height']}, seed {image['seed']})")
        self.stdout.write(f"         {image['url']}")
        self.stdout.write(f"Task     {task['urls']['self']}")
        self.stdout.write(f"Admin    {server.api.base_url}/admin/tasks_app/task/{task['id']}/change/")

    def _serve(self, web: Kept, worker: Restarted) -> None:
        self.stdout.write("Serving until Ctrl-C.")
        while web.poll() is None:
            worker.tend()
            if (settings.EMBED_POSTGRES or settings.EMBED_REDIS) and not embedded.running(settings.VAR_DIR):
                raise CommandError("PostgreSQL or Redis ended; its log is in VAR_DIR.")
            time.sleep(1)
        raise CommandError(f"The web server ended:\n{_tail('web.log')}")


class Restarted:
    """A part that is started again when it ends, each time after a longer while, as a supervisor would."""

    def __init__(self, start: Callable[[], Kept]) -> None:
        self._start = start
        self._part = start()
        self._started_at = time.monotonic()
        self._pause = 1.0

    def tend(self) -> None:
        """Start it again if it has ended and the pause is over."""
        if self._part.poll() is None:
            return
        lasted = time.monotonic() - self._started_at
        if lasted > self._pause:
            self._pause = 1.0 if lasted > LONGEST_PAUSE_SECONDS else min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            self._part, self._started_at = self._start(), time.monotonic()


RUN: dict[str, Any] = {"cwd": settings.BASE_DIR, "capture_output": True, "text": True, "check": False}
UVICORN = ["--host=127.0.0.1", "--lifespan=off", "--timeout-graceful-shutdown=5"]


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise CommandError(f"Port {port} is taken: choose another with --port.") from None


def _command(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def _manage(*arguments: str) -> None:
    done = subprocess.run(_command("manage.py", *arguments), **RUN)
    if done.returncode:
        raise CommandError(done.stderr.strip())


def _start(stack: ExitStack, log: str, *arguments: str) -> Kept:
    # Ctrl-C gives a running task back to the queue at its next step; the next quickstart takes it up.
    defaults = {"DRAIN_SECONDS": "0", "DEFAULT_MODEL_ID": MODEL, "API_AUTH": "optional", "LOG_FORMAT": "console"}
    environment = defaults | os.environ
    with open(settings.VAR_DIR / log, "ab") as output:
        part = Kept(_command(*arguments), env=environment, cwd=settings.BASE_DIR, output=output)
    stack.callback(part.stop)
    return part


def _tail(log: str) -> str:
    return Path(settings.VAR_DIR / log).read_text()[-2000:]


def _until_ready(api: httpx2.Client, web: Kept) -> None:
    give_up = time.monotonic() + START_PATIENCE_SECONDS
    while True:
        try:
            if api.get("/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            pass  # it does not listen yet
        if web.poll() is not None or time.monotonic() > give_up:
            raise CommandError(f"The web server did not start:\n{_tail('web.log')}")
        time.sleep(POLL_SECONDS)
