"""Many routing programmes at once: row by row what the single solver says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stageroute_router.core.routing.batch import BatchSolution, solve_routing_batch
from stageroute_router.core.routing.closed_form import solve_routing


def a_random_batch(seed: int, *, arms: int, rows: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    costs = 10 ** rng.uniform(-5, -2, (rows, arms))
    return rng.random((rows, arms)), costs, rng.uniform(costs.min(axis=1), costs.max(axis=1))


@pytest.mark.parametrize("arms", [1, 2, 5, 8, 20, 200])
@pytest.mark.parametrize("share", [1.0, 0.6, 0.07, "random"])
def test_every_row_is_solved_as_on_its_own(arms: int, share: float | str) -> None:
    """The same mixtures, prices and feasibility; where shares cannot hold, the same stand-in."""
    rewards, costs, budgets = a_random_batch(arms, arms=arms)
    shares = np.random.default_rng(arms).uniform(0, 1, arms) if share == "random" else share
    probabilities, prices, feasible = solve_routing_batch(rewards, costs, budget=budgets, max_share=shares)
    assert probabilities.shape == (20, arms)
    for row in range(20):
        alone = solve_routing(rewards[row], costs[row], budget=budgets[row], max_share=shares)
        assert probabilities[row] == pytest.approx(alone.probabilities, abs=1e-10)
        assert prices[row] == pytest.approx(alone.shadow_price, rel=1e-9)
        assert feasible[row] == alone.feasible


@given(
    grid=arrays(
        np.int64, st.tuples(st.just(2), st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 4)
    ),
    budget=st.integers(0, 9),
    shares=st.one_of(st.just(1.0), st.sampled_from([0.25, 0.5, 0.75, 0.0])),
    scale=st.sampled_from([1.0, 2.0**-13, 1e-3]),
)
@settings(deadline=None)
def test_ties_change_the_mixture_but_not_what_it_is_worth(
    grid: np.ndarray, budget: int, shares: float, scale: float
) -> None:
    """Rows of equal rewards or costs are solved just as well, within budget and shares."""
    rewards, costs = grid[0] / 4, grid[1] / 4 * scale
    limit = budget / 8 * scale
    batch = solve_routing_batch(rewards, costs, budget=limit, max_share=shares)
    assert batch.probabilities.min() >= 0
    assert batch.probabilities.sum(axis=1) == pytest.approx(np.ones(len(rewards)), abs=1e-12)
    for row, mixture in enumerate(batch.probabilities):
        alone = solve_routing(rewards[row], costs[row], budget=limit, max_share=shares)
        assert batch.feasible[row] == alone.feasible
        assert mixture @ rewards[row] == pytest.approx(alone.value, abs=1e-12)
        if alone.feasible:
            assert mixture @ costs[row] <= limit * (1 + 1e-11)
            assert mixture.max() <= shares + 1e-12
        else:
            assert mixture @ costs[row] == pytest.approx(alone.cost, rel=1e-12)


def test_without_shares_a_mixture_has_at_most_two_arms() -> None:
    rewards, costs, budgets = a_random_batch(3, arms=12, rows=200)
    batch = solve_routing_batch(rewards, costs, budget=budgets)
    support = (batch.probabilities > 0).sum(axis=1)
    assert support.max() == 2
    assert (support == 2).mean() > 0.2


def test_one_budget_for_all_rows() -> None:
    rewards, costs, _ = a_random_batch(4, arms=6)
    one = solve_routing_batch(rewards, costs, budget=0.002)
    each = solve_routing_batch(rewards, costs, budget=np.full(20, 0.002))
    assert np.array_equal(one.probabilities, each.probabilities)


def test_no_rows_are_fine() -> None:
    batch = solve_routing_batch(np.empty((0, 3)), np.empty((0, 3)), budget=1.0)
    assert isinstance(batch, BatchSolution)
    assert [part.shape for part in batch] == [(0, 3), (0,), (0,)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reward": [1, 2]}, "one shape"),
        ({"reward": np.empty((2, 0)), "cost": np.empty((2, 0))}, "one shape"),
        ({"cost": [[1, 2, 3]]}, "one shape"),
        ({"reward": [[1, np.nan], [1, 2]]}, "finite"),
        ({"cost": [[1, np.inf], [1, 2]]}, "finite"),
        ({"cost": [[1, -1], [1, 2]]}, "at least 0"),
        ({"budget": [1, 2, 3]}, "budget must be a number or have shape"),
        ({"budget": [1, -2]}, "budget must be finite"),
        ({"budget": np.nan}, "budget must be finite"),
        ({"max_share": [1, 1, 1]}, "max_share must be a number or have shape"),
        ({"max_share": 1.1}, r"max_share must lie in \[0, 1\]"),
        ({"max_share": [np.nan, 1]}, r"max_share must lie in \[0, 1\]"),
    ],
)
def test_bad_input_is_refused(change: dict[str, object], words: str) -> None:
    good: dict[str, object] = {"reward": [[1, 2], [1, 2]], "cost": [[1, 2], [1, 2]], "budget": 1}
    arguments = {**good, **change}
    with pytest.raises(ValueError, match=words):
        solve_routing_batch(arguments.pop("reward"), arguments.pop("cost"), **arguments)  # type: ignore[arg-type]
