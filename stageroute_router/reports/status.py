"""The status of a group: one documented, stable shape for Python, the command line and HTTP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from stageroute_router.core.availability import AVAILABLE, UNAVAILABLE
from stageroute_router.core.segment_worth import SegmentWorth
from stageroute_router.reports.wording import listed, utc

_FEWEST_FAILURES = 2
"""A single failed call says little: the next answer settles it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmStatus:
    """One arm of a group. Costs in US dollars per call.

    Args:
        name: the arm.
        live: whether it is live in the current stage.
        pinned: whether it always is, from the next window on at the latest.
        pinned_by: who decided that: "operator" where it was pinned or unpinned at run time, which outweighs the
            settings; "settings" where it is pinned there; None where nobody did.
        explored: whether it is live for a second look only.
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
        reward_lcb: lower confidence bound of its reward, in [0, 1], for display: nothing is decided by it. The rule's
            own interval mirrored: one less the upper bound of what the arm failed to earn.
        cost_count: calls with a known cost.
        cost_mean_usd: their mean, or None without any.
        cost_lcb_usd: lower confidence bound of its cost.
        expected_cost_usd: what its next call is expected to cost.
        prior_reward: what it was said to be worth beforehand, in [0, 1]; None where nobody said.
        prior_weight: how many observations that counts as, unless the rewards speak against it; 0 where nobody said.
        prior_source: who said so: "settings", those of its deployments, or "benchmark", the group's table; None where
            nobody did.
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
class Trouble:
    """Arms that do not answer of late, in plain words.

    Args:
        short: which, since when, and what was done, in a few words.
        detail: the same as a whole sentence without its full stop, with how many calls failed, and by what.
        is_total: whether no arm of the group answers.
    """

    short: str
    detail: str
    is_total: bool = False


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
        warnings: what the operator should look at, in plain words.
        segments: where calls are told apart and more than one segment was met: each, the most frequent first.
        segment_worth: what telling them apart is worth in reward per call; None where they are not.
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


def troubles(arms: Sequence[ArmStatus]) -> tuple[Trouble, ...]:
    """Return what is wrong with arms by their latest calls, the most urgent first; empty while all of them answer.

    An arm that answers some of its calls is named while it is live, from its second failure on.

    Args:
        arms: every candidate of a group.
    """
    down = [arm for arm in arms if arm.down]
    if down and len(down) == len(arms):
        return (_total_trouble(down),)
    unsteady = [
        arm
        for arm in arms
        if arm.fails and not arm.down and arm.live and arm.recent_failures >= _FEWEST_FAILURES
    ]
    down.sort(key=lambda arm: (not arm.live, arm.failing_since, arm.name))
    unsteady.sort(key=lambda arm: (arm.availability, arm.name))
    return (
        *(_trouble_of_an_arm_that_is_down(arm, _where_calls_go(arms)) for arm in down),
        *(_trouble_of_an_unsteady_arm(arm, arms) for arm in unsteady),
    )


def _total_trouble(arms: Sequence[ArmStatus]) -> Trouble:
    since = utc(max(arm.failing_since or 0.0 for arm in arms))
    of_each = listed([f"{_counted_failures(arm)} at {arm.name}" for arm in arms])
    return Trouble(
        short=f"no arm answers since {since} (LiteLLM's own errors reach the callers)",
        detail=f"no arm answers since {since} ({of_each}): LiteLLM's own errors reach the callers; every call tries "
        "arms again, so the first answer ends it",
        is_total=True,
    )


def _trouble_of_an_arm_that_is_down(arm: ArmStatus, others: str) -> Trouble:
    since = utc(arm.failing_since or 0.0)
    return Trouble(
        short=f"{arm.name} does not answer since {since} (calls go to {others})",
        detail=f"{arm.name} does not answer since {since} ({_counted_failures(arm)}): calls go to {others}; a few "
        "probe it",
    )


def _trouble_of_an_unsteady_arm(arm: ArmStatus, arms: Sequence[ArmStatus]) -> Trouble:
    since = utc(arm.failing_since or 0.0)
    is_last = all(other.down for other in arms if other is not arm)
    done = "no other arm answers" if is_last else "it gets fewer calls"
    return Trouble(
        short=f"{arm.name} does not answer every call since {since} ({done})",
        detail=f"{arm.name} does not answer every call since {since} ({_counted_failures(arm)}; the next call is "
        f"answered with a chance of about {_roughly(arm.availability)} %): {done}",
    )


def _counted_failures(arm: ArmStatus) -> str:
    if arm.recent_failures == 1:
        return "1 call failed" + (f", by {arm.last_failure}" if arm.last_failure else "")
    return f"{arm.recent_failures:,} calls failed" + (
        f", the last by {arm.last_failure}" if arm.last_failure else ""
    )


def _where_calls_go(arms: Sequence[ArmStatus]) -> str:
    """Return the arms that calls go to while others are down: live ones by their share, else other candidates."""
    answering = [arm for arm in arms if not arm.down]
    live = [arm for arm in answering if arm.live]
    busy = [arm for arm in live if arm.probability > 0]
    return listed([arm.name for arm in sorted(busy or live or answering, key=lambda arm: -arm.probability)])


def _roughly(chance: float) -> int:
    return 5 * round(20 * chance)


def _plain(value: object) -> object:
    """Replace infinities, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
