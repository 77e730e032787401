"""Many routing programmes at once: one per posterior draw, the method of ``routing`` in NumPy.

Rows are independent programmes over the same arms. Each round draws the line between every row's two corners,
fills all rows at that price, and replaces one end per row, until no row gains. Where no share is below 1 a
filling is a single arm, so a round is one ``argmax``.

``routing`` explains the method and why it is exact. One thing differs: ties are broken as it happens (the
mixture is best all the same), because draws from a posterior are not tied.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from stageroute_router.core.arrays import BoolArray, FloatArray, IntArray
from stageroute_router.core.routing.closed_form import (
    BUDGET_TOLERANCE,
    GAIN_TOLERANCE,
    SHARE_TOLERANCE,
    SMALLEST_BUDGET,
)


class BatchSolution(NamedTuple):
    """The best mixtures of D programmes over K arms.

    Args:
        probabilities: shape [D, K]; rows are at least 0 and sum to 1 within 1e-12.
        shadow_price: shape [D]; reward per extra dollar, 0 where the budget is slack, ``inf`` where no mixture
            holds it.
        feasible: shape [D]; whether a row's mixture holds its budget and the shares.
    """

    probabilities: FloatArray
    shadow_price: FloatArray
    feasible: BoolArray


def solve_routing_batch(
    reward: ArrayLike, cost: ArrayLike, *, budget: ArrayLike, max_share: ArrayLike = 1.0
) -> BatchSolution:
    """Solve D routing programmes over the same K arms; row by row the result of ``solve_routing``.

    Args:
        reward: u; any finite numbers. Shape [D, K], K at least 1.
        cost: c, US dollars per call; finite, at least 0. Shape [D, K].
        budget: b, US dollars per call; finite, at least 0. A number or shape [D].
        max_share: alpha, in [0, 1]. A number or shape [K]; default 1, no limit.

    Returns:
        Probabilities, shadow prices and feasibility, which unpack in this order.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite or out of range.

    >>> cost = [[0.004, 0.001], [0.004, 0.001]]
    >>> solution = solve_routing_batch([[0.9, 0.6], [0.5, 0.6]], cost, budget=0.003)
    >>> solution.probabilities.round(3).tolist(), solution.shadow_price.round(3).tolist()
    ([[0.667, 0.333], [0.0, 1.0]], [100.0, 0.0])
    """
    rewards, costs, budgets, shares = _checked(reward, cost, budget, max_share)
    rows, arms = rewards.shape
    if not rows:
        return BatchSolution(np.empty((0, arms)), np.empty(0), np.empty(0, dtype=np.bool_))
    excess = costs - (budgets[:, None] if budgets.ndim else budgets)
    slack = np.broadcast_to(BUDGET_TOLERANCE * np.maximum(budgets, SMALLEST_BUDGET), (rows,))
    total_share = float(shares.sum())
    if total_share <= 1 + SHARE_TOLERANCE:
        # Only one mixture holds the shares, or none; as in ``solve_routing``.
        mixture = shares / total_share if total_share > 0 else np.full(arms, 1 / arms)
        held = excess @ mixture <= slack
        price = np.where(held, 0.0, np.inf)
        feasible = held if total_share >= 1 - SHARE_TOLERANCE else np.zeros(rows, dtype=np.bool_)
        return BatchSolution(np.tile(mixture, (rows, 1)), price, feasible)
    if shares.min() == 1:
        return _solve_whole(rewards, excess, slack)
    return _solve_shared(rewards, excess, slack, shares)


def _checked(
    reward: ArrayLike, cost: ArrayLike, budget: ArrayLike, max_share: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    rewards = np.asarray(reward, dtype=np.float64)
    costs = np.asarray(cost, dtype=np.float64)
    budgets = np.asarray(budget, dtype=np.float64)
    shares = np.asarray(max_share, dtype=np.float64)
    if rewards.ndim != 2 or not rewards.shape[1] or costs.shape != rewards.shape:
        raise ValueError(
            f"reward and cost must have one shape [programmes, arms], got {rewards.shape} and {costs.shape}"
        )
    rows, arms = rewards.shape
    if budgets.ndim and budgets.shape != (rows,):
        raise ValueError(f"budget must be a number or have shape ({rows},), got {budgets.shape}")
    if shares.ndim and shares.shape != (arms,):
        raise ValueError(f"max_share must be a number or have shape ({arms},), got {shares.shape}")
    # A sum is not finite as soon as one of its terms is not; NaN fails every comparison.
    if not (np.isfinite(rewards.sum()) and np.isfinite(costs.sum()) and costs.min(initial=0.0) >= 0):
        raise ValueError("reward and cost must be finite numbers, and cost at least 0")
    if not (np.isfinite(budgets.sum()) and budgets.min(initial=0.0) >= 0):
        raise ValueError(f"budget must be finite numbers of dollars, at least 0, got {budgets}")
    if not (shares.min() >= 0 and shares.max() <= 1):
        raise ValueError(f"max_share must lie in [0, 1], got {shares}")
    return rewards, costs, budgets, shares if shares.ndim else np.full(arms, float(shares))


def _solve_whole(rewards: FloatArray, excess: FloatArray, slack: FloatArray) -> BatchSolution:
    """Solve where every arm could take all calls: corners are single arms, mixtures have at most two."""
    rows, arms = rewards.shape
    # Flat positions: ``take`` is several times faster than indexing by two arrays.
    start = np.arange(0, rows * arms, arms)
    dear = start + rewards.argmax(axis=1)
    dear_reward, dear_excess = rewards.take(dear), excess.take(dear)
    least = excess.min(axis=1)
    cheap = start + np.where(excess <= least[:, None], rewards, -np.inf).argmax(axis=1)
    cheap_reward, cheap_excess = rewards.take(cheap), excess.take(cheap)

    within = dear_excess <= slack
    feasible = cheap_excess <= slack
    # A row that needs no line gets one of no length, which nothing can replace.
    done = within | ~feasible
    end = np.where(within, dear, cheap)
    cheap, dear = np.where(done, end, cheap), np.where(done, end, dear)
    cheap_reward, cheap_excess = rewards.take(cheap), excess.take(cheap)
    dear_reward, dear_excess = rewards.take(dear), excess.take(dear)
    accuracy = GAIN_TOLERANCE * np.abs(rewards).max(axis=1)
    while True:
        gap = dear_reward - cheap_reward
        length = dear_excess - cheap_excess
        price = np.where(gap > accuracy, gap, 0.0) / np.where(done, 1.0, length)
        corner = start + (rewards - price[:, None] * excess).argmax(axis=1)
        corner_reward, corner_excess = rewards.take(corner), excess.take(corner)
        gain = corner_reward - cheap_reward - price * (corner_excess - cheap_excess)
        fits = corner_excess <= slack
        better = np.where(fits, corner_reward > cheap_reward, corner_excess < dear_excess)
        better &= (gain > accuracy) & ~done
        if not better.any():
            break
        lower = better & fits
        upper = better & ~fits
        cheap = np.where(lower, corner, cheap)
        dear = np.where(upper, corner, dear)
        cheap_reward, cheap_excess = rewards.take(cheap), excess.take(cheap)
        dear_reward, dear_excess = rewards.take(dear), excess.take(dear)

    weight = np.clip(-cheap_excess / np.where(done, 1.0, length), 0.0, 1.0)
    weight[done] = 0.0
    price[done] = 0.0
    price[~feasible] = np.inf
    probabilities = np.zeros(rows * arms)
    probabilities[dear] = weight
    probabilities[cheap] += 1 - weight
    return BatchSolution(probabilities.reshape(rows, arms), price, feasible)


class _Corners(NamedTuple):
    """One filling per row: mixtures, their rewards, and their costs less the budget."""

    mixture: FloatArray
    reward: FloatArray
    excess: FloatArray

    def replaced(self, where: BoolArray, by: _Corners) -> _Corners:
        """Return these corners, in the given rows replaced by others."""
        return _Corners(
            np.where(where[:, None], by.mixture, self.mixture),
            np.where(where, by.reward, self.reward),
            np.where(where, by.excess, self.excess),
        )


def _solve_shared(
    rewards: FloatArray, excess: FloatArray, slack: FloatArray, shares: FloatArray
) -> BatchSolution:
    """Solve where shares below 1 make corners of several arms. The shares sum to more than 1."""

    def fill(order: IntArray) -> _Corners:
        share = shares[order]
        mass = np.clip(1 - (share.cumsum(axis=1) - share), 0.0, share)
        mixture = np.empty_like(rewards)
        np.put_along_axis(mixture, order, mass, axis=1)
        return _Corners(
            mixture, np.einsum("dk,dk->d", mixture, rewards), np.einsum("dk,dk->d", mixture, excess)
        )

    dear = fill(np.argsort(-rewards, axis=1))
    cheap = fill(np.lexsort((-rewards, excess), axis=1))
    within = dear.excess <= slack
    feasible = cheap.excess <= slack
    done = within | ~feasible
    cheap, dear = cheap.replaced(within, dear), dear.replaced(done & ~within, cheap)
    accuracy = GAIN_TOLERANCE * np.abs(rewards).max(axis=1)
    while True:
        gap = dear.reward - cheap.reward
        length = np.where(done, 1.0, dear.excess - cheap.excess)
        price = np.where(gap > accuracy, gap, 0.0) / length
        corner = fill(np.argsort(price[:, None] * excess - rewards, axis=1))
        gain = corner.reward - cheap.reward - price * (corner.excess - cheap.excess)
        fits = corner.excess <= slack
        better = np.where(fits, corner.reward > cheap.reward, corner.excess < dear.excess)
        better &= (gain > accuracy) & ~done
        if not better.any():
            break
        cheap = cheap.replaced(better & fits, corner)
        dear = dear.replaced(better & ~fits, corner)

    weight = np.where(done, 0.0, np.clip(-cheap.excess / length, 0.0, 1.0))
    price = np.where(feasible, np.where(done, 0.0, price), np.inf)
    return BatchSolution(cheap.mixture + weight[:, None] * (dear.mixture - cheap.mixture), price, feasible)
