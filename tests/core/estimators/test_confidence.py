"""Confidence bounds: the paper's, and by Kullback-Leibler divergence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stageroute_router.core.estimators.confidence import (
    kl_ucb,
    paper_cost_lcb,
    paper_radius,
    paper_reward_ucb,
)

unit = st.floats(0, 1)
gammas = st.floats(1e-3, 20)
counts = st.integers(1, 10**6)


def divergence(p: float, q: float) -> float:
    """Return KL(Bernoulli(p), Bernoulli(q)) from its definition."""
    if p == q:
        return 0.0
    zero = p * math.log(p / q) if p else 0.0
    one = (1 - p) * math.log((1 - p) / (1 - q)) if p < 1 and q < 1 else (math.inf if p < 1 else 0.0)
    return zero + one


@given(mean=unit, count=counts, gamma=gammas)
def test_the_papers_bounds_are_its_formulas(mean: float, count: int, gamma: float) -> None:
    """Worked out from the text: means over N + 1, twice the radius, clipped."""
    total = mean * count
    shrunk = total / (count + 1)
    radius = math.sqrt(gamma * shrunk / (count + 1)) + gamma / (count + 1)
    assert paper_radius(shrunk, count + 1, gamma=gamma) == pytest.approx(radius)
    assert paper_reward_ucb(count, total, gamma=gamma) == pytest.approx(min(shrunk + 2 * radius, 1.0))
    low = paper_cost_lcb(count, total, gamma=gamma, lowest=0.1, highest=0.7)
    assert low == pytest.approx(min(max(shrunk - 2 * radius, 0.1), 0.7))


@given(gamma=gammas)
def test_an_unseen_arm_is_taken_to_be_as_good_and_as_cheap_as_can_be(gamma: float) -> None:
    """Even for gamma below a half, where the formula alone would say less than 1."""
    assert paper_reward_ucb(0, 0.0, gamma=gamma) == 1.0
    assert paper_cost_lcb(0, 0.0, gamma=gamma, lowest=0.2, highest=1.0) == 0.2


@given(count=counts, mean=unit, gamma=gammas, factor=st.integers(2, 10))
def test_the_radius_shrinks_with_observations_and_grows_with_gamma(
    count: int, mean: float, gamma: float, factor: int
) -> None:
    radius = paper_radius(mean, count, gamma=gamma)
    assert paper_radius(mean, count * factor, gamma=gamma) < radius
    assert paper_radius(mean, count, gamma=gamma * factor) > radius
    assert radius >= gamma / count


@given(count=counts, low=unit, high=unit, gamma=gammas)
def test_the_papers_bounds_stay_in_range_and_follow_the_mean(
    count: int, low: float, high: float, gamma: float
) -> None:
    low, high = sorted((low, high))
    bounds = [paper_reward_ucb(count, mean * count, gamma=gamma) for mean in (low, high)]
    assert 0 <= bounds[0] <= bounds[1] <= 1
    assert bounds[1] >= min(1.0, high * count / (count + 1))
    costs = [
        paper_cost_lcb(count, mean * count, gamma=gamma, lowest=0.0, highest=1.0) for mean in (low, high)
    ]
    assert all(0 <= cost <= mean for cost, mean in zip(costs, (low, high), strict=True))


def test_raw_dollars_stick_at_the_lowest_cost() -> None:
    """Why costs must be normalised: a hundred calls at a tenth of a cent leave a bound of nothing."""
    assert paper_cost_lcb(100, 0.1, gamma=0.1, lowest=0.0, highest=1.0) == 0.0
    assert paper_cost_lcb(100, 100.0, gamma=0.1, lowest=0.0, highest=1.0) > 0.9


def test_a_sum_a_rounding_below_zero_is_no_error() -> None:
    """Observations taken back can leave a sum of -1e-17; its square root must not be taken."""
    assert paper_reward_ucb(3, -1e-17, gamma=0.1) == pytest.approx(0.05)
    assert paper_cost_lcb(3, -1e-17, gamma=0.1, lowest=0.0, highest=1.0) == 0.0


def test_arrays_give_what_numbers_give_one_by_one() -> None:
    count = np.array([0, 1, 7, 1000])
    total = np.array([0.0, 0.5, 7.0, 123.0])
    rewards = paper_reward_ucb(count, total, gamma=0.3)
    costs = paper_cost_lcb(count, total, gamma=0.3, lowest=0.01, highest=1.0)
    means = np.array([0.0, 0.5, 1.0, 0.123])
    levels = np.array([math.inf, 1.0, 0.1, 0.001])
    bounds = kl_ucb(means, levels)
    for i in range(4):
        one, two = int(count[i]), float(total[i])
        assert rewards[i] == paper_reward_ucb(one, two, gamma=0.3)
        assert costs[i] == paper_cost_lcb(one, two, gamma=0.3, lowest=0.01, highest=1.0)
        assert bounds[i] == pytest.approx(kl_ucb(float(means[i]), float(levels[i])), abs=1e-15)
    assert kl_ucb(means, 0.1).shape == kl_ucb(0.5, levels).shape == (4,)
    assert isinstance(kl_ucb(0.5, 0.1), float)


@given(mean=unit, level=st.floats(0, 50))
def test_kl_bound_is_where_the_divergence_reaches_the_level(mean: float, level: float) -> None:
    """A little below the bound the divergence is allowed, a little above it is not."""
    bound = kl_ucb(mean, level)
    assert mean <= bound <= 1
    assert divergence(mean, max(bound - 1e-9, mean)) <= level + 1e-15
    if bound + 1e-9 < 1:
        assert divergence(mean, bound + 1e-9) >= level - 1e-15


@given(mean=unit, other=unit, level=st.floats(0, 5), more=st.floats(0, 5))
def test_kl_bound_grows_with_mean_and_level(mean: float, other: float, level: float, more: float) -> None:
    assert kl_ucb(mean, level + more) >= kl_ucb(mean, level) - 1e-9
    assert kl_ucb(max(mean, other), level) >= kl_ucb(min(mean, other), level) - 1e-9


@given(mean=unit, level=st.floats(0, 2))
def test_kl_bound_is_never_wider_than_hoeffdings(mean: float, level: float) -> None:
    """Pinsker's inequality."""
    assert kl_ucb(mean, level) <= mean + math.sqrt(level / 2) + 1e-9


