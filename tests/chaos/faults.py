"""The faults: each one is injected once, and then checks and reports whether it hit its target."""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.chaos.aim import InjectedFault, arm_rule, find_victim, is_still_held, pid_of
from tests.chaos.processes import send_signal, session_processes
from tests.chaos.proxy import Proxy, Rule
from tests.chaos.workers import WorkerProcess
from tests.chaos.world import World
from tests.support.stack import wait_until

KILLS_APART_SECONDS = 6.0
FREEZE_TIMEOUT_SECONDS = 30.0
REDIS_FROZEN_SECONDS = 4.0
REDIS_AWAY_SECONDS = 1.0
REPLY_TIMEOUT_SECONDS = 20.0


Fault = Callable[[World, random.Random], InjectedFault]
FAULTS: dict[str, Fault] = {}


def register_fault(kind: str) -> Callable[[Fault], Fault]:
    """Register a fault under its kind."""

    def register(function: Fault) -> Fault:
        FAULTS[kind] = function
        return function

    return register


def _build_fault(kind: str, row: dict[str, Any], **more: Any) -> InjectedFault:
    return InjectedFault(kind=kind, at=time.time(), task=row["id"], attempt=row["attempt"], **more)


def _kill_worker(life: WorkerProcess, *, everything: bool) -> None:
    """Kill the process that claims, or all of the worker's processes at once."""
    targets = [one.pid for one in session_processes(life.child.session) if one.pid != life.child.session]
    for pid in targets if everything else [life.pid]:
        if pid is not None:
            send_signal(pid, signal.SIGKILL)


def _keep_kills_apart(world: World) -> None:
    """Wait until the last kill is long enough ago: otherwise the next one hits a worker that is still booting."""
    last = max((life.down or 0 for life in world.workers.all_processes()), default=0.0)
    threading.Event().wait(max(0.0, last + KILLS_APART_SECONDS - time.time()))


@register_fault("kill -9 of a claim's holder")
def kill_holder(world: World, chance: random.Random) -> InjectedFault:
    _keep_kills_apart(world)
    row = find_victim(world)
    strike = _build_fault("kill -9 of a claim's holder", row, loses_claim=True)
    _kill_worker(world.workers.find_by_pid(pid_of(row)), everything=chance.random() < 0.5)
    strike.hit = is_still_held(world, row)
    return strike


@register_fault("kill -9 of a holder's master")
def kill_master(world: World, chance: random.Random) -> InjectedFault:
    _keep_kills_apart(world)
    row = find_victim(world)
    strike = _build_fault("kill -9 of a holder's master", row)
    if (master := world.workers.find_by_pid(pid_of(row)).master) is not None:
        send_signal(master, signal.SIGKILL)
    strike.hit = is_still_held(world, row)
    return strike


def _build_lock_rule(sender: str) -> Rule:
    """Return a rule that holds back the reply that grants a sweeper the advisory lock."""
    request, taken = b"pg_try_advisory_xact_lock", b"\0\0\0\1t"
    return Rule(requests=(request,), sender=sender, hold=True, reply=lambda reply: taken in reply)


@register_fault("kill -9 of the sweeper in its sweep")
def kill_sweeper(world: World, chance: random.Random) -> InjectedFault:
    """Kill the process whose sweep holds the advisory lock at this moment."""
    _keep_kills_apart(world)
    world.workers.wait_until_up()
    strike = InjectedFault(kind="kill -9 of the sweeper in its sweep", at=time.time())
    with arm_rule(world.base.to_postgres, _build_lock_rule("w")) as rule:
        if rule.fired.wait(REPLY_TIMEOUT_SECONDS):
            held = world.postgres.fetch_rows("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted")
            strike.at = time.time()
            _kill_worker(world.workers.find_by_name(rule.victim), everything=True)
            strike.hit = bool(held)
    return strike


