"""The service under faults: a short run each time, and the full one with `-m chaos`."""

import random
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chaos import world as worlds
from tests.chaos.campaign import Outcome, Plan, run_plan
from tests.chaos.evidence import gather_evidence
from tests.chaos.faults import FAULTS, freeze_sweeper
from tests.chaos.invariants import RECOVERY_SECONDS, find_violations
from tests.chaos.load import Mix
from tests.chaos.table import find_recoveries, format_spread, render_table
from tests.chaos.world import ChaosServers
from tests.support.stack import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

HOLDER_KILL, FREEZE = "kill -9 of a claim's holder", "freeze beyond the lease"
SHORT = {
    HOLDER_KILL: 2,
    FREEZE: 1,
    "kill -9 of the sweeper in its sweep": 1,
    "rolling SIGTERM": 1,
    "Redis killed, nothing kept": 1,
    "FLUSHALL": 1,
    "PostgreSQL immediate restart": 1,
    "reply lost: enqueue": 1,
    "reply lost: fetch": 1,
    "reply lost: commit of a result": 1,
}
DEMO_PATIENCE_SECONDS = 120.0
FULL = {**dict.fromkeys(FAULTS, 3), HOLDER_KILL: 12, FREEZE: 4}


@pytest.fixture
def base(tmp_path: Path) -> Iterator[ChaosServers]:
    """Run the servers of one run."""
    with worlds.run_servers(tmp_path) as running:
        yield running


def judge(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    """Print the table, and hold the run against every invariant."""
    broken = find_violations(outcome.evidence)
    with capsys.disabled():
        print(render_table(outcome))
        for violation in broken:
            print(f"  {violation.kind}: {violation.task}: {violation.text}")
    assert broken == []


def hits(outcome: Outcome, kind: str) -> int:
    return sum(strike.hit for strike in outcome.evidence.strikes if strike.kind == kind)


@pytest.mark.timeout(300)
def test_short(base: ChaosServers, capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan(seed=1, mix=Mix(tasks=60, poison=1), faults=SHORT, pause=(0.5, 1.5))
    outcome = run_plan(base, plan)
    judge(outcome, capsys)
    assert hits(outcome, HOLDER_KILL) >= 1
    assert hits(outcome, FREEZE) == 1


@pytest.mark.chaos
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_full(base: ChaosServers, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan(seed=seed, mix=Mix(tasks=300, poison=4), faults=FULL, pause=(1.0, 3.0))
    outcome = run_plan(base, plan)
    judge(outcome, capsys)
    assert len(outcome.evidence.rows) >= 300
    assert hits(outcome, HOLDER_KILL) >= 10
    assert hits(outcome, FREEZE) >= 2
    assert all(hits(outcome, kind) for kind in FULL)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_demo_model(base: ChaosServers, capsys: pytest.CaptureFixture[str]) -> None:
    """The same on diffusers: a kill, a freeze and a SIGTERM in the middle of real inference."""
    # Importing torch holds the interpreter for longer than the fake provider's lease.
    with worlds.run_service(base, LEASE_SECONDS="6", HEARTBEAT_SECONDS="0.5", SHUTDOWN_GRACE_SECONDS="0.5") as world:
        chance = random.Random(1)
        strikes = []
        for kind in (HOLDER_KILL, FREEZE, "rolling SIGTERM"):
            for number in range(2):
                world.submit_task(f"pace of life {number}", provider="diffusers", steps=150)
            strikes.append(FAULTS[kind](world, chance))
            assert world.wait_until_ended(DEMO_PATIENCE_SECONDS)
        found = gather_evidence(world, strikes)
    with capsys.disabled():
        print("\ndemo model:", *(f"{one.kind}: hit {one.hit} {one.note}" for one in strikes), sep="\n  ")
        print("  queued again:", format_spread([seconds for seconds, _ in find_recoveries(found, strikes)]))
    assert find_violations(found) == []
    assert all(strike.hit for strike in strikes)
    assert {row["status"] for row in found.rows} == {"succeeded"}


@pytest.mark.chaos
@pytest.mark.timeout(180)
def test_a_worker_frozen_in_its_sweep_holds_up_nobody(base: ChaosServers) -> None:
    with worlds.run_service(base) as world:
        world.submit_task("pace 0.1 of the killed", steps=60)
        with freeze_sweeper(world):
            strike = FAULTS[HOLDER_KILL](world, random.Random(1))
            with suppress(AssertionError):
                row = str(strike.task)
                wait_until(
                    lambda: world.get_row(row),
                    lambda row: row["lost_workers"],
                    patience=3 * (world.lease_seconds + RECOVERY_SECONDS),
                )
        assert world.wait_until_ended(DEMO_PATIENCE_SECONDS)
        assert find_violations(gather_evidence(world, [strike])) == []
