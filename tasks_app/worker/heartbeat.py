"""A worker's thread beside its tasks that makes it seen and steered: its row, its pauses, its commands."""

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
from tasks_app.catalog import resolve
from tasks_app.models import Pause, WorkerCommand
from tasks_app.queue import dispatch, pauses, workers
from tasks_app.worker import engines, shutdown, supervisor, warm_models

logger = logging.getLogger(__name__)

# Several beats fit into a lease, so that one that fails makes nobody look dead.
BEAT_SECONDS = min(2.0, settings.LEASE_SECONDS / 4)
_IDENTITY: dict[str, Any] = {"host": socket.gethostname(), "version": settings.VERSION}


class Tap(Protocol):
    """What tickets come through: Dramatiq's consumers."""

    def pause(self) -> None:
        """Let none through."""

    def resume(self) -> None:
        """Let them through again."""


class Presence:
    """The process as its row shows it."""

    def __init__(self, taps: list[Tap], ended: threading.Event) -> None:
        """Take what tickets come through; from when `ended` is set it stays closed, and no command is taken."""
        self._taps = taps
        self._ended = ended
        self._paused = False
        self._at_work: tuple[WorkerCommand, Future[None]] | None = None
        self._unloading: Future[None] | None = None

    def run_forever(self, gone: threading.Event) -> None:
        """Beat until the process goes."""
        arrived = False
        while not gone.is_set():
            try:
                if not arrived:
                    workers.arrive(supervisor.WORKER, pid=os.getpid(), age=_age(), **_IDENTITY)
                    resolve.sync()
                    _warm_up()
                    arrived = True
                self.beat()
                if not self._ended.is_set():
                    self.obey()
            except (DatabaseError, InterfaceError) as error:
                logger.warning("No beat of the worker: %s", type(error).__name__)
            finally:
                connection.close()
            gone.wait(BEAT_SECONDS)

    def beat(self) -> None:
        """Write what this process is and holds."""
        engine = next((handler.state() for handler in engines.started()), None)
        workers.beat(supervisor.WORKER, pid=os.getpid(), engine=engine, **_IDENTITY)

    def obey(self) -> None:
        """Open or close the taps as the pauses say, go on with the commands, and give up what nobody uses."""
        paused = pauses.is_paused(Pause.Scope.WORKER, supervisor.WORKER)
        if paused != self._paused:
            self._turn_taps(paused)
            self._paused = paused
        if paused:
            # For others: the pause came after this worker had fetched tickets.
            dispatch.pass_on()
        self._settle()
        self._unload_idle()
        if self._at_work is None and (command := workers.take(supervisor.WORKER)):
            self._at_work = command, supervisor.beside_tasks(lambda: _carry_out(command))

    def _turn_taps(self, paused: bool) -> None:
        for tap in self._taps:
            tap.pause() if paused else tap.resume()
            if self._ended.is_set():
                tap.pause()  # the process was told to end, and closed it, just before it was opened here

    def _settle(self) -> None:
        if self._at_work is None or not self._at_work[1].done():
            return
        command, future = self._at_work
        error = future.exception()
        workers.settle(command, error=_reason(error))
        self._at_work = None
        _end_if_lost(error)

    def _unload_idle(self) -> None:
        seconds = settings.IDLE_UNLOAD_SECONDS
        if seconds is not None and (self._unloading is None or self._unloading.done()):
            self._unloading = supervisor.beside_tasks(partial(warm_models.unload_idle, seconds))


def leave() -> None:
    """Write that this process ended on purpose, if the database can be reached."""
    try:
        workers.leave(supervisor.WORKER)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("The worker's row stays: %s", type(error).__name__)
    finally:
        connection.close()


def _age() -> timedelta:
    return timedelta(seconds=time.time() - psutil.Process().create_time())


def _carry_out(command: WorkerCommand) -> None:
    if command.kind == WorkerCommand.Kind.UNLOAD:
        warm_models.unload(command.model_id)
    else:
        warm_models.load(command.model_id)


def _warm_up() -> None:
    """Load the models that the settings want warm, before the first task if that comes later."""
    for model_id in settings.WARM_MODELS:
        future = supervisor.beside_tasks(partial(warm_models.load, model_id))
        future.add_done_callback(partial(_tell, model_id))


def _tell(model_id: str, loaded: Future[None]) -> None:
    error = loaded.exception()
    if error is None:
        logger.info("The model %s is loaded.", model_id)
        return
    logger.warning("WARM_MODELS: %s was not loaded: %s", model_id, _reason(error))
    _end_if_lost(error)


def _end_if_lost(error: BaseException | None) -> None:
    if isinstance(error, errors.DeviceLost):
        # Else the next task would be the one to find out, and fail.
        shutdown.end_process(shutdown.EXIT_DEVICE_LOST, "The device is lost.")


def _reason(error: BaseException | None) -> str:
    if error is None:
        return ""
    if isinstance(error, errors.TaskError):
        return str(error)
    return f"It failed with an unexpected {type(error).__name__}."