@contextmanager
def freeze_sweeper(world: World) -> Iterator[WorkerProcess]:
    """Suspend an idle worker while its sweep holds the advisory lock; it still counts as able to sweep."""
    holder = world.workers.find_by_pid(pid_of(find_victim(world)))
    idle = next(slot.current for slot in world.workers.slots if slot.current is not holder)
    assert idle.pid is not None
    with arm_rule(world.base.to_postgres, _build_lock_rule(idle.name)) as rule:
        assert rule.fired.wait(REPLY_TIMEOUT_SECONDS)
        send_signal(idle.pid, signal.SIGSTOP)
    try:
        yield idle
    finally:
        send_signal(idle.pid, signal.SIGCONT)


@register_fault("rolling SIGTERM")
def roll_workers(world: World, chance: random.Random) -> InjectedFault:
    """Restart one worker after the other, the first one in the middle of a run."""
    row = find_victim(world)
    strike = _build_fault("rolling SIGTERM", row)
    first = world.workers.find_by_pid(pid_of(row))
    others = [slot.current for slot in world.workers.slots if slot.current is not first]
    for life in [first, *others]:
        strike.hit |= _terminate_worker(world, life)
        world.workers.wait_until_up(besides=life)
    return strike


def _terminate_worker(world: World, life: WorkerProcess) -> bool:
    """Stop a worker that is up, as a supervisor would; return whether it exited with 0."""
    if life.down is not None:
        return False
    status = world.workers.terminate_process(life)
    world.statuses.append((life.name, status))
    return status == 0


@register_fault("freeze beyond the lease")
def freeze_holder(world: World, chance: random.Random) -> InjectedFault:
    """Suspend a process in the middle of its run until another one runs the task, then resume it."""
    world.workers.wait_until_up()
    row = find_victim(world)
    strike = _build_fault("freeze beyond the lease", row, loses_claim=True)
    life, pid = world.workers.find_by_pid(pid_of(row)), pid_of(row)
    send_signal(pid, signal.SIGSTOP)
    try:
        if not is_still_held(world, row):
            strike.loses_claim, strike.note = False, "the run had ended"
            return strike
        with suppress(AssertionError):
            now = wait_until(
                lambda: world.get_row(row["id"]),
                lambda now: now["attempt"] > row["attempt"] or now["status"] not in ("queued", "running"),
                patience=FREEZE_TIMEOUT_SECONDS,
            )
            strike.hit = now["attempt"] > row["attempt"] and now["status"] == "running"
            strike.note = f"{time.time() - strike.at:.1f} s"
    finally:
        life.frozen.append((strike.at, time.time()))
        send_signal(pid, signal.SIGCONT)
    return strike


@register_fault("Redis killed, nothing kept")
def kill_redis(world: World, chance: random.Random) -> InjectedFault:
    strike = InjectedFault(kind="Redis killed, nothing kept", at=time.time(), hit=True)
    world.base.redis.stop_by_signal(signal.SIGKILL)
    threading.Event().wait(REDIS_AWAY_SECONDS)
    world.base.redis.start()
    return strike


@register_fault("FLUSHALL")
def flush_redis(world: World, chance: random.Random) -> InjectedFault:
    hit = bool(world.base.redis.client.dbsize())
    world.base.redis.client.flushall()
    return InjectedFault(kind="FLUSHALL", at=time.time(), hit=hit)


@register_fault("Redis frozen 4 s")
def freeze_redis(world: World, chance: random.Random) -> InjectedFault:
    strike = InjectedFault(kind="Redis frozen 4 s", at=time.time())
    world.base.redis.send_signal(signal.SIGSTOP)
    try:
        posted = time.monotonic()
        strike.hit = world.submit_task("pace 0.02 while Redis is frozen", steps=10) is not None
        strike.note = f"POST {time.monotonic() - posted:.1f} s"
        threading.Event().wait(max(0.0, posted + REDIS_FROZEN_SECONDS - time.monotonic()))
    finally:
        world.base.redis.send_signal(signal.SIGCONT)
    return strike


