"""The status of a group: one documented, stable shape for Python, the command line and HTTP."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Literal

from stageroute_router.core.availability import AVAILABLE, UNAVAILABLE
from stageroute_router.core.segment_worth import SegmentWorth

Severity = Literal["critical", "error", "warning"]
"""How urgent a warning is: calls fail; calls or what is learned go another way than they should; worth knowing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmStatus:
    """One arm of a group. Costs in US dollars per call.

    Args:
        name: the arm.
        live: whether it is live in the current stage.
        pinned: whether it always is, from the next window on at the latest.
        pinned_by: who decided that: "operator" where it was pinned or unpinned at run time, which outweighs the
            settings; "settings" where it is pinned there; None where it was not decided.
        explored: whether it is live for a revisit only.
        probability: share of calls it gets now, in [0, 1]; 0 when not live. An arm that does not answer has 0, too,
            while another live one does: the few calls that probe it are not counted.
        max_share: largest share it may get by the settings.
        share_limit: largest share it may get now, in (0, 1]: ``max_share``, or less where its rate limits could not
            bear more of the present traffic.
        share_limited_by: what sets it: "max_share", "rpm" or "tpm"; None where nothing does.
        pulls: decisions that chose it.
        failures: of those, calls that failed at the provider.
        reward_count: rewards reported.
        reward_mean: their mean, or None without any.
        reward_ucb: upper confidence bound of its reward, in [0, 1].
        reward_lcb: lower confidence bound of its reward, in [0, 1], for display: nothing is decided by it. The
            estimator's own interval mirrored: one less the upper bound of what the arm failed to earn.
        cost_count: calls with a known cost.
        cost_mean_usd: their mean, or None without any.
        cost_lcb_usd: lower confidence bound of its cost.
        expected_cost_usd: what its next call is expected to cost.
        prior_reward: what it was said to be worth beforehand, in [0, 1]; None without a prior.
        prior_weight: how many observations that counts as, unless the rewards speak against it; 0 without a prior.
        prior_source: who said so: "settings", those of its deployments, or "benchmark", the group's table; None
            without a prior.
        availability: the chance that it answers the next call, in (0, 1], by the latest calls of this process; 1 where
            the status is told from the database.
        failing_since: time of the first failure since all of its calls were answered, seconds since the epoch; None
            while they are.
        recent_failures: calls of this process that have failed since, at the provider.
        last_failure: the kind of the last one, such as "Timeout"; None while all calls are answered.
    """

    name: str
    live: bool
    pinned: bool
    explored: bool
    probability: float
    max_share: float
    share_limit: float
    share_limited_by: str | None
    pulls: int
    failures: int
    reward_count: int
    reward_mean: float | None
    reward_ucb: float
    reward_lcb: float
    cost_count: int
    cost_mean_usd: float | None
    cost_lcb_usd: float
    expected_cost_usd: float
    pinned_by: Literal["settings", "operator"] | None = None
    prior_reward: float | None = None
    prior_weight: float = 0.0
    prior_source: Literal["settings", "benchmark"] | None = None
    availability: float = 1.0
    failing_since: float | None = None
    recent_failures: int = 0
    last_failure: str | None = None

    @property
    def fails(self) -> bool:
        """Whether it does not answer every call of late."""
        return self.failing_since is not None and self.availability < AVAILABLE

    @property
    def down(self) -> bool:
        """Whether it does not answer of late, so that it gets no calls but probes while another arm answers."""
        return self.fails and self.availability < UNAVAILABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusWarning:
    """Something that an operator should look at.

    Args:
        code: what it is, for programs; ``docs/operating.md`` lists the codes.
        severity: how urgent it is: "critical" where calls fail, "error" where arms, the database or the budget do not
            do what they should, "warning" for the rest.
        short: what is wrong, in a few words.
        text: the same as a whole sentence without its full stop, with what to do.
    """

    code: str
    severity: Severity
    short: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentStatus:
    """One segment of a group's calls.

    Args:
        name: the segment; ``""`` is that of calls without one, and of those that are not told apart.
        share: of the group's calls, in [0, 1].
        pulls: decisions of its calls.
        reward_count: rewards reported.
        reward_mean: their mean, or None without any.
        cost_mean_usd: mean cost of a call, US dollars; None before any cost is known.
        probabilities: share of its calls that each live arm gets now, by arm, the largest first.
        prior_rewards: what a benchmark said beforehand that arms are worth in it, in [0, 1], by arm.
    """

    name: str
    share: float
    pulls: int
    reward_count: int
    reward_mean: float | None
    cost_mean_usd: float | None
    probabilities: dict[str, float]
    prior_rewards: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupStatus:
    """One managed group. Amounts in US dollars, times in seconds since the epoch.

    Args:
        name: the model group.
        stage: number of the current stage, from 1.
        stage_reason: why its window opened: "start", "schedule", "manual", "departure", "outage" or "recovery".
        stage_opened_at: when.
        stage_calls: decisions in this stage so far.
        calls: decisions so far.
        calls_per_minute: the group's traffic of late, which rate limits are turned into shares by; None before any
            call of this process, and where the status is told from the database.
        open_calls: of those, calls whose cost is not known yet.
        spend_usd: costs known so far.
        in_flight_usd: expected costs of the open calls.
        budget_usd_per_call: the budget.
        spend_ratio: spend, in flight included, over budget times calls; None before the first call.
        shadow_price: reward that one more dollar would buy; 0 while the budget is slack.
        feasible: False where even the cheapest live mixture is over budget, or shares cannot sum to 1.
        reward_coverage: rewards per decision, in [0, 1] with one source of rewards; None before any call.
        arms: every candidate, the live ones first.
        warnings: what the operator should look at, in plain words: the texts of ``warning_details``.
        segments: where calls are told apart and more than one segment was met: each, the most frequent first.
        segment_worth: what telling them apart is worth in reward per call; None where they are not.
        warning_details: the warnings with a code, a severity and a short form of each, the most urgent first.
    """

    name: str
    stage: int
    stage_reason: str
    stage_opened_at: float
    stage_calls: int
    calls: int
    calls_per_minute: float | None
    open_calls: int
    spend_usd: float
    in_flight_usd: float
    budget_usd_per_call: float
    spend_ratio: float | None
    shadow_price: float
    feasible: bool
    reward_coverage: float | None
    arms: tuple[ArmStatus, ...]
    warnings: tuple[str, ...]
    segments: tuple[SegmentStatus, ...] = ()
    segment_worth: SegmentWorth | None = None
    warning_details: tuple[StatusWarning, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """All managed groups."""

    groups: tuple[GroupStatus, ...]

    def to_dict(self) -> dict[str, object]:
        """Return the status as plain values, ready for JSON.

        ```python
        import json

        print(json.dumps(router.stageroute.status().to_dict(), indent=2))
        ```
        """
        return {"groups": [_plain(asdict(group)) for group in self.groups]}


def _plain(value: object) -> object:
    """Replace infinities, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
