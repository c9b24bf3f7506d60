"""One run: a seeded schedule of faults over a seeded load, then a check of all evidence."""

import random
import threading
import time
from dataclasses import dataclass

from tests.chaos.aim import InjectedFault
from tests.chaos.evidence import count_orphans, gather_evidence
from tests.chaos.faults import FAULTS
from tests.chaos.invariants import Evidence
from tests.chaos.load import Load, Mix
from tests.chaos.world import ChaosServers, run_service

END_TIMEOUT_SECONDS = 120.0
LOAD_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Plan of a run: the number of faults of each kind, and the range of the pause after each, in seconds."""

    seed: int
    mix: Mix
    faults: dict[str, int]
    pause: tuple[float, float]


@dataclass(kw_only=True)
class Outcome:
    """A completed run."""

    plan: Plan
    evidence: Evidence
    cancel_requests: dict[str, str]
    seconds: float
    slowest_post: float
    orphans: int


def run_plan(base: ChaosServers, plan: Plan) -> Outcome:
    """Run a plan and gather its evidence."""
    started = time.monotonic()
    chance = random.Random(plan.seed)
    kinds = [kind for kind, times in plan.faults.items() for _ in range(times)]
    chance.shuffle(kinds)
    with run_service(base) as world:
        load = Load(world=world, chance=random.Random(plan.seed + 1), mix=plan.mix)
        load.start()
        strikes: list[InjectedFault] = []
        for kind in kinds:
            strikes.append(FAULTS[kind](world, chance))
            threading.Event().wait(chance.uniform(*plan.pause))
        load.finish_posting(LOAD_TIMEOUT_SECONDS)
        # The invariants report tasks that have not ended by then.
        world.wait_until_ended(END_TIMEOUT_SECONDS)
        left = count_orphans(world)
        evidence = gather_evidence(world, strikes)
    return Outcome(
        plan=plan,
        evidence=evidence,
        cancel_requests=load.cancel_requests,
        seconds=time.monotonic() - started,
        slowest_post=load.slowest_post,
        orphans=left,
    )