def _restart_postgres(world: World, kind: str, number: signal.Signals) -> InjectedFault:
    row = find_victim(world)
    strike = _build_fault(kind, row, hit=True)
    world.postgres.restart(number)
    strike.note = f"away {time.time() - strike.at:.1f} s"
    return strike


@register_fault("PostgreSQL immediate restart")
def restart_postgres_immediately(world: World, chance: random.Random) -> InjectedFault:
    return _restart_postgres(world, "PostgreSQL immediate restart", signal.SIGQUIT)


@register_fault("PostgreSQL fast restart")
def restart_postgres_fast(world: World, chance: random.Random) -> InjectedFault:
    return _restart_postgres(world, "PostgreSQL fast restart", signal.SIGINT)


def _lose_reply(proxy: Proxy, kind: str, rule: Rule, provoke: Callable[[], object] = lambda: None) -> InjectedFault:
    strike = InjectedFault(kind=kind, at=time.time())
    with arm_rule(proxy, rule):
        provoke()
        strike.hit = rule.fired.wait(REPLY_TIMEOUT_SECONDS)
    strike.at, strike.note = time.time(), rule.victim
    return strike


@register_fault("reply lost: enqueue")
def lose_enqueue(world: World, chance: random.Random) -> InjectedFault:
    rule = Rule(requests=(b"\r\nenqueue\r\n",), reply=lambda reply: not reply.startswith(b"-"))
    return _lose_reply(
        world.base.to_redis, "reply lost: enqueue", rule, lambda: world.submit_task("pace 0.02 x", steps=5)
    )


@register_fault("reply lost: fetch")
def lose_fetch(world: World, chance: random.Random) -> InjectedFault:
    """Lose the messages that a newly started worker fetches: a busy worker fetches none."""
    rule = Rule(requests=(b"\r\nfetch\r\n",), reply=lambda reply: reply[:1] == b"*" and reply != b"*0\r\n")
    world.workers.wait_until_up()  # an earlier signal would kill it while it boots
    one = world.workers.slots[0].current
    return _lose_reply(world.base.to_redis, "reply lost: fetch", rule, lambda: _terminate_worker(world, one))


@register_fault("reply lost: commit of a result")
def lose_commit(world: World, chance: random.Random) -> InjectedFault:
    rule = Rule(requests=(b"INSERT INTO tasks_app_taskimage",), sender="w")
    return _lose_reply(world.base.to_postgres, "reply lost: commit of a result", rule)


@register_fault("reply lost: claim")
def lose_claim(world: World, chance: random.Random) -> InjectedFault:
    """Lose a claim's reply: the row is running, but no worker knows about it."""
    rule = Rule(requests=(b"RETURNING task.*", b"COMMIT\0"), sender="w")
    armed_at = time.time()
    strike = _lose_reply(world.base.to_postgres, "reply lost: claim", rule)
    claims = world.postgres.fetch_rows(
        "SELECT task, attempt, at FROM chaos_log WHERE writer = %s AND attempt > old_attempt"
        " AND at > to_timestamp(%s) ORDER BY seq DESC LIMIT 1",
        [rule.victim, armed_at],
    )
    # The lost reply may belong to a claim that found no task.
    strike.hit = bool(claims)
    for claim in claims:
        strike.task, strike.attempt, strike.at = claim["task"], claim["attempt"], claim["at"].timestamp()
        strike.loses_claim = True
    return strike


@register_fault("reply lost: insert of a task")
def lose_insert(world: World, chance: random.Random) -> InjectedFault:
    """Lose the insert's reply: the client never receives the task's id."""
    rule = Rule(requests=(b'INSERT INTO "tasks_app_task" ',), sender="web")
    return _lose_reply(
        world.base.to_postgres, "reply lost: insert of a task", rule, lambda: world.submit_task("pace 0.02 y", steps=5)
    )
