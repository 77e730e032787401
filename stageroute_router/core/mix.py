"""The mix: the distribution over live arms that calls are sampled from, until the snapshot changes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from stageroute_router.core.arrays import BoolArray, FloatArray
from stageroute_router.core.estimators.base import Scenarios
from stageroute_router.core.routing.batch import solve_routing_batch
from stageroute_router.core.routing.closed_form import cheapest_mixture_cost, solve_routing
from stageroute_router.core.routing.joint import solve_joint_routing


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """A distribution over arms, exact: calls are sampled from it and it is stored with their decisions.

    Args:
        probabilities: one per arm, at least 0, summing to 1.
        cumulative: their running sums; the last one is 1.
        shadow_price: reward that one more dollar would buy; the median over scenarios; 0 with a slack budget.
        feasible: False where even the cheapest mixture exceeds the budget, or the shares cannot sum to 1.
        explored: index of the arm that gets calls for a revisit, or None.
        explore_share: the share of calls it gets for that, in [0, 1).
        by_segment: the distribution of each segment, where there is more than one; this one is then that of all
            calls together.
    """

    probabilities: tuple[float, ...]
    cumulative: tuple[float, ...]
    shadow_price: float
    feasible: bool
    explored: int | None = None
    explore_share: float = 0.0
    by_segment: Mapping[str, Mix] = field(default_factory=dict)

    def of(self, segment: str) -> Mix:
        """Return the distribution that calls of a segment are sampled from; unknown ones are like ``""``."""
        if not self.by_segment:
            return self
        return self.by_segment.get(segment) or self.by_segment[""]

    def pick(self, uniform: float) -> int:
        """Return the index of the arm that a uniform number in [0, 1) falls on."""
        index = bisect_right(self.cumulative, uniform)
        return index if index < len(self.cumulative) else len(self.cumulative) - 1


def solve_mix(
    scenarios: Scenarios,
    *,
    budget_usd: float,
    max_share: FloatArray,
    cost_tolerance: float,
    preference: Sequence[float],
    explored: int | None,
    explore_share: float,
) -> Mix:
    """Solve the routing programme in every scenario and mix the solutions in equal parts.

    Args:
        scenarios: rewards and costs, shape (scenarios, arms) or (scenarios, segments, arms); costs in US dollars.
        budget_usd: budget of the next call.
        max_share: largest probability of each arm, shape (arms,).
        cost_tolerance: in a scenario whose cheapest mixture exceeds the budget, the budget is taken to be that
            mixture's cost, enlarged by this fraction: the best reward among the nearly cheapest.
        preference: smaller first among equally good arms (their numbers of observations).
        explored: index of an arm that gets ``explore_share`` of the calls beforehand, or None.
        explore_share: in [0, 1).
    """
    if explored is not None:
        # What the programme may give the explored arm on top, so that its whole share stays within its limit.
        rest = np.array(max_share)
        rest[explored] = max(0.0, (rest[explored] - explore_share) / (1 - explore_share))
        if rest.sum() < 1:
            explored = None  # every arm is needed in full: no calls are left for looking around
        else:
            max_share = rest
    if scenarios.weight is not None:
        return _solve_joint_mix(
            scenarios,
            scenarios.weight,
            budget_usd=budget_usd,
            max_share=max_share,
            cost_tolerance=cost_tolerance,
            explored=explored,
            explore_share=0.0 if explored is None else explore_share,
        )
    cheapest = cheapest_mixture_cost(scenarios.cost, max_share=max_share)
    feasible = (
        2 * int(np.count_nonzero(cheapest <= budget_usd)) >= len(cheapest)
        and float(max_share.sum()) >= 1 - 1e-9
    )
    if cost_tolerance > 0:
        budgets = np.maximum(budget_usd, (1 + cost_tolerance) * cheapest)
    else:
        budgets = np.full(len(cheapest), budget_usd)
    if len(scenarios.reward) == 1:
        solution = solve_routing(
            scenarios.reward[0],
            scenarios.cost[0],
            budget=float(budgets[0]),
            max_share=max_share,
            preference=preference,
        )
        probabilities = np.asarray(solution.probabilities, dtype=np.float64)
        price = solution.shadow_price
    else:
        solutions, prices, _ = solve_routing_batch(
            scenarios.reward, scenarios.cost, budget=budgets, max_share=max_share
        )
        probabilities = solutions.mean(axis=0)
        price = float(np.partition(prices, len(prices) // 2)[len(prices) // 2])
    if explored is not None:
        probabilities = probabilities * (1 - explore_share)
        probabilities[explored] += explore_share
    else:
        explore_share = 0.0
    return _mix(
        probabilities,
        shadow_price=price,
        feasible=feasible,
        explored=explored,
        explore_share=explore_share,
    )


def _solve_joint_mix(
    scenarios: Scenarios,
    weight: FloatArray,
    *,
    budget_usd: float,
    max_share: FloatArray,
    cost_tolerance: float,
    explored: int | None,
    explore_share: float,
) -> Mix:
    """Solve for all segments under one budget: a mix for each, and that of all calls together."""
    draws, segments, arms = scenarios.cost.shape
    least = cheapest_mixture_cost(scenarios.cost.reshape(-1, arms), max_share=max_share)
    cheapest = least.reshape(draws, segments) @ weight
    feasible = (
        2 * int(np.count_nonzero(cheapest <= budget_usd)) >= draws and float(max_share.sum()) >= 1 - 1e-9
    )
    solutions, prices, _ = solve_joint_routing(
        scenarios.reward,
        scenarios.cost,
        weight=weight,
        budget=np.maximum(budget_usd, (1 + cost_tolerance) * cheapest)
        if cost_tolerance > 0
        else np.full(draws, budget_usd),
        max_share=max_share,
    )
    price = float(np.partition(prices, draws // 2)[draws // 2])
    probabilities = solutions.mean(axis=0)
    if explored is not None:
        probabilities = probabilities * (1 - explore_share)
        probabilities[:, explored] += explore_share

    def mix(weights: FloatArray, by_segment: Mapping[str, Mix]) -> Mix:
        return _mix(
            weights,
            shadow_price=price,
            feasible=feasible,
            explored=explored,
            explore_share=explore_share,
            by_segment=by_segment,
        )

    parts = {name: mix(row, {}) for name, row in zip(scenarios.segments, probabilities, strict=True)}
    return mix(weight @ probabilities, parts)


def priced_mix(scenarios: Scenarios, *, segment: str, price: float, max_share: FloatArray) -> Mix:
    """Return the mix of calls whose caller says what reward is worth: the best arm at that price, in every scenario.

    Args:
        scenarios: rewards and costs, shape (scenarios, arms) or (scenarios, segments, arms); costs in US dollars.
        segment: the calls'; one that is not among the scenarios' is like ``""``.
        price: reward that a dollar has to buy, at least 0; it takes the place of the budget's shadow price.
        max_share: largest probability of each arm, shape (arms,).

    Source: Li & Li, arXiv 2506.17254, the routing step's Lagrangian, with the caller's multiplier; ours.

    >>> known = Scenarios(reward=np.array([[0.6, 0.9]]), cost=np.array([[0.001, 0.004]]))
    >>> [priced_mix(known, segment="", price=price, max_share=np.ones(2)).probabilities for price in (50, 200)]
    [(0.0, 1.0), (1.0, 0.0)]
    """
    reward, cost = scenarios.reward, scenarios.cost
    if scenarios.segments:
        row = scenarios.segments.index(segment if segment in scenarios.segments else "")
        reward, cost = reward[:, row], cost[:, row]
    order = np.argsort(price * cost - reward, axis=1, kind="stable")
    share = (max_share / min(1.0, float(max_share.sum())))[order]
    mass = np.clip(1 - (share.cumsum(axis=1) - share), 0.0, share)
    mixtures = np.empty_like(reward)
    np.put_along_axis(mixtures, order, mass, axis=1)
    return _mix(mixtures.mean(axis=0), shadow_price=price, feasible=True)


def probing_mix(mix: Mix, *, arms: int, probes: Sequence[int], share: float) -> Mix:
    """Return a mix that gives a share of the calls to some arms in equal parts, and the rest as before.

    Args:
        mix: the distribution over the first arms.
        arms: how many arms the result is over; those beyond the mix's own have a probability of 0 in it.
        probes: positions of the arms that get the share, at least one.
        share: in [0, 1).

    >>> mix = even_mix(np.array([True, True]), shadow_price=0.0)
    >>> probing_mix(mix, arms=3, probes=[2], share=0.1).probabilities
    (0.45, 0.45, 0.1)
    """
    weights = np.zeros(arms)
    weights[: len(mix.probabilities)] = mix.probabilities
    weights *= 1 - share
    weights[list(probes)] += share / len(probes)
    return _mix(
        weights,
        shadow_price=mix.shadow_price,
        feasible=mix.feasible,
        explored=mix.explored,
        explore_share=mix.explore_share * (1 - share),
    )


def even_mix(among: BoolArray, *, shadow_price: float) -> Mix:
    """Return equal probabilities for the arms named by ``among``, shape (arms,), and 0 for the others.

    >>> even_mix(np.array([True, False, True]), shadow_price=0.0).probabilities
    (0.5, 0.0, 0.5)
    """
    return _mix(among.astype(np.float64), shadow_price=shadow_price, feasible=True)


def _mix(
    weights: FloatArray,
    *,
    shadow_price: float,
    feasible: bool,
    explored: int | None = None,
    explore_share: float = 0.0,
    by_segment: Mapping[str, Mix] | None = None,
) -> Mix:
    values = tuple((weights / weights.sum()).tolist())
    return Mix(
        probabilities=values,
        cumulative=(*accumulate(values[:-1]), 1.0),
        shadow_price=shadow_price,
        feasible=feasible,
        explored=explored,
        explore_share=explore_share,
        by_segment=by_segment or {},
    )
