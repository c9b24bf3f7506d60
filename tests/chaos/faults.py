"""The faults: each one strikes once, and says whether it hit what it was aimed at, which it looks up afterwards."""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.chaos.aim import Strike, armed, pid_of, still_held, victim
from tests.chaos.processes import members, send
from tests.chaos.proxy import Proxy, Rule
from tests.chaos.workers import Life
from tests.chaos.world import World
from tests.stack import until

KILLS_APART_SECONDS = 6.0
FREEZE_PATIENCE_SECONDS = 30.0
REDIS_FROZEN_SECONDS = 4.0
REDIS_AWAY_SECONDS = 1.0
REPLY_PATIENCE_SECONDS = 20.0


Fault = Callable[[World, random.Random], Strike]
FAULTS: dict[str, Fault] = {}


def fault(kind: str) -> Callable[[Fault], Fault]:
    """Register a fault under its kind."""

    def register(function: Fault) -> Fault:
        FAULTS[kind] = function
        return function

    return register


def _aimed(kind: str, row: dict[str, Any], **more: Any) -> Strike:
    return Strike(kind=kind, at=time.time(), task=row["id"], attempt=row["attempt"], **more)


def _kill(life: Life, *, everything: bool) -> None:
    """Kill the process that claims, or all of the worker at once."""
    targets = [one.pid for one in members(life.child.session) if one.pid != life.child.session]
    for pid in targets if everything else [life.pid]:
        if pid is not None:
            send(pid, signal.SIGKILL)


def _keep_kills_apart(world: World) -> None:
    """Wait until the last kill is long enough ago: else the next one hits a worker that boots."""
    last = max((life.down or 0 for life in world.workers.lives()), default=0.0)
    threading.Event().wait(max(0.0, last + KILLS_APART_SECONDS - time.time()))


@fault("kill -9 of a claim's holder")
def kill_holder(world: World, chance: random.Random) -> Strike:
    _keep_kills_apart(world)
    row = victim(world)
    strike = _aimed("kill -9 of a claim's holder", row, loses_claim=True)
    _kill(world.workers.of(pid_of(row)), everything=chance.random() < 0.5)
    strike.hit = still_held(world, row)
    return strike


@fault("kill -9 of a holder's master")
def kill_master(world: World, chance: random.Random) -> Strike:
    _keep_kills_apart(world)
    row = victim(world)
    strike = _aimed("kill -9 of a holder's master", row)
    if (master := world.workers.of(pid_of(row)).master) is not None:
        send(master, signal.SIGKILL)
    strike.hit = still_held(world, row)
    return strike


def _lock_taken(sender: str) -> Rule:
    """Return a rule that holds back the news that a sweeper has the advisory lock."""
    request, taken = b"pg_try_advisory_xact_lock", b"\0\0\0\1t"
    return Rule(requests=(request,), sender=sender, hold=True, reply=lambda reply: taken in reply)


@fault("kill -9 of the sweeper in its sweep")
def kill_sweeper(world: World, chance: random.Random) -> Strike:
    """Kill the process whose sweep has the advisory lock at this moment."""
    _keep_kills_apart(world)
    world.workers.until_up()
    strike = Strike(kind="kill -9 of the sweeper in its sweep", at=time.time())
    with armed(world.base.to_postgres, _lock_taken("w")) as rule:
        if rule.fired.wait(REPLY_PATIENCE_SECONDS):
            held = world.postgres.rows("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted")
            strike.at = time.time()
            _kill(world.workers.named(rule.victim), everything=True)
            strike.hit = bool(held)
    return strike


@contextmanager
def frozen_sweeper(world: World) -> Iterator[Life]:
    """Stop an idle worker while its sweep has the advisory lock; it counts as one that could sweep."""
    holder = world.workers.of(pid_of(victim(world)))
    idle = next(slot.life for slot in world.workers.slots if slot.life is not holder)
    assert idle.pid is not None
    with armed(world.base.to_postgres, _lock_taken(idle.name)) as rule:
        assert rule.fired.wait(REPLY_PATIENCE_SECONDS)
        send(idle.pid, signal.SIGSTOP)
    try:
        yield idle
    finally:
        send(idle.pid, signal.SIGCONT)


@fault("rolling SIGTERM")
def roll(world: World, chance: random.Random) -> Strike:
    """Restart one worker after the other, the first one in the middle of a run."""
    row = victim(world)
    strike = _aimed("rolling SIGTERM", row)
    first = world.workers.of(pid_of(row))
    others = [slot.life for slot in world.workers.slots if slot.life is not first]
    for life in [first, *others]:
        strike.hit |= _terminate(world, life)
        world.workers.until_up(besides=life)
    return strike


def _terminate(world: World, life: Life) -> bool:
    """Have a worker end as a supervisor would, if it is up; return whether it did."""
    if life.down is not None:
        return False
    status = world.workers.terminate(life)
    world.statuses.append((life.name, status))
    return status == 0


