"""What segments are worth: reward over the best without context, told apart by labels, prompts, or chance.

    python -m benchmarks.learning.segments TABLE.npz [TABLE ...] [--by none label auto linucb neighbours random:32]
        [--seeds 5] [--calls 20000] [--fractions 0.1 0.3 1.0] [--processes 2]

``linucb`` and ``neighbours`` are no segments but other ways to use a prompt, in the same engine: benchmarks/context.
``linucb:chance`` and ``neighbours:chance`` are their controls, in which each query has the prompt of another one.

Streams by the protocol of stageroute_router/replay/stream.py; every cell is a table and a budget. ``random:K`` puts
each query into one of K segments by chance: the control, which must cost nothing, and whose gain (rows repeat) is not
the segments'. Differences are those of means over the same streams.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.context.estimator import Estimator
from benchmarks.context.linucb import LinUcb
from benchmarks.context.neighbours import Neighbours
from benchmarks.context.numbers import PromptNumbers
from benchmarks.context.policy import ContextPolicy
from stageroute_router.core.estimators.posterior import PosteriorEstimator
from stageroute_router.errors import TableError
from stageroute_router.replay.run import EnginePolicy, Policy, run_policy
from stageroute_router.replay.segments import SegmentOf, segments_of
from stageroute_router.replay.stream import Stream, draw_stream
from stageroute_router.tables.load import load_table
from stageroute_router.tables.outcomes import OutcomeTable

NONE = "none"
RANDOM = "random:"
ESTIMATORS: dict[str, Callable[..., Estimator]] = {"linucb": LinUcb, "neighbours": Neighbours}
CHANCE = ":chance"
WAYS = [NONE, "label", "auto", *ESTIMATORS, *(name + CHANCE for name in ESTIMATORS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One stream and how its calls are told apart."""

    table: Path
    fraction: float
    seed: int
    by: str
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it: reward over the optimum's, cost over the budget."""

    table: str
    fraction: float
    seed: int
    by: str
    reward_ratio: float
    spend_ratio: float


@cache
def _table(path: Path) -> OutcomeTable:
    return load_table(path)


def _segments(table: OutcomeTable, by: str, *, seed: int) -> SegmentOf | None:
    if by.startswith(RANDOM):
        chance = np.random.default_rng([seed, 99]).integers(int(by[len(RANDOM) :]), size=table.queries)
        return [f"chance{number}" for number in chance].__getitem__
    return segments_of(table, by, seed=seed)  # type: ignore[arg-type] - checked by the argument parser


def policy_of(table: OutcomeTable, stream: Stream, *, by: str, seed: int) -> Policy:
    """Return who routes a stream.

    Args:
        table: recorded outcomes.
        stream: the stream.
        by: how calls are told apart.
        seed: of exploration, and of chance.

    Raises:
        SettingsError: the table has nothing to tell its queries apart by.
    """
    name = by.removesuffix(CHANCE)
    if name in ESTIMATORS:
        numbers = PromptNumbers(table, seed=seed, by_chance=by.endswith(CHANCE))
        estimator = ESTIMATORS[name](arms=len(table.models), numbers=numbers.size)
        return ContextPolicy(table, stream, estimator=estimator, numbers=numbers, seed=seed)
    segment_of = _segments(table, by, seed=seed)
    return EnginePolicy(table, stream, estimator=PosteriorEstimator(), seed=seed, segment_of=segment_of)


def run(task: Task) -> Outcome:
    """Route one stream."""
    table = _table(task.table)
    stream = draw_stream(table, seed=task.seed, budget_fraction=task.fraction, calls=task.calls)
    result = run_policy(table, stream, policy_of(table, stream, by=task.by, seed=task.seed), name=task.by)
    return Outcome(
        table=task.table.stem,
        fraction=task.fraction,
        seed=task.seed,
        by=task.by,
        reward_ratio=result.reward_ratio,
        spend_ratio=result.spend_ratio,
    )


def show(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print a row for each way of telling calls apart."""
    cells = sorted({(one.table, one.fraction) for one in outcomes})
    ways = list(dict.fromkeys(one.by for one in outcomes))

    def mean(by: str, cell: tuple[str, float], figure: str) -> float:
        chosen = [one for one in outcomes if one.by == by and (one.table, one.fraction) == cell]
        return float(np.mean([getattr(one, figure) for one in chosen]))

    table = Table("by", "mean", "least run", "worst cell against none")
    for name, fraction in cells:
        table.add_column(f"{name} {fraction:g}")
    for by in ways:
        means = np.array([mean(by, cell, "reward_ratio") for cell in cells])
        worst = ""
        if NONE in ways and by != NONE:
            worst = f"{(means - [mean(NONE, cell, 'reward_ratio') for cell in cells]).min():+.4f}"
        spends = [mean(by, cell, "spend_ratio") for cell in cells]
        table.add_row(
            by,
            f"{means.mean():.4f}",
            f"{min(one.reward_ratio for one in outcomes if one.by == by):.3f}",
            worst,
            *(f"{reward:.3f} ({spend:.2f})" for reward, spend in zip(means, spends, strict=True)),
        )
    console.print(table)


def _way(text: str) -> str:
    if text in WAYS or (text.startswith(RANDOM) and text[len(RANDOM) :].isdigit()):
        return text
    msg = f"{text!r} is none of {', '.join(WAYS)}, {RANDOM}K"
    raise argparse.ArgumentTypeError(msg)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="+", type=Path, metavar="TABLE")
    parser.add_argument("--by", nargs="+", type=_way, default=[NONE, "label"])
    parser.add_argument("--seeds", type=int, default=5, help="streams per cell (default 5)")
    parser.add_argument("--calls", type=int, default=20_000, help="calls per stream (default 20,000)")
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.1, 0.3, 1.0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write every outcome")
    arguments = parser.parse_args()
    try:
        for path in arguments.tables:
            _table(path)
    except TableError as error:  # now, and not in the middle of a worker's traceback
        parser.error(str(error))
    tasks = [
        Task(table=table, fraction=fraction, seed=seed, by=by, calls=arguments.calls)
        for table, fraction, seed, by in product(
            arguments.tables, arguments.fractions, range(arguments.seeds), arguments.by
        )
    ]
    with ProcessPoolExecutor(arguments.processes) as pool:
        outcomes = list(track(pool.map(run, tasks), total=len(tasks), description="streams", transient=True))
    show(outcomes, Console(width=200))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in outcomes], indent=2))


if __name__ == "__main__":
    main()
