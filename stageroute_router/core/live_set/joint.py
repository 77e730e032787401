"""Which arms serve several segments best together, when only a few may be live: greedy at the shadow price.

An arm earns its place by the segments it answers better than the other live ones. At a price per dollar that is the
facility-location problem, for which adding the most useful arm next is near the optimum; the price follows from the
set and the set from the price, in a few rounds. On recorded tables the result is within 0.0005 of the integer
programme's, a hundred times sooner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stageroute_router.core.arrays import FloatArray, IntArray
from stageroute_router.core.routing.closed_form import cheapest_mixture_cost
from stageroute_router.core.routing.joint import solve_joint_routing

_MASS = 1e-9
_ROUNDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class JointPlan:
    """A live set for several segments.

    Args:
        arms: positions of the arms, the most useful first.
        shadow_price: reward per extra dollar with them.
        budget_usd: the budget it was planned with: the least that some mixture keeps, if that is more.
    """

    arms: IntArray
    shadow_price: float
    budget_usd: float


def plan_joint_live_set(
    reward: FloatArray,
    cost: FloatArray,
    *,
    weight: FloatArray,
    budget_usd: float,
    cost_tolerance: float,
    max_share: FloatArray,
    most: int,
) -> JointPlan:
    """Choose at most ``most`` arms for all segments. Deterministic.

    Args:
        reward: expected rewards, shape (segments, arms).
        cost: expected costs, US dollars per call, shape (segments, arms).
        weight: each segment's share of the calls, shape (segments,), summing to 1.
        budget_usd: US dollars per call; where no mixture keeps it, what the cheapest costs and a little more.
        cost_tolerance: that little more, as a fraction.
        max_share: largest share of each arm, shape (arms,).
        most: how many may be live, at least 1.

    Two segments, two specialists; the arm that is fair at both is not needed:

    >>> reward = np.array([[0.9, 0.2, 0.6], [0.2, 0.9, 0.6]])
    >>> plan = plan_joint_live_set(
    ...     reward, np.full((2, 3), 0.001), weight=np.array([0.5, 0.5]), budget_usd=0.002, cost_tolerance=0.0,
    ...     max_share=np.ones(3), most=2,
    ... )
    >>> sorted(plan.arms.tolist())
    [0, 1]
    """

    def solve(arms: IntArray) -> tuple[FloatArray, float, float, float]:
        floor = float(weight @ cheapest_mixture_cost(cost[:, arms], max_share=max_share[arms]))
        budget = max(budget_usd, (1 + cost_tolerance) * floor)
        found = solve_joint_routing(
            reward[None, :, arms],
            cost[None, :, arms],
            weight=weight,
            budget=np.array([budget]),
            max_share=max_share[arms],
        )
        mixtures = found.probabilities[0]
        value = float(weight @ (mixtures * reward[:, arms]).sum(axis=1))
        return weight @ mixtures, value, float(found.shadow_price[0]), budget

    everyone = np.arange(reward.shape[1])
    share, _, price, budget = solve(everyone)
    best = np.flatnonzero(share > _MASS)
    if len(best) > most:
        highest = (np.inf, -np.inf)
        for _ in range(_ROUNDS):
            arms = _most_useful(reward, cost, weight=weight, price=price, most=most)
            _, value, own_price, own_budget = solve(arms)
            if (own_budget, -value) < (highest[0], -highest[1]):
                highest, best, budget, found = (own_budget, value), arms, own_budget, own_price
            price = (price + own_price) / 2 if np.isfinite(price + own_price) else own_price
        price = found
        share, _, _, _ = solve(best)
        return JointPlan(arms=best[np.argsort(-share, kind="stable")], shadow_price=price, budget_usd=budget)
    return JointPlan(
        arms=best[np.argsort(-share[best], kind="stable")], shadow_price=price, budget_usd=budget
    )


def _most_useful(
    reward: FloatArray, cost: FloatArray, *, weight: FloatArray, price: float, most: int
) -> IntArray:
    """Return the arms, each the one that adds most to those before it at a price per dollar."""
    value = weight[:, None] * (reward - price * cost if np.isfinite(price) else -cost)
    chosen = [int(value.sum(axis=0).argmax())]
    best = value[:, chosen[0]]
    while len(chosen) < most:
        gain = np.maximum(value - best[:, None], 0.0).sum(axis=0)
        arm = int(gain.argmax())
        if gain[arm] <= 0:
            break
        chosen.append(arm)
        best = np.maximum(best, value[:, arm])
    return np.array(chosen, dtype=np.intp)
