"""Result of a run as a readable table."""

from collections import Counter
from collections.abc import Sequence

from tests.chaos.aim import InjectedFault
from tests.chaos.campaign import Outcome
from tests.chaos.invariants import Evidence, find_violations, group_by_task, recovery_seconds, seconds_without_worker

HEADER = f"{'fault':38} {'faults':>6} {'hits':>5}   {'queued again':^20}   {'next success':^20}"


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile by nearest rank."""
    return sorted(values)[max(0, round(share * len(values) + 0.5) - 1)]


def format_spread(values: Sequence[float]) -> str:
    """Return p50, p95 and the maximum in seconds."""
    if not values:
        return f"{'-':^20}"
    return f"{percentile(values, 0.5):6.2f} {percentile(values, 0.95):6.2f} {max(values):6.2f}"


def find_recoveries(found: Evidence, strikes: Sequence[InjectedFault]) -> list[tuple[float, float]]:
    """Return the seconds from each lost claim until its row was queued again, and those of them without any worker."""
    entries = group_by_task(found.log)
    times = []
    for strike in strikes:
        if strike.hit and strike.loses_claim and strike.task:
            seconds = recovery_seconds(strike, entries.get(strike.task, []))
            if seconds is not None:
                times.append((seconds, seconds_without_worker(found.world, strike, seconds)))
    return times


def _next_successes(found: Evidence, strikes: Sequence[InjectedFault]) -> list[float]:
    ends = [entry.at.timestamp() for entry in found.log if entry.status == "succeeded"]
    waits = [min((end - strike.at for end in ends if end > strike.at), default=None) for strike in strikes]
    return [wait for wait in waits if wait is not None]


def _format_faults(found: Evidence) -> list[str]:
    kinds = sorted({strike.kind for strike in found.strikes})
    lines = []
    for kind in kinds:
        mine = [strike for strike in found.strikes if strike.kind == kind]
        net = [seconds - absent for seconds, absent in find_recoveries(found, mine)]
        hits = sum(strike.hit for strike in mine)
        lines.append(
            f"{kind:38} {len(mine):6} {hits:5}   {format_spread(net)}   {format_spread(_next_successes(found, mine))}"
        )
    return lines


def _format_work(outcome: Outcome) -> list[str]:
    rows = outcome.evidence.rows
    asked = Counter(outcome.cancel_requests.values())
    ended = {str(row["id"]): row["status"] for row in rows}
    hits = Counter(when for task, when in outcome.cancel_requests.items() if ended.get(task) == "canceled")
    prompts = Counter(row["params"]["prompt"].split()[0] for row in rows)
    deaths = sum(row["lost_workers"] for row in rows if row["params"]["prompt"] == "poison")
    failed = sum(row["error_code"] == "internal" for row in rows)
    return [
        f"{'cancel of a queued task':38} {asked['queued']:6} {hits['queued']:5}",
        f"{'cancel of a running task':38} {asked['running']:6} {hits['running']:5}",
        f"{'task that fails':38} {prompts['fail']:6} {failed:5}",
        f"{'poison task (hits: deaths)':38} {prompts['poison']:6} {deaths:5}",
    ]


def render_table(outcome: Outcome) -> str:
    """Return the table of a run."""
    found = outcome.evidence
    all_recoveries = find_recoveries(found, found.strikes)
    starts = [life.up - life.started for life in found.world.workers.all_processes() if life.up]
    counts = Counter(row["status"] for row in found.rows)
    broken = find_violations(found)
    lost = sum(violation.kind == "lost" for violation in broken)
    double = sum(violation.kind == "double claim" for violation in broken)
    total = ["", f"seed {outcome.plan.seed}: {len(found.rows)} tasks, {len(found.strikes)} faults", HEADER]
    total[1] += f" of {len({strike.kind for strike in found.strikes})} kinds, {outcome.seconds:.0f} s"
    total += _format_faults(found) + _format_work(outcome)
    absent = [seconds for _, seconds in all_recoveries]
    total += [
        f"from a lost claim to its row queued again: "
        f"{format_spread([a - b for a, b in all_recoveries])}   (s: p50, p95, max)",
        f"without any worker up, not counted: {sum(absent):.1f} s in all, at most {max(absent, default=0):.1f} s",
        f"worker start to first sweep:               {format_spread(starts)}   ({len(starts)} starts)",
        f"ended: {dict(counts)}; refused POSTs: {found.world.refused}; slowest POST {outcome.slowest_post:.2f} s",
        f"files that no row names, of runs killed while they saved: {outcome.orphans}",
        f"lost: {lost}, double: {double}, violations: {len(broken)}",
    ]
    return "\n".join(total)
