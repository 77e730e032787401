"""What the cells come to: one line per policy and variant, who beats the default where, slopes of regret."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.quality.catalogue import KNOWING, OURS
from benchmarks.quality.measure import figures, slope
from benchmarks.quality.study import KEEPS, Cell

BEATS = 0.003
"""A peer beats the default in a cell if its mean reward ratio is larger by more than this."""

NEARLY = 1.02
"""A peer that exceeds the budget by no more than this is named too, as one that nearly keeps it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One policy in one variant, over all tables and budgets.

    Reward and spend are those of feasible streams unless said; NaN where there are none.

    Args:
        variant: its name.
        policy: its name.
        cells: tables times budgets with a feasible stream.
        runs: runs on feasible streams.
        reward_ratio: mean over cells.
        expected_ratio: the same without the luck of single answers.
        worst_cell: least of the cells' means.
        low_run: 5 % quantile of the runs.
        worst_run: least of the runs.
        worst_spend: largest spend ratio of a run.
        worst_quarter: largest spend ratio of a quarter of a run.
        kept: cells, infeasible streams included, in which every run kept the budget.
        all_cells: how many cells that is of.
        infeasible_runs: runs on infeasible streams.
        infeasible_reward_ratio: their mean.
        infeasible_spend: their largest spend over max(budget, the optimum's).
        decisions_per_second: median.
        wait: median wait of newcomers that the optimum wants, calls.
        waits: how many there were.
        waits_reached: how many got half of their share.
    """

    variant: str
    policy: str
    cells: int
    runs: int
    reward_ratio: float
    expected_ratio: float
    worst_cell: float
    low_run: float
    worst_run: float
    worst_spend: float
    worst_quarter: float
    kept: int
    all_cells: int
    infeasible_runs: int
    infeasible_reward_ratio: float
    infeasible_spend: float
    decisions_per_second: float
    wait: float
    waits: int
    waits_reached: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Beaten:
    """A cell in which a peer earned more than the default.

    Args:
        variant: its name.
        table: its name.
        fraction: of the best model's cost.
        peer: who.
        reward_ratio: the peer's mean.
        ours: the default's mean.
        error: standard error of the mean difference of runs on equal streams.
        expected_difference: the mean difference without the luck of single answers (true means of the models chosen).
        expected_error: its standard error.
        judged_spend: the peer's largest judged spend.
        keeps: whether that is within the budget; otherwise nearly.
    """

    variant: str
    table: str
    fraction: float
    peer: str
    reward_ratio: float
    ours: float
    error: float
    expected_difference: float
    expected_error: float
    judged_spend: float
    keeps: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """How a policy's regret grows with the number of calls.

    Args:
        table: its name; "all" for the mean over cells of regret per reward of the optimum.
        fraction: of the best model's cost; NaN for all.
        policy: its name.
        calls: the horizons.
        regret: mean regret at each.
        slope: of log regret in log calls; NaN where some regret is not above 0 (the budget was exceeded).
    """

    table: str
    fraction: float
    policy: str
    calls: tuple[int, ...]
    regret: tuple[float, ...]
    slope: float


def summaries(cells: Sequence[Cell]) -> list[Summary]:
    """Return one line per variant and policy, in the order of first appearance."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.variant, cell.policy), []).append(cell)
    return [_summary(*key, group) for key, group in groups.items()]


def _summary(variant: str, policy: str, cells: Sequence[Cell]) -> Summary:
    each = [cell.figures for cell in cells]
    runs = [run for cell in cells for run in cell.runs]
    feasible = figures([run for run in runs if run.feasible])
    others = figures([run for run in runs if not run.feasible])
    means = [found.feasible_reward_ratio for found in each if found.feasible]
    expected = [
        figures([run for run in cell.runs if run.feasible]).expected_ratio
        for cell, found in zip(cells, each, strict=True)
        if found.feasible
    ]
    everything = figures(runs)
    return Summary(
        variant=variant,
        policy=policy,
        cells=len(means),
        runs=feasible.runs,
        reward_ratio=float(np.mean(means)) if means else math.nan,
        expected_ratio=float(np.mean(expected)) if expected else math.nan,
        worst_cell=min(means, default=math.nan),
        low_run=feasible.low_reward_ratio,
        worst_run=feasible.worst_reward_ratio,
        worst_spend=feasible.worst_spend_ratio,
        worst_quarter=feasible.worst_quarter,
        kept=sum(found.judged_spend <= KEEPS for found in each),
        all_cells=len(each),
        infeasible_runs=others.runs,
        infeasible_reward_ratio=others.reward_ratio,
        infeasible_spend=others.judged_spend,
        decisions_per_second=everything.decisions_per_second,
        wait=everything.wait,
        waits=everything.waits,
        waits_reached=everything.waits_reached,
    )


def beaten(cells: Sequence[Cell], *, margin: float = BEATS) -> list[Beaten]:
    """Return where peers that keep the budget, or nearly, earn more than the default by more than a margin."""
    ours = {(cell.variant, cell.table, cell.fraction): cell for cell in cells if cell.policy == OURS}
    found = []
    for cell in cells:
        own = ours.get((cell.variant, cell.table, cell.fraction))
        if own is None or cell.policy == OURS or cell.policy in KNOWING:
            continue
        theirs, mine = cell.figures, own.figures
        if theirs.reward_ratio <= mine.reward_ratio + margin or theirs.judged_spend > NEARLY:
            continue
        pairs = list(zip(cell.runs, own.runs, strict=True))
        found.append(
            Beaten(
                variant=cell.variant,
                table=cell.table,
                fraction=cell.fraction,
                peer=cell.policy,
                reward_ratio=theirs.reward_ratio,
                ours=mine.reward_ratio,
                error=_error([a.reward_ratio - b.reward_ratio for a, b in pairs]),
                expected_difference=theirs.expected_ratio - mine.expected_ratio,
                expected_error=_error([a.expected_ratio - b.expected_ratio for a, b in pairs]),
                judged_spend=theirs.judged_spend,
                keeps=theirs.judged_spend <= KEEPS,
            )
        )
    return found


def _error(gaps: Sequence[float]) -> float:
    return float(np.std(gaps, ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else math.nan


def slopes(cells: Sequence[Cell], horizons: Sequence[str]) -> list[Slope]:
    """Return the slopes over the variants that are horizons, per cell and over all cells."""
    groups: dict[tuple[str, float, str], list[Cell]] = {}
    for cell in cells:
        if cell.variant in horizons:
            groups.setdefault((cell.table, cell.fraction, cell.policy), []).append(cell)
    found, pooled = [], dict[str, list[tuple[tuple[int, ...], list[float]]]]()
    for (table, fraction, policy), group in groups.items():
        group.sort(key=lambda cell: cell.runs[0].calls)
        calls = tuple(cell.runs[0].calls for cell in group)
        regret = tuple(cell.figures.regret for cell in group)
        relative = [
            float(np.mean([run.regret / run.optimum_reward * run.calls for run in cell.runs]))
            for cell in group
        ]
        pooled.setdefault(policy, []).append((calls, relative))
        found.append(_slope(table, fraction, policy, calls, regret))
    for policy, many in pooled.items():
        calls = many[0][0]
        alike = [relative for at, relative in many if at == calls]
        found.append(_slope("all", math.nan, policy, calls, tuple(np.mean(alike, axis=0).tolist())))
    return found


def _slope(
    table: str, fraction: float, policy: str, calls: tuple[int, ...], regret: tuple[float, ...]
) -> Slope:
    return Slope(
        table=table,
        fraction=fraction,
        policy=policy,
        calls=calls,
        regret=regret,
        slope=slope(calls, regret),
    )
