"""Computes the status of a group from its snapshot."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from stageroute_router.core.arm import Arm
from stageroute_router.core.arrays import FloatArray
from stageroute_router.core.availability import UNAVAILABLE, rounded
from stageroute_router.core.evidence.evidence import gather
from stageroute_router.core.live_mix import live_mix
from stageroute_router.core.mix import Mix
from stageroute_router.core.segment_worth import segment_worth
from stageroute_router.core.snapshot import GroupPolicy, Snapshot
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.groups.availability import Outage
from stageroute_router.reports.status import ArmStatus, GroupStatus, SegmentStatus, StatusWarning
from stageroute_router.reports.warnings import arm_warnings, by_urgency, plan_warnings

_NOTHING = ArmStatistics()


def describe(
    name: str,
    *,
    policy: GroupPolicy,
    snapshot: Snapshot,
    warnings: Sequence[StatusWarning] = (),
    decided: Collection[str] = (),
    outages: Sequence[Outage] = (),
) -> GroupStatus:
    """Return a group's status from its snapshot.

    Args:
        name: the group's.
        policy: what the operator asked for.
        snapshot: what is known.
        warnings: what else the operator should look at: what the process knows, which the snapshot does not.
        decided: the arms that operators pinned or unpinned at run time.
        outages: the arms that do not answer every call of this process, the worst first.
    """
    account = snapshot.account
    answering, mix = _present_mix(policy, snapshot, outages)
    probabilities = dict.fromkeys(snapshot.live, 0.0) | dict(zip(answering, mix.probabilities, strict=True))
    lowest = reward_lcb(policy, snapshot)
    arms = tuple(
        _describe_arm(
            arm,
            snapshot=snapshot,
            index=index,
            probability=probabilities.get(arm.name),
            lowest=float(lowest[index]),
            is_decided=arm.name in decided,
            outage=next((one for one in outages if one.arm == arm.name), None),
        )
        for index, arm in enumerate(snapshot.arms)
    )
    rewards = sum(arm.reward_count for arm in arms)
    allowed = policy.budget_usd * account.calls
    told = by_urgency(
        [
            *arm_warnings(arms),
            *warnings,
            *plan_warnings(arms, snapshot=snapshot, most_live=policy.max_live),
        ]
    )
    return GroupStatus(
        name=name,
        stage=snapshot.stage.number,
        stage_reason=snapshot.stage.reason,
        stage_opened_at=snapshot.stage.opened_at,
        stage_calls=account.calls - snapshot.stage.opened_at_call,
        calls=account.calls,
        calls_per_minute=snapshot.traffic.calls_per_minute,
        open_calls=account.open_calls,
        spend_usd=account.spend_usd,
        in_flight_usd=account.in_flight_usd,
        budget_usd_per_call=policy.budget_usd,
        spend_ratio=(account.spend_usd + account.in_flight_usd) / allowed if allowed else None,
        shadow_price=snapshot.mix.shadow_price,
        feasible=snapshot.mix.feasible,
        reward_coverage=rewards / account.calls if account.calls else None,
        arms=tuple(sorted(arms, key=lambda arm: (not arm.live, -arm.probability, arm.name))),
        warnings=tuple(one.text for one in told),
        segments=_describe_segments(snapshot, answering, mix),
        segment_worth=segment_worth(
            snapshot.estimate.scenarios,
            snapshot.mix,
            budget_usd=snapshot.estimate.budget_usd,
            max_share=snapshot.estimate.max_share[
                [snapshot.estimate.position[name] for name in snapshot.live]
            ],
            cost_tolerance=policy.estimator.cost_tolerance,
        ),
        warning_details=told,
    )


def _present_mix(
    policy: GroupPolicy, snapshot: Snapshot, outages: Sequence[Outage]
) -> tuple[tuple[str, ...], Mix]:
    """Return the live arms that answer, and what calls are sampled from now; all of them where none does."""
    chance = {one.arm: rounded(one.chance) for one in outages}
    answering = tuple(name for name in snapshot.live if chance.get(name, 1.0) >= UNAVAILABLE)
    if not answering or chance.keys().isdisjoint(snapshot.live):
        return snapshot.live, snapshot.mix
    estimate = snapshot.estimate
    scenarios = estimate.scenarios.take([snapshot.live.index(name) for name in answering])
    mix = live_mix(
        policy,
        estimate,
        scenarios.times(np.array([chance.get(name, 1.0) for name in answering])),
        names=answering,
        indices=np.array([estimate.position[name] for name in answering], dtype=np.intp),
        stage=snapshot.stage,
    )
    return answering, mix


def _describe_segments(snapshot: Snapshot, live: Sequence[str], mix: Mix) -> tuple[SegmentStatus, ...]:
    if not mix.by_segment:
        return ()
    seen = dict.fromkeys(mix.by_segment, _NOTHING)
    for (segment, _), cell in (snapshot.cells or {}).items():
        seen[segment] = seen.get(segment, _NOTHING) + cell
    calls = sum(one.pulls for one in seen.values())
    described = []
    for name, one in seen.items():
        shares = dict.fromkeys(snapshot.live, 0.0) | dict(zip(live, mix.of(name).probabilities, strict=True))
        described.append(
            SegmentStatus(
                name=name,
                share=one.pulls / calls if calls else 0.0,
                pulls=one.pulls,
                reward_count=one.reward_count,
                reward_mean=one.reward_mean,
                cost_mean_usd=one.cost_mean_usd,
                probabilities=dict(sorted(shares.items(), key=lambda item: -item[1])),
                prior_rewards={
                    arm.name: prior.reward
                    for arm in snapshot.arms
                    for prior in arm.segment_priors
                    if prior.segment == name
                },
            )
        )
    return tuple(sorted(described, key=lambda one: (-one.pulls, one.name)))


def _describe_arm(
    arm: Arm,
    *,
    snapshot: Snapshot,
    index: int,
    probability: float | None,
    lowest: float,
    is_decided: bool,
    outage: Outage | None,
) -> ArmStatus:
    seen = snapshot.statistics.get(arm.name, _NOTHING)
    bounds = snapshot.estimate.bounds
    limit = snapshot.estimate.limits[index]
    return ArmStatus(
        name=arm.name,
        live=probability is not None,
        pinned=arm.pinned,
        explored=probability is not None and arm.name == snapshot.stage.explored,
        probability=probability or 0.0,
        max_share=arm.max_share,
        share_limit=limit.share,
        share_limited_by=limit.reason,
        pulls=seen.pulls,
        failures=seen.failures,
        reward_count=seen.reward_count,
        reward_mean=seen.reward_mean,
        reward_ucb=float(bounds.reward_ucb[index]),
        # The upper bound may be a few calls older.
        reward_lcb=min(lowest, float(bounds.reward_ucb[index])),
        cost_count=seen.cost_count,
        cost_mean_usd=seen.cost_mean_usd,
        cost_lcb_usd=float(bounds.cost_lcb[index]),
        expected_cost_usd=float(bounds.expected_cost[index]),
        pinned_by="operator" if is_decided else "settings" if arm.pinned else None,
        prior_reward=arm.prior_reward,
        prior_weight=arm.prior_weight,
        prior_source=None if arm.prior_reward is None else arm.prior_source,
        availability=1.0 if outage is None else outage.chance,
        failing_since=None if outage is None else outage.since,
        recent_failures=0 if outage is None else outage.failures,
        last_failure=None if outage is None else outage.last_failure,
    )


# Lower bounds of rewards, for people to look at: nothing is decided by them, so no estimator has its own.


def reward_lcb(policy: GroupPolicy, snapshot: Snapshot) -> FloatArray:
    """Return a lower bound of every candidate's mean reward, in [0, 1], shape (arms,): a mirrored upper bound.

    The estimator bounds from above what the arm failed to earn (1 less the reward, for every
    reward and for the prior); one less that is what the arm earns at least. An arm without observations gets 0, as it
    gets 1 for an upper bound.

    >>> from stageroute_router.core.arm import Arm
    >>> from stageroute_router.core.engine import Engine
    >>> from stageroute_router.core.estimators.posterior import PosteriorEstimator
    >>> from stageroute_router.core.schedule import EveryCalls
    >>> arms = [Arm(name="a", prior_cost_usd=0.001), Arm(name="b", prior_cost_usd=0.002)]
    >>> policy = GroupPolicy(budget_usd=0.01, max_live=1, schedule=EveryCalls(500), estimator=PosteriorEstimator())
    >>> snapshot = Engine(policy, seed=0).start(arms, now=0.0)
    >>> reward_lcb(policy, snapshot)  # of arms without observations
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
    bounds = policy.estimator.bounds(mirrored, budget_usd=policy.budget_usd)
    return np.asarray(np.clip(1 - bounds.reward_ucb, 0.0, 1.0))
