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
    """What an estimator believes of each arm. Arrays of shape (arms,); costs in US dollars per call.

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

    An estimator of confidence bounds has one scenario; a posterior one has many, and the mean of their solutions is
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
        explored: index of the live arm that is there for a revisit, or None.
        explore_share: the share of calls it gets whatever the programme says, in [0, 1).
    """

    live: tuple[int, ...]
    explored: int | None = None
    explore_share: float = 0.0


class Estimator(Protocol):
    """Turns evidence into the inputs of the two programmes. Implementations are immutable values.

    The engine calls the methods in this order:

    1. :meth:`plan_stage`, once when a maintenance window opens: which arms are live until the next one.
    2. :meth:`bounds`, then :meth:`scenarios` for the live arms, for each estimate: at the start, at a window, when the
       candidates change, and when as much has been observed as :meth:`refresh_after` says. The mix that calls are
       sampled from is the mean solution of the routing programme over the scenarios.

    Several threads may call a method at once, for different groups. What it returns depends on its arguments only, so
    that the same seed gives the same choices again.

    A new one is a module of this folder whose class :func:`~stageroute_router.core.estimators.registry.register` names;
    ``tests/core/estimators/test_every_estimator.py`` checks every registered one.

    ```python
    import numpy as np

    from stageroute_router.core.arm import Arm
    from stageroute_router.core.budget.account import Account
    from stageroute_router.core.estimators.registry import make
    from stageroute_router.core.evidence.evidence import ExpectedTokens, gather

    estimator = make("posterior")
    evidence = gather(
        [Arm(name="small", prior_cost_usd=0.001), Arm(name="large", prior_cost_usd=0.01)],
        statistics={},
        account=Account(),
        expected_tokens=ExpectedTokens(),
        max_share=[1.0, 1.0],
    )
    budget, rng = 0.002, np.random.default_rng(0)
    plan = estimator.plan_stage(
        evidence,
        budget_usd=budget,
        max_live=1,
        pinned=np.array([], dtype=np.intp),
        calls=0,
        calls_per_stage=500,
        rng=rng,
    )
    bounds = estimator.bounds(evidence, budget_usd=budget)
    scenarios = estimator.scenarios(evidence, live=np.array(plan.live), bounds=bounds, rng=rng)
    assert scenarios.reward.shape == (64, len(plan.live))  # so many draws of each live arm
    assert estimator.refresh_after(1000) == 31  # the next draws are due after so many calls
    ```
    """

    @property
    def paced(self) -> bool:
        """Whether the budget follows realised spend (see ``pacing``). Read at each estimate and choice."""
        ...

    @property
    def cost_tolerance(self) -> float:
        """By how much the cheapest live mixture may exceed the budget and still be mixed by reward, >= 0.

        Read when the routing programme is solved, and by the status.
        """
        ...

    def refresh_after(self, calls: int) -> int:
        """Return after how many more calls the scenarios are worth computing anew, >= 1.

        Called whenever the engine learns from a commit, with the group's calls so far.
        """
        ...

    def bounds(self, evidence: Evidence, *, budget_usd: float) -> Bounds:
        """Return the bounds of all candidates.

        Called for each estimate, before :meth:`scenarios`; at a window, after :meth:`plan_stage`, to record what was
        known; and by the status, which shows the upper bound of mirrored rewards as the lower one.

        Args:
            evidence: of all candidates, at least one.
            budget_usd: the average that a call may cost, US dollars, > 0: the group's own, not the paced one.
        """
        ...

    def scenarios(
        self, evidence: Evidence, *, live: IntArray, bounds: Bounds, rng: np.random.Generator
    ) -> Scenarios:
        """Return the scenarios of the live arms, at least one.

        Called for each estimate, right after :meth:`bounds`.

        Args:
            evidence: of all candidates.
            live: indices of the live ones, in the order of the columns to return.
            bounds: what :meth:`bounds` returned for this evidence.
            rng: the group's randomness, the only one to use.
        """
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
        """Return which candidates to keep live.

        Called once per maintenance window, by each worker that opens it: all workers adopt the plan stored first.

        Args:
            evidence: of all candidates that answer, at least one.
            budget_usd: the average that a call may cost, US dollars, > 0.
            max_live: most arms live at once, >= 1; more than there are candidates is fine.
            pinned: indices of arms that are live in any case.
            calls: the group's calls so far.
            calls_per_stage: how many calls the stage is expected to have, >= 1.
            rng: the group's randomness, the only one to use.
        """
        ...
