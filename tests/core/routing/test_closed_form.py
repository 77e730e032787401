"""The routing programme: what it promises about mixtures, prices, ties and bad input."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from stageroute_router.core.routing import solve_routing
from stageroute_router.core.routing.closed_form import RoutingSolution

Programme = tuple[list[float], list[float], float, list[float]]


@st.composite
def programmes(draw: st.DrawFn) -> Programme:
    """Return rewards, costs, budget and shares; small grids among them, so that ties are common."""
    count = draw(st.integers(1, 9))
    # Differences in reward times share below 1e-13 are rounding to the solver, so none are drawn here.
    reward = st.one_of(st.integers(-10_000, 10_000).map(lambda n: n / 1000), st.integers(0, 3).map(float))
    cost = st.one_of(
        st.floats(0, 1000, allow_subnormal=False).map(lambda c: c if c > 1e-90 else 0.0),
        st.floats(1e-6, 1e-2),
        st.integers(0, 4).map(lambda n: n / 4),
    )
    share = st.one_of(
        st.integers(0, 1000).map(lambda n: n / 1000), st.integers(0, 4).map(lambda n: n / 4), st.just(1.0)
    )

    def several(element: st.SearchStrategy[float]) -> list[float]:
        return draw(st.lists(element, min_size=count, max_size=count))

    return several(reward), several(cost), draw(cost), several(share)


def dearest_bound(programme: Programme, price: float) -> float:
    """Return the dual bound at a price: no mixture within the budget has a larger reward."""
    rewards, costs, budget, shares = (np.asarray(part) for part in programme)
    worth = rewards - price * (costs - budget)
    left, bound = 1.0, 0.0
    for arm in np.argsort(-worth):
        mass = min(left, shares[arm])
        bound += mass * worth[arm]
        left -= mass
    return float(bound)


@given(programme=programmes())
@settings(max_examples=500, deadline=None)
@example(programme=([1.0, 0.0], [5e-324, 0.0], 0.0, [1.0, 1.0]))
@example(programme=([1.0, 0.5], [1.0 + 1e-15, 1.0], 1.0, [1.0, 1.0]))
@example(programme=([0.0, -2.0, -1.0], [2.0, 0.0, 5e-324], 1.0, [1.0, 1.0, 1.0]))
def test_a_solution_is_a_mixture_that_its_own_price_proves_best(programme: Programme) -> None:
    """Shares, budget and sum hold, and the dual bound at the shadow price equals the reward."""
    rewards, costs, budget, shares = programme
    solution = solve_routing(rewards, costs, budget=budget, max_share=shares)
    mixture = np.asarray(solution.probabilities)
    assert mixture.min() >= 0
    assert abs(mixture.sum() - 1) <= 1e-12
    assert solution.value == pytest.approx(float(mixture @ rewards), abs=1e-12)
    assert solution.cost == pytest.approx(float(mixture @ costs), rel=1e-12, abs=1e-12)
    if sum(shares) >= 1 - 1e-12:
        assert np.all(mixture <= np.asarray(shares) + 1e-12)
    if solution.feasible:
        assert solution.cost <= budget * (1 + 1e-11) + 1e-100
        assert solution.value == pytest.approx(
            dearest_bound(programme, solution.shadow_price), abs=1e-10 * max(1, *map(abs, rewards))
        )
    else:
        assert solution.cost > budget or sum(shares) < 1


@given(programme=programmes(), factor=st.sampled_from([2.0**-17, 2.0**-7, 2.0**10]))
@settings(deadline=None)
def test_the_unit_of_money_does_not_matter(programme: Programme, factor: float) -> None:
    """Costs and budget in other units give the same reward, and a price in the inverse unit."""
    rewards, costs, budget, shares = programme
    one = solve_routing(rewards, costs, budget=budget, max_share=shares)
    other = solve_routing(rewards, [c * factor for c in costs], budget=budget * factor, max_share=shares)
    assert other.feasible == one.feasible
    assert other.value == pytest.approx(one.value, abs=1e-9)


@given(programme=programmes(), more=st.floats(0, 2))
@settings(deadline=None)
def test_more_budget_never_earns_less_and_never_more_than_its_price(
    programme: Programme, more: float
) -> None:
    """The best reward is increasing and concave in the budget."""
    rewards, costs, budget, shares = programme
    one = solve_routing(rewards, costs, budget=budget, max_share=shares)
    richer = solve_routing(rewards, costs, budget=budget + more, max_share=shares)
    if one.feasible:
        assert richer.feasible
        assert richer.value >= one.value - 1e-9
        assert richer.value <= one.value + one.shadow_price * more * (1 + 1e-9) + 1e-9
        assert richer.shadow_price <= one.shadow_price * (1 + 1e-9) + 1e-9


def test_shadow_price_is_what_another_dollar_buys_even_at_a_corner() -> None:
    """At a corner of the curve several prices support the solution; the smallest is what more money earns."""
    rewards, costs = [1.0, 0.7, 0.1], [3.0, 1.0, 0.0]
    at_corner = solve_routing(rewards, costs, budget=1.0)
    assert at_corner.probabilities == (0.0, 1.0, 0.0)
    assert at_corner.shadow_price == pytest.approx(0.15)
    assert solve_routing(rewards, costs, budget=0.5).shadow_price == pytest.approx(0.6)
    assert solve_routing(rewards, costs, budget=0.0).shadow_price == pytest.approx(0.6)
    assert solve_routing(rewards, costs, budget=3.0).shadow_price == 0.0


def test_a_slack_budget_fills_the_best_arms_up_to_their_shares() -> None:
    solution = solve_routing([0.5, 0.9, 0.7], [1, 2, 3], budget=10, max_share=[1, 0.5, 0.3])
    assert solution.probabilities == pytest.approx((0.2, 0.5, 0.3))
    assert (solution.feasible, solution.shadow_price) == (True, 0.0)


def test_an_unreachable_budget_returns_the_cheapest_mixture_and_says_so() -> None:
    solution = solve_routing([0.9, 0.5, 0.6], [3, 2, 2], budget=1, max_share=0.75)
    assert solution.probabilities == (0.0, 0.25, 0.75), "equal costs: the larger reward first"
    assert not solution.feasible
    assert solution.shadow_price == math.inf


def test_shares_that_sum_to_less_than_one_are_scaled_up() -> None:
    solution = solve_routing([0.9, 0.1], [1, 1], budget=5, max_share=[0.2, 0.6])
    assert solution.probabilities == pytest.approx((0.25, 0.75))
    assert (solution.feasible, solution.shadow_price) == (False, 0.0)
    assert solve_routing([0.9, 0.1], [1, 1], budget=5, max_share=0).probabilities == (0.5, 0.5)


@pytest.mark.parametrize("count", [3, 6, 7, 10, 11, 49])
def test_equal_shares_that_sum_to_one_but_for_rounding_are_feasible(count: int) -> None:
    solution = solve_routing([0.5] * count, [0.001] * count, budget=0.001, max_share=1 / count)
    assert solution.feasible
    assert solution.probabilities == pytest.approx([1 / count] * count)


def test_arms_without_a_share_get_nothing() -> None:
    solution = solve_routing([1.0, 0.5, 0.4], [0, 1, 2], budget=5, max_share=[0, 1, 1])
    assert solution.probabilities == (0.0, 1.0, 0.0)


def test_a_budget_met_exactly_but_for_rounding_is_held() -> None:
    """The engine asks for budgets computed as the cost of a mixture; rounding must not make them infeasible."""
    costs = [0.1, 0.2, 0.3]
    mixture = [0.3, 0.3, 0.4]
    budget = sum(c * p for c, p in zip(costs, mixture, strict=True))
    for wiggle in (1 - 2e-16, 1.0, 1 + 2e-16):
        assert solve_routing([1, 2, 3], costs, budget=budget * wiggle, max_share=[0.3, 0.3, 0.4]).feasible


# Ties.


def test_everything_alike_goes_to_the_least_observed() -> None:
    alike = solve_routing([1.0] * 4, [0.0] * 4, budget=0.1, preference=[7, 3, 3, 9])
    assert alike.probabilities == (0.0, 1.0, 0.0, 0.0), "and among equally observed ones to the first"


def test_without_a_preference_ties_go_to_the_cheaper() -> None:
    assert solve_routing([1, 1, 1], [3, 1, 2], budget=9).probabilities == (0.0, 1.0, 0.0)


def test_least_observed_goes_before_cheaper() -> None:
    tied = solve_routing([1, 1, 1], [3, 1, 2], budget=9, preference=[0, 1, 2])
    assert tied.probabilities == (1.0, 0.0, 0.0)


def test_a_tie_in_reward_gives_the_least_observed_what_the_budget_allows() -> None:
    """The dear unobserved arm gets the largest share that some mixture of equal reward can pay for."""
    tied = solve_routing([1, 1, 1], [2, 1, 0], budget=1, preference=[0, 1, 2])
    assert tied.probabilities == pytest.approx((0.5, 0.0, 0.5))
    assert tied.shadow_price == 0.0


def test_arms_alike_in_reward_and_cost_share_by_preference_under_a_binding_budget() -> None:
    tied = solve_routing([1, 1, 0], [1, 1, 0], budget=0.5, max_share=[0.4, 1, 1], preference=[0, 1, 0])
    assert tied.probabilities == pytest.approx((0.4, 0.1, 0.5))
    assert tied.shadow_price == pytest.approx(1)


@pytest.mark.parametrize("seed", range(8))
def test_of_all_best_mixtures_the_first_in_rank_get_most(seed: int) -> None:
    """Against an LP solver that maximises one arm after the other over the set of best mixtures."""
    rng = np.random.default_rng(seed)
    compared = 0
    while compared < 40:
        count = int(rng.integers(2, 8))
        costs = rng.integers(0, 5, count) / 4
        rewards = [np.ones(count), rng.integers(0, 2, count), costs, rng.integers(0, 5, count) / 4][
            int(rng.integers(4))
        ]
        shares = np.minimum(1, rng.integers(1, 5, count) / 4)
        budget = float(rng.integers(0, 17) / 16)
        seen = rng.integers(0, 3, count)
        solution = solve_routing(rewards, costs, budget=budget, max_share=shares, preference=seen)
        if not solution.feasible:
            continue
        least, most = np.zeros(count), shares.copy()
        for arm in sorted(range(count), key=lambda i: (seen[i], costs[i], i)):
            best = linprog(
                -np.eye(count)[arm],
                A_ub=[costs, -rewards],
                b_ub=[budget, -solution.value],
                A_eq=[np.ones(count)],
                b_eq=[1],
                bounds=np.column_stack([least, most]),
                method="highs",
            )
            got = solution.probabilities[arm]
            assert got == pytest.approx(-best.fun, abs=1e-6)
            least[arm], most[arm] = max(0, got - 1e-9), got + 1e-9
        compared += 1


# Input.


def test_arrays_and_lists_give_the_same() -> None:
    lists = solve_routing([0.9, 0.6], [4, 1], budget=3, max_share=[0.5, 1], preference=[1, 2])
    arrays = solve_routing(
        np.array([0.9, 0.6]),
        np.array([4, 1]),
        budget=np.float64(3),
        max_share=np.array([0.5, 1]),
        preference=np.array([1, 2]),
    )
    assert arrays == lists
    assert all(type(p) is float for p in arrays.probabilities)


def test_solutions_are_values() -> None:
    solution = solve_routing([1], [1], budget=1)
    assert solution == RoutingSolution((1.0,), 0.0, True, 1.0, 1.0)  # noqa: FBT003
    with pytest.raises(FrozenInstanceError):
        solution.value = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reward_ucb": []}, "at least one arm"),
        ({"reward_ucb": [1, math.nan]}, "reward_ucb must be finite"),
        ({"reward_ucb": [1, math.inf]}, "reward_ucb must be finite"),
        ({"reward_ucb": [-math.inf, math.inf]}, "reward_ucb must be finite"),
        ({"cost_lcb": [1]}, "cost_lcb has 1 entries for 2 arms"),
        ({"cost_lcb": [1, math.nan]}, "cost_lcb must be finite"),
        ({"cost_lcb": [1, -0.5]}, "not be negative, got -0.5"),
        ({"budget": -1}, "budget must be .* got -1"),
        ({"budget": math.nan}, "budget must be .* got nan"),
        ({"budget": math.inf}, "budget must be .* got inf"),
        ({"max_share": 1.5}, r"max_share must lie in \[0, 1\], got 1.5"),
        ({"max_share": -0.1}, r"max_share must lie in \[0, 1\]"),
        ({"max_share": math.nan}, "max_share"),
        ({"max_share": [1, math.nan]}, "max_share must be finite"),
        ({"max_share": [1]}, "max_share has 1 entries for 2 arms"),
        ({"preference": [1]}, "preference has 1 entries for 2 arms"),
        ({"preference": [1, math.nan]}, "preference must be finite"),
    ],
)
def test_bad_input_is_refused_by_name_and_value(change: dict[str, object], words: str) -> None:
    good: dict[str, object] = {"reward_ucb": [1, 2], "cost_lcb": [1, 2], "budget": 1}
    arguments = {**good, **change}
    with pytest.raises(ValueError, match=words):
        solve_routing(arguments.pop("reward_ucb"), arguments.pop("cost_lcb"), **arguments)  # type: ignore[arg-type]


def test_equal_steps_of_budget_earn_less_and_less() -> None:
    """The curve of reward over budget is concave for a realistic group in dollars."""
    rng = np.random.default_rng(5)
    rewards, costs = rng.random(12), 10 ** rng.uniform(-5, -2, 12)
    budgets = np.linspace(costs.min(), costs.max(), 60)
    values = [solve_routing(rewards, costs, budget=b, max_share=0.4).value for b in budgets[20:]]
    gains = [after - before for before, after in pairwise(values)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(gains))
