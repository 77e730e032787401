"""One routing decision: what the runtime answers, and what is remembered of a call afterwards."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingDecision:
    """A call of ``group`` was routed to ``arm``; rewards may name ``decision_id``.

    Args:
        decision_id: ours, unique.
        group: the model group asked for.
        arm: name of the chosen arm.
        stage: number of the stage it was made in.
        probability: the probability the arm was chosen with, in (0, 1].
        shadow_price: reward that one more dollar would have bought; 0 while the budget is slack, infinite where no mix
            of arms keeps it.
        outside_live_set: whether no live arm was eligible, so that one outside the live set was taken.
    """

    decision_id: str
    group: str
    arm: str
    stage: int
    probability: float
    shadow_price: float
    outside_live_set: bool = False
