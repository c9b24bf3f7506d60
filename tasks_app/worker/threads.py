"""Single threads that run calls one after another: one for inference, one for saving results."""

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
    """A single thread that runs its calls one after another.

    Unlike the threads of `ThreadPoolExecutor`, it is a daemon: a call that never returns can't block the process's
    exit.
    """

    def __init__(self, name: str) -> None:
        """Create the thread, which starts with the first call."""
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._start_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run_calls, name=name, daemon=True)

    def submit(self, call: Callable[[], Result]) -> Future[Result]:
        """Queue a call and return its future, which can be canceled until the call starts.

        The call runs in a copy of the caller's context, so that its log lines belong to the same task.
        """
        with self._start_lock:
            if not self._thread.is_alive():
                self._thread.start()
        future: Future[Result] = Future()
        self._calls.put((future, partial(contextvars.copy_context().run, call)))
        return future

    def _run_calls(self) -> None:
        while True:
            # Only that frame refers to the call, so that a waiting thread keeps neither images nor pipelines alive.
            _execute_call(*self._calls.get())


def _execute_call(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - a future carries whatever its call raised
        future.set_exception(error)
        # The error's traceback refers to this frame; a future in it would close a cycle that keeps the run's tensors.
        del future
    else:
        future.set_result(result)
