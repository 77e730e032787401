"""The mixes of some of a group's arms: those that can serve a call, while the others cannot."""

from __future__ import annotations

import numpy as np

from stageroute_router.core.arrays import IntArray
from stageroute_router.core.estimators.base import Scenarios
from stageroute_router.core.mix import Mix, even_mix, solve_mix
from stageroute_router.core.snapshot import Estimate, GroupPolicy, Snapshot, Stage

MOST_EXPLORED_SPEND = 0.05
"""Fraction of the budget that the calls of a revisit may cost, whatever was planned.

The estimator plans with the same limit; the arm may turn out dearer than its price said, and then it binds here.
"""


def scenarios_of(snapshot: Snapshot, usable: tuple[str, ...], *, outside: bool) -> tuple[Scenarios, IntArray]:
    """Return scenarios of some arms, one column each, and the arms' positions in the estimate."""
    estimate = snapshot.estimate
    indices = np.array([estimate.position[name] for name in usable], dtype=np.intp)
    if not outside:
        return estimate.scenarios.take([snapshot.live.index(name) for name in usable]), indices
    # Arms that are not live have no scenarios: one is made of their bounds.
    return Scenarios(
        reward=estimate.bounds.reward_ucb[indices][None, :],
        cost=estimate.bounds.expected_cost[indices][None, :],
    ), indices


def cheapest_mix(policy: GroupPolicy, snapshot: Snapshot, usable: tuple[str, ...]) -> Mix:
    """Return equal parts of the arms that are expected to be cheapest: several where nothing tells them apart.

    Arms of which nothing is known come last: what is expected of them is no more than the budget.
    """
    estimate = snapshot.estimate
    indices = [estimate.position[name] for name in usable]
    cost = estimate.bounds.expected_cost[indices]
    priced = estimate.priced[indices]
    if priced.any():
        cost = np.where(priced, cost, np.inf)
    limit = float(cost.min()) * (1 + policy.estimator.cost_tolerance)
    return even_mix(cost <= limit, shadow_price=snapshot.mix.shadow_price)


def restricted_mix(policy: GroupPolicy, snapshot: Snapshot, usable: tuple[str, ...], *, outside: bool) -> Mix:
    """Return the mix of some arms only, solved once per snapshot; ``outside`` where none of them is live."""
    mix = snapshot.restricted.get(usable)
    if mix is None:
        scenarios, indices = scenarios_of(snapshot, usable, outside=outside)
        mix = live_mix(
            policy, snapshot.estimate, scenarios, names=usable, indices=indices, stage=snapshot.stage
        )
        snapshot.restricted[usable] = mix
    return mix


def live_mix(
    policy: GroupPolicy,
    estimate: Estimate,
    scenarios: Scenarios,
    *,
    names: tuple[str, ...],
    indices: IntArray,
    stage: Stage,
) -> Mix:
    """Return the mix of some arms: the programme in every scenario, after the share that a revisit gets.

    Args:
        policy: the group's.
        estimate: the group's present one.
        scenarios: rewards and costs of these arms, one column each.
        names: the arms.
        indices: their positions in the estimate.
        stage: says which arm is looked at again, and how often.
    """
    explored, explore_share = None, 0.0
    if stage.explored in names:
        explored = names.index(stage.explored)
        spend = float(estimate.bounds.expected_cost[indices[explored]])
        limit = MOST_EXPLORED_SPEND * policy.budget_usd
        explore_share = stage.explore_share if not spend else min(stage.explore_share, limit / spend)
    return solve_mix(
        scenarios,
        budget_usd=estimate.budget_usd,
        max_share=estimate.max_share[indices],
        cost_tolerance=policy.estimator.cost_tolerance,
        preference=estimate.observations[indices].tolist(),
        explored=explored,
        explore_share=explore_share,
    )
