"""The closed-form routing programme against a general LP solver, and the live-set programme, in one run.

    python -m benchmarks.speed.solvers [--programmes 1500] [--json FILE]

- routing, 10 arms: ``solve_routing`` and ``scipy.optimize.linprog(method="highs")`` on the same random programmes,
  in alternating blocks so that both meet the same machine. Every budget binds, which is the slow case; their
  rewards are compared as well.
- batch: ``solve_routing_batch`` on 64 programmes at once.
- live set: ``plan_live_set`` on 200 candidates with 20 places. Most programmes are settled by the closed form, so
  those that need the integer solver are shown apart; their shares make the relaxed support about 20 arms.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import linprog

from stageroute_router.core.live_set.programme import plan_live_set
from stageroute_router.core.routing.batch import solve_routing_batch
from stageroute_router.core.routing.closed_form import solve_routing

FloatArray = NDArray[np.float64]
ARMS = 10
BLOCK = 50


def figures(seconds: list[float]) -> dict[str, float]:
    """Return median, 99th percentile and maximum in microseconds."""
    p50, p99, most = np.percentile(seconds, [50, 99, 100]) * 1e6
    return {"runs": len(seconds), "p50_us": float(p50), "p99_us": float(p99), "max_us": float(most)}


def a_binding_programme(rng: np.random.Generator, shares: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Return rewards, costs in dollars, and a budget between the cheapest and the best mixture's cost."""
    while True:
        rewards, costs = rng.random(len(shares)), 10 ** rng.uniform(-5, -2, len(shares))
        least = solve_routing(-costs, costs, budget=0.0, max_share=shares).cost
        most = solve_routing(rewards, costs, budget=1.0, max_share=shares).cost
        if least < most:
            return rewards, costs, float(rng.uniform(least, most))


def measure_routing(programmes: int, *, low: float, high: float) -> dict[str, dict[str, float]]:
    """Time both solvers on the same programmes, with shares between two bounds."""
    rng = np.random.default_rng(1)
    ours, theirs, furthest = [], [], 0.0
    while len(ours) < programmes:
        block = []
        for _ in range(BLOCK):
            shares = rng.uniform(low, high, ARMS)
            shares /= min(shares.sum(), 1.0)
            block.append((*a_binding_programme(rng, shares), shares))
        values = []
        for rewards, costs, budget, shares in block:
            lists = rewards.tolist(), costs.tolist(), shares.tolist()
            start = time.perf_counter()
            solution = solve_routing(lists[0], lists[1], budget=budget, max_share=lists[2])
            ours.append(time.perf_counter() - start)
            values.append(solution.value)
        for value, (rewards, costs, budget, shares) in zip(values, block, strict=True):
            # In units of the dearest cost, as HiGHS's tolerances are absolute; prepared outside the clock.
            matrix, bound = costs[None, :] / costs.max(), [budget / costs.max()]
            bounds = np.column_stack([np.zeros(ARMS), shares])
            ones = np.ones((1, ARMS))
            start = time.perf_counter()
            result = linprog(-rewards, matrix, bound, ones, [1.0], bounds=bounds, method="highs")
            theirs.append(time.perf_counter() - start)
            furthest = max(furthest, abs(value + result.fun))
    if furthest > 1e-9:
        raise SystemExit(f"the solvers disagree by {furthest}")
    closed, general = figures(ours), figures(theirs)
    closed["times_faster"] = general["p50_us"] / closed["p50_us"]
    closed["largest_difference"] = furthest
    return {"closed form": closed, "linprog": general}


def measure_batch(*, rows: int, arms: int, share: float) -> dict[str, float]:
    """Time the batch solver."""
    rng = np.random.default_rng(2)
    rewards, costs = rng.random((rows, arms)), 10 ** rng.uniform(-5, -2, (rows, arms))
    shares = np.full(arms, share)
    seconds = []
    for _ in range(300):
        start = time.perf_counter()
        solve_routing_batch(rewards, costs, budget=1e-3, max_share=shares)
        seconds.append(time.perf_counter() - start)
    return figures(seconds)


def measure_live_set(count: int, *, low: float, high: float, integer: bool) -> dict[str, float]:
    """Time plans on 200 candidates and 20 places; ``integer``: only those the closed form does not settle."""
    rng = np.random.default_rng(3)
    seconds, unproven = [], 0
    while len(seconds) < count:
        costs = np.exp(rng.normal(-7, 1.2, 200))
        shares = rng.uniform(low, high, 200)
        rewards = np.clip(0.6 + 0.05 * (np.log(costs) + 7) + rng.normal(0, 0.05, 200), 0, 1).round(2)
        budget = float(np.quantile(costs, rng.uniform(0.05, 0.7)))
        if integer:
            relaxed = solve_routing(rewards, costs, budget=budget, max_share=shares)
            if np.count_nonzero(relaxed.probabilities) <= 20:
                continue
        start = time.perf_counter()
        plan = plan_live_set(rewards, costs, budget=budget, max_share=shares, max_live=20)
        seconds.append(time.perf_counter() - start)
        unproven += not plan.exact
    return {**figures(seconds), "unproven": unproven}


def main() -> None:
    """Measure, print a table, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--programmes", type=int, default=1500, help="routing programmes of each kind")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()

    results: dict[str, dict[str, float]] = {}
    for name, low, high in (("no shares", 1.0, 1.0), ("shares .15-.6", 0.15, 0.6)):
        for solver, line in measure_routing(options.programmes, low=low, high=high).items():
            results[f"routing, {ARMS} arms, {name}: {solver}"] = line
    for arms, share in ((8, 1.0), (20, 1.0), (200, 1.0), (8, 0.4), (20, 0.4)):
        name = f"batch of 64, {arms} arms, share {share:g}"
        results[name] = measure_batch(rows=64, arms=arms, share=share)
    results["live set 200/20, shares .05-1"] = measure_live_set(30, low=0.05, high=1.0, integer=False)
    results["live set 200/20, shares .04-.06, integer"] = measure_live_set(
        12, low=0.04, high=0.06, integer=True
    )

    table = Table("what", "runs", "p50 us", "p99 us", "max us", "remarks")
    for name, line in results.items():
        remark = f"{line['times_faster']:.0f} x faster than linprog" if "times_faster" in line else ""
        if "unproven" in line:
            remark = f"{line['unproven']} not proven best"
        numbers = [f"{line[key]:,.1f}" for key in ("p50_us", "p99_us", "max_us")]
        table.add_row(name, f"{line['runs']}", *numbers, remark)
    Console(width=130).print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
