"""Heartbeat thread of a worker: it keeps the worker's row up to date and applies pauses and commands."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

import psutil
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from tasks_app import errors
from tasks_app.catalog import rows as model_rows
from tasks_app.models import Pause, WorkerCommand
from tasks_app.queue import dispatch, pauses, workers
from tasks_app.worker import engines, shutdown, supervisor, warm_models

logger = logging.getLogger(__name__)

# Several heartbeats fit into a lease, so that a single failed one does not make the worker look dead.
HEARTBEAT_INTERVAL_SECONDS = min(2.0, settings.LEASE_SECONDS / 4)
_IDENTITY: dict[str, Any] = {"host": socket.gethostname(), "version": settings.VERSION}


class Consumer(Protocol):
    """A Dramatiq consumer, which fetches messages, as far as this module uses it."""

    def pause(self) -> None:
        """Stop fetching messages."""

    def resume(self) -> None:
        """Fetch messages again."""


class WorkerHeartbeat:
    """The heartbeat of this process: its row, its pauses and its commands."""

    def __init__(self, taps: list[Consumer], ended: threading.Event) -> None:
        """Control the consumers `taps`; once `ended` is set, they stay paused and no command is taken."""
        self._consumers = taps
        self._shutdown_event = ended
        self._paused = False
        self._running_command: tuple[WorkerCommand, Future[None]] | None = None
        self._unloading: Future[None] | None = None

    def run_forever(self, gone: threading.Event) -> None:
        """Register the worker, then send heartbeats until `gone` is set."""
        arrived = False
        while not gone.is_set():
            try:
                if not arrived:
                    workers.register_worker(
                        supervisor.WORKER_NAME, pid=os.getpid(), age=_get_process_age(), **_IDENTITY
                    )
                    model_rows.sync_rows()
                    _preload_warm_models()
                    arrived = True
                self.update_row()
                if not self._shutdown_event.is_set():
                    self.apply_commands()
            except (DatabaseError, InterfaceError) as error:
                logger.warning("Worker heartbeat failed: %s", type(error).__name__)
            finally:
                connection.close()
            gone.wait(HEARTBEAT_INTERVAL_SECONDS)

    def update_row(self) -> None:
        """Write the identity of this process and the state of its engine to the worker's row."""
        engine = next((handler.get_state() for handler in engines.get_loaded_handlers()), None)
        workers.record_heartbeat(supervisor.WORKER_NAME, pid=os.getpid(), engine=engine, **_IDENTITY)

    def apply_commands(self) -> None:
        """Pause or resume the consumers, complete and start commands, and unload idle models."""
        paused = pauses.is_paused(Pause.Scope.WORKER, supervisor.WORKER_NAME)
        if paused != self._paused:
            self._set_consumers_paused(paused)
            self._paused = paused
        if paused:
            # This worker may have fetched wake-ups before the pause, so send one to the others.
            dispatch.notify_workers()
        self._complete_command()
        self._unload_idle_models()
        if self._running_command is None and (command := workers.pop_command(supervisor.WORKER_NAME)):
            self._running_command = command, supervisor.run_in_inference_thread(lambda: _run_command(command))

    def _set_consumers_paused(self, paused: bool) -> None:
        for tap in self._consumers:
            tap.pause() if paused else tap.resume()
            if self._shutdown_event.is_set():
                tap.pause()  # a shutdown may have paused it just before it was resumed here

    def _complete_command(self) -> None:
        if self._running_command is None or not self._running_command[1].done():
            return
        command, future = self._running_command
        error = future.exception()
        workers.complete_command(command, error=_describe_error(error))
        self._running_command = None
        _exit_if_device_lost(error)

    def _unload_idle_models(self) -> None:
        seconds = settings.IDLE_UNLOAD_SECONDS
        if seconds is not None and (self._unloading is None or self._unloading.done()):
            self._unloading = supervisor.run_in_inference_thread(partial(warm_models.unload_idle_models, seconds))


def deregister_worker() -> None:
    """Record that this process ended on purpose, if the database is available."""
    try:
        workers.deregister_worker(supervisor.WORKER_NAME)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("Worker not deregistered: %s", type(error).__name__)
    finally:
        connection.close()


def _get_process_age() -> timedelta:
    return timedelta(seconds=time.time() - psutil.Process().create_time())


def _run_command(command: WorkerCommand) -> None:
    if command.kind == WorkerCommand.Kind.UNLOAD:
        warm_models.unload_model(command.model_id)
    else:
        warm_models.load_model(command.model_id)


def _preload_warm_models() -> None:
    """Load the models of WARM_MODELS in the inference thread, before any task that comes later."""
    for model_id in settings.WARM_MODELS:
        future = supervisor.run_in_inference_thread(partial(warm_models.load_model, model_id))
        future.add_done_callback(partial(_log_preload, model_id))


def _log_preload(model_id: str, loaded: Future[None]) -> None:
    error = loaded.exception()
    if error is None:
        logger.info("Model %s loaded.", model_id)
        return
    logger.warning("WARM_MODELS: %s was not loaded: %s", model_id, _describe_error(error))
    _exit_if_device_lost(error)


def _exit_if_device_lost(error: BaseException | None) -> None:
    if isinstance(error, errors.DeviceLostError):
        # Otherwise the next task would fail on the lost device.
        shutdown.exit_now(shutdown.EXIT_DEVICE_LOST, "The device failed.")


def _describe_error(error: BaseException | None) -> str:
    if error is None:
        return ""
    if isinstance(error, errors.TaskError):
        return str(error)
    return f"Unexpected error: {type(error).__name__}."
