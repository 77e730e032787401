"""Routing programmes of several segments that share one budget, many at once: the method of ``routing``.

    max  sum_s w_s sum_i u_si p_si   subject to   sum_s w_s sum_i c_si p_si <= b,   and for every segment s
         sum_i p_si = 1,   0 <= p_si <= alpha_i

Only the budget ties the segments together, so at a price per dollar each fills by itself, and the corners of the
whole are the fillings of all segments at one price. The rest is as in ``routing``: draw the line between a corner
that is too dear and one that holds the budget, fill at its price, replace one end, until nothing lies above the
line. A dollar then buys the same reward in every segment, which is why one budget does better than one for each.

Shares are held within every segment, so they hold for all calls together, too. (They would do so with more freedom:
an arm might serve more of one segment and less of another. That coupling is left out.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from stageroute_router.core.arrays import BoolArray, FloatArray
from stageroute_router.core.routing.closed_form import (
    BUDGET_TOLERANCE,
    GAIN_TOLERANCE,
    SHARE_TOLERANCE,
    SMALLEST_BUDGET,
)


class JointSolution(NamedTuple):
    """The best mixtures of S segments over K arms, in D programmes.

    Args:
        probabilities: shape [D, S, K]; each segment's sum to 1.
        shadow_price: shape [D]; reward per extra dollar, 0 where the budget is slack, ``inf`` where no mixture holds
            it.
        feasible: shape [D]; whether the mixtures hold budget and shares.
    """

    probabilities: FloatArray
    shadow_price: FloatArray
    feasible: BoolArray


class _Corners(NamedTuple):
    """One filling per programme: a mixture for each segment, and the reward and the excess cost of all calls."""

    mixture: FloatArray
    reward: FloatArray
    excess: FloatArray

    def replaced(self, where: BoolArray, by: _Corners) -> _Corners:
        """Return these corners, in the given programmes replaced by others."""
        return _Corners(
            np.where(where[:, None, None], by.mixture, self.mixture),
            np.where(where, by.reward, self.reward),
            np.where(where, by.excess, self.excess),
        )


def solve_joint_routing(
    reward: FloatArray, cost: FloatArray, *, weight: FloatArray, budget: FloatArray, max_share: FloatArray
) -> JointSolution:
    """Solve D programmes over the same S segments and K arms.

    Args:
        reward: u; finite, shape [D, S, K].
        cost: c, US dollars per call; finite, at least 0, shape [D, S, K].
        weight: w, each segment's share of the calls; at least 0 and summing to 1, shape [S].
        budget: b, US dollars per call; finite, at least 0, shape [D].
        max_share: alpha, in [0, 1], shape [K]. Where they sum to at most 1 they are the mixture, scaled up.

    Returns:
        Probabilities, shadow prices and feasibility.

    Source: the routing step of Li & Li, arXiv 2506.17254, with segments; the closed form is ours.

    The better arm is worth its price for the second segment only:

    >>> reward = np.array([[[0.6, 0.7], [0.2, 0.9]]])
    >>> cost = np.array([[[0.001, 0.003], [0.001, 0.003]]])
    >>> half = np.array([0.5, 0.5])
    >>> found = solve_joint_routing(reward, cost, weight=half, budget=np.array([0.002]), max_share=np.ones(2))
    >>> found.probabilities.tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """
    draws, segments, arms = reward.shape
    excess = cost - budget[:, None, None]
    slack = BUDGET_TOLERANCE * np.maximum(budget, SMALLEST_BUDGET)
    total_share = float(max_share.sum())
    if total_share <= 1 + SHARE_TOLERANCE:
        only = max_share / total_share if total_share > 0 else np.full(arms, 1 / arms)
        held = np.einsum("s,dsk,k->d", weight, excess, only) <= slack
        return JointSolution(
            np.tile(only, (draws, segments, 1)),
            np.where(held, 0.0, np.inf),
            held & (total_share >= 1 - SHARE_TOLERANCE),
        )
    fill = _filling(reward, excess, weight=weight, max_share=max_share)
    dear = fill(reward, reward)
    cheap = fill(-excess, reward)
    within = dear.excess <= slack
    feasible = cheap.excess <= slack
    done = within | ~feasible
    cheap, dear = cheap.replaced(within, dear), dear.replaced(done & ~within, cheap)
    accuracy = GAIN_TOLERANCE * np.abs(reward).max(axis=(1, 2))
    while True:
        gap = dear.reward - cheap.reward
        length = np.where(done, 1.0, dear.excess - cheap.excess)
        price = np.where(gap > accuracy, gap, 0.0) / length
        corner = fill(reward - price[:, None, None] * excess, None)
        gain = corner.reward - cheap.reward - price * (corner.excess - cheap.excess)
        fits = corner.excess <= slack
        better = np.where(fits, corner.reward > cheap.reward, corner.excess < dear.excess)
        better &= (gain > accuracy) & ~done
        if not better.any():
            break
        cheap = cheap.replaced(better & fits, corner)
        dear = dear.replaced(better & ~fits, corner)
    share = np.where(done, 0.0, np.clip(-cheap.excess / length, 0.0, 1.0))[:, None, None]
    return JointSolution(
        cheap.mixture + share * (dear.mixture - cheap.mixture),
        np.where(feasible, np.where(done, 0.0, price), np.inf),
        feasible,
    )


def _filling(
    reward: FloatArray, excess: FloatArray, *, weight: FloatArray, max_share: FloatArray
) -> Callable[[FloatArray, FloatArray | None], _Corners]:
    """Return a function that fills every segment by largest value, then by a second one among equals."""
    whole = bool(max_share.min() >= 1)

    def corners(mixture: FloatArray) -> _Corners:
        return _Corners(
            mixture, ((mixture * reward).sum(axis=2)) @ weight, ((mixture * excess).sum(axis=2)) @ weight
        )

    def fill(value: FloatArray, then: FloatArray | None) -> _Corners:
        if whole:
            if then is not None:
                value = np.where(value >= value.max(axis=2, keepdims=True), then, -np.inf)
            mixture = np.zeros_like(reward)
            np.put_along_axis(mixture, value.argmax(axis=2)[:, :, None], 1.0, axis=2)
            return corners(mixture)
        order = (
            np.argsort(-value, axis=2, kind="stable") if then is None else np.lexsort((-then, -value), axis=2)
        )
        share = max_share[order]
        mass = np.clip(1 - (share.cumsum(axis=2) - share), 0.0, share)
        mixture = np.empty_like(reward)
        np.put_along_axis(mixture, order, mass, axis=2)
        return corners(mixture)

    return fill
