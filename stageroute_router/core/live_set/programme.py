"""Which arms to keep live during the next stage: the paper's mixed-integer programme.

    max  sum u_i d_i   subject to   sum c_i d_i <= b,   sum d_i = 1,   0 <= d_i <= alpha_i z_i,
                                    sum z_i = min(max_live, candidates),   z_i in {0, 1}

``d`` only selects the set; calls are routed later, with fresher bounds. The arms with z_i = 1 are live. Those
that ``d`` does not need are chosen by the largest u_i: that is how newcomers get their first calls.

Most programmes need no integer solver. Without z this is the routing programme over all candidates; its best
value can only be higher, so where its support (with the pinned arms) fits into the places, the support is
optimal here too. Without shares below 1 the support has at most two arms: with two constraints besides the
bounds, a corner of the routing programme has at most two arms strictly between 0 and 1, and none can be at 1
beside another. So only shares below 1 (or a single place) bring in HiGHS.

Source: the deployment step ("DeployOPT") of Li & Li, arXiv 2506.17254. How free places are filled, the
shortcut, the search that stands in for a solver in trouble and the treatment of infeasible programmes are
ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from stageroute_router.core.arrays import FloatArray
from stageroute_router.core.routing.closed_form import (
    SHARE_TOLERANCE,
    Numbers,
    RoutingSolution,
    solve_routing,
)

_MASS = 1e-12
"""A smaller probability is rounding, not a need for the arm."""
_SCALE = 1e4
"""HiGHS stops within 1e-6 of the best objective; rewards times this make that 1e-10 of a reward."""
_DEAREST = 1e6
"""An arm that costs more than this many budgets could get less than a millionth of the calls: left out."""
_MARGIN = 1e-6
"""HiGHS lets a set exceed the budget by 1e-7 of it; such a set is refused and the budget lowered by this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSetPlan:
    """The arms to keep live.

    Args:
        live: their positions, ascending; min(max_live, candidates) of them, or the pinned ones if those are
            more.
        value: the best reward of a mixture of them within budget and shares, sum u_i d_i. Where none is, the
            reward of the mixture that ``solve_routing`` falls back to.
        feasible: whether some mixture of them holds budget and shares.
        exact: whether no other set is better. False when the solver ran out of time or failed and the choice
            of a search by exchanges stands in.
    """

    live: tuple[int, ...]
    value: float
    feasible: bool
    exact: bool


