"""Writes with sensible values, and what they should add up to: for tests of and against a store."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields

from stageroute_router.core.budget.account import Charge
from stageroute_router.core.snapshot import ArmEvidence
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store.records import CellKey, StoredDecision
from stageroute_router.store.writes import (
    ArmPinned,
    CallFailed,
    CallSettled,
    CallWithdrawn,
    DecisionMade,
    MixedArm,
    MixRecorded,
    RewardReported,
    RewardRevoked,
    SegmenterFitted,
    SegmentsForgotten,
    StagePlanned,
)

EPOCH = 4_000_000_000.0
"""When these things happen unless told otherwise, in seconds since the epoch: in the year 2096.

So that to a store with a real clock they are never old enough to be lost or folded away.
"""

CHARGE = Charge(expected_cost_usd=0.003, budget_usd=0.002, surplus_cap_usd=0.1, booking="surplus")
"""What a decision of :func:`decided` books."""


def decided(
    decision_id: str,
    *,
    call: str | None = None,
    group: str = "chat",
    segment: str = "",
    arm: str = "small",
    charge: Charge = CHARGE,
    at: float = EPOCH,
    caller: str | None = None,
    mix: str | None = None,
) -> DecisionMade:
    """Return a decision; its call's id is ``call-`` and its own unless given."""
    return DecisionMade(
        decision_id=decision_id,
        call_id=f"call-{decision_id}" if call is None else call,
        group=group,
        segment=segment,
        arm=arm,
        stage=1,
        probability=0.25,
        charge=charge,
        reward_ucb=0.9,
        cost_lcb_usd=0.0005,
        shadow_price=12.5,
        made_at=at,
        caller=caller,
        mix_id=mix,
    )


def settled(
    decision_id: str,
    *,
    arm: str = "small",
    cost_usd: float = 0.001,
    response: str | None = None,
    at: float = EPOCH + 1.0,
) -> CallSettled:
    """Return an answer of 10 tokens to a prompt of 20."""
    return CallSettled(
        decision_id=decision_id,
        arm=arm,
        cost_usd=cost_usd,
        prompt_tokens=20,
        completion_tokens=10,
        response_id=response,
        settled_at=at,
    )


def failed(decision_id: str, *, reward: float | None = None, at: float = EPOCH + 1.0) -> CallFailed:
    """Return a failure at the provider."""
    return CallFailed(decision_id=decision_id, reward=reward, failed_at=at)


def withdrawn(decision_id: str) -> CallWithdrawn:
    """Return a withdrawal."""
    return CallWithdrawn(decision_id=decision_id)


def rewarded(
    key: str,
    reward: float,
    *,
    source: str = "app",
    at: float = EPOCH + 2.0,
    keep: bool = False,
    caller: str | None = None,
) -> RewardReported:
    """Return a reported reward."""
    return RewardReported(key=key, reward=reward, source=source, reported_at=at, keep=keep, caller=caller)


def revoked(
    key: str, *, source: str = "app", at: float = EPOCH + 3.0, caller: str | None = None
) -> RewardRevoked:
    """Return the revocation of a reward."""
    return RewardRevoked(key=key, source=source, revoked_at=at, caller=caller)


def mixed(mix_id: str, *, group: str = "chat", at: float = EPOCH) -> MixRecorded:
    """Return a recorded mix of two arms, of which the budget binds; a third one could not serve."""
    return MixRecorded(
        mix_id=mix_id,
        group=group,
        made_at=at,
        arms=(
            MixedArm(arm="small", probability=0.25, reward_ucb=0.9, cost_lcb_usd=0.0005),
            MixedArm(
                arm="large",
                probability=0.75,
                reward_ucb=1 / 3,
                cost_lcb_usd=0.003,
                share_limit=0.8,
                share_limited_by="rpm",
            ),
            MixedArm(arm="tiny", probability=0.0, reward_ucb=0.5, cost_lcb_usd=0.0, kept_out="ineligible"),
        ),
        shadow_price=12.5,
        paced_budget_usd=0.0021,
        feasible=True,
        explored="large",
        explore_share=0.05,
    )


def planned(stage: int, *, group: str = "chat", live: tuple[str, ...] = ("small", "large")) -> StagePlanned:
    """Return a stage opened by the schedule."""
    return StagePlanned(
        group=group,
        stage=stage,
        live=live,
        explored=live[-1],
        explore_share=0.05,
        reason="schedule",
        opened_at=900.0,
        opened_at_call=100 * stage,
        evidence=(
            ArmEvidence(arm="small", pulls=10, reward_ucb=1 / 3, cost_lcb_usd=0.0005),
            ArmEvidence(arm="large", pulls=0, reward_ucb=1.0, cost_lcb_usd=0.003, pinned=True),
        ),
    )


def pinned(
    arm: str = "large", *, group: str = "chat", to: bool | None = True, at: float = EPOCH
) -> ArmPinned:
    """Return an operator's decision that an arm is live in every stage, or that it need not be."""
    return ArmPinned(group=group, arm=arm, pinned=to, set_at=at)


def forgotten(*, group: str = "chat", since: float = EPOCH) -> SegmentsForgotten:
    """Return that a group's segments which were last seen before a moment are forgotten."""
    return SegmentsForgotten(group=group, unseen_since=since)


def fitted(
    version: int = 1, *, group: str = "chat", text: str = '{"centroids": [[0.5, 1.5]]}', at: float = EPOCH
) -> SegmenterFitted:
    """Return what finds segments, as it was fitted."""
    return SegmenterFitted(group=group, version=version, fitted=text, fitted_at=at)


def fold(decisions: Iterable[StoredDecision | None]) -> dict[CellKey, ArmStatistics]:
    """Return the statistics that a group's decisions and rewards amount to, added up from nothing."""
    cells: dict[CellKey, ArmStatistics] = {}
    for stored in decisions:
        if stored is None:
            continue
        one = ArmStatistics.of_pull()
        if stored.state == "failed":
            one += ArmStatistics.of_failure()
        if stored.state == "settled" and stored.cost_usd is not None:
            one += ArmStatistics.of_cost(stored.cost_usd)
        for reward in stored.rewards.values():
            one += ArmStatistics.of_reward(reward)
        cell = (stored.decision.segment, stored.served_arm)
        cells[cell] = cells.get(cell, ArmStatistics()) + one
    return cells


def same_statistics(one: Mapping[CellKey, ArmStatistics], other: Mapping[CellKey, ArmStatistics]) -> bool:
    """Whether counts are equal, and sums equal up to rounding; a cell of zeros is as good as none."""
    for cell in {*one, *other}:
        a, b = one.get(cell, ArmStatistics()), other.get(cell, ArmStatistics())
        for field in fields(ArmStatistics):
            x, y = getattr(a, field.name), getattr(b, field.name)
            if isinstance(x, int) and x != y:
                return False
            if not math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-9):
                return False
    return True
