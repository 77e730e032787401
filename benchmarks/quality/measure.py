"""The figures of one run, and of several: what the report's numbers mean, in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stageroute_router.replay.oracle import Oracle
from stageroute_router.replay.result import ReplayResult
from stageroute_router.tables.outcomes import Floats, OutcomeTable

WINDOW = 200
"""Calls over which a newcomer's share is taken."""

SUBSTANTIAL = 0.1
"""A newcomer counts if the optimum gives it at least this share."""

CURVE_POINTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """How long a newcomer that belongs into the optimum waited for half of its share.

    Args:
        model: its name.
        arrived: the call at which it arrived.
        share: its share in the optimum at its arrival.
        calls: calls until the last 200 of them gave it half of that share; if they never did while the optimum
            still wanted it, the calls until it no longer did or the stream ended.
        reached: whether they did.
    """

    model: str
    arrived: int
    share: float
    calls: int
    reached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One policy on one stream.

    Args:
        policy: its name.
        seed: of the stream and of the policy.
        calls: number of calls.
        feasible: whether a model within the budget existed at the start.
        reward_ratio: total reward over the optimum's.
        spend_ratio: total cost over the budget.
        judged_spend: total cost over the budget or, on streams that are not feasible, over what the optimum spends
            if that is more.
        worst_quarter: the largest cost over budget of a quarter of the calls.
        regret: sum over calls of the optimum's mean reward less the true mean of the model chosen. It is negative
            where the budget is exceeded by enough.
        optimum_reward: the optimum's mean reward, summed over calls.
        regret_curve: the regret after each hundredth of the calls.
        decisions_per_second: calls over the time of all choices and updates.
        waits: of the newcomers that the optimum wants.
    """

    policy: str
    seed: int
    calls: int
    feasible: bool
    reward_ratio: float
    spend_ratio: float
    judged_spend: float
    worst_quarter: float
    regret: float
    optimum_reward: float
    regret_curve: tuple[float, ...]
    decisions_per_second: float
    waits: tuple[Wait, ...]

    @property
    def expected_ratio(self) -> float:
        """The reward ratio without the luck of single answers: the chosen models' true means over the optimum's."""
        return 1 - self.regret / self.optimum_reward if self.optimum_reward else float("nan")


def measured(result: ReplayResult, table: OutcomeTable, optimum: Oracle, *, policy: str, seed: int) -> Run:
    """Return the figures of a run.

    Args:
        result: what came of it.
        table: recorded outcomes.
        optimum: the stream's optimum.
        policy: who routed.
        seed: of stream and policy.
    """
    budget = result.budget_usd * result.calls
    allowed = budget if result.feasible else max(budget, result.oracle_spend_usd)
    regret = np.cumsum(result.oracle_reward_per_call - table.mean_reward[result.model])
    points = np.linspace(0, result.calls - 1, min(CURVE_POINTS, result.calls)).astype(int)
    return Run(
        policy=policy,
        seed=seed,
        calls=result.calls,
        feasible=result.feasible,
        reward_ratio=result.reward_ratio,
        spend_ratio=result.spend_ratio,
        judged_spend=float(result.cost_usd.sum() / allowed) if allowed else 0.0,
        worst_quarter=max(result.spend_ratio_quarters),
        regret=float(regret[-1]),
        optimum_reward=result.oracle_reward,
        regret_curve=tuple(regret[points].round(3).tolist()),
        decisions_per_second=result.calls / result.elapsed_s,
        waits=waits(result, optimum),
    )


def waits(result: ReplayResult, optimum: Oracle) -> tuple[Wait, ...]:
    """Return the wait of every newcomer that has at least a tenth of the calls in the optimum on arrival."""
    found = []
    for period, start in enumerate(optimum.starts):
        for model in np.flatnonzero((result.arrival == start) & (start > 0)):
            share = float(optimum.shares[period, model])
            if share >= SUBSTANTIAL:
                wanted = optimum.shares[period:, model] >= share / 2
                periods = len(wanted) if wanted.all() else int(np.argmin(wanted))
                calls = int(optimum.lengths[period : period + periods].sum())
                mine = result.model[start : start + calls] == model
                took, reached = _wait(mine, target=share / 2)
                found.append(
                    Wait(
                        model=result.models[model],
                        arrived=int(start),
                        share=share,
                        calls=took,
                        reached=reached,
                    )
                )
    return tuple(found)


def _wait(mine: np.ndarray, *, target: float) -> tuple[int, bool]:
    """Return after how many calls the last ``WINDOW`` of them reach the target share; calls before count as 0."""
    recent = np.convolve(mine, np.ones(WINDOW))[: len(mine)] / WINDOW
    there = recent >= target
    return (int(np.argmax(there)) + 1, True) if there.any() else (len(mine), False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Several runs of one policy. Figures over no runs are NaN.

    Args:
        runs: how many.
        feasible: how many of them on feasible streams.
        reward_ratio: mean over all runs.
        expected_ratio: the same of the chosen models' true means: without the luck of single answers.
        worst_reward_ratio: least of all runs.
        low_reward_ratio: 5 % quantile of all runs.
        feasible_reward_ratio: mean over feasible runs.
        infeasible_reward_ratio: mean over the others.
        judged_spend: largest of all runs.
        spend_ratio: mean of feasible runs.
        worst_spend_ratio: largest of feasible runs.
        worst_quarter: largest of feasible runs.
        infeasible_spend: largest judged spend of the other runs.
        regret: mean over all runs.
        decisions_per_second: median.
        wait: median wait of the newcomers that the optimum wants, calls.
        waits: how many there were.
        waits_reached: how many got half of their share.
    """

    runs: int
    feasible: int
    reward_ratio: float
    expected_ratio: float
    worst_reward_ratio: float
    low_reward_ratio: float
    feasible_reward_ratio: float
    infeasible_reward_ratio: float
    judged_spend: float
    spend_ratio: float
    worst_spend_ratio: float
    worst_quarter: float
    infeasible_spend: float
    regret: float
    decisions_per_second: float
    wait: float
    waits: int
    waits_reached: int


