"""Processes as Linux shows them, and child processes that end with the test run."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from project.embedded.watchdog import WatchedProcess


@dataclass(frozen=True, kw_only=True)
class Process:
    """One entry of the process table."""

    pid: int
    state: str
    parent: int
    session: int


class Child(WatchedProcess):
    """Command in its own session, so that processes it leaves behind can be identified."""

    @property
    def session(self) -> int:
        """Return the session that the command and all its descendants belong to."""
        return self._process.pid

    @property
    def command(self) -> int | None:
        """Return the command's own process id, or None before it starts and after it ends."""
        return next((one.pid for one in session_processes(self.session) if one.parent == self.session), None)


def read_process(pid: int) -> Process | None:
    """Return a process, or None if it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent, _, session = text.rpartition(")")[2].split()[:4]
    if state in "ZX":
        return None
    return Process(pid=pid, state=state, parent=int(parent), session=int(session))


def session_processes(session: int) -> list[Process]:
    """Return the processes of a session."""
    everything = [read_process(int(entry)) for entry in os.listdir("/proc") if entry.isdigit()]
    return [one for one in everything if one and one.session == session]


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal, unless the process is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
