"""How long learning takes with many segments: a snapshot, and a maintenance window, of 50 segments and 71 arms.

    python -m benchmarks.speed.segments_snapshot [--segments 50] [--arms 71] [--live 8] [--repeat 40]

Every segment has up to 40 rewards and costs of every arm, by chance. A snapshot is estimated once in 32 calls, each of
which brought a cost and a reward to some segment and arm; what such a call takes to be added up is a row of its own. A
window chooses the live set and estimates a snapshot for it, so its time has that of a snapshot in it. The *first*
snapshot is that of a start, or of statistics that other workers have changed: everything is read anew.
Milliseconds: the median, and the best one, which other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from rich.console import Console
from rich.table import Table

from stageroute_router.core.arm import Arm
from stageroute_router.core.engine import Engine
from stageroute_router.core.estimators.posterior import PosteriorEstimator
from stageroute_router.core.schedule import EveryCalls
from stageroute_router.core.snapshot import GroupPolicy, Snapshot
from stageroute_router.core.statistics import ArmStatistics

BUDGET_USD = 0.001
MOST_PULLS = 40
CALLS_PER_SNAPSHOT = 32
CALLS_PER_STAGE = 10_000
"""More than the benchmark makes: windows open when it says so."""


def observed(
    arms: list[Arm], *, segments: int, seed: int
) -> tuple[dict[str, ArmStatistics], dict[tuple[str, str], ArmStatistics]]:
    """Return what was seen of each arm in all, and in each segment."""
    rng = np.random.default_rng(seed)
    cells: dict[tuple[str, str], ArmStatistics] = {}
    for segment in range(segments):
        for arm in arms:
            pulls, mean, cost = (
                int(rng.integers(1, MOST_PULLS)),
                float(rng.beta(4, 3)),
                arm.prior_cost_usd or 0.0,
            )
            cells[f"segment{segment}", arm.name] = ArmStatistics(
                pulls=pulls,
                reward_count=pulls,
                reward_sum=pulls * mean,
                reward_sumsq=pulls * mean,
                cost_count=pulls,
                cost_sum=pulls * cost,
                cost_sumsq=pulls * cost**2,
            )
    totals: dict[str, ArmStatistics] = {}
    for (_, name), cell in cells.items():
        totals[name] = totals.get(name, ArmStatistics()) + cell
    return totals, cells


class Timer:
    """How long each run of some steps took, in milliseconds."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = {}

    def run(self, name: str, step: Callable[[], Snapshot]) -> Snapshot:
        """Return what a step returns, and keep its time."""
        begun = time.perf_counter()
        found = step()
        self.taken.setdefault(name, []).append(1e3 * (time.perf_counter() - begun))
        return found


def called(
    engine: Engine, snapshot: Snapshot, *, cell: tuple[str, str], cost_usd: float, reward: float
) -> Snapshot:
    """Return the snapshot after one more call, answered and rewarded."""
    seen = ArmStatistics.of_pull() + ArmStatistics.of_cost(cost_usd) + ArmStatistics.of_reward(reward)
    return engine.advance(
        snapshot,
        increments={cell[1]: seen},
        account=replace(snapshot.account, calls=snapshot.account.calls + 1),
        now=1.0,
        estimate=False,
        cells={cell: seen},
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--segments", type=int, default=50)
    parser.add_argument("--arms", type=int, default=71)
    parser.add_argument("--live", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=40)
    arguments = parser.parse_args()
    arms = [
        Arm(name=f"arm{number}", prior_cost_usd=float(cost))
        for number, cost in enumerate(np.geomspace(1e-4, 1e-2, arguments.arms))
    ]
    totals, cells = observed(arms, segments=arguments.segments, seed=0)
    policy = GroupPolicy(
        budget_usd=BUDGET_USD,
        max_live=arguments.live,
        schedule=EveryCalls(CALLS_PER_STAGE),
        estimator=PosteriorEstimator(),
    )
    engine = Engine(policy, seed=1)
    snapshot = engine.start(arms, now=0.0, statistics=totals, cells=cells)
    rng = np.random.default_rng(2)
    cost = {arm.name: arm.prior_cost_usd or 0.0 for arm in arms}
    timer = Timer()
    for _ in range(arguments.repeat):
        for _ in range(CALLS_PER_SNAPSHOT):
            arm = snapshot.live[int(rng.integers(len(snapshot.live)))]
            step = partial(
                called,
                engine,
                snapshot,
                cell=(f"segment{rng.integers(arguments.segments)}", arm),
                cost_usd=cost[arm],
                reward=float(rng.random()),
            )
            snapshot = timer.run("a call, added up", step)
        snapshot = timer.run("snapshot", partial(engine.up_to_date, snapshot))
        anew = {cell: replace(seen) for cell, seen in (snapshot.cells or {}).items()}
        due = replace(snapshot, cells=anew, stale=CALLS_PER_SNAPSHOT)
        timer.run("first snapshot", partial(engine.up_to_date, due))
        timer.run(
            "window: live set and snapshot", partial(engine.open_stage, snapshot, reason="manual", now=1.0)
        )
    table = Table("what", "median ms", "best ms")
    for name, taken in timer.taken.items():
        table.add_row(name, f"{np.median(taken):.3f}", f"{min(taken):.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