def plan_live_set(
    reward_ucb: Numbers,
    cost_lcb: Numbers,
    *,
    budget: float,
    max_live: int,
    max_share: float | Numbers = 1.0,
    time_limit_s: float = 1.0,
    observations: Numbers | None = None,
    pinned: Iterable[int] | None = None,
) -> LiveSetPlan:
    """Choose the live set with the best routing programme. Deterministic, save where the time limit cuts in.

    A budget that no set can hold: the set whose cheapest mixture is cheapest. Shares that no set can sum to
    1: the arms with the largest shares. Both as ``feasible=False``, and free places are filled all the same.

    Args:
        reward_ucb: u, what an arm's reward may be; any finite numbers. Shape [K], K at least 1.
        cost_lcb: c, what a call to it may cost in US dollars; finite, at least 0. Shape [K].
        budget: b, US dollars per call on average; finite, at least 0.
        max_live: how many arms may be live; at least 1.
        max_share: alpha, the largest share of the calls an arm may get, in [0, 1]: one for all or shape [K].
        time_limit_s: seconds each run of the integer solver may take (one, rarely two or three), above 0;
            default 1, because a window opens in the background.
        observations: per arm; the least observed goes first among equal rewards. Shape [K]. Default: all equal.
        pinned: positions that are live whatever the programme says; they count against ``max_live``, and if
            they fill it or more, they are the live set.

    Returns:
        The plan; ``plan.live`` is never empty.

    Raises:
        ValueError: what ``solve_routing`` refuses, ``max_live`` below 1, a pinned position that does not exist.

    Two places; the two best arms together cost 4.5 a call, which is over the budget:

    >>> plan = plan_live_set([0.9, 0.8, 0.3], [5, 4, 1], budget=3, max_share=0.5, max_live=2)
    >>> plan.live, round(plan.value, 6), plan.exact
    ((0, 2), 0.6, True)
    """
    if max_live < 1:
        raise ValueError(f"max_live must be at least 1, got {max_live}")
    relaxed = solve_routing(
        reward_ucb, cost_lcb, budget=budget, max_share=max_share, preference=observations
    )  # checks the numbers
    count = len(relaxed.probabilities)
    kept = tuple(sorted({int(arm) for arm in pinned})) if pinned is not None else ()
    if kept and not (kept[0] >= 0 and kept[-1] < count):
        raise ValueError(f"pinned must be positions in 0..{count - 1}, got {list(kept)}")
    candidates = _Candidates(
        reward=np.asarray(reward_ucb, dtype=np.float64),
        cost=np.asarray(cost_lcb, dtype=np.float64),
        share=np.broadcast_to(np.asarray(max_share, dtype=np.float64), (count,)),
        observations=np.zeros(count) if observations is None else np.asarray(observations, dtype=np.float64),
        budget=float(budget),
        pinned=kept,
        places=min(max_live, count),
    )
    return candidates.plan(relaxed, time_limit_s=time_limit_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidates:
    """One programme: checked arrays over all candidates, and the places there are."""

    reward: FloatArray
    cost: FloatArray
    share: FloatArray
    observations: FloatArray
    budget: float
    pinned: tuple[int, ...]
    places: int

    def plan(self, relaxed: RoutingSolution, *, time_limit_s: float) -> LiveSetPlan:
        """Return the best set, by the cheapest way that can prove it; ``relaxed`` is over all arms."""
        support = [arm for arm, mass in enumerate(relaxed.probabilities) if mass > _MASS]
        if len(self.pinned) >= self.places or len({*support, *self.pinned}) <= self.places:
            return self._planned(support, exact=True)
        widest = self._first(np.lexsort((self.cost, self.observations, -self.reward, -self.share)).tolist())
        if not self._shares_hold(widest):
            return self._planned(widest, exact=True)
        if relaxed.feasible:
            for budget in (self.budget, self.budget * (1 - _MARGIN)):
                found = self._best_reward(budget=budget, time_limit_s=time_limit_s)
                if found.infeasible:
                    break
                if not found.optimal:
                    return self._planned(self._search(relaxed, found.live), exact=False)
                if self._route(found.live).feasible:
                    return self._planned(found.live, exact=budget == self.budget)
        found = self._least_cost(below=self._route(widest).cost, time_limit_s=time_limit_s)
        if found.optimal:
            return self._planned(found.live, exact=True)
        return self._planned(self._search(relaxed, found.live), exact=False)

    def _planned(self, chosen: Sequence[int], *, exact: bool) -> LiveSetPlan:
        """Return the plan with these arms and the pinned ones, free places filled."""
        live = list(self.pinned) if len(self.pinned) >= self.places else sorted({*self.pinned, *chosen})
        # An arm without a share gets no calls, so its large bound is no reason to keep it.
        filling = np.lexsort((self.cost, self.observations, -self.reward, self.share == 0))
        live.extend([arm for arm in filling.tolist() if arm not in live][: max(self.places - len(live), 0)])
        live.sort()
        solution = self._route(live)
        return LiveSetPlan(live=tuple(live), value=solution.value, feasible=solution.feasible, exact=exact)

    def _first(self, order: Iterable[int]) -> list[int]:
        """Return the pinned arms and the first others of an order, as many as there are places."""
        others = [arm for arm in order if arm not in self.pinned]
        return [*self.pinned, *others[: self.places - len(self.pinned)]]

    def _route(self, live: Sequence[int]) -> RoutingSolution:
        arms = list(live)
        return solve_routing(
            self.reward[arms], self.cost[arms], budget=self.budget, max_share=self.share[arms]
        )

    def _shares_hold(self, live: Sequence[int]) -> bool:
        return float(self.share[list(live)].sum()) >= 1 - SHARE_TOLERANCE

    def _merit(self, live: Sequence[int]) -> tuple[bool, bool, float]:
        solution = self._route(live)
        gain = solution.value if solution.feasible else -solution.cost
        return solution.feasible, self._shares_hold(live), gain

    def _search(self, relaxed: RoutingSolution, found: list[int]) -> list[int]:
        """Return a good set without an integer solver, at least as good as what the solver found in its time.

        Rank the arms by their mass in the relaxed programme, then by reward less cost at its shadow price.
        Take the first few, with the cheapest arms (or those with the largest shares) in the other places, for
        every number of the first few. From the best of these sets and the solver's, exchange one arm for
        another as long as that helps, three times round at most.
        """
        price = relaxed.shadow_price
        worth = self.reward - price * self.cost if np.isfinite(price) else -self.cost
        rank = np.lexsort((-worth, -np.asarray(relaxed.probabilities))).tolist()
        others = (np.lexsort((-self.reward, self.cost)), np.lexsort((self.cost, -self.share)))
        sets = [
            self._first(dict.fromkeys([*rank[:head], *order.tolist()]))
            for order in others
            for head in range(self.places + 1)
        ]
        if found:
            sets.append(self._first(dict.fromkeys([*found, *rank])))
        best = max(sets, key=self._merit)
        merit = self._merit(best)
        for _ in range(3):
            before = merit
            for arm in rank:
                for place in range(len(self.pinned), len(best)):
                    swapped = [*best[:place], arm, *best[place + 1 :]]
                    if arm not in best and self._merit(swapped) > merit:
                        best, merit = swapped, self._merit(swapped)
            if merit == before:
                break
        return best

    def _best_reward(self, *, budget: float, time_limit_s: float) -> _Found:
        """Solve the programme as it stands."""
        spread = float(np.ptp(self.reward)) or 1.0
        gain = (self.reward - self.reward.max()) * (_SCALE / spread)
        if budget > 0:
            dearness = self.cost / budget
            # No mixture within the budget gives an arm more than the budget would pay for.
            most = np.where(dearness > _DEAREST, 0.0, np.minimum(self.share, 1 / np.maximum(dearness, 1.0)))
            row = np.where(dearness > _DEAREST, 0.0, dearness - 1)
        else:
            most = np.where(self.cost > 0, 0.0, self.share)
            row = np.zeros(len(most))
        return self._integer(-gain, most=most, budget_row=row, time_limit_s=time_limit_s)

    def _least_cost(self, *, below: float, time_limit_s: float) -> _Found:
        """Find the set whose cheapest mixture is cheapest, knowing one at a cost of ``below``."""
        price = self.cost * (_SCALE / below) if below > 0 else self.cost
        row = np.zeros(len(price))
        return self._integer(price, most=self.share, budget_row=row, time_limit_s=time_limit_s)

    def _integer(
        self, objective: FloatArray, *, most: FloatArray, budget_row: FloatArray, time_limit_s: float
    ) -> _Found:
        """Minimise over the mixtures d and the places z; whatever goes wrong, return what was found."""
        count = len(objective)
        nothing = np.zeros(count)
        held = np.zeros(count)
        held[list(self.pinned)] = 1.0
        rows = np.vstack(
            [
                np.concatenate([np.ones(count), nothing]),
                np.concatenate([nothing, np.ones(count)]),
                np.concatenate([budget_row, nothing]),
                np.hstack([np.eye(count), -np.diag(most)]),
            ]
        )
        highest = np.concatenate([[1.0, self.places, 0.0], nothing])
        lowest = np.full(len(highest), -np.inf)
        lowest[0] = 1.0
        try:
            result = milp(
                np.concatenate([objective, nothing]),
                constraints=LinearConstraint(rows, lowest, highest),
                bounds=Bounds(np.concatenate([nothing, held]), np.concatenate([most, np.ones(count)])),
                integrality=np.concatenate([nothing, np.ones(count)]),
                options={"time_limit": time_limit_s, "mip_rel_gap": 0.0},
            )
        except Exception:  # noqa: BLE001 - whatever ails the solver must not stop the calls
            return _Found(live=[], optimal=False, infeasible=False)
        live = [] if result.x is None else np.flatnonzero(result.x[count:] > 0.5).tolist()
        return _Found(live=live, optimal=result.status == 0 and bool(live), infeasible=result.status == 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What the integer solver has to say."""

    live: list[int]
    optimal: bool
    infeasible: bool
