"""Several segments under one budget: the best mixtures, and the best few arms for all of them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from stageroute_router.core.live_set.joint import plan_joint_live_set
from stageroute_router.core.routing.batch import solve_routing_batch
from stageroute_router.core.routing.closed_form import cheapest_mixture_cost
from stageroute_router.core.routing.joint import solve_joint_routing


def a_random_programme(
    seed: int, *, segments: int, arms: int, draws: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return rewards, costs, weights and budgets that are neither slack nor out of reach for most draws."""
    rng = np.random.default_rng(seed)
    cost = 10 ** rng.uniform(-5, -2, (draws, segments, arms))
    weight = rng.dirichlet(np.ones(segments))
    least = cost.min(axis=2) @ weight
    most = cost.max(axis=2) @ weight
    budget = least + (most - least) * rng.uniform(-0.1, 0.6, draws)
    return rng.random((draws, segments, arms)), cost, weight, np.maximum(budget, 0.0)


def by_solver(
    reward: np.ndarray, cost: np.ndarray, *, weight: np.ndarray, budget: float, max_share: np.ndarray
) -> float | None:
    """Return the best value by a general solver; None where nothing holds the budget."""
    segments, arms = reward.shape
    scale = cost.max()
    solved = linprog(
        -(weight[:, None] * reward).ravel(),
        A_ub=(weight[:, None] * cost).ravel()[None, :] / scale,
        b_ub=[budget / scale],
        A_eq=np.kron(np.eye(segments), np.ones(arms)),
        b_eq=np.ones(segments),
        bounds=[(0.0, share) for share in np.tile(max_share, segments)],
        method="highs",
    )
    return None if solved.x is None else float(-solved.fun)


@given(
    seed=st.integers(0, 2**32 - 1),
    segments=st.integers(1, 6),
    arms=st.integers(1, 7),
    least_share=st.sampled_from([0.2, 1.0]),
)
@settings(deadline=None, max_examples=60)
def test_as_good_as_a_general_solver(seed: int, segments: int, arms: int, least_share: float) -> None:
    reward, cost, weight, budget = a_random_programme(seed, segments=segments, arms=arms)
    share = np.random.default_rng(seed).uniform(least_share, 1.0, arms)
    found = solve_joint_routing(reward, cost, weight=weight, budget=budget, max_share=share)
    assert found.probabilities.min() >= 0
    assert found.probabilities.sum(axis=2) == pytest.approx(np.ones(reward.shape[:2]), abs=1e-12)
    for draw in range(len(reward)):
        best = by_solver(reward[draw], cost[draw], weight=weight, budget=budget[draw], max_share=share)
        if share.sum() < 1:
            best = None
        assert found.feasible[draw] == (best is not None)
        if best is None:
            continue
        mixture = found.probabilities[draw]
        assert weight @ (mixture * reward[draw]).sum(axis=1) == pytest.approx(best, abs=1e-6)
        assert weight @ (mixture * cost[draw]).sum(axis=1) <= budget[draw] * (1 + 1e-9)
        assert (mixture <= share + 1e-9).all()


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_one_segment_is_the_programme_without_segments(share: float) -> None:
    reward, cost, weight, budget = a_random_programme(3, segments=1, arms=5, draws=40)
    joint = solve_joint_routing(reward, cost, weight=weight, budget=budget, max_share=np.full(5, share))
    alone = solve_routing_batch(reward[:, 0], cost[:, 0], budget=budget, max_share=share)
    assert joint.probabilities[:, 0] == pytest.approx(alone.probabilities, abs=1e-9)
    assert joint.shadow_price == pytest.approx(alone.shadow_price, rel=1e-9)
    assert joint.feasible.tolist() == alone.feasible.tolist()


def test_one_price_for_all_segments() -> None:
    """Money goes where it buys most: the segment whose dear arm is barely better keeps the cheap one."""
    reward = np.array([[[0.50, 0.55], [0.20, 0.90]]])
    cost = np.array([[[0.001, 0.003], [0.001, 0.003]]])
    even = np.array([0.5, 0.5])
    found = solve_joint_routing(reward, cost, weight=even, budget=np.array([0.0015]), max_share=np.ones(2))
    assert found.probabilities[0].round(9).tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert found.shadow_price[0] == pytest.approx(0.7 / 0.002)


def value_of(
    arms: tuple[int, ...], reward: np.ndarray, cost: np.ndarray, *, weight: np.ndarray, budget: float
) -> float:
    """Return the best value with these arms; where none holds the budget, minus what the cheapest costs."""
    columns = list(arms)
    found = solve_joint_routing(
        reward[None][:, :, columns],
        cost[None][:, :, columns],
        weight=weight,
        budget=np.array([budget]),
        max_share=np.ones(len(columns)),
    )
    if not found.feasible[0]:
        return -float(weight @ cheapest_mixture_cost(cost[:, columns], max_share=np.ones(len(columns))))
    return float(weight @ (found.probabilities[0] * reward[:, columns]).sum(axis=1))


@pytest.mark.parametrize("seed", range(12))
def test_live_set_is_close_to_the_best_of_all_sets(seed: int) -> None:
    reward, cost, weight, budget = a_random_programme(seed, segments=5, arms=8, draws=1)
    reward, cost, most = reward[0], cost[0], 3
    limit = max(budget[0], 1.3 * float(weight @ cost.min(axis=1)))
    plan = plan_joint_live_set(
        reward,
        cost,
        weight=weight,
        budget_usd=limit,
        cost_tolerance=0.0,
        max_share=np.ones(8),
        most=most,
    )
    assert len(plan.arms) <= most
    best = max(
        value_of(arms, reward, cost, weight=weight, budget=limit) for arms in combinations(range(8), most)
    )
    mine = value_of(tuple(plan.arms), reward, cost, weight=weight, budget=limit)
    assert mine >= 0.97 * best


def test_live_set_where_no_set_holds_the_budget_is_the_cheapest() -> None:
    cost = np.array([[0.005, 0.002, 0.009], [0.004, 0.006, 0.009]])
    plan = plan_joint_live_set(
        np.full((2, 3), 0.5),
        cost,
        weight=np.array([0.5, 0.5]),
        budget_usd=0.001,
        cost_tolerance=0.01,
        max_share=np.ones(3),
        most=2,
    )
    assert sorted(plan.arms.tolist()) == [0, 1]
    assert plan.budget_usd == pytest.approx(1.01 * 0.003)