@fault("freeze beyond the lease")
def freeze(world: World, chance: random.Random) -> Strike:
    """Stop a process in the middle of its run until another one runs the task, then let it go on."""
    world.workers.until_up()
    row = victim(world)
    strike = _aimed("freeze beyond the lease", row, loses_claim=True)
    life, pid = world.workers.of(pid_of(row)), pid_of(row)
    send(pid, signal.SIGSTOP)
    try:
        if not still_held(world, row):
            strike.loses_claim, strike.note = False, "the run had ended"
            return strike
        with suppress(AssertionError):
            now = until(
                lambda: world.row(row["id"]),
                lambda now: now["attempt"] > row["attempt"] or now["status"] not in ("queued", "running"),
                patience=FREEZE_PATIENCE_SECONDS,
            )
            strike.hit = now["attempt"] > row["attempt"] and now["status"] == "running"
            strike.note = f"{time.time() - strike.at:.1f} s"
    finally:
        life.frozen.append((strike.at, time.time()))
        send(pid, signal.SIGCONT)
    return strike


@fault("Redis killed, nothing kept")
def kill_redis(world: World, chance: random.Random) -> Strike:
    strike = Strike(kind="Redis killed, nothing kept", at=time.time(), hit=True)
    world.base.redis.end(signal.SIGKILL)
    threading.Event().wait(REDIS_AWAY_SECONDS)
    world.base.redis.start()
    return strike


@fault("FLUSHALL")
def flush_redis(world: World, chance: random.Random) -> Strike:
    hit = bool(world.base.redis.client.dbsize())
    world.base.redis.client.flushall()
    return Strike(kind="FLUSHALL", at=time.time(), hit=hit)


@fault("Redis frozen 4 s")
def freeze_redis(world: World, chance: random.Random) -> Strike:
    strike = Strike(kind="Redis frozen 4 s", at=time.time())
    world.base.redis.send(signal.SIGSTOP)
    try:
        posted = time.monotonic()
        strike.hit = world.post("pace 0.02 while Redis is frozen", steps=10) is not None
        strike.note = f"POST {time.monotonic() - posted:.1f} s"
        threading.Event().wait(max(0.0, posted + REDIS_FROZEN_SECONDS - time.monotonic()))
    finally:
        world.base.redis.send(signal.SIGCONT)
    return strike


def _restart(world: World, kind: str, number: signal.Signals) -> Strike:
    row = victim(world)
    strike = _aimed(kind, row, hit=True)
    world.postgres.restart(number)
    strike.note = f"away {time.time() - strike.at:.1f} s"
    return strike


@fault("PostgreSQL immediate restart")
def restart_immediately(world: World, chance: random.Random) -> Strike:
    return _restart(world, "PostgreSQL immediate restart", signal.SIGQUIT)


@fault("PostgreSQL fast restart")
def restart_fast(world: World, chance: random.Random) -> Strike:
    return _restart(world, "PostgreSQL fast restart", signal.SIGINT)


def _lose_reply(proxy: Proxy, kind: str, rule: Rule, provoke: Callable[[], object] = lambda: None) -> Strike:
    strike = Strike(kind=kind, at=time.time())
    with armed(proxy, rule):
        provoke()
        strike.hit = rule.fired.wait(REPLY_PATIENCE_SECONDS)
    strike.at, strike.note = time.time(), rule.victim
    return strike


@fault("reply lost: enqueue")
def lose_enqueue(world: World, chance: random.Random) -> Strike:
    rule = Rule(requests=(b"\r\nenqueue\r\n",), reply=lambda reply: not reply.startswith(b"-"))
    return _lose_reply(world.base.to_redis, "reply lost: enqueue", rule, lambda: world.post("pace 0.02 x", steps=5))


@fault("reply lost: fetch")
def lose_fetch(world: World, chance: random.Random) -> Strike:
    """Lose what a worker fetches that has just started: one that is at work fetches nothing."""
    rule = Rule(requests=(b"\r\nfetch\r\n",), reply=lambda reply: reply[:1] == b"*" and reply != b"*0\r\n")
    world.workers.until_up()  # before, a signal would just kill it
    one = world.workers.slots[0].life
    return _lose_reply(world.base.to_redis, "reply lost: fetch", rule, lambda: _terminate(world, one))


@fault("reply lost: commit of a result")
def lose_commit(world: World, chance: random.Random) -> Strike:
    rule = Rule(requests=(b"INSERT INTO tasks_app_taskimage",), sender="w")
    return _lose_reply(world.base.to_postgres, "reply lost: commit of a result", rule)


@fault("reply lost: claim")
def lose_claim(world: World, chance: random.Random) -> Strike:
    """Lose a claim's reply: a row that runs, and nobody who knows it."""
    rule = Rule(requests=(b"RETURNING task.*", b"COMMIT\0"), sender="w")
    armed_at = time.time()
    strike = _lose_reply(world.base.to_postgres, "reply lost: claim", rule)
    claims = world.postgres.rows(
        "SELECT task, attempt, at FROM chaos_log WHERE writer = %s AND attempt > old_attempt"
        " AND at > to_timestamp(%s) ORDER BY seq DESC LIMIT 1",
        [rule.victim, armed_at],
    )
    # It may have been one that found nothing to claim.
    strike.hit = bool(claims)
    for claim in claims:
        strike.task, strike.attempt, strike.at = claim["task"], claim["attempt"], claim["at"].timestamp()
        strike.loses_claim = True
    return strike


@fault("reply lost: insert of a task")
def lose_insert(world: World, chance: random.Random) -> Strike:
    """Lose the insert's reply: a task whose id nobody was told."""
    rule = Rule(requests=(b'INSERT INTO "tasks_app_task" ',), sender="web")
    return _lose_reply(
        world.base.to_postgres, "reply lost: insert of a task", rule, lambda: world.post("pace 0.02 y", steps=5)
    )
