"""The interface between learning and the two programmes: how evidence becomes rewards and costs to plan with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stageroute_router.core.arrays import FloatArray, IntArray
from stageroute_router.core.evidence.evidence import Evidence
from stageroute_router.core.evidence.shrinkage import CellBeliefs


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a rule believes of each arm. Arrays of shape (arms,); costs in US dollars per call.

    ``reward_ucb`` is in [0, 1]; ``cost_lcb`` and ``expected_cost`` are at least 0. ``cells`` is what it believes of
    each arm in each segment, where there is more than one.
    """

    reward_ucb: FloatArray
    cost_lcb: FloatArray
    expected_cost: FloatArray
    cells: CellBeliefs | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenarios:
    """Rewards and costs to solve the routing programme with: one row per scenario, one column per live arm.

    A rule of confidence bounds has one scenario; a posterior rule has many, and the mean of their solutions is
    the distribution that calls are sampled from. Arrays of shape (scenarios, arms), or (scenarios, segments, arms)
    where ``segments`` names more than one; costs in US dollars.

    Args:
        reward: what a call may be worth.
        cost: what it may cost.
        segments: names of the segments; none without context.
        weight: each segment's share of the calls, shape (segments,), summing to 1.
    """

    reward: FloatArray
    cost: FloatArray
    segments: tuple[str, ...] = ()
    weight: FloatArray | None = None

    def times(self, chance: FloatArray) -> Scenarios:
        """Return the same scenarios where calls are answered by chance only, shape (arms,), each in (0, 1]."""
        return Scenarios(
            reward=self.reward * chance, cost=self.cost, segments=self.segments, weight=self.weight
        )

    def take(self, columns: list[int]) -> Scenarios:
        """Return the same scenarios of fewer arms."""
        return Scenarios(
            reward=self.reward[..., columns],
            cost=self.cost[..., columns],
            segments=self.segments,
            weight=self.weight,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """The arms to keep live in a stage.

    Args:
        live: indices of the live arms, at least one.
        explored: index of the live arm that is there for a second look, or None.
        explore_share: the share of calls it gets whatever the programme says, in [0, 1).
    """

    live: tuple[int, ...]
    explored: int | None = None
    explore_share: float = 0.0


class ConfidenceRule(Protocol):
    """Turns evidence into the inputs of the two programmes. Implementations are immutable values."""

    @property
    def paced(self) -> bool:
        """Whether the budget follows realised spend (see ``pacing``)."""
        ...

    @property
    def cost_tolerance(self) -> float:
        """By how much the cheapest live mixture may exceed the budget and still be mixed by reward."""
        ...

    def refresh_after(self, calls: int) -> int:
        """Return after how many more calls the scenarios are worth computing anew, given the calls so far."""
        ...

    def bounds(self, evidence: Evidence, *, budget_usd: float) -> Bounds:
        """Return the bounds of all candidates."""
        ...

    def scenarios(
        self, evidence: Evidence, *, live: IntArray, bounds: Bounds, rng: np.random.Generator
    ) -> Scenarios:
        """Return the scenarios of the live arms, given the evidence and bounds of all candidates."""
        ...

    def plan_stage(
        self,
        evidence: Evidence,
        *,
        budget_usd: float,
        max_live: int,
        pinned: IntArray,
        calls: int,
        calls_per_stage: int,
        rng: np.random.Generator,
    ) -> StagePlan:
        """Return which candidates to keep live. ``pinned`` are indices of arms that always are."""
        ...
