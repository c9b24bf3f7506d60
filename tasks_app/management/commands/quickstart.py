"""`manage.py quickstart`: start everything, generate a first image through the API, then serve until Ctrl-C."""

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
from diffusers_handler_client import Client, Task
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from project.embedded import servers as embedded_servers
from project.embedded.watchdog import WatchedProcess
from tasks_app.management import terminal

DEMO_MODEL = "demo"
PROMPT = "a red house"
START_TIMEOUT_SECONDS = 60
POLL_SECONDS = 0.1
RESTART_CHECK_SECONDS = 0.5
MAX_RESTART_DELAY_SECONDS = 60.0
ADMIN_USERNAME = "admin"


class Command(BaseCommand):
    """Start all processes, submit a first prompt over HTTP, follow its task, and serve."""

    help = "Starts everything on this machine, generates a first image and serves until Ctrl-C."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--port", type=int, default=8000, help="the web server's port on 127.0.0.1 (8000)")
        parser.add_argument("--prompt", default=PROMPT, help=f'what to generate first ("{PROMPT}")')
        parser.add_argument("--once", action="store_true", help="end after the first image")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until Ctrl-C, which exits with 0; any other end is reported as an error."""
        for number in (signal.SIGINT, signal.SIGTERM):  # shells start background jobs with SIGINT ignored
            signal.signal(number, signal.default_int_handler)
        try:
            with ExitStack() as stack:
                self._start_and_serve(stack, options["port"], options["prompt"], once=options["once"])
        except KeyboardInterrupt:
            self.stdout.write("\nStopped; the data stays.")
        except embedded_servers.EmbeddedError as error:
            raise CommandError(str(error)) from None

    def _start_and_serve(self, stack: ExitStack, port: int, prompt: str, *, once: bool) -> None:
        _require_free_port(port)
        if settings.EMBED_POSTGRES or settings.EMBED_REDIS:
            self.stdout.write("Starting PostgreSQL and Redis …")
            servers = embedded_servers.run_services(
                settings.VAR_DIR, postgres=settings.EMBED_POSTGRES, valkey=settings.EMBED_REDIS
            )
            stack.enter_context(servers)
        _run_manage("migrate", "--no-input")
        self._ensure_admin()
        web = _start_process(
            stack, "web.log", "-m", "uvicorn", "project.asgi:application", f"--port={port}", *UVICORN_OPTIONS
        )
        worker = RestartingProcess(lambda: _start_process(stack, "worker.log", "manage.py", "rundramatiq"))
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, web)
        self.stdout.write("Web server is up. Using the built-in demo model (64×64 toy).")
        client = stack.enter_context(terminal.open_client(url, settings.DIFFUSERS_HANDLER_KEY))
        with terminal.translate_errors(url):
            self._report_task(client, self._generate_first_image(client, prompt, worker), url)
        if not once:
            self._serve_until_stopped(web, worker)

    def _ensure_admin(self) -> None:
        password = secrets.token_urlsafe(12)
        account = {"DJANGO_SUPERUSER_USERNAME": ADMIN_USERNAME, "DJANGO_SUPERUSER_PASSWORD": password}
        arguments = ["createsuperuser", "--no-input", "--email="]
        done = subprocess.run(_build_command("manage.py", *arguments), env=os.environ | account, **RUN_OPTIONS)
        if done.returncode == 0:
            self.stdout.write(f"Admin user: {ADMIN_USERNAME}, password: {password} (shown only now)")
        elif "already taken" not in done.stderr:
            raise CommandError(done.stderr.strip())

    def _generate_first_image(self, client: Client, prompt: str, worker: RestartingProcess) -> Task:
        task = client.submit(prompt, model=DEMO_MODEL, steps=25, guidance_scale=3)
        self.stdout.write(f"POST /task → 201, {task.id}: “{prompt}”")
        with terminal.run_every(RESTART_CHECK_SECONDS, worker.restart_if_ended):
            return terminal.follow_task(client, task)

    def _report_task(self, client: Client, task: Task, url: str) -> None:
        image = task.images[0]
        path = settings.VAR_DIR / "first-image.png"
        terminal.save_image(client, task, image, path)
        self.stdout.write(f"Image  {path}  ({image.width}×{image.height}, seed {image.seed})")
        self.stdout.write(f"       {image.url}")
        self.stdout.write(f"Task   {task.raw['urls']['self']}")
        self.stdout.write(f"Admin  {url}/admin/tasks_app/task/{task.id}/change/")

    def _serve_until_stopped(self, web: WatchedProcess, worker: RestartingProcess) -> None:
        self.stdout.write("Serving until Ctrl-C.")
        while web.poll() is None:
            worker.restart_if_ended()
            if (settings.EMBED_POSTGRES or settings.EMBED_REDIS) and not embedded_servers.find_running_services(
                settings.VAR_DIR
            ):
                raise CommandError("PostgreSQL or Redis ended; its log is in VAR_DIR.")
            time.sleep(1)
        raise CommandError(f"The web server ended:\n{_read_log_tail('web.log')}")


class RestartingProcess:
    """A process that is restarted when it ends, with an increasing delay, as under a supervisor."""

    def __init__(self, start: Callable[[], WatchedProcess]) -> None:
        self._start_process = start
        self._process = start()
        self._started_at = time.monotonic()
        self._restart_delay = 1.0

    def restart_if_ended(self) -> None:
        """Restart the process if it has ended and the delay is over."""
        if self._process.poll() is None:
            return
        lasted = time.monotonic() - self._started_at
        if lasted > self._restart_delay:
            self._restart_delay = (
                1.0 if lasted > MAX_RESTART_DELAY_SECONDS else min(2 * self._restart_delay, MAX_RESTART_DELAY_SECONDS)
            )
            self._process, self._started_at = self._start_process(), time.monotonic()


RUN_OPTIONS: dict[str, Any] = {"cwd": settings.BASE_DIR, "capture_output": True, "text": True, "check": False}
UVICORN_OPTIONS = ["--host=127.0.0.1", "--lifespan=off", "--timeout-graceful-shutdown=5"]


def _require_free_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise CommandError(f"Port {port} is taken: choose another with --port.") from None


def _build_command(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def _run_manage(*arguments: str) -> None:
    done = subprocess.run(_build_command("manage.py", *arguments), **RUN_OPTIONS)
    if done.returncode:
        raise CommandError(done.stderr.strip())


def _start_process(stack: ExitStack, log: str, *arguments: str) -> WatchedProcess:
    # With no time to drain, Ctrl-C requeues a running task at its next step; the next quickstart runs it again.
    defaults = {
        "SHUTDOWN_GRACE_SECONDS": "0",
        "DEFAULT_MODEL_ID": DEMO_MODEL,
        "API_AUTH": "optional",
        "LOG_FORMAT": "console",
    }
    environment = defaults | os.environ
    with open(settings.VAR_DIR / log, "ab") as output:
        part = WatchedProcess(_build_command(*arguments), env=environment, cwd=settings.BASE_DIR, output=output)
    stack.callback(part.stop)
    return part


def _read_log_tail(log: str) -> str:
    return Path(settings.VAR_DIR / log).read_text()[-2000:]


def _wait_until_ready(url: str, web: WatchedProcess) -> None:
    give_up = time.monotonic() + START_TIMEOUT_SECONDS
    with httpx2.Client(timeout=10) as http:
        while not _is_ready(http, url):
            if web.poll() is not None or time.monotonic() > give_up:
                raise CommandError(f"The web server did not start:\n{_read_log_tail('web.log')}")
            time.sleep(POLL_SECONDS)


def _is_ready(http: httpx2.Client, url: str) -> bool:
    try:
        return http.get(f"{url}/readyz").status_code == 200
    except httpx2.TransportError:  # the server does not listen yet
        return False
