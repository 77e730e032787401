"""The routing programme against two independent solvers: HiGHS, and every vertex in exact fractions."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linprog

from stageroute_router.core.routing import solve_routing
from stageroute_router.core.routing.closed_form import RoutingSolution

FloatArray = NDArray[np.float64]
Programme = tuple[FloatArray, FloatArray, float, FloatArray]


def a_random_programme(rng: np.random.Generator) -> Programme:
    """Costs from 1e-5 dollars to 10, any shares, budgets around what the arms cost."""
    count = int(rng.integers(2, 13))
    costs = rng.random(count) * 10 ** rng.uniform(-5, 1)
    if rng.random() < 0.3:
        costs = 10 ** rng.uniform(-5, -2, count)
    shares = np.ones(count) if rng.random() < 0.3 else rng.uniform(0.05, 1, count)
    return rng.random(count), costs, float(rng.uniform(costs.min(), costs.max())), shares


def equal_costs(rng: np.random.Generator) -> Programme:
    rewards, costs, _, shares = a_random_programme(rng)
    return rewards, np.full_like(costs, costs[0]), float(costs[0] * rng.choice([0.5, 1, 2])), shares


def equal_rewards(rng: np.random.Generator) -> Programme:
    rewards, costs, budget, shares = a_random_programme(rng)
    return np.full_like(rewards, rng.choice([0, 1, 0.3])), costs, budget, shares


def no_budget(rng: np.random.Generator) -> Programme:
    rewards, costs, _, shares = a_random_programme(rng)
    return rewards, costs * rng.integers(0, 2, len(costs)), 0.0, shares


def one_arm(rng: np.random.Generator) -> Programme:
    return rng.random(1), rng.random(1), float(rng.random()), np.array([rng.choice([1.0, 0.4])])


def shares_that_just_sum_to_one(rng: np.random.Generator) -> Programme:
    rewards, costs, budget, shares = a_random_programme(rng)
    if rng.random() < 0.5:
        return rewards, costs, budget, np.full_like(shares, 1 / len(shares))
    return rewards, costs, budget, shares / shares.sum()


def too_small_shares(rng: np.random.Generator) -> Programme:
    rewards, costs, budget, shares = a_random_programme(rng)
    return rewards, costs, budget, shares / shares.sum() * rng.uniform(0, 0.99)


def free_arms(rng: np.random.Generator) -> Programme:
    rewards, costs, budget, shares = a_random_programme(rng)
    return rewards, costs * rng.integers(0, 2, len(costs)), budget, shares


def a_coarse_grid(rng: np.random.Generator) -> Programme:
    """Everything in quarters: twins, arms on one line, budgets met at a corner."""
    count = int(rng.integers(2, 10))
    scale = float(rng.choice([1, 2.0**-14]))
    costs = rng.integers(0, 5, count) / 4 * scale
    budget = float(rng.integers(0, 9) / 8 * scale)
    return rng.integers(0, 5, count) / 4, costs, budget, rng.integers(0, 5, count) / 4


DEGENERATE = [
    equal_costs,
    equal_rewards,
    no_budget,
    one_arm,
    shares_that_just_sum_to_one,
    too_small_shares,
    free_arms,
    a_coarse_grid,
]


def by_highs(programme: Programme, *, cheapest: bool = False) -> float | None:
    """Return the best reward (or the least cost) of a mixture, or None when none is feasible."""
    rewards, costs, budget, shares = programme
    scale = costs.max() or 1.0  # HiGHS has absolute tolerances
    result = linprog(
        costs / scale if cheapest else -rewards,
        A_ub=None if cheapest else costs[None, :] / scale,
        b_ub=None if cheapest else [budget / scale],
        A_eq=np.ones((1, len(costs))),
        b_eq=[1],
        bounds=np.column_stack([np.zeros_like(shares), shares]),
        method="highs",
    )
    assert result.status in (0, 2), result.message
    if result.status == 2:
        return None
    return float(result.fun * scale if cheapest else -result.fun)


def check_against_highs(programme: Programme) -> RoutingSolution:
    rewards, costs, budget, shares = programme
    solution = solve_routing(rewards, costs, budget=budget, max_share=shares)
    mixture = np.asarray(solution.probabilities)
    assert mixture.min() >= 0
    assert abs(mixture.sum() - 1) <= 1e-12
    best = by_highs(programme)
    assert solution.feasible == (best is not None), programme
    if best is not None:
        assert np.all(mixture <= shares + 1e-9), programme
        assert mixture @ costs <= budget * (1 + 1e-9), programme
        assert abs(mixture @ rewards - best) <= 1e-9, programme
        return solution
    least = by_highs(programme, cheapest=True)
    if least is None:
        assert shares.sum() < 1
        if shares.sum() > 0:
            assert mixture == pytest.approx(shares / shares.sum(), abs=1e-12)
    else:
        assert np.all(mixture <= shares + 1e-9), programme
        assert abs(mixture @ costs - least) <= 1e-9 * costs.max(), programme
    return solution


@pytest.mark.parametrize("seed", range(40))
def test_random_programmes_agree_with_highs(seed: int) -> None:
    """20,000 programmes in all; a good part of them must be of the interesting kind."""
    rng = np.random.default_rng([20, seed])
    solutions = [check_against_highs(a_random_programme(rng)) for _ in range(500)]
    assert sum(0 < solution.shadow_price < np.inf for solution in solutions) > 150


@pytest.mark.parametrize("draw", DEGENERATE)
def test_degenerate_programmes_agree_with_highs(draw: Callable[[np.random.Generator], Programme]) -> None:
    """2,400 programmes in all."""
    rng = np.random.default_rng(DEGENERATE.index(draw))
    for _ in range(300):
        check_against_highs(draw(rng))


def best_vertex(programme: Programme) -> Fraction | None:
    """Return the exact best reward over all vertices of the feasible mixtures.

    At a vertex every arm is at 0 or at its share, save one (which makes up the sum) or two (which make up the
    sum and the budget).
    """
    rewards, costs, shares = ([Fraction(float(x)) for x in programme[i]] for i in (0, 1, 3))
    budget = Fraction(programme[2])
    arms = range(len(rewards))
    best: Fraction | None = None
    for free in [*combinations(arms, 1), *combinations(arms, 2)]:
        fixed = [arm for arm in arms if arm not in free]
        for levels in product((0, 1), repeat=len(fixed)):
            mixture = dict(
                zip(fixed, (shares[a] * on for a, on in zip(fixed, levels, strict=True)), strict=True)
            )
            left = 1 - sum(mixture.values())
            if len(free) == 1:
                mixture[free[0]] = left
            else:
                one, two = free
                if costs[one] == costs[two]:
                    continue
                money = budget - sum(costs[a] * p for a, p in mixture.items())
                mixture[one] = (money - costs[two] * left) / (costs[one] - costs[two])
                mixture[two] = left - mixture[one]
            if all(0 <= p <= shares[a] for a, p in mixture.items()):
                if sum(costs[a] * p for a, p in mixture.items()) > budget:
                    continue
                value = sum((rewards[a] * p for a, p in mixture.items()), Fraction(0))
                best = value if best is None else max(best, value)
    return best


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("draw", [a_random_programme, free_arms, equal_costs, a_coarse_grid])
def test_small_programmes_agree_with_every_vertex_in_exact_arithmetic(
    draw: Callable[[np.random.Generator], Programme], seed: int
) -> None:
    rng = np.random.default_rng([7, seed])
    for _ in range(12):
        rewards, costs, budget, shares = draw(rng)
        # Sixty-fourths make sums of shares exact, so that both sides see the same programme.
        programme = rewards[:5], costs[:5], budget, np.round(shares[:5] * 64) / 64
        best = best_vertex(programme)
        solution = solve_routing(*programme[:2], budget=budget, max_share=programme[3])
        assert solution.feasible == (best is not None), programme
        if best is not None:
            assert solution.value == pytest.approx(float(best), abs=1e-12)
