"""Two `manage.py rundramatiq` processes, restarted as soon as they exit, as systemd would do."""

import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.processes import Child, read_process, send_signal, session_processes
from tests.support.stack import ROOT, wait_until

RESTART_DELAY_SECONDS = 0.1
START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 30.0
TICK_SECONDS = 0.05


@dataclass(kw_only=True)
class WorkerProcess:
    """One process in a worker's slot, from its start to its end; times are those of the wall clock."""

    name: str
    child: Child
    started: float
    pid: int | None = None  # the process that claims
    up: float | None = None
    down: float | None = None
    status: int | None = None
    frozen: list[tuple[float, float]] = field(default_factory=list)

    @property
    def master(self) -> int | None:
        """Return the process id of Dramatiq's master."""
        return self.child.command

    def get_sweeping_spans(self, start: float, end: float) -> list[tuple[float, float]]:
        """Return the parts of an interval in which this process could sweep."""
        if self.up is None:
            return []
        edges = [max(start, self.up)]
        for since, until_ in sorted(self.frozen):
            edges += [since, until_]
        edges.append(min(end, self.down or end))
        spans = zip(edges[::2], edges[1::2], strict=True)
        return [(max(a, start), min(b, end)) for a, b in spans if min(b, end) > max(a, start)]


class Slot:
    """Slot that runs one worker at a time."""

    def __init__(self, name: str, env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.env = env
        self.log = log
        self.processes: list[WorkerProcess] = []

    @property
    def current(self) -> WorkerProcess:
        """Return the current process, or the last one."""
        return self.processes[-1]

    def start_next(self) -> None:
        """Start the next process."""
        name = f"{self.name}.{len(self.processes) + 1}"
        env = {**self.env, "PGAPPNAME": name}
        with self.log.open("ab") as log:
            child = Child([sys.executable, "manage.py", "rundramatiq"], env=env, cwd=ROOT, output=log, grace=20)
        self.processes.append(WorkerProcess(name=name, child=child, started=time.time()))


class Workers:
    """The slots and their supervisor thread. `first_sweeps` has the time of each process's first sweep."""

    def __init__(self, env: Mapping[str, str], logs: Path, first_sweeps: Mapping[str, float], count: int = 2) -> None:
        self.slots = [Slot(f"w{number + 1}", env, logs / f"worker-{number + 1}.log") for number in range(count)]
        self._first_sweeps = first_sweeps
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._supervise_slots, name="supervisor", daemon=True)

    def start_all(self) -> None:
        """Start all workers and keep them running."""
        for slot in self.slots:
            slot.start_next()
        self._thread.start()

    def all_processes(self) -> list[WorkerProcess]:
        """Return every process started so far."""
        return [life for slot in self.slots for life in slot.processes]

    def wait_until_up(self, *, besides: WorkerProcess | None = None) -> None:
        """Wait until all workers sweep, and none of them is the given process."""
        wait_until(
            lambda: [slot.current for slot in self.slots],
            lambda lives: all(life.up and not life.down and life is not besides for life in lives),
            patience=START_TIMEOUT_SECONDS,
        )

    def find_by_pid(self, pid: int) -> WorkerProcess:
        """Return the process that has this id."""
        process = read_process(pid)
        for life in reversed(self.all_processes()):
            if life.pid == pid or (process and process.session == life.child.session):
                return life
        raise LookupError(pid)

    def find_by_name(self, name: str) -> WorkerProcess:
        """Return the process with this application name."""
        return next(life for life in self.all_processes() if life.name == name)

    def seconds_without_sweeper(self, start: float, end: float) -> float:
        """Return the number of seconds of an interval in which no process could sweep."""
        covered, reached = 0.0, start
        for since, until_ in sorted(
            span for life in self.all_processes() for span in life.get_sweeping_spans(start, end)
        ):
            covered += max(0.0, until_ - max(since, reached))
            reached = max(reached, until_)
        return end - start - covered

    def terminate_process(self, life: WorkerProcess) -> int:
        """Stop one process as systemd would, and return its exit status; the supervisor starts the next one."""
        # It no longer sweeps from now on.
        life.down = life.down or time.time()
        if (master := life.master) is not None:
            send_signal(master, signal.SIGTERM)
        wait_until(lambda: life.status, lambda status: status is not None, patience=STOP_TIMEOUT_SECONDS)
        assert life.status is not None
        return life.status

    def stop_all(self) -> list[int]:
        """Stop the supervisor and all workers; return their exit statuses."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)
        for life in self._current_processes():
            if life.pid:
                send_signal(life.pid, signal.SIGCONT)
            life.child.request_stop()
        return [life.child.stop() for life in self._current_processes()]

    def kill_all(self) -> None:
        """Kill every remaining process of all workers."""
        for life in self.all_processes():
            for process in session_processes(life.child.session):
                send_signal(process.pid, signal.SIGKILL)
            with suppress(OSError):
                life.child.stop()

    def _current_processes(self) -> list[WorkerProcess]:
        return [slot.current for slot in self.slots if slot.processes]

    def _supervise_slots(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            for slot in self.slots:
                life = slot.current
                self._update_state(life)
                if (status := life.child.poll()) is not None:
                    life.down, life.status = life.down or time.time(), status
                    if not self._stop.wait(RESTART_DELAY_SECONDS):
                        slot.start_next()

    def _update_state(self, life: WorkerProcess) -> None:
        """Record when the process that claims comes up and when it is gone."""
        if life.up is None and (up := self._first_sweeps.get(life.name)):
            master = life.master
            life.pid = next((one.pid for one in session_processes(life.child.session) if one.parent == master), None)
            life.up = up if life.pid else None
        if life.up and not life.down and life.pid and read_process(life.pid) is None:
            life.down = time.time()
