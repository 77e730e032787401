"""The table of figures: every number of a group, an arm, a segment and a store that some view shows.

Terminal, page, Prometheus metrics and the Grafana dashboard are made from these rows. A new figure is a row here, over
a value that the status has: with ``metric`` it is scraped, with ``chart`` it has a panel in Grafana, with a column in
``shown`` it stands in the tables of the terminal or of the page. A view spells out only the cells that need more than
the number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from stageroute_router.core.segment_worth import SegmentWorth
from stageroute_router.reports.status import ArmStatus, GroupStatus, SegmentStatus
from stageroute_router.store.health import Health

Subject = TypeVar("Subject")

Unit = Literal["usd", "share", "reward", "count", "ordinal", "number", "moment", "flag"]
"""What a figure is: US dollars; a part of a whole; a reward in [0, 1]; how many; which one; any other number; a time in
seconds since the epoch; 0 or 1. Each view writes a unit in its own way."""

View = Literal["terminal", "page", "tile"]
"""Where a figure is a column: a table of the terminal, a table of the page; or a tile above the page's charts."""


@dataclass(frozen=True, slots=True)
class Column:
    """A figure's column in a view.

    Args:
        place: order among the columns of the view, from left to right.
        heading: what stands above it.
        width: characters that a terminal of fixed columns keeps for it, if its heading is shorter.
    """

    place: int
    heading: str
    width: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure(Generic[Subject]):
    """A number of something.

    Args:
        name: the figure, unique in its table.
        title: what it is called over a panel of its own in Grafana; empty where it has none.
        unit: what the number is.
        help: what it means, in one sentence.
        value: returns it; None where there is nothing to show.
        metric: name of its Prometheus metric; None where it has none.
        counts: whether the metric is a counter; its samples then end in ``_total``.
        chart: whether the Grafana dashboard has a panel of it without being told how.
        shown: its columns, by view.
    """

    name: str
    unit: Unit
    help: str
    value: Callable[[Subject], float | None]
    title: str = ""
    metric: str | None = None
    counts: bool = False
    chart: bool = False
    shown: Mapping[View, Column] = field(default_factory=dict)


def columns(figures: Iterable[Figure[Subject]], view: View) -> list[tuple[Column, Figure[Subject]]]:
    """Return the figures that a view shows with their columns, from left to right."""
    found = [(figure.shown[view], figure) for figure in figures if view in figure.shown]
    return sorted(found, key=lambda pair: pair[0].place)


def spend_per_call(group: GroupStatus) -> float | None:
    """Return what a call cost on average, US dollars, calls under way with what they are expected to; None without."""
    return (group.spend_usd + group.in_flight_usd) / group.calls if group.calls else None


def mean_reward(group: GroupStatus) -> float | None:
    """Return the mean of the rewards that count for the present candidates; None without any."""
    known = [(arm.reward_count, arm.reward_mean) for arm in group.arms if arm.reward_mean is not None]
    total = sum(count for count, _ in known)
    return sum(count * mean for count, mean in known) / total if total else None


