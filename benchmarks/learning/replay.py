"""Reward and spend on recorded tables by the stream protocol, over budgets and seeds.

    python -m benchmarks.learning.replay TABLE.npz [TABLE ...] [--seeds 5] [--calls 20000] [--fractions 0.1 0.3 1.0]
                                [--estimator posterior|paper] [--gamma G] [--json FILE]

One row per table and budget: mean and worst reward ratio over the seeds, largest spend ratio at the end and in any
quarter, decisions per second. Streams that no policy can keep within the budget from the start (docs/replay.md) count
for the reward; their spend is compared with what the optimum spends, if that is more than the budget.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from stageroute_router.core.estimators import registry
from stageroute_router.replay.result import ReplayResult
from stageroute_router.replay.run import replay
from stageroute_router.replay.stream import draw_stream
from stageroute_router.tables.load import load_table


def summary(results: list[ReplayResult]) -> dict[str, float]:
    """Return the figures of one table and budget."""
    ratios = [result.reward_ratio for result in results]
    feasible = [result for result in results if result.feasible]
    return {
        "runs": len(results),
        "feasible": len(feasible),
        "reward_ratio": float(np.mean(ratios)),
        "worst_reward_ratio": min(ratios),
        "spend_ratio": max(
            float(result.cost_usd.sum())
            / max(result.budget_usd * result.calls, 0.0 if result.feasible else result.oracle_spend_usd)
            for result in results
        ),
        "worst_quarter": max((max(result.spend_ratio_quarters) for result in feasible), default=float("nan")),
        "decisions_per_second": float(np.median([result.calls / result.elapsed_s for result in results])),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.1, 0.3, 1.0])
    parser.add_argument("--estimator", choices=registry.names(), default=registry.DEFAULT_ESTIMATOR)
    parser.add_argument("--confidence", choices=registry.names(), help=argparse.SUPPRESS)
    parser.add_argument("--gamma", type=float, default=0.1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.confidence:
        print("--confidence is now called --estimator; rename it", file=sys.stderr)
    estimator = registry.make(arguments.confidence or arguments.estimator, gamma=arguments.gamma)
    shown = Table(
        "table", "budget", "reward ratio", "worst", "spend ratio, worst", "worst quarter", "decisions/s"
    )
    rows = []
    for path in arguments.tables:
        table = load_table(path)
        for fraction in arguments.fractions:
            results = [
                replay(
                    table,
                    draw_stream(table, seed=seed, calls=arguments.calls, budget_fraction=fraction),
                    name=path.stem,
                    estimator=estimator,
                    seed=seed,
                )
                for seed in range(arguments.seeds)
            ]
            row = summary(results)
            rows.append({"table": path.stem, "budget_fraction": fraction, **row})
            shown.add_row(
                path.stem,
                f"{fraction:g}",
                f"{row['reward_ratio']:.4f}",
                f"{row['worst_reward_ratio']:.4f}",
                f"{row['spend_ratio']:.4f}",
                f"{row['worst_quarter']:.4f}",
                f"{row['decisions_per_second']:,.0f}",
            )
    Console().print(shown)
    Console().print(f"mean reward ratio {np.mean([row['reward_ratio'] for row in rows]):.4f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
