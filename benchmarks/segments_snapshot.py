"""How long learning takes with many segments: a snapshot, and a maintenance window, of 50 segments and 71 arms.

    python -m benchmarks.segments_snapshot [--segments 50] [--arms 71] [--live 8] [--repeat 40]

Every segment has up to 40 rewards and costs of every arm, by chance. A snapshot is estimated at most once in 32
calls; a window chooses the live set and estimates a snapshot for it, so its time has that of a snapshot in it.
Milliseconds: the median, and the best one, which other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from stageroute_router.core.arm import Arm
from stageroute_router.core.engine import Engine
from stageroute_router.core.posterior_rule import PosteriorRule
from stageroute_router.core.schedule import EveryCalls
from stageroute_router.core.snapshot import GroupPolicy
from stageroute_router.core.statistics import ArmStatistics

BUDGET_USD = 0.001
MOST_PULLS = 40


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


def timed_ms(step: Callable[[], object], *, repeat: int) -> list[float]:
    """Return how long each run of a step took."""
    taken = []
    for _ in range(repeat):
        begun = time.perf_counter()
        step()
        taken.append(1e3 * (time.perf_counter() - begun))
    return taken


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
        budget_usd=BUDGET_USD, max_live=arguments.live, schedule=EveryCalls(500), rule=PosteriorRule()
    )
    engine = Engine(policy, seed=1)
    snapshot = engine.start(arms, now=0.0, statistics=totals, cells=cells)
    table = Table("what", "median ms", "best ms")
    for name, step in {
        "snapshot": lambda: engine.adopt_stage(snapshot, snapshot.stage),
        "window: live set and snapshot": lambda: engine.open_stage(snapshot, reason="manual", now=1.0),
    }.items():
        taken = timed_ms(step, repeat=arguments.repeat)
        table.add_row(name, f"{np.median(taken):.1f}", f"{min(taken):.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