GROUP_FIGURES: tuple[Figure[GroupStatus], ...] = (
    Figure(
        name="calls",
        unit="count",
        help="Decisions so far.",
        value=lambda group: group.calls,
        shown={
            "terminal": Column(2, "calls", width=9),
            "page": Column(4, "Calls"),
            "tile": Column(3, "Calls"),
        },
    ),
    Figure(
        name="spend_per_call",
        unit="usd",
        help="Cost of a call on average, in US dollars, open calls with what they are expected to cost.",
        value=spend_per_call,
        shown={"tile": Column(1, "Spend per call")},
    ),
    Figure(
        name="reward_mean",
        unit="reward",
        help="Mean of the rewards that count for the present candidates.",
        value=mean_reward,
        shown={"page": Column(2, "Mean reward"), "tile": Column(2, "Mean reward")},
    ),
    Figure(
        name="calls_over",
        unit="count",
        help="Decisions whose call is over: answered, failed, or never heard of again.",
        value=lambda group: group.calls - group.open_calls,
        metric="stageroute_calls",
        counts=True,
    ),
    Figure(
        name="open_calls",
        unit="count",
        help="Decisions whose cost is not known yet.",
        value=lambda group: group.open_calls,
        metric="stageroute_open_calls",
    ),
    Figure(
        name="spend",
        title="Spent",
        unit="usd",
        help="Costs known so far, in US dollars.",
        value=lambda group: group.spend_usd,
        metric="stageroute_spend_usd",
        counts=True,
        shown={"tile": Column(4, "Spent in all")},
    ),
    Figure(
        name="in_flight",
        unit="usd",
        help="Expected costs of the open calls, in US dollars.",
        value=lambda group: group.in_flight_usd,
        metric="stageroute_in_flight_usd",
    ),
    Figure(
        name="budget_per_call",
        unit="usd",
        help="The budget: average US dollars a call may cost.",
        value=lambda group: group.budget_usd_per_call,
        metric="stageroute_budget_per_call_usd",
    ),
    Figure(
        name="spend_ratio",
        title="Spend over budget",
        unit="share",
        help="Spend, in flight included, over budget times calls, since the beginning; above 1 is over budget.",
        value=lambda group: group.spend_ratio,
        metric="stageroute_spend_ratio",
        shown={"terminal": Column(3, "of budget"), "page": Column(1, "Of budget")},
    ),
    Figure(
        name="shadow_price",
        title="Shadow price",
        unit="number",
        help="Reward that one more US dollar would buy; 0 while the budget is slack, +Inf where no mixture keeps it.",
        value=lambda group: group.shadow_price,
        metric="stageroute_shadow_price_reward_per_usd",
    ),
    Figure(
        name="feasible",
        title="Budget can be kept",
        unit="flag",
        help="1, or 0 where even the cheapest live mixture is over budget or the shares cannot sum to 1.",
        value=lambda group: group.feasible,
        metric="stageroute_feasible",
    ),
    Figure(
        name="reward_coverage",
        title="Calls with a reward",
        unit="share",
        help="Rewards per decision, since the beginning; several sources of rewards can exceed 1.",
        value=lambda group: group.reward_coverage,
        metric="stageroute_reward_coverage_ratio",
        shown={"terminal": Column(4, "rewards")},
    ),
    Figure(
        name="live_arms",
        unit="count",
        help="Arms in the live set.",
        value=lambda group: sum(arm.live for arm in group.arms),
        metric="stageroute_live_arms",
        shown={"terminal": Column(5, "live"), "page": Column(3, "Live arms")},
    ),
    Figure(
        name="stage",
        title="Stage",
        unit="ordinal",
        help="Number of the current stage; rises at each maintenance window.",
        value=lambda group: group.stage,
        metric="stageroute_stage",
        shown={"terminal": Column(1, "stage")},
    ),
    Figure(
        name="stage_opened_at",
        unit="moment",
        help="When the current stage was opened, in seconds since the epoch.",
        value=lambda group: group.stage_opened_at,
        metric="stageroute_stage_opened_timestamp_seconds",
    ),
    Figure(
        name="stage_calls",
        unit="count",
        help="Decisions in the current stage.",
        value=lambda group: group.stage_calls,
        metric="stageroute_stage_calls",
    ),
    Figure(
        name="warnings",
        unit="count",
        help="Warnings in the group's status, which has their text.",
        value=lambda group: len(group.warnings),
        metric="stageroute_warnings",
    ),
)

ARM_FIGURES: tuple[Figure[ArmStatus], ...] = (
    Figure(
        name="pulls",
        unit="count",
        help="Decisions that chose the arm.",
        value=lambda arm: arm.pulls,
        shown={"terminal": Column(2, "calls"), "page": Column(6, "Calls")},
    ),
    Figure(
        name="reward_mean",
        unit="reward",
        help="Mean of the arm's rewards, in [0, 1].",
        value=lambda arm: arm.reward_mean,
        shown={"terminal": Column(4, "reward"), "page": Column(3, "Mean reward")},
    ),
    Figure(
        name="reward_count",
        unit="count",
        help="Rewards of the arm.",
        value=lambda arm: arm.reward_count,
        shown={"terminal": Column(6, "rewards"), "page": Column(7, "Rewards")},
    ),
    Figure(
        name="cost_mean",
        unit="usd",
        help="Mean of the known costs of the arm's calls, in US dollars.",
        value=lambda arm: arm.cost_mean_usd,
        shown={"terminal": Column(7, "cost"), "page": Column(5, "$ a call")},
    ),
    Figure(
        name="live",
        unit="flag",
        help="1 while the arm is in the live set, else 0.",
        value=lambda arm: arm.live,
        metric="stageroute_arm_live",
    ),
    Figure(
        name="probability",
        unit="share",
        help="Share of calls the arm gets now; 0 while it is not live.",
        value=lambda arm: arm.probability,
        metric="stageroute_arm_probability_ratio",
        shown={"terminal": Column(1, "share"), "page": Column(1, "Share now")},
    ),
    Figure(
        name="share_limit",
        unit="share",
        help="Largest share the arm may get now, by max_share and rate limits.",
        value=lambda arm: arm.share_limit,
        metric="stageroute_arm_share_limit_ratio",
        shown={"page": Column(2, "At most")},
    ),
    Figure(
        name="calls_over",
        unit="count",
        help="Calls that ended at the arm: answered at a known cost, or failed.",
        value=lambda arm: arm.cost_count + arm.failures,
        metric="stageroute_arm_calls",
        counts=True,
    ),
    Figure(
        name="failures",
        unit="count",
        help="Calls that failed at the arm's provider.",
        value=lambda arm: arm.failures,
        metric="stageroute_arm_failures",
        counts=True,
        shown={"terminal": Column(3, "failed"), "page": Column(8, "Failures")},
    ),
    Figure(
        name="availability",
        unit="share",
        help="Chance that the arm answers its next call, by this worker's latest calls; 1 while all are answered.",
        value=lambda arm: arm.availability,
        metric="stageroute_arm_availability_ratio",
    ),
    Figure(
        name="reward_ucb",
        title="Bounds of each arm's reward",
        unit="reward",
        help="Upper confidence bound of the arm's reward, in [0, 1].",
        value=lambda arm: arm.reward_ucb,
        metric="stageroute_arm_reward_upper_bound_ratio",
        chart=True,
        shown={"terminal": Column(5, "at most"), "page": Column(4, "Bounds")},
    ),
    Figure(
        name="cost_lcb",
        unit="usd",
        help="Lower confidence bound of the arm's cost per call, in US dollars.",
        value=lambda arm: arm.cost_lcb_usd,
        metric="stageroute_arm_cost_lower_bound_usd",
        shown={"terminal": Column(8, "at least")},
    ),
    Figure(
        name="expected_cost",
        unit="usd",
        help="What the arm's next call is expected to cost, in US dollars.",
        value=lambda arm: arm.expected_cost_usd,
        metric="stageroute_arm_expected_cost_usd",
    ),
)

