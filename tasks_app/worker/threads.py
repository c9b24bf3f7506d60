"""Threads that do one thing after the other: the one in which handlers run, and the one that saves what they made."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

Result = TypeVar("Result")


class SingleThreadExecutor:
    """A thread that makes its calls one after the other.

    Unlike an executor's it is a daemon: a call that never returns can't hold up the end of the process.
    """

    def __init__(self, name: str) -> None:
        """Start the thread with the first call."""
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._start_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run_calls, name=name, daemon=True)

    def submit(self, call: Callable[[], Result]) -> Future[Result]:
        """Queue a call and return its future, which can be canceled until the call begins.

        It runs in a copy of the caller's context: what it logs belongs to the same task.
        """
        with self._start_lock:
            if not self._thread.is_alive():
                self._thread.start()
        future: Future[Result] = Future()
        self._calls.put((future, partial(contextvars.copy_context().run, call)))
        return future

    def _run_calls(self) -> None:
        while True:
            # All of a call is in that frame: a waiting thread keeps neither pictures nor pipelines alive.
            _execute_call(*self._calls.get())


def _execute_call(future: Future[Any], call: Callable[[], Any]) -> None:
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
