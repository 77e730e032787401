"""One routing decision of the engine against LiteLLM's adaptive router, in one run.

    python -m benchmarks.speed.decision [--calls 20000] [--arms 10] [--json FILE]

Measured per call, all in this process, in alternating blocks so that both meet the same machine:

- ``litellm adaptive``: ``AdaptiveRouter.async_pre_routing_hook`` of the installed LiteLLM, at its defaults, with a
  one-line prompt. It samples one posterior per arm; it has no budget.
- ``choose, default estimator``: ``Engine.choose`` on a snapshot that changed since the last choice.
- ``choose + observe, default estimator``: the same and ``Engine.advance`` with the call's cost and reward, which draws
  posteriors and solves the programmes anew at the default pace.
- ``choose + observe, paper estimator``: the paper's bounds and programme anew for every single call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import numpy as np
from litellm.router_strategy.adaptive_router.adaptive_router import AdaptiveRouter
from litellm.types.router import AdaptiveRouterConfig
from rich.console import Console
from rich.table import Table

from stageroute_router.core.arm import Arm
from stageroute_router.core.engine import Engine
from stageroute_router.core.estimators.base import Estimator
from stageroute_router.core.estimators.paper import PaperEstimator
from stageroute_router.core.estimators.posterior import PosteriorEstimator
from stageroute_router.core.schedule import Manual
from stageroute_router.core.snapshot import Choice, GroupPolicy, Snapshot
from stageroute_router.core.statistics import ArmStatistics

BLOCKS = 20


class _Loop:
    """An engine in steady state: every call is chosen, paid and rewarded."""

    def __init__(self, estimator: Estimator, *, arms: int) -> None:
        policy = GroupPolicy(budget_usd=0.002, max_live=arms, schedule=Manual(), estimator=estimator)
        self.engine = Engine(policy, seed=1)
        self.rng = np.random.default_rng(2)
        self.reward = np.linspace(0.4, 0.9, arms)
        self.cost = np.geomspace(0.0005, 0.01, arms)
        known = {
            f"arm{i}": ArmStatistics(
                pulls=200,
                reward_count=200,
                reward_sum=200 * self.reward[i],
                reward_sumsq=200 * self.reward[i],
                cost_count=200,
                cost_sum=200 * self.cost[i],
                cost_sumsq=220 * self.cost[i] ** 2,
            )
            for i in range(arms)
        }
        self.snapshot: Snapshot = self.engine.start(
            [Arm(name=f"arm{i}", prior_cost_usd=float(self.cost[i])) for i in range(arms)],
            now=0.0,
            statistics=known,
        )

    def choose(self) -> tuple[float, Choice]:
        uniform = float(self.rng.random())
        started = time.perf_counter()
        choice = self.engine.choose(self.snapshot, uniform=uniform)
        return time.perf_counter() - started, choice

    def observe(self, choice: Choice) -> float:
        index = int(choice.arm.removeprefix("arm"))
        cost = float(self.cost[index] * self.rng.gamma(4) / 4)
        reward = float(self.rng.random() < self.reward[index])
        started = time.perf_counter()
        account = self.snapshot.account.dispatched(choice.charge).settled(choice.charge, cost_usd=cost)
        increment = ArmStatistics(
            pulls=1,
            reward_count=1,
            reward_sum=reward,
            reward_sumsq=reward * reward,
            cost_count=1,
            cost_sum=cost,
            cost_sumsq=cost * cost,
        )
        self.snapshot = self.engine.advance(
            self.snapshot, increments={choice.arm: increment}, account=account, now=0.0
        )
        return time.perf_counter() - started


def _adaptive(arms: int) -> Callable[[], float]:
    names = [f"arm{i}" for i in range(arms)]
    router = AdaptiveRouter(
        router_name="smart",
        config=AdaptiveRouterConfig(available_models=names),
        model_to_prefs={},
        model_to_cost={name: 0.001 * (i + 1) for i, name in enumerate(names)},
    )
    loop = asyncio.new_event_loop()
    messages = [{"role": "user", "content": "Explain how a heat pump works, please."}]

    async def block() -> float:
        started = time.perf_counter()
        await router.async_pre_routing_hook(model="smart", request_kwargs={}, messages=messages)
        return time.perf_counter() - started

    return lambda: loop.run_until_complete(block())


def measure(*, calls: int, arms: int) -> dict[str, dict[str, float]]:
    """Return p50 and p99 in microseconds, and p50 over LiteLLM's, by name."""
    default, paper = _Loop(PosteriorEstimator(), arms=arms), _Loop(PaperEstimator(), arms=arms)
    adaptive = _adaptive(arms)
    times: dict[str, list[float]] = {}
    means: dict[str, list[float]] = {}
    for _ in range(BLOCKS):
        block: dict[str, list[float]] = {}
        for _ in range(calls // BLOCKS):
            block.setdefault("litellm adaptive", []).append(adaptive())
            chosen, choice = default.choose()
            observed = default.observe(choice)
            block.setdefault("choose, default estimator", []).append(chosen)
            block.setdefault("choose + observe, default estimator", []).append(chosen + observed)
            chosen, choice = paper.choose()
            block.setdefault("choose + observe, paper estimator", []).append(chosen + paper.observe(choice))
        for name, values in block.items():
            times.setdefault(name, []).extend(values)
            means.setdefault(name, []).append(float(np.mean(values)))
    reference = times["litellm adaptive"]
    return {
        name: {
            "p50_us": 1e6 * float(np.percentile(values, 50)),
            "p99_us": 1e6 * float(np.percentile(values, 99)),
            "mean_us": 1e6 * float(np.median(means[name])),
            "p50_ratio": float(np.percentile(values, 50) / np.percentile(reference, 50)),
            "mean_ratio": float(np.median(np.array(means[name]) / np.array(means["litellm adaptive"]))),
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
    results = measure(calls=arguments.calls, arms=arguments.arms)
    table = Table("decision", "p50 µs", "p99 µs", "mean µs", "p50 / LiteLLM", "mean / LiteLLM")
    for name, row in results.items():
        table.add_row(
            name,
            *(f"{row[key]:.1f}" for key in ("p50_us", "p99_us", "mean_us")),
            *(f"{row[key]:.2f}" for key in ("p50_ratio", "mean_ratio")),
        )
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
