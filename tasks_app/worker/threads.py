"""Threads that do one thing after the other: the one in which handlers run, and the one that saves what they made."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class SerialThread:
    """A thread that makes its calls one after the other.

    Unlike an executor's it is a daemon: a call that never returns can't hold up the end of the process.
    """

    def __init__(self, name: str) -> None:
        """Start the thread with the first call."""
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def submit(self, call: Callable[[], Answer]) -> Future[Answer]:
        """Queue a call and return its future, which can be canceled until the call begins.

        It runs in a copy of the caller's context: what it logs belongs to the same task.
        """
        with self._starting:
            if not self._thread.is_alive():
                self._thread.start()
        future: Future[Answer] = Future()
        self._calls.put((future, partial(contextvars.copy_context().run, call)))
        return future

    def _work(self) -> None:
        while True:
            # All of a call is in that frame: a waiting thread keeps neither pictures nor pipelines alive.
            _carry_out(*self._calls.get())


def _carry_out(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - a future carries whatever its call raised
        future.set_exception(error)
        # The error's traceback holds this frame: with the future in it, they and the run's tensors would form a cycle.
        del future
    else:
        future.set_result(result)
