"""The load: a seeded mix of tasks that keeps the queue filled, and requests that cancel some of them."""

import random
import threading
import time
from dataclasses import dataclass, field

from tests.chaos.world import World

TICK_SECONDS = 0.05
BACKLOG = 6


@dataclass(kw_only=True)
class Mix:
    """Mix of the load: shares of all tasks, and the exact number of poison tasks."""

    tasks: int
    poison: int
    failing: float = 0.06
    several_images: float = 0.2
    canceled_queued: float = 0.06
    canceled_running: float = 0.08


@dataclass(kw_only=True, eq=False)
class Load:
    """Load generator that posts until it has enough tasks and `finish_posting` is called."""

    world: World
    chance: random.Random
    mix: Mix
    cancel_requests: dict[str, str] = field(default_factory=dict)  # task -> status (queued or running) when canceled
    slowest_post: float = 0.0

    def __post_init__(self) -> None:
        # Spread them over the first half, so that their deaths mix with the faults.
        self._poison_at = set(self.chance.sample(range(self.mix.tasks // 2), self.mix.poison))
        self._enough = threading.Event()
        self._to_cancel: set[str] = set()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._post_tasks, name="load", daemon=True)

    def start(self) -> None:
        """Start posting."""
        self._thread.start()

    def finish_posting(self, patience: float) -> None:
        """Post the remaining tasks and stop."""
        self._enough.set()
        self._thread.join(patience)
        assert not self._thread.is_alive(), "the load could not be posted"
        if self.failure is not None:
            raise self.failure

    def _post_tasks(self) -> None:
        try:
            posted = 0
            while posted < self.mix.tasks or not self._enough.is_set():
                if self.world.count_by_status().get("queued", 0) < BACKLOG:
                    posted += self._post_task(posted)
                self._cancel_running()
                self._enough.wait(0 if self._enough.is_set() else TICK_SECONDS)
        except BaseException as error:  # noqa: BLE001 - raised by `finish_posting`
            self.failure = error

    def _post_task(self, number: int) -> bool:
        prompt, steps = self._choose_prompt(number)
        images = 2 if self.chance.random() < self.mix.several_images else 1
        fate = self.chance.random()
        before = time.monotonic()
        task = self.world.submit_task(prompt, steps=steps, num_images=images)
        self.slowest_post = max(self.slowest_post, time.monotonic() - before)
        if task is None:
            return False
        if fate < self.mix.canceled_queued + self.mix.canceled_running:
            self.world.doomed.add(task)
            if fate < self.mix.canceled_queued:
                self._cancel_task(task, "queued")
            else:
                self._to_cancel.add(task)
        return True

    def _choose_prompt(self, number: int) -> tuple[str, int]:
        if number in self._poison_at:
            return "poison", 5
        kind = self.chance.random()
        if kind < self.mix.failing:
            return "fail", 5
        if kind < 0.4:
            return f"pace 0.02 quick {number}", self.chance.randint(5, 20)
        if kind < 0.9:
            return f"pace 0.04 usual {number}", self.chance.randint(20, 40)
        return f"pace 0.05 long {number}", self.chance.randint(50, 70)

    def _cancel_running(self) -> None:
        if not self._to_cancel:
            return
        rows = self.world.postgres.fetch_rows(
            "SELECT id FROM tasks_app_task WHERE status = 'running' AND step > 0 AND id = ANY(%s::uuid[])",
            [list(self._to_cancel)],
        )
        for row in rows:
            self._to_cancel.discard(str(row["id"]))
            self._cancel_task(str(row["id"]), "running")

    def _cancel_task(self, task: str, when: str) -> None:
        if self.world.cancel_task(task):
            self.cancel_requests[task] = when
