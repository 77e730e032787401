"""One decision and all it teaches, against ParetoBandit's, in one run.

    pip install paretobandit
    python -m benchmarks.speed.versus_paretobandit [--calls 20000] [--arms 10] [--json FILE]

ParetoBandit is the nearest peer that learns and paces dollars. Both route the same stream of calls among the same
arms, warmed up on the first 2,000 calls, in alternating blocks of this process. Every call gets its reward at once.

- ``StageRoute``: ``Engine.choose`` among healthy arms, the account, the call's statistics, ``Engine.advance``; the
  default estimator at its defaults, the maintenance window after every 500 calls included.
- ``ParetoBandit, 26 features``: ``BanditRouter.route`` and ``process_feedback`` with a ``BudgetPacer``, at their
  defaults, on vectors as its own pipeline makes them (25 components and a bias). Making a vector from a prompt, which
  it needs and we do not, is not counted: its authors report 9 milliseconds for it.
- ``ParetoBandit, 1 feature``: the same with nothing but the bias: no context, the smallest it can be.

Neither side writes anything to a disk here.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from stageroute_router.core.arm import Arm
from stageroute_router.core.engine import Engine
from stageroute_router.core.estimators.posterior import PosteriorEstimator
from stageroute_router.core.schedule import EveryCalls
from stageroute_router.core.snapshot import GroupPolicy
from stageroute_router.core.statistics import ArmStatistics

BLOCKS = 20
WARMUP = 2_000
BUDGET_USD = 0.002
CALLS_PER_STAGE = 500
OURS = "StageRoute"
HOW_TO_INSTALL = (
    "this measurement needs ParetoBandit, which is not a dependency of this project: pip install paretobandit "
    "(in an environment of its own: it brings scikit-learn)"
)

Step = Callable[[], float]


class World:
    """The arms that all routers share: their rewards and costs, and one stream of randomness per router."""

    def __init__(self, *, arms: int) -> None:
        self.names = [f"arm{index}" for index in range(arms)]
        self.reward = dict(zip(self.names, np.linspace(0.4, 0.9, arms).tolist(), strict=True))
        self.cost = dict(zip(self.names, np.geomspace(0.0005, 0.01, arms).tolist(), strict=True))

    def outcome(self, name: str, rng: np.random.Generator) -> tuple[float, float]:
        """Return a call's reward and its cost in US dollars."""
        return float(rng.random() < self.reward[name]), self.cost[name] * float(rng.gamma(4)) / 4


def our_step(world: World) -> Step:
    """Return a function that makes one call and returns the seconds that deciding and learning took."""
    policy = GroupPolicy(
        budget_usd=BUDGET_USD,
        max_live=len(world.names),
        schedule=EveryCalls(CALLS_PER_STAGE),
        estimator=PosteriorEstimator(),
    )
    engine = Engine(policy, seed=1)
    arms = [Arm(name=name, prior_cost_usd=world.cost[name]) for name in world.names]
    snapshot = engine.start(arms, now=0.0)
    healthy = frozenset(world.names)
    rng = np.random.default_rng(2)

    def step() -> float:
        nonlocal snapshot
        uniform = float(rng.random())
        started = time.perf_counter()
        choice = engine.choose(snapshot, uniform=uniform, eligible=healthy)
        took = time.perf_counter() - started
        reward, cost = world.outcome(choice.arm, rng)
        started = time.perf_counter()
        account = snapshot.account.dispatched(choice.charge).settled(choice.charge, cost_usd=cost)
        increment = ArmStatistics(
            pulls=1,
            reward_count=1,
            reward_sum=reward,
            reward_sumsq=reward * reward,
            cost_count=1,
            cost_sum=cost,
            cost_sumsq=cost * cost,
        )
        snapshot = engine.advance(snapshot, increments={choice.arm: increment}, account=account, now=0.0)
        return took + time.perf_counter() - started

    return step


def paretobandit_step(world: World, *, features: int) -> Step:
    """Return the same for ParetoBandit, on vectors of so many features, the last of which is its bias.

    Raises:
        SystemExit: ParetoBandit is not installed.
    """
    try:
        from pareto_bandit import BanditRouter  # noqa: PLC0415 - only here, and it may be missing
        from pareto_bandit.budget_pacer import BudgetPacer  # noqa: PLC0415 - as above
        from pareto_bandit.feature_service import FeatureService  # noqa: PLC0415 - as above
    except ImportError as error:
        raise SystemExit(HOW_TO_INSTALL) from error

    # It estimates a call's cost as 600 output tokens: prices such that the estimate is the mean cost.
    registry = {
        name: {"input_cost_per_m": cost / 600 * 1e6, "output_cost_per_m": cost / 600 * 1e6}
        for name, cost in world.cost.items()
    }
    router: Any = BanditRouter.create(
        model_registry=registry,
        priors="none",
        feature_service=FeatureService.for_precomputed(dimension=features),
        budget_pacer=BudgetPacer(BUDGET_USD),
        bandit_seed=1,
    )
    rng = np.random.default_rng(2)

    def step() -> float:
        vector = rng.standard_normal(features)
        vector[-1] = 1.0
        started = time.perf_counter()
        name, log = router.route(vector)
        took = time.perf_counter() - started
        reward, _ = world.outcome(name, rng)
        started = time.perf_counter()
        router.process_feedback(log.request_id, reward=reward)
        return took + time.perf_counter() - started

    return step


def measure(*, calls: int, arms: int) -> dict[str, dict[str, float]]:
    """Return mean, p50 and p99 in microseconds by name, and how many times ours fits into them."""
    world = World(arms=arms)
    steps = {
        OURS: our_step(world),
        "ParetoBandit, 26 features": paretobandit_step(world, features=26),
        "ParetoBandit, 1 feature": paretobandit_step(world, features=1),
    }
    for step in steps.values():
        for _ in range(WARMUP):
            step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for block in range(BLOCKS):
        # The order within a round alternates, so that no router always follows the same neighbour.
        for name in names if block % 2 else reversed(names):
            times[name].extend(steps[name]() for _ in range(calls // BLOCKS))
    ours = np.array(times[OURS])
    return {
        name: {
            "mean_us": 1e6 * float(np.mean(values)),
            "p50_us": 1e6 * float(np.percentile(values, 50)),
            "p99_us": 1e6 * float(np.percentile(values, 99)),
            "mean_over_ours": float(np.mean(values) / ours.mean()),
            "p50_over_ours": float(np.percentile(values, 50) / np.percentile(ours, 50)),
        }
        for name, values in times.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--arms", type=int, default=10)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.getLogger("pareto_bandit").setLevel(logging.ERROR)  # it reports relaxed ceilings call by call
    results = measure(calls=arguments.calls, arms=arguments.arms)
    table = Table("decision and feedback", "mean µs", "p50 µs", "p99 µs", "mean / ours", "p50 / ours")
    for name, row in results.items():
        table.add_row(
            name,
            *(f"{row[key]:.1f}" for key in ("mean_us", "p50_us", "p99_us")),
            *(f"{row[key]:.2f}" for key in ("mean_over_ours", "p50_over_ours")),
        )
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
