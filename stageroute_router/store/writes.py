"""The writes a store takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from stageroute_router.core.budget.account import Charge
from stageroute_router.core.snapshot import ArmEvidence

FAILURE_SOURCE = "failure"
"""The source of rewards given by the settings to calls that failed (:class:`CallFailed`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionMade:
    """A call was routed. Ignored when a decision with this id is already stored, or was folded away.

    Args:
        decision_id: ours, unique.
        call_id: LiteLLM's id of the logical call; retries and fallbacks of one call share it.
        group: the model group.
        segment: the segment, ``""`` without context.
        arm: the arm chosen.
        stage: number of the stage it was chosen in.
        probability: the probability it was chosen with.
        charge: what it books on the group's account.
        reward_ucb: upper bound of the arm's reward at the choice.
        cost_lcb_usd: lower bound of the arm's cost at the choice, US dollars.
        shadow_price: reward that one more dollar would have bought at the choice.
        made_at: seconds since the epoch.
        caller: a short digest naming who made the call, or None; never a key.
        mix_id: of the :class:`MixRecorded` it was sampled from, or None.
    """

    decision_id: str
    call_id: str
    group: str
    segment: str
    arm: str
    stage: int
    probability: float
    charge: Charge
    reward_ucb: float
    cost_lcb_usd: float
    shadow_price: float
    made_at: float
    caller: str | None = None
    mix_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedArm:
    """One arm at the moment a mix was made.

    Args:
        arm: the arm.
        probability: the share of calls the mix gives it; 0 where it was kept out.
        reward_ucb: upper bound of its reward.
        cost_lcb_usd: lower bound of its cost.
        share_limit: largest share it might get, in (0, 1].
        share_limited_by: what set that: "max_share", "rpm" or "tpm"; None where nothing did.
        kept_out: why it was no part of the mix: "ineligible": it could not serve this call; "unproven": it had its
            fill of calls under way; "unavailable": it did not answer of late; None where it was.
        segment_reward: what a call of the mix's segment was expected to earn with it: the mean over what the mix was
            solved for; None where the mix is not that of a segment.
        segment_cost_usd: what such a call was expected to cost, US dollars; None likewise.
    """

    arm: str
    probability: float
    reward_ucb: float
    cost_lcb_usd: float
    share_limit: float = 1.0
    share_limited_by: str | None = None
    kept_out: Literal["ineligible", "unproven", "unavailable"] | None = None
    segment_reward: float | None = None
    segment_cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MixRecorded:
    """A distribution that decisions are sampled from, for their receipts. Ignored when one with this id is stored.

    Written once, before the first decision that names it. Kept as long as decisions of its time are, and at least
    :data:`MIX_LIFETIME_S` longer.

    Args:
        mix_id: unique.
        group: the model group.
        made_at: seconds since the epoch.
        arms: the live arms, and those outside the live set that were mixed; none where calls of many prices share the
            record.
        shadow_price: reward that one more dollar would buy; None where no mixture keeps the budget, and where calls
            of many prices share the record.
        paced_budget_usd: the budget it was solved with, US dollars per call.
        feasible: False where even the cheapest mixture exceeds the budget, or shares cannot sum to 1.
        explored: the arm that got calls for a revisit, or None.
        explore_share: the share of calls it got for that.
        outside_live_set: whether no live arm could serve, so that others were mixed.
        cheapest_only: whether every arm had its fill of calls under way, so that calls went to the cheapest.
        segment: the segment whose estimates it was solved for; None where it was solved for those over all calls.
        priced: whether the shadow price is its callers' own, not the budget's.
        probes: arms that got ``probe_share`` of the calls to find out whether they answer again.
        probe_share: in [0, 1).
    """

    mix_id: str
    group: str
    made_at: float
    arms: tuple[MixedArm, ...]
    shadow_price: float | None
    paced_budget_usd: float
    feasible: bool
    explored: str | None = None
    explore_share: float = 0.0
    outside_live_set: bool = False
    cheapest_only: bool = False
    segment: str | None = None
    priced: bool = False
    probes: tuple[str, ...] = ()
    probe_share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettled:
    """A routed call was answered. Ignored when the decision is unknown, or closed (unless as lost).

    ``arm`` is the one that served: where it differs from the decision's, the decision's pull (and any reward
    already given) moves to it. ``response_id`` becomes another key that rewards may name.
    """

    decision_id: str
    arm: str
    cost_usd: float
    prompt_tokens: int
    completion_tokens: int
    response_id: str | None
    settled_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailed:
    """A routed call failed at the provider: counted as a failure, cost 0. Ignored unless it is open or lost.

    The account books a cost of 0; the arm's statistics count a failure and no cost, because a call that was
    never answered says nothing about the price of an answer. ``reward`` is the reward the application's
    settings give to a failure of the provider, or None for none; it is kept under the source :data:`FAILURE_SOURCE`.
    """

    decision_id: str
    reward: float | None
    failed_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallWithdrawn:
    """A decision does not count: LiteLLM answered from its cache. Ignored unless it is open or lost.

    Its pull, its charge and any reward given to it are taken back; its keys name nothing from then on.
    """

    decision_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardReported:
    """The application says how good an answer was.

    Args:
        key: a decision id, a response id, or a call id, looked for in this order. Of a call that was decided
            several times, the last decision made before ``reported_at`` is meant.
        reward: in [0, 1].
        source: who says so. The same (decision, source) again replaces the earlier value.
        reported_at: seconds since the epoch.
        keep: whether to keep the reward when the key is unknown, until a decision with it appears.
        replace: whether it replaces an earlier value of its source; if not, the earlier one stays.
        caller: who says so, as in :class:`DecisionMade`: where the decision has another caller or none, nothing
            is counted and the receipt says ``not_yours``. None: not checked.
    """

    key: str
    reward: float
    source: str
    reported_at: float
    keep: bool
    replace: bool = True
    caller: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRevoked:
    """The application takes a reward back: it counts no longer. Doing so again changes nothing.

    Args:
        key: as in :class:`RewardReported`.
        source: whose reward; other sources' stay.
        revoked_at: seconds since the epoch.
        caller: as in :class:`RewardReported`.
    """

    key: str
    source: str
    revoked_at: float
    caller: str | None = None


RewardWrite = RewardReported | RewardRevoked
"""The writes that get a receipt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlanned:
    """A stage was opened with a live set. The first plan written for a (group, stage) wins.

    Args:
        group: the model group.
        stage: counts from 1.
        live: the live arms, at least one.
        explored: the live arm that is there for a revisit, with the share of calls it gets, or None.
        explore_share: that share, in [0, 1).
        reason: why the window opened: ``"start"``, ``"schedule"``, ``"manual"``, ``"departure"``, ``"outage"``,
            ``"recovery"``.
        opened_at: seconds since the epoch.
        opened_at_call: calls of the group before it.
        evidence: what was known of each candidate then; no part of the plan, so it is not compared.
    """

    group: str
    stage: int
    live: tuple[str, ...]
    explored: str | None
    explore_share: float
    reason: str
    opened_at: float
    opened_at_call: int
    evidence: tuple[ArmEvidence, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupConfigured:
    """A process says how a group is configured, so that its status can be told from the store alone.

    Args:
        group: the model group.
        settings: its settings, a JSON object; the latest written wins.
        arms: its candidates with their prices and shares, a JSON array.
    """

    group: str
    settings: str
    arms: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmPinned:
    """An operator decided whether an arm is live in every stage, whatever the configuration says. The latest counts.

    Ignored unless it is later than what is stored of the arm: an old one that arrives late changes nothing.

    Args:
        group: the model group.
        arm: the arm; it need not be a candidate now.
        pinned: whether it is live in every stage; None to go by the configuration again.
        set_at: seconds since the epoch.
    """

    group: str
    arm: str
    pinned: bool | None
    set_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentsForgotten:
    """What is known of a group's segments that no call had for long is added to ``""``; the arms' totals stay.

    Decisions of these segments keep their names and count in ``""`` from then on, rewards that come late included. A
    segment that calls have again begins anew. Applied before anything else of its batch.

    Args:
        group: the model group.
        unseen_since: those segments whose :attr:`StoredSegment.last_seen` is before this moment; seconds since the
            epoch, at least :data:`LAST_SEEN_STEP_S` ago.
    """

    group: str
    unseen_since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterFitted:
    """What finds the segments that calls do not name was fitted. The first one written for a version wins.

    Args:
        group: the model group.
        version: counts from 1.
        fitted: a JSON object, of at most :data:`LONGEST_SEGMENTER` characters; sums over many prompts, never a prompt.
        fitted_at: seconds since the epoch.
    """

    group: str
    version: int
    fitted: str
    fitted_at: float


Write = (
    DecisionMade
    | CallSettled
    | CallFailed
    | CallWithdrawn
    | RewardWrite
    | MixRecorded
    | StagePlanned
    | GroupConfigured
    | ArmPinned
    | SegmentsForgotten
    | SegmenterFitted
)