def figures(runs: Sequence[Run]) -> Figures:
    """Return the figures of several runs."""
    feasible = [run for run in runs if run.feasible]
    others = [run for run in runs if not run.feasible]
    rewards = np.array([run.reward_ratio for run in runs])
    waited = [wait for run in runs for wait in run.waits]
    return Figures(
        runs=len(runs),
        feasible=len(feasible),
        reward_ratio=_mean(rewards.tolist()),
        expected_ratio=_mean([run.expected_ratio for run in runs]),
        worst_reward_ratio=float(rewards.min()) if len(runs) else float("nan"),
        low_reward_ratio=float(np.quantile(rewards, 0.05)) if len(runs) else float("nan"),
        feasible_reward_ratio=_mean([run.reward_ratio for run in feasible]),
        infeasible_reward_ratio=_mean([run.reward_ratio for run in others]),
        judged_spend=_most([run.judged_spend for run in runs]),
        spend_ratio=_mean([run.spend_ratio for run in feasible]),
        worst_spend_ratio=_most([run.spend_ratio for run in feasible]),
        worst_quarter=_most([run.worst_quarter for run in feasible]),
        infeasible_spend=_most([run.judged_spend for run in others]),
        regret=_mean([run.regret for run in runs]),
        decisions_per_second=_median([run.decisions_per_second for run in runs]),
        wait=_median([float(wait.calls) for wait in waited]),
        waits=len(waited),
        waits_reached=sum(wait.reached for wait in waited),
    )


def slope(calls: Sequence[int], regret: Sequence[float]) -> float:
    """Return the slope of log regret in log calls by least squares; NaN unless all regrets are above 0.

    >>> round(slope([1_000, 10_000, 100_000], [10.0, 31.6, 100.0]), 2)
    0.5
    """
    if len(calls) < 2 or min(regret) <= 0:
        return float("nan")
    return float(np.polyfit(np.log(calls), np.log(regret), 1)[0])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def _most(values: Sequence[float]) -> float:
    return max(values) if len(values) else float("nan")


def mean_curve(runs: Sequence[Run]) -> Floats:
    """Return the mean regret curve of runs of equal length."""
    return np.asarray(np.mean([run.regret_curve for run in runs], axis=0))
