"""Lower bounds of rewards, for people to look at: nothing is decided by them, so no rule has its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stageroute_router.core.arrays import FloatArray
from stageroute_router.core.evidence import gather
from stageroute_router.core.snapshot import GroupPolicy, Snapshot


def reward_lcb(policy: GroupPolicy, snapshot: Snapshot) -> FloatArray:
    """Return a lower bound of every candidate's mean reward, in [0, 1], shape (arms,): the rule's interval mirrored.

    What a rule says an arm may earn at most, it is asked of what the arm failed to earn (1 less the reward, for every
    reward and for the prior); one less that is what the arm earns at least. An arm nobody has observed gets 0, as it
    gets 1 for an upper bound.

    >>> from stageroute_router.core.arm import Arm
    >>> from stageroute_router.core.engine import Engine
    >>> from stageroute_router.core.posterior_rule import PosteriorRule
    >>> from stageroute_router.core.schedule import EveryCalls
    >>> arms = [Arm(name="a", prior_cost_usd=0.001), Arm(name="b", prior_cost_usd=0.002)]
    >>> policy = GroupPolicy(budget_usd=0.01, max_live=1, schedule=EveryCalls(500), rule=PosteriorRule())
    >>> snapshot = Engine(policy, seed=0).start(arms, now=0.0)
    >>> reward_lcb(policy, snapshot)  # of arms nobody has observed
    array([0., 0.])
    """
    evidence = gather(
        snapshot.arms,
        statistics=snapshot.statistics,
        account=snapshot.account,
        expected_tokens=policy.expected_tokens,
        max_share=[limit.share for limit in snapshot.estimate.limits],
    )
    mirrored = replace(
        evidence,
        reward_sum=evidence.reward_count - evidence.reward_sum,
        prior_reward=1 - evidence.prior_reward,
    )
    bounds = policy.rule.bounds(mirrored, budget_usd=policy.budget_usd)
    return np.asarray(np.clip(1 - bounds.reward_ucb, 0.0, 1.0))
