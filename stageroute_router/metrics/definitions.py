"""The metrics: name, help and value of each, by what it is a number of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from stageroute_router.core.segment_worth import SegmentWorth
from stageroute_router.reports.status import ArmStatus, GroupStatus, SegmentStatus
from stageroute_router.store.health import Health

Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True, kw_only=True)
class Number(Generic[Subject]):
    """A number of something and the metric that shows it; None shows nothing."""

    name: str
    told: str
    value: Callable[[Subject], float | None]
    counts: bool = False


OF_A_GROUP: tuple[Number[GroupStatus], ...] = (
    Number(
        name="stageroute_calls",
        told="Decisions whose call is over: answered, failed, or never heard of again.",
        value=lambda group: group.calls - group.open_calls,
        counts=True,
    ),
    Number(
        name="stageroute_open_calls",
        told="Decisions whose cost is not known yet.",
        value=lambda group: group.open_calls,
    ),
    Number(
        name="stageroute_spend_usd",
        told="Costs known so far, in US dollars.",
        value=lambda group: group.spend_usd,
        counts=True,
    ),
    Number(
        name="stageroute_in_flight_usd",
        told="Expected costs of the open calls, in US dollars.",
        value=lambda group: group.in_flight_usd,
    ),
    Number(
        name="stageroute_budget_per_call_usd",
        told="The budget: average US dollars a call may cost.",
        value=lambda group: group.budget_usd_per_call,
    ),
    Number(
        name="stageroute_spend_ratio",
        told="Spend, in flight included, over budget times calls, since the beginning; above 1 is over budget.",
        value=lambda group: group.spend_ratio,
    ),
    Number(
        name="stageroute_shadow_price_reward_per_usd",
        told="Reward that one more US dollar would buy; 0 while the budget is slack, +Inf where no mixture keeps it.",
        value=lambda group: group.shadow_price,
    ),
    Number(
        name="stageroute_feasible",
        told="1, or 0 where even the cheapest live mixture is over budget or the shares cannot sum to 1.",
        value=lambda group: group.feasible,
    ),
    Number(
        name="stageroute_reward_coverage_ratio",
        told="Rewards per decision, since the beginning; several sources of rewards can exceed 1.",
        value=lambda group: group.reward_coverage,
    ),
    Number(
        name="stageroute_live_arms",
        told="Arms in the live set.",
        value=lambda group: sum(arm.live for arm in group.arms),
    ),
    Number(
        name="stageroute_stage",
        told="Number of the current stage; rises at each maintenance window.",
        value=lambda group: group.stage,
    ),
    Number(
        name="stageroute_stage_opened_timestamp_seconds",
        told="When the current stage was opened, in seconds since the epoch.",
        value=lambda group: group.stage_opened_at,
    ),
    Number(
        name="stageroute_stage_calls",
        told="Decisions in the current stage.",
        value=lambda group: group.stage_calls,
    ),
    Number(
        name="stageroute_warnings",
        told="Warnings in the group's status, which has their text.",
        value=lambda group: len(group.warnings),
    ),
)

OF_AN_ARM: tuple[Number[ArmStatus], ...] = (
    Number(
        name="stageroute_arm_live",
        told="1 while the arm is in the live set, else 0.",
        value=lambda arm: arm.live,
    ),
    Number(
        name="stageroute_arm_probability_ratio",
        told="Share of calls the arm gets now; 0 while it is not live.",
        value=lambda arm: arm.probability,
    ),
    Number(
        name="stageroute_arm_share_limit_ratio",
        told="Largest share the arm may get now, by max_share and rate limits.",
        value=lambda arm: arm.share_limit,
    ),
    Number(
        name="stageroute_arm_calls",
        told="Calls that ended at the arm: answered at a known cost, or failed.",
        value=lambda arm: arm.cost_count + arm.failures,
        counts=True,
    ),
    Number(
        name="stageroute_arm_failures",
        told="Calls that failed at the arm's provider.",
        value=lambda arm: arm.failures,
        counts=True,
    ),
    Number(
        name="stageroute_arm_availability_ratio",
        told="Chance that the arm answers its next call, by this worker's latest calls; 1 while all are answered.",
        value=lambda arm: arm.availability,
    ),
    Number(
        name="stageroute_arm_reward_upper_bound_ratio",
        told="Upper confidence bound of the arm's reward, in [0, 1].",
        value=lambda arm: arm.reward_ucb,
    ),
    Number(
        name="stageroute_arm_cost_lower_bound_usd",
        told="Lower confidence bound of the arm's cost per call, in US dollars.",
        value=lambda arm: arm.cost_lcb_usd,
    ),
    Number(
        name="stageroute_arm_expected_cost_usd",
        told="What the arm's next call is expected to cost, in US dollars.",
        value=lambda arm: arm.expected_cost_usd,
    ),
)

OF_A_SEGMENT: tuple[Number[SegmentStatus], ...] = (
    Number(
        name="stageroute_segment_share_ratio",
        told="Share of the group's calls that are of the segment; the empty segment is that of calls without one.",
        value=lambda segment: segment.share,
    ),
    Number(
        name="stageroute_segment_calls",
        told="Decisions for calls of the segment that it still remembers.",
        value=lambda segment: segment.pulls,
    ),
    Number(
        name="stageroute_segment_reward_mean_ratio",
        told="Mean reward of the segment's calls, in [0, 1]; absent before any reward.",
        value=lambda segment: segment.reward_mean,
    ),
    Number(
        name="stageroute_segment_cost_mean_usd",
        told="Mean cost of the segment's calls, in US dollars; absent before any cost is known.",
        value=lambda segment: segment.cost_mean_usd,
    ),
)
"""None of them counts: a segment that was not seen for long is forgotten, and its calls with it."""

OF_WORTH: tuple[Number[SegmentWorth], ...] = (
    Number(
        name="stageroute_segment_worth_ratio",
        told="Reward per call gained by routing each segment for itself, at the same budget; absent without segments.",
        value=lambda worth: worth.gain,
    ),
    Number(
        name="stageroute_segment_worth_lower_bound_ratio",
        told="Lower end of the interval that holds that gain with 90 %.",
        value=lambda worth: worth.lower,
    ),
    Number(
        name="stageroute_segment_worth_upper_bound_ratio",
        told="Upper end of the interval that holds that gain with 90 %.",
        value=lambda worth: worth.upper,
    ),
)

OF_A_STORE: tuple[Number[Health], ...] = (
    Number(
        name="stageroute_store_queued_writes",
        told="Writes of this worker that wait to be stored.",
        value=lambda health: health.queued,
    ),
    Number(
        name="stageroute_store_dropped_writes",
        told="Writes of this worker that were refused because its queue was full.",
        value=lambda health: health.dropped,
        counts=True,
    ),
    Number(
        name="stageroute_store_rejected_writes",
        told="Writes of this worker that the database will never take, because of a value.",
        value=lambda health: health.rejected,
        counts=True,
    ),
    Number(
        name="stageroute_store_last_commit_timestamp_seconds",
        told="When this worker stored something last, in seconds since the epoch; absent before that.",
        value=lambda health: health.last_commit_at,
    ),
)
