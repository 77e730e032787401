"""The live set: as good as the best of all sets, filled with what is worth exploring, never empty."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from stageroute_router.core.live_set import plan_live_set
from stageroute_router.core.live_set import programme as live_set
from stageroute_router.core.live_set.programme import LiveSetPlan
from stageroute_router.core.routing.closed_form import solve_routing

FloatArray = NDArray[np.float64]


@pytest.fixture
def integer_solves(monkeypatch: pytest.MonkeyPatch) -> list[OptimizeResult]:
    """Return the results of the integer solver, as they come."""
    results: list[OptimizeResult] = []
    solve = live_set.milp

    def recorded(*args: Any, **kwargs: Any) -> OptimizeResult:
        results.append(solve(*args, **kwargs))
        return results[-1]

    monkeypatch.setattr(live_set, "milp", recorded)
    return results


def cheapest_cost(costs: FloatArray, shares: FloatArray) -> float:
    return solve_routing(-costs, costs, budget=0, max_share=shares).cost


def check_against_enumeration(
    rewards: FloatArray,
    costs: FloatArray,
    *,
    budget: float,
    shares: FloatArray,
    max_live: int,
    pinned: tuple[int, ...] = (),
) -> LiveSetPlan:
    """Compare with the closed form on every set of that size."""
    plan = plan_live_set(rewards, costs, budget=budget, max_share=shares, max_live=max_live, pinned=pinned)
    assert plan.exact
    assert len(plan.live) == min(max_live, len(rewards))
    assert set(pinned) <= set(plan.live)
    sets = [list(s) for s in combinations(range(len(rewards)), len(plan.live)) if set(pinned) <= set(s)]
    solutions = [solve_routing(rewards[s], costs[s], budget=budget, max_share=shares[s]) for s in sets]
    feasible = [solution.value for solution in solutions if solution.feasible]
    assert plan.feasible == bool(feasible)
    if feasible:
        assert plan.value == pytest.approx(max(feasible), abs=1e-9)
        return plan
    chosen = list(plan.live)
    in_shares = [s for s in sets if shares[s].sum() >= 1 - 1e-12]
    if in_shares:
        assert shares[chosen].sum() >= 1 - 1e-12
        least = min(cheapest_cost(costs[s], shares[s]) for s in in_shares)
        assert cheapest_cost(costs[chosen], shares[chosen]) == pytest.approx(least, rel=1e-9)
    else:
        assert shares[chosen].sum() == pytest.approx(max(shares[s].sum() for s in sets))
    return plan


@pytest.mark.parametrize("seed", range(10))
def test_no_other_set_is_better(seed: int, integer_solves: list[OptimizeResult]) -> None:
    """Random shares, tight and unreachable budgets, pinned arms; up to nine candidates."""
    rng = np.random.default_rng(seed)
    plans = []
    for _ in range(40):
        count = int(rng.integers(2, 10))
        costs = 10 ** rng.uniform(-5, -2, count)
        shares = rng.uniform(0.1, 0.7, count)
        max_live = int(rng.integers(1, count + 1))
        pins = rng.permutation(count)[: int(rng.integers(0, max_live))] if rng.random() < 0.3 else ()
        plans.append(
            check_against_enumeration(
                rng.random(count),
                costs,
                budget=float(np.quantile(costs, rng.random()) * rng.choice([1, 0.7])),
                shares=shares,
                max_live=max_live,
                pinned=tuple(int(arm) for arm in pins),
            )
        )
    assert integer_solves, "some programmes need integers"
    assert {plan.feasible for plan in plans} == {True, False}


@pytest.mark.parametrize("seed", range(6))
def test_no_other_set_is_better_on_a_coarse_grid(seed: int) -> None:
    """Quarters: twins, arms on one line, budgets met exactly, shares of 0, free arms, no budget."""
    rng = np.random.default_rng(seed)
    for _ in range(40):
        count = int(rng.integers(2, 8))
        check_against_enumeration(
            rng.integers(0, 5, count) / 4,
            rng.integers(0, 5, count) / 4 * 2.0**-12,
            budget=float(rng.integers(0, 9)) / 8 * 2.0**-12,
            shares=rng.integers(0, 5, count) / 4,
            max_live=int(rng.integers(1, count + 1)),
        )


def test_no_other_set_of_twelve_candidates_is_better(integer_solves: list[OptimizeResult]) -> None:
    """The size of a real group: four places, shares of two fifths, so the relaxed support can be too large."""
    rng = np.random.default_rng(12)
    for max_live in (3, 3, 3, 4):
        costs = 10 ** rng.uniform(-5, -2, 12)
        rewards = np.clip(0.5 + 0.1 * np.log10(costs / 1e-3) + rng.normal(0, 0.05, 12), 0, 1)
        check_against_enumeration(
            rewards,
            costs,
            budget=float(np.median(costs)),
            shares=np.full(12, 0.4),
            max_live=max_live,
        )
    assert integer_solves


@pytest.mark.parametrize("seed", range(5))
def test_without_shares_two_places_never_need_integers(
    seed: int, integer_solves: list[OptimizeResult]
) -> None:
    """The support of the relaxed programme has at most two arms, so the closed form is already best."""
    rng = np.random.default_rng(seed)
    for _ in range(20):
        count = int(rng.integers(2, 10))
        costs = rng.random(count)
        check_against_enumeration(
            np.round(rng.random(count), 1),
            costs,
            budget=float(rng.choice(costs)),
            shares=np.ones(count),
            max_live=int(rng.integers(2, count + 1)),
        )
    assert not integer_solves


def test_one_place_goes_to_the_best_arm_within_the_budget() -> None:
    """Not to one half of a mixture."""
    plan = plan_live_set([1.0, 0.7, 0.1], [2.0, 0.9, 0.0], budget=1.0, max_live=1)
    assert plan == LiveSetPlan(live=(1,), value=0.7, feasible=True, exact=True)


def test_free_places_go_to_the_largest_bounds_least_observed_first() -> None:
    """The best pair needs two places; the others are for exploring."""
    rewards = [1.0, 0.9, 0.9, 0.9, 0.2]
    plan = plan_live_set(rewards, [9, 8, 7, 6, 0.1], budget=0.1, max_live=3, observations=[9, 5, 2, 2, 9])
    assert plan.live == (0, 3, 4), "the largest bound, then of the two least observed the cheaper"
    plan = plan_live_set([1.0] * 5, [0.0] * 5, budget=0.1, max_live=2, observations=[4, 3, 0, 2, 0])
    assert plan.live == (2, 4)


def test_free_places_are_not_given_to_arms_that_may_not_have_a_share() -> None:
    plan = plan_live_set([0.5, 1.0, 0.4], [1, 1, 1], budget=2, max_share=[1, 0, 1], max_live=2)
    assert plan.live == (0, 2)


def test_pinned_arms_are_live_and_count() -> None:
    rewards, costs = [0.1, 0.9, 0.8], [1, 1, 1]
    assert plan_live_set(rewards, costs, budget=1, max_live=2, pinned=[0]).live == (0, 1)
    assert plan_live_set(rewards, costs, budget=1, max_live=2, pinned=np.array([2, 0, 2])).live == (0, 2)
    assert plan_live_set(rewards, costs, budget=1, max_live=1, pinned=[2, 0]).live == (0, 2)


def test_more_places_than_candidates_keep_all_of_them() -> None:
    plan = plan_live_set([0.1, 0.9], [1, 1], budget=1, max_live=20)
    assert (plan.live, plan.feasible, plan.exact) == ((0, 1), True, True)


def test_an_unreachable_budget_keeps_the_cheapest_mixture_and_fills_the_rest() -> None:
    plan = plan_live_set([0.1, 0.9, 0.8, 0.7], [2, 5, 3, 4], budget=1, max_share=0.5, max_live=3)
    assert plan.live == (0, 1, 2)
    assert (plan.feasible, plan.exact) == (False, True)


def test_shares_that_no_set_can_sum_to_one_keep_the_largest() -> None:
    plan = plan_live_set([0.9, 0.8, 0.1, 0.2], [1] * 4, budget=5, max_share=[0.2, 0.3, 0.4, 0.3], max_live=2)
    assert plan.live == (1, 2)
    assert not plan.feasible


def a_hard_programme() -> dict[str, Any]:
    """Sixty candidates whose relaxed support is larger than the three places, even for the cheapest mixture."""
    rng = np.random.default_rng(0)
    costs = np.exp(rng.normal(-7, 1.2, 60))
    return {
        "reward_ucb": np.clip(0.6 + 0.05 * (np.log(costs) + 7) + rng.normal(0, 0.05, 60), 0, 1),
        "cost_lcb": costs,
        "budget": float(np.quantile(costs, 0.3)),
        "max_share": rng.uniform(0.2, 0.45, 60),
        "max_live": 3,
    }


def planned(programme: dict[str, Any], **changes: Any) -> LiveSetPlan:
    arguments = {**programme, **changes}
    return plan_live_set(arguments.pop("reward_ucb"), arguments.pop("cost_lcb"), **arguments)


def test_plans_are_deterministic(integer_solves: list[OptimizeResult]) -> None:
    assert planned(a_hard_programme()) == planned(a_hard_programme())
    assert len(integer_solves) == 2


@pytest.mark.parametrize("trouble", ["raises", "times out", "fails", "invents"])
def test_when_the_solver_is_in_trouble_a_good_set_stands_in(
    trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calls go on; the plan says that it is not proven, and is not far from the best."""
    best = planned(a_hard_programme())

    def troubled(objective: FloatArray, **_: Any) -> OptimizeResult:
        if trouble == "raises":
            raise RuntimeError("no licence, no luck")
        if trouble == "fails":
            return OptimizeResult(status=4, x=None)
        if trouble == "invents":
            return OptimizeResult(status=0, x=np.zeros(len(objective)))
        poor = np.zeros(len(objective))
        poor[60:63] = 1
        return OptimizeResult(status=1, x=poor)

    monkeypatch.setattr(live_set, "milp", troubled)
    plan = planned(a_hard_programme())
    assert not plan.exact
    assert best.exact
    assert plan.feasible
    assert len(plan.live) == 3
    assert best.value - 0.05 <= plan.value <= best.value


