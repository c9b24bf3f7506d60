"""Invariants that must hold after every run: pure checks of the journal, the rows and the responses."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from uuid import UUID

from tests.chaos.aim import InjectedFault
from tests.chaos.journal import Entry
from tests.chaos.world import World

TERMINAL = {"succeeded", "failed", "canceled"}
PHASES = ["", "loading", "denoising", "decoding", "saving"]
RECOVERY_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A violated guarantee."""

    kind: str
    task: UUID | str | None
    text: str


@dataclass(kw_only=True)
class Evidence:
    """The evidence of a run. `leftovers` describes everything that should have ended with the service."""

    world: World
    strikes: list[InjectedFault]
    log: list[Entry]
    rows: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    images: list[dict[str, Any]]
    served: list[Violation] = field(default_factory=list)
    streams: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    leftovers: list[str] = field(default_factory=list)


Check = Callable[[Evidence], Iterator[Violation]]


def group_by_task(log: list[Entry]) -> dict[UUID, list[Entry]]:
    """Return each task's entries, in their order."""
    ordered = sorted(log, key=lambda entry: (entry.task.int, entry.seq))
    return {task: list(entries) for task, entries in groupby(ordered, key=lambda entry: entry.task)}


def nothing_is_lost(found: Evidence) -> Iterator[Violation]:
    """Check that every id answered with 201 has a row, and that every row has ended."""
    known = {str(row["id"]) for row in found.rows}
    for task in found.world.answered - known:
        yield Violation(kind="lost", task=task, text="answered with 201, and there is no row")
    for row in found.rows:
        if row["status"] not in TERMINAL:
            yield Violation(kind="lost", task=row["id"], text=f"still {row['status']}, held by {row['worker'] or '-'}")


def nothing_is_claimed_twice(found: Evidence) -> Iterator[Violation]:
    """Check that a claim takes a queued row, and that no attempt begins twice."""
    begun: set[tuple[UUID, int]] = set()
    for entry in found.log:
        if not entry.is_claim:
            continue
        if entry.old_status != "queued":
            text = f"attempt {entry.attempt} by {entry.writer} took a row that was {entry.old_status}"
            yield Violation(kind="double claim", task=entry.task, text=text)
        if (entry.task, entry.attempt) in begun:
            yield Violation(kind="double claim", task=entry.task, text=f"attempt {entry.attempt} began twice")
        begun.add((entry.task, entry.attempt))


def only_the_holder_writes(found: Evidence) -> Iterator[Violation]:
    """Check that only the process that claimed a run writes its progress and outcome."""
    for task, entries in group_by_task(found.log).items():
        holder, before = "", (0, 0)
        for entry in entries:
            if entry.is_claim:
                holder = entry.writer
            elif entry.writer != holder and (entry.status == "succeeded" or _has_moved(entry, before)):
                text = f"{entry.writer} wrote {entry.status} step {entry.step} into {holder}'s run"
                yield Violation(kind="foreign write", task=task, text=f"{text}, attempt {entry.attempt}")
            before = _progress_rank(entry)


def _progress_rank(entry: Entry) -> tuple[int, int]:
    return PHASES.index(entry.phase), entry.step


def _has_moved(entry: Entry, before: tuple[int, int]) -> bool:
    return entry.status == "running" and _progress_rank(entry) != before


def progress_only_rises(found: Evidence) -> Iterator[Violation]:
    """Check that neither the row nor the event stream goes back within an attempt."""
    for task, entries in group_by_task(found.log).items():
        running = [entry for entry in entries if entry.status == "running"]
        for attempt, steps in groupby(running, key=lambda entry: entry.attempt):
            places = [_progress_rank(entry) for entry in steps]
            if places != sorted(places):
                yield Violation(kind="progress", task=task, text=f"attempt {attempt} of the row: {places}")
    for name, events in found.streams.items():
        for attempt in {event["attempt"] for event in events}:
            places = [(PHASES.index(e["phase"]), e["step"]) for e in events if e["attempt"] == attempt]
            if places != sorted(places):
                yield Violation(kind="progress", task=name, text=f"attempt {attempt} of the stream: {places}")


def ends_are_final(found: Evidence) -> Iterator[Violation]:
    """Check that an ended task never changes its status, and that a canceled one never succeeds."""
    for entry in found.log:
        if entry.old_status in TERMINAL and entry.status != entry.old_status:
            text = f"{entry.old_status}, then {entry.status} by {entry.writer}"
            yield Violation(kind="reopened", task=entry.task, text=text)
        if entry.status == "succeeded" and entry.cancel_requested:
            yield Violation(kind="canceled", task=entry.task, text="succeeded after somebody canceled it")
    for row in found.rows:
        if str(row["id"]) in found.world.canceled and row["status"] != "canceled":
            yield Violation(kind="canceled", task=row["id"], text=f"answered as canceled, and it {row['status']}")


def only_poison_runs_out_of_attempts(found: Evidence) -> Iterator[Violation]:
    """Check that harmless tasks never fail with `worker_lost`, and that poison always fails or is canceled."""
    for row in found.rows:
        poison = row["params"]["prompt"] == "poison"
        given_up = row["error_code"] == "worker_lost"
        if given_up and not poison:
            yield Violation(
                kind="given up", task=row["id"], text=f"{row['lost_workers']} lost_workers: {row['params']['prompt']}"
            )
        if poison and row["status"] not in ("failed", "canceled"):
            yield Violation(kind="given up", task=row["id"], text=f"poison ended as {row['status']}")