SEGMENT_FIGURES: tuple[Figure[SegmentStatus], ...] = (
    Figure(
        name="reward_count",
        unit="count",
        help="Rewards of the segment's calls.",
        value=lambda segment: segment.reward_count,
        shown={"terminal": Column(4, "rewards")},
    ),
    Figure(
        name="share",
        unit="share",
        help="Share of the group's calls that are of the segment; the empty segment is that of calls without one.",
        value=lambda segment: segment.share,
        metric="stageroute_segment_share_ratio",
        shown={"terminal": Column(1, "of calls"), "page": Column(1, "Of calls")},
    ),
    Figure(
        name="pulls",
        unit="count",
        help="Decisions for calls of the segment that it still remembers.",
        value=lambda segment: segment.pulls,
        metric="stageroute_segment_calls",
        shown={"terminal": Column(2, "calls"), "page": Column(2, "Calls")},
    ),
    Figure(
        name="reward_mean",
        unit="reward",
        help="Mean reward of the segment's calls, in [0, 1]; absent before any reward.",
        value=lambda segment: segment.reward_mean,
        metric="stageroute_segment_reward_mean_ratio",
        shown={"terminal": Column(3, "reward"), "page": Column(3, "Mean reward")},
    ),
    Figure(
        name="cost_mean",
        unit="usd",
        help="Mean cost of the segment's calls, in US dollars; absent before any cost is known.",
        value=lambda segment: segment.cost_mean_usd,
        metric="stageroute_segment_cost_mean_usd",
        shown={"terminal": Column(5, "cost"), "page": Column(4, "$ a call")},
    ),
)
"""None of them counts: a segment that was not seen for long is forgotten, and its calls with it."""

WORTH_FIGURES: tuple[Figure[SegmentWorth], ...] = (
    Figure(
        name="gain",
        unit="number",
        help="Reward per call gained by routing each segment for itself, at the same budget; absent without segments.",
        value=lambda worth: worth.gain,
        metric="stageroute_segment_worth_ratio",
    ),
    Figure(
        name="lower",
        unit="number",
        help="Lower end of the interval that holds that gain with 90 %.",
        value=lambda worth: worth.lower,
        metric="stageroute_segment_worth_lower_bound_ratio",
    ),
    Figure(
        name="upper",
        unit="number",
        help="Upper end of the interval that holds that gain with 90 %.",
        value=lambda worth: worth.upper,
        metric="stageroute_segment_worth_upper_bound_ratio",
    ),
)

STORE_FIGURES: tuple[Figure[Health], ...] = (
    Figure(
        name="queued",
        unit="count",
        help="Writes of this worker that wait to be stored.",
        value=lambda health: health.queued,
        metric="stageroute_store_queued_writes",
    ),
    Figure(
        name="dropped",
        unit="count",
        help="Writes of this worker that were refused because its queue was full.",
        value=lambda health: health.dropped,
        metric="stageroute_store_dropped_writes",
        counts=True,
    ),
    Figure(
        name="rejected",
        unit="count",
        help="Writes of this worker that the database will never take, because of a value.",
        value=lambda health: health.rejected,
        metric="stageroute_store_rejected_writes",
        counts=True,
    ),
    Figure(
        name="last_commit_at",
        unit="moment",
        help="When this worker stored something last, in seconds since the epoch; absent before that.",
        value=lambda health: health.last_commit_at,
        metric="stageroute_store_last_commit_timestamp_seconds",
    ),
)