def test_a_solver_out_of_time_with_a_better_set_than_the_greedy_one_is_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    best = planned(a_hard_programme())
    found = np.zeros(120)
    found[[60 + arm for arm in best.live]] = 1
    monkeypatch.setattr(live_set, "milp", lambda *_, **__: OptimizeResult(status=1, x=found))
    plan = planned(a_hard_programme())
    assert (plan.live, plan.exact) == (best.live, False)


def test_a_set_beyond_the_budget_by_the_solvers_tolerance_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """HiGHS allows itself 1e-7; we do not. The programme is solved again with a little less money."""
    solve = live_set.milp
    calls = []

    def lenient(objective: FloatArray, **kwargs: Any) -> OptimizeResult:
        calls.append(kwargs)
        if len(calls) == 1:
            return OptimizeResult(status=0, x=np.array([0.0, 0, 1, 0]))
        return solve(objective, **kwargs)

    monkeypatch.setattr(live_set, "milp", lenient)
    plan = plan_live_set([1.0, 0.5], [1 + 1e-8, 0.5], budget=1.0, max_live=1)
    assert plan == LiveSetPlan(live=(1,), value=0.5, feasible=True, exact=False)
    assert len(calls) == 2


def test_a_tiny_time_limit_still_gives_a_set() -> None:
    """Whether HiGHS answers within a nanosecond or not, a full set is kept."""
    plan = planned(a_hard_programme(), time_limit_s=1e-9)
    assert len(plan.live) == 3
    assert plan.feasible