def attempts_match_rows(found: Evidence) -> Iterator[Violation]:
    """Check that each row's attempts are numbered without gaps, ended, and match its lost_workers and its outcome."""
    kept: dict[UUID, list[dict[str, Any]]] = {}
    for attempt in found.attempts:
        kept.setdefault(attempt["task_id"], []).append(attempt)
    for row in found.rows:
        mine = sorted(kept.get(row["id"], []), key=lambda attempt: attempt["number"])
        outcomes = [attempt["outcome"] for attempt in mine]
        good = [attempt["number"] for attempt in mine] == list(range(1, row["attempt"] + 1))
        good &= set(outcomes[:-1]) <= {"lost", "released"}
        if row["status"] == "succeeded":
            good &= outcomes[-1:] == ["succeeded"] and outcomes.count("lost") == row["lost_workers"]
        good &= row["status"] not in TERMINAL or "" not in outcomes
        if not good:
            yield Violation(
                kind="attempts", task=row["id"], text=f"{row['status']}, {row['lost_workers']} lost_workers: {outcomes}"
            )


def images_are_complete(found: Evidence) -> Iterator[Violation]:
    """Check that a succeeded task has exactly its images, all from its last attempt, and any other task has none."""
    kept: dict[UUID, list[dict[str, Any]]] = {}
    for image in found.images:
        kept.setdefault(image["task_id"], []).append(image)
    for row in found.rows:
        mine = kept.get(row["id"], [])
        wanted = row["params"]["num_images"] if row["status"] == "succeeded" else 0
        indexes = sorted(image["index"] for image in mine)
        stale = [image["file"] for image in mine if image["file"].split("/")[-1].split("-")[0] != str(row["attempt"])]
        if indexes != list(range(wanted)) or stale:
            text = f"{row['status']}, pictures {indexes} instead of {wanted}, of other attempts: {stale}"
            yield Violation(kind="pictures", task=row["id"], text=text)
    yield from found.served


def recovery_is_quick(found: Evidence) -> Iterator[Violation]:
    """Check that a lost claim is queued again within the lease and 5 s, not counting time without any worker."""
    entries = group_by_task(found.log)
    for strike in found.strikes:
        if not (strike.hit and strike.loses_claim and strike.task):
            continue
        seconds = recovery_seconds(strike, entries.get(strike.task, []))
        if seconds is None:
            yield Violation(kind="recovery", task=strike.task, text=f"{strike.kind}: never taken from its worker")
        elif (
            seconds - seconds_without_worker(found.world, strike, seconds)
            > found.world.lease_seconds + RECOVERY_SECONDS
        ):
            yield Violation(kind="recovery", task=strike.task, text=f"{strike.kind}: {seconds:.1f} s")


def recovery_seconds(strike: InjectedFault, entries: list[Entry]) -> float | None:
    """Return the seconds from the fault to the end of the lost claim."""
    ends = [entry for entry in entries if entry.old_attempt == strike.attempt and entry.ends_attempt]
    # An end that was already under way when the fault struck counts as immediate.
    return max(0.0, ends[0].at.timestamp() - strike.at) if ends else None


def seconds_without_worker(world: World, strike: InjectedFault, seconds: float) -> float:
    """Return the seconds of a recovery in which no worker was up to sweep."""
    return world.workers.seconds_without_sweeper(strike.at, strike.at + seconds)


def nothing_is_left(found: Evidence) -> Iterator[Violation]:
    """Check that no process, connection or lock outlives the service, and that workers exit with 0 on SIGTERM."""
    for text in found.leftovers:
        yield Violation(kind="leftover", task=None, text=text)
    poisoned = _find_poisoned_pids(found)
    for name, status in found.world.statuses:
        # Poison may kill its worker at the very moment of the signal.
        if status != 0 and found.world.workers.find_by_name(name).pid not in poisoned:
            yield Violation(kind="exit status", task=None, text=f"{name} ended with {status} after SIGTERM")


def _find_poisoned_pids(found: Evidence) -> set[int]:
    """Return the processes that lost an attempt at a poison task."""
    poison = {row["id"] for row in found.rows if row["params"]["prompt"] == "poison"}
    lost = (one for one in found.attempts if one["task_id"] in poison and one["outcome"] == "lost")
    return {int(one["worker"].rpartition(":")[2]) for one in lost}


def answers_are_no_500(found: Evidence) -> Iterator[Violation]:
    """Check that no request is answered with a 500, whichever server is down."""
    if number := found.world.refused.get("500"):
        yield Violation(kind="500", task=None, text=f"{number} times")


CHECKS: tuple[Check, ...] = (
    nothing_is_lost,
    nothing_is_claimed_twice,
    only_the_holder_writes,
    progress_only_rises,
    ends_are_final,
    only_poison_runs_out_of_attempts,
    attempts_match_rows,
    images_are_complete,
    recovery_is_quick,
    nothing_is_left,
    answers_are_no_500,
)


def find_violations(found: Evidence) -> list[Violation]:
    """Return all violations."""
    return [violation for check in CHECKS for violation in check(found)]
