"""What an operator is shown besides the status: stages, history, and the receipt of a decision.

One documented shape for Python, the command line and HTTP: ``dataclasses.asdict`` of these values is their JSON.
Amounts are US dollars, times seconds since the epoch, rewards in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stageroute_router.core.snapshot import ArmEvidence as ArmEvidence  # noqa: PLC0414 - part of a stage's report
from stageroute_router.store.history import HistoryPoint as HistoryPoint  # noqa: PLC0414 - part of what is shown

Binding = Literal[
    "none",
    "budget",
    "price",
    "share",
    "revisit",
    "outside_live_set",
    "unproven",
    "unavailable",
    "probe",
]
"""What kept a decision from simply taking the arm with the highest reward bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """An arm that came into the live set at a maintenance window, or left it.

    Args:
        arm: the arm.
        moved: which of the two.
        why: in plain words.
    """

    arm: str
    moved: Literal["came", "left"]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """One stage of a group.

    Args:
        group: the model group.
        stage: counts from 1.
        reason: why its window opened: "start", "schedule", "manual", "departure", "outage" or "recovery".
        opened_at: when.
        opened_at_call: the group's decisions before it.
        calls: decisions in it, so far if it is the current one.
        live: its live arms.
        explored: the one that is live for a revisit only, or None.
        explore_share: the share of calls that one gets.
        moves: who came and who left, against the stage before; all arms come to the first.
        evidence: what was known of each candidate then; empty where a release before this one planned it.
    """

    group: str
    stage: int
    reason: str
    opened_at: float
    opened_at_call: int
    calls: int
    live: tuple[str, ...]
    explored: str | None
    explore_share: float
    moves: tuple[Move, ...]
    evidence: tuple[ArmEvidence, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A candidate that a decision could have chosen, or why it could not.

    Args:
        arm: the candidate; the chosen one is among them.
        live: whether it was live.
        probability: the probability it had; 0 where it could not be chosen.
        reward_ucb: upper bound of its reward.
        cost_lcb_usd: lower bound of its cost.
        value: what it was worth after paying: ``reward_ucb - shadow_price * cost_lcb_usd``, or with ``segment_reward``
            and ``segment_cost_usd`` where the decision used those; None where the shadow price is infinite (no
            mixture keeps the budget) or nothing was recorded of the arm.
        why: why it was chosen, or was not, in plain words.
        segment_reward: what a call of the receipt's ``estimates_of`` was expected to earn with it; None where that is.
        segment_cost_usd: what such a call was expected to cost; None likewise.
    """

    arm: str
    live: bool
    probability: float
    reward_ucb: float
    cost_lcb_usd: float
    value: float | None
    why: str
    segment_reward: float | None = None
    segment_cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One routing decision of a call: a retry or fallback adds another.

    Args:
        decision_id: of the decision.
        group: the model group it was made for: a fallback may be another's.
        arm: the arm chosen.
        served_arm: the arm that served.
        probability: the probability it was chosen with.
        made_at: when.
        state: "open", "settled", "failed" or "lost".
        cost_usd: what it cost; None while that is not known.
    """

    decision_id: str
    group: str
    arm: str
    served_arm: str
    probability: float
    made_at: float
    state: Literal["open", "settled", "failed", "lost"]
    cost_usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionReceipt:
    """Why a call went where it went, and what became of it.

    Args:
        decision_id: of the decision.
        call_id: LiteLLM's id of the call.
        response_id: the provider's id of the answer, once there is one.
        group: the model group.
        segment: the segment, "" without context.
        stage: the stage it was made in.
        made_at: when.
        arm: the arm chosen.
        served_arm: the arm that served.
        probability: the probability it was chosen with.
        reward_ucb: upper bound of the arm's reward then, over all segments.
        cost_lcb_usd: lower bound of the arm's cost then, over all segments.
        expected_cost_usd: what the call was expected to cost.
        budget_usd_per_call: the group's budget then.
        shadow_price: reward that one more dollar would have bought; 0 while the budget was slack. The call's own
            price where it was ``priced``.
        binding: what constrained the choice.
        explanation: the same in a sentence.
        state: "open", "settled", "failed" or "lost".
        cost_usd: what it cost; None while that is not known.
        rewards: reward by source.
        alternatives: the candidates, the most valuable first.
        attempts: every decision of the same call in order, this one among them: the fallback path.
        priced: whether the call's price was its caller's, in place of the budget's shadow price.
        estimates_of: the segment whose estimates the decision used: ``segment``, or ``""`` before any were known of it.
            None where it used those over all calls, or that was not recorded.
    """

    decision_id: str
    call_id: str
    response_id: str | None
    group: str
    segment: str
    stage: int
    made_at: float
    arm: str
    served_arm: str
    probability: float
    reward_ucb: float
    cost_lcb_usd: float
    expected_cost_usd: float
    budget_usd_per_call: float
    shadow_price: float
    binding: Binding
    explanation: str
    state: Literal["open", "settled", "failed", "lost"]
    cost_usd: float | None
    rewards: Mapping[str, float]
    alternatives: tuple[Alternative, ...]
    attempts: tuple[Attempt, ...]
    priced: bool = False
    estimates_of: str | None = None