def test_an_unreachable_budget_with_a_solver_in_trouble_keeps_cheap_arms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    programme = {**a_hard_programme(), "budget": 0.0}
    best = planned(programme)
    monkeypatch.setattr(live_set, "milp", lambda *_, **__: OptimizeResult(status=4, x=None))
    plan = planned(programme)
    assert (best.exact, plan.exact, plan.feasible) == (True, False, False)
    arms = [list(plan.live), list(best.live)]
    costs = [cheapest_cost(programme["cost_lcb"][s], programme["max_share"][s]) for s in arms]
    assert costs[1] <= costs[0] <= 2 * costs[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_live": 0}, "max_live must be at least 1, got 0"),
        ({"pinned": [3]}, r"pinned must be positions in 0..2, got \[3\]"),
        ({"pinned": [-1]}, "pinned must be positions"),
        ({"budget": -1}, "budget"),
        ({"reward_ucb": [1, 2, math.nan]}, "reward_ucb"),
        ({"cost_lcb": [1]}, "cost_lcb"),
        ({"max_share": 2}, "max_share"),
        ({"observations": [1]}, "preference has 1 entries"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], words: str) -> None:
    good = {"reward_ucb": [1, 2, 3], "cost_lcb": [1, 2, 3], "budget": 1, "max_live": 2}
    with pytest.raises(ValueError, match=words):
        planned(good, **change)