@given(level=st.floats(0, 100))
def test_kl_bound_has_closed_forms_at_the_ends(level: float) -> None:
    assert kl_ucb(0.0, level) == pytest.approx(-math.expm1(-level), abs=1e-9)
    assert kl_ucb(1.0, level) == 1.0


@given(mean=unit)
def test_kl_bound_without_and_with_all_doubt(mean: float) -> None:
    assert kl_ucb(mean, 0.0) == mean
    assert kl_ucb(mean, math.inf) == 1.0
    assert kl_ucb(mean, 1e300) == 1.0


def test_kl_bound_is_within_1e_9_on_a_hard_grid() -> None:
    """Means and levels down to 1e-16, against two hundred bisections in the gap q - p."""
    tiny = 10.0 ** -np.arange(1, 17)
    means = np.concatenate([[0, 0.5, 1, 5e-324], tiny, 1 - tiny, np.linspace(0.01, 0.99, 50)])
    levels = np.concatenate([[0, 999.0, 1e3], 10.0 ** np.linspace(-20, 3, 150)])
    p, level = (axis.ravel() for axis in np.meshgrid(means, levels))
    rest, low, high = 1 - p, np.zeros_like(p), 1 - p
    for _ in range(200):
        middle = (low + high) / 2
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            zero = -p * np.log1p(middle / np.maximum(p, 1e-300))
            one = np.where(rest > 0, -rest * np.log1p(-middle / rest), 0.0)
        allowed = zero + one <= level
        low, high = np.where(allowed, middle, low), np.where(allowed, high, middle)
    assert np.abs(kl_ucb(p, level) - (p + low)).max() <= 1e-9


@pytest.mark.parametrize(
    ("mean", "level", "words"),
    [
        (1.1, 0.1, r"mean must lie in \[0, 1\], got 1.1"),
        (math.nan, 0.1, "mean"),
        (0.5, -0.1, "level must be at least 0, got -0.1"),
        (0.5, math.nan, "level"),
    ],
)
def test_kl_bound_refuses_what_is_no_mean_or_level(mean: float, level: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kl_ucb(mean, level)
