"""One run: a seeded schedule of faults over a seeded load, then everything looked at."""

import random
import threading
import time
from dataclasses import dataclass

from tests.chaos.aim import Strike
from tests.chaos.evidence import gather, orphans
from tests.chaos.faults import FAULTS
from tests.chaos.invariants import Evidence
from tests.chaos.load import Load, Mix
from tests.chaos.world import Base, service

SETTLE_PATIENCE_SECONDS = 120.0
LOAD_PATIENCE_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run consists of: how often each kind of fault, and the pause after each one in seconds."""

    seed: int
    mix: Mix
    faults: dict[str, int]
    pause: tuple[float, float]


@dataclass(kw_only=True)
class Outcome:
    """A run that is over."""

    plan: Plan
    evidence: Evidence
    asked: dict[str, str]
    seconds: float
    slowest_post: float
    orphans: int


def carry_out(base: Base, plan: Plan) -> Outcome:
    """Run a plan to its end."""
    started = time.monotonic()
    chance = random.Random(plan.seed)
    kinds = [kind for kind, times in plan.faults.items() for _ in range(times)]
    chance.shuffle(kinds)
    with service(base) as world:
        load = Load(world=world, chance=random.Random(plan.seed + 1), mix=plan.mix)
        load.start()
        strikes: list[Strike] = []
        for kind in kinds:
            strikes.append(FAULTS[kind](world, chance))
            threading.Event().wait(chance.uniform(*plan.pause))
        load.finish(LOAD_PATIENCE_SECONDS)
        # One that does not end is what the invariants tell.
        world.until_ended(SETTLE_PATIENCE_SECONDS)
        left = orphans(world)
        evidence = gather(world, strikes)
    return Outcome(
        plan=plan,
        evidence=evidence,
        asked=load.asked,
        seconds=time.monotonic() - started,
        slowest_post=load.slowest_post,
        orphans=left,
    )
