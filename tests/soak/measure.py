"""Resources of a worker process: memory, descriptors, threads and connections, by quarters of a soak."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from django.db import connection

from tasks_app.events import progress

# Part of the worker's database and Redis URLs, to distinguish its connections from others.
NAME = "soak-worker"
QUARTERS = 4
FLAT = ("descriptors", "threads", "postgres", "redis")
SPARE = 2
GROWTH = 1.05


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Resources that the worker holds at one moment; memory is in KiB."""

    tasks: int
    resident: int
    anonymous: int
    descriptors: int
    threads: int
    postgres: int
    redis: int
    tickets: int


def sample(pid: int, tasks: int) -> Sample:
    """Measure the worker's child process after this number of tasks."""
    status = _status(pid)
    return Sample(
        tasks=tasks,
        resident=int(status["VmRSS"].split()[0]),
        anonymous=int(status["RssAnon"].split()[0]),
        descriptors=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        threads=int(status["Threads"]),
        postgres=_postgres_connections(),
        redis=sum(client["name"] == NAME for client in progress.client.client_list()),
        tickets=int(progress.client.llen("dramatiq:generate")),
    )


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _postgres_connections() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [NAME])
        return int(cursor.fetchone()[0])


def quarters(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Split the samples into four parts with equal numbers of tasks."""
    total = samples[-1].tasks
    parts: list[list[Sample]] = [[] for _ in range(QUARTERS)]
    for one in samples:
        parts[min(QUARTERS - 1, QUARTERS * one.tasks // total)].append(one)
    return parts


def table(samples: Sequence[Sample]) -> str:
    """Return the quarters as a table: means of the memory, maxima of the counts."""
    lines = ["quarter  samples  tasks       RSS mean   RSS max  anon mean   fds  threads  pg  redis  tickets"]
    return "\n".join([*lines, *(_line(number, part) for number, part in enumerate(quarters(samples), 1))])


def _line(number: int, part: Sequence[Sample]) -> str:
    kib = _mean(part, "resident"), _most(part, "resident"), _mean(part, "anonymous")
    resident, highest, anonymous = (f"{value / 1024:9.1f}" for value in kib)
    fds, threads, postgres, redis, tickets = (_most(part, name) for name in (*FLAT, "tickets"))
    return (
        f"{number:7}  {len(part):7}  {part[0].tasks:4}-{part[-1].tasks:<5} {resident} {highest}  {anonymous}"
        f"  {fds:4}  {threads:7}  {postgres:2}  {redis:5}  {tickets:7}"
    )


def rising(samples: Sequence[Sample]) -> list[str]:
    """Return every count whose maximum in the last quarter exceeds that of the second one."""
    _, second, _, last = quarters(samples)
    seen = [(name, _most(second, name), _most(last, name)) for name in FLAT]
    return [f"{name}: {before} -> {after}" for name, before, after in seen if after > before + SPARE]


def growth(samples: Sequence[Sample]) -> float:
    """Return the ratio of the last quarter's mean resident memory to the second one's."""
    _, second, _, last = quarters(samples)
    return _mean(last, "resident") / _mean(second, "resident")


def _mean(part: Sequence[Sample], name: str) -> float:
    return fmean(_values(part, name))


def _most(part: Sequence[Sample], name: str) -> int:
    return max(_values(part, name))


def _values(part: Sequence[Sample], name: str) -> list[int]:
    return [int(getattr(one, name)) for one in part]
