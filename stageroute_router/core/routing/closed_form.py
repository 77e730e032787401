"""The routing programme: which share of the calls each live arm gets. Exact, in closed form.

    max  sum u_i p_i   subject to   sum c_i p_i <= b,   sum p_i = 1,   0 <= p_i <= alpha_i

How it is solved. For a price lambda per dollar, the best mixture without the budget is found by *filling*:
sort the arms by u_i - lambda c_i and give each its share until the calls are used up. Every filling is a
point (cost, reward); those of all prices are the corners of a concave curve, and the answer lies on the curve
at cost b.

1. Fill by reward alone (lambda = 0). Within the budget: done, more money would buy nothing.
2. Fill by cost alone. Over the budget: no mixture holds it; the cheapest one is returned as infeasible.
3. Otherwise one filling is too dear and one holds the budget. The straight line between them has slope
   lambda; fill at that price. If nothing lies above the line, it is an edge of the curve: mix its two ends so
   that the budget is met exactly, and lambda is the shadow price. Else the new corner replaces the end on its
   side of b.

Why it ends: every accepted corner raises the reward of the end within the budget or lowers the cost of the one
beyond, and there are finitely many corners. In practice ten arms take two to five rounds. Why it is exact: with
nothing above the line at price lambda, lambda is a feasible dual solution whose value equals the mixture's
reward.

Costs enter as differences from the budget, so arms whose costs lie close to it (or to each other) lose no
digits, and dollars need no scaling.

Source: the routing step ("RouteOPT") of Li & Li, arXiv 2506.17254, there solved by a general LP solver. The
closed form, the tie estimator and the treatment of infeasible programmes are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from operator import mul
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stageroute_router.core.arrays import FloatArray

Numbers = Sequence[float] | NDArray[np.float64]
"""A list, tuple or one-dimensional array of numbers."""

SHARE_TOLERANCE = 1e-12
"""Shares summing to within this of 1 count as summing to 1: ten shares of 0.1 give 1 - 1e-16."""
BUDGET_TOLERANCE = 1e-12
"""Relative to the budget: rounding in the sum of the costs is not overspending."""
SMALLEST_BUDGET = 1e-100
"""Dollars; budgets below it have the tolerance of this one, which keeps prices finite."""
GAIN_TOLERANCE = 1e-13
"""Relative to the largest reward: a corner this little above the line is on it."""
TIE_TOLERANCE = 1e-12
"""Relative to the largest reward: arms this close at the shadow price are tied."""


@dataclass(frozen=True, slots=True)
class RoutingSolution:
    """The best mixture of the arms.

    Args:
        probabilities: one per arm, in the order given; at least 0 and summing to 1 within 1e-12. A tuple, not
            an array: for a dozen arms plain floats are several times faster to make and to sample from.
        shadow_price: reward gained per extra dollar of budget (the smallest price that supports the mixture).
            0.0 when the budget does not bind, ``math.inf`` when no mixture holds it.
        feasible: whether the mixture holds both the budget and the shares. If not, it is the cheapest mixture
            within the shares; and where the shares sum to less than 1, the shares scaled up to sum to 1.
        value: the mixture's reward, sum u_i p_i.
        cost: the mixture's cost in dollars, sum c_i p_i.
    """

    probabilities: tuple[float, ...]
    shadow_price: float
    feasible: bool
    value: float
    cost: float


def solve_routing(
    reward_ucb: Numbers,
    cost_lcb: Numbers,
    *,
    budget: float,
    max_share: float | Numbers = 1.0,
    preference: Numbers | None = None,
) -> RoutingSolution:
    """Solve the routing programme exactly. Ten arms take some 15 microseconds.

    Ties. Several mixtures can be best: arms with the same reward and cost, arms with the same reward under a
    slack budget (at the very start every upper bound is 1), more than two arms on one line. Then the arms are
    ranked by ``preference``, cost and position, each ascending, and of all best mixtures the one is returned
    that gives the first arm most; among those, the second most; and so on. An infeasible programme returns
    the cheapest mixture; among equal costs the larger reward goes first, then the same ranking.

    Args:
        reward_ucb: u, what an arm's reward may be; any finite numbers. Shape [K], K at least 1.
        cost_lcb: c, what a call to it may cost in US dollars; finite, at least 0. Shape [K].
        budget: b, US dollars per call on average; finite, at least 0.
        max_share: alpha, the largest share of the calls an arm may get, in [0, 1]: one for all or shape [K].
            The default 1 is no limit. Shares that sum to less than 1 are scaled up in proportion (all 0:
            taken as equal), because every call needs an arm.
        preference: the order among ties, smallest first; usually the number of observations, so that the
            least known arm is tried. Shape [K]. Default: none, so the cheaper arm goes first.

    Returns:
        The solution; budget and shares are held within 1e-12 of themselves.

    Raises:
        ValueError: lengths that differ, no arms, numbers that are not finite or out of range.

    Two thirds of the calls can go to the better arm; a dollar more would buy 100 of reward:

    >>> solution = solve_routing([0.9, 0.6], [0.004, 0.001], budget=0.003)
    >>> [round(p, 6) for p in solution.probabilities], round(solution.shadow_price, 6)
    ([0.666667, 0.333333], 100.0)

    All the same, nothing observed of the last arm: it goes first.

    >>> solve_routing([1, 1, 1], [0, 0, 0], budget=0.1, preference=[5, 5, 0]).probabilities
    (0.0, 0.0, 1.0)
    """
    rewards = _floats(reward_ucb, name="reward_ucb")
    count = len(rewards)
    if not count:
        raise ValueError("reward_ucb is empty: give at least one arm")
    costs = _floats(cost_lcb, name="cost_lcb", length=count)
    if min(costs) < 0:
        raise ValueError(f"cost_lcb must not be negative, got {min(costs)}")
    if not 0 <= budget < inf:
        raise ValueError(f"budget must be a finite number of dollars, at least 0, got {budget}")
    if isinstance(max_share, (int, float)):
        shares = [float(max_share)] * count
    else:
        shares = _floats(max_share, name="max_share", length=count)
    if not (min(shares) >= 0 and max(shares) <= 1):
        raise ValueError(f"max_share must lie in [0, 1], got {max_share}")
    ranks = costs if preference is None else _floats(preference, name="preference", length=count)
    return _solve(rewards, costs, float(budget), shares, ranks)


def _floats(values: Numbers, *, name: str, length: int | None = None) -> list[float]:
    numbers: list[float] = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if length is not None and len(numbers) != length:
        raise ValueError(f"{name} has {len(numbers)} entries for {length} arms: give one per arm")
    # One sum instead of a loop of checks: it is not finite as soon as one of its terms is not.
    if not isfinite(sum(numbers)):
        raise ValueError(f"{name} must be finite numbers, got {numbers}")
    return numbers


def _solve(
    rewards: list[float], costs: list[float], budget: float, shares: list[float], ranks: list[float]
) -> RoutingSolution:
    count = len(rewards)
    excess = [cost - budget for cost in costs]
    slack = BUDGET_TOLERANCE * max(budget, SMALLEST_BUDGET)
    total_share = sum(shares)
    if total_share <= 1 + SHARE_TOLERANCE:
        # Only one mixture holds the shares, or none.
        mixture = [share / total_share for share in shares] if total_share > 0 else [1 / count] * count
        held = sum(map(mul, excess, mixture)) <= slack
        feasible = held and total_share >= 1 - SHARE_TOLERANCE
        return _solution(mixture, rewards, costs, 0.0 if held else inf, feasible=feasible)

    order = sorted(range(count), key=rewards.__getitem__, reverse=True)
    if len(set(rewards)) < count:
        order.sort(key=lambda i: (-rewards[i], ranks[i], costs[i], i))
    dear = _fill(order, shares, rewards, excess)
    if dear[2] <= slack:
        return _solution(dear[0], rewards, costs, 0.0, feasible=True)

    order = sorted(range(count), key=costs.__getitem__)
    if len(set(costs)) < count:
        order.sort(key=lambda i: (costs[i], -rewards[i], ranks[i], i))
    cheap = _fill(order, shares, rewards, excess)
    if cheap[2] > slack:
        return _solution(cheap[0], rewards, costs, inf, feasible=False)

    scale = max(*rewards, -min(rewards))
    edge = _edge(cheap, dear, shares, rewards, excess, slack=slack, accuracy=GAIN_TOLERANCE * scale)
    (low, _, low_excess, _), (high, _, high_excess, _), price, worth, level = edge
    weight = min(max(-low_excess / (high_excess - low_excess), 0.0), 1.0)
    mixture = [one + weight * (two - one) for one, two in zip(low, high, strict=True)]

    # The ends of an edge differ in two arms, which are worth the same at this price. A third one is a tie.
    lowest, highest = level - TIE_TOLERANCE * scale, level + TIE_TOLERANCE * scale
    tied = [i for i, w in enumerate(worth) if lowest <= w <= highest]
    if len(tied) > 2:
        tied.sort(key=lambda i: (ranks[i], costs[i], i))
        above = [i for i, w in enumerate(worth) if w > highest]
        preferred = _prefer(tied, above, shares, excess, binding=price > 0)
        # Where the best mixtures are a single point, rounding may leave none of it: keep what we have.
        over = sum(map(mul, excess, preferred))
        if abs(sum(preferred) - 1) <= SHARE_TOLERANCE and (over if price == 0 else abs(over)) <= slack:
            mixture = preferred
    return _solution(mixture, rewards, costs, price, feasible=True)


_Corner: TypeAlias = tuple[list[float], float, float, int]
"""A filling: the mixture, its reward, its cost less the budget, the last arm filled. Not a class, for speed."""


def _edge(
    cheap: _Corner,
    dear: _Corner,
    shares: list[float],
    rewards: list[float],
    excess: list[float],
    *,
    slack: float,
    accuracy: float,
) -> tuple[_Corner, _Corner, float, list[float], float]:
    """Return the two corners between which the curve crosses the budget, and the price (the slope) there.

    And what every arm is worth at that price, and what the tied arms are: filling in the order of worth stops at
    one of them, because those above are full and those below are empty at either end.
    """
    arms = range(len(rewards))
    whole = min(shares) == 1
    while True:
        gap = dear[1] - cheap[1]
        price = gap / (dear[2] - cheap[2]) if gap > accuracy else 0.0
        worth = [u - price * d for u, d in zip(rewards, excess, strict=True)]
        best = worth.__getitem__
        order = [worth.index(max(worth))] if whole else sorted(arms, key=best, reverse=True)
        corner = _fill(order, shares, rewards, excess)
        _, reward, cost, last = corner
        above_line = reward - cheap[1] - price * (cost - cheap[2]) > accuracy
        # Above the line, the second condition of either side fails only by rounding. It makes the loop end.
        if above_line and cost <= slack and reward > cheap[1]:
            cheap = corner
        elif above_line and slack < cost < dear[2]:
            dear = corner
        else:
            return cheap, dear, price, worth, worth[last]


def _solution(
    mixture: list[float], rewards: list[float], costs: list[float], price: float, *, feasible: bool
) -> RoutingSolution:
    value, cost = sum(map(mul, rewards, mixture)), sum(map(mul, costs, mixture))
    return RoutingSolution(tuple(mixture), price, feasible, value, cost)


def _fill(order: list[int], shares: list[float], rewards: list[float], excess: list[float]) -> _Corner:
    """Give the arms their shares in this order until the calls are used up. The shares sum to more than 1."""
    mixture = [0.0] * len(shares)
    left = 1.0
    reward = cost = 0.0
    arm = 0
    for arm in order:
        share = shares[arm] if shares[arm] < left else left
        mixture[arm] = share
        reward += share * rewards[arm]
        cost += share * excess[arm]
        left -= share
        if left <= 0:
            break
    return mixture, reward, cost, arm


def _prefer(
    tied: list[int], above: list[int], shares: list[float], excess: list[float], *, binding: bool
) -> list[float]:
    """Return the best mixture that gives the first of the tied arms most, then the second, and so on.

    Arms above the tie are full. The tied ones share the rest of the calls and must meet the rest of the
    budget (hold it, if it does not bind). How much can the first arm get? As much as leaves the others a
    number of calls and a cost they can still make up: at least their cheapest filling's cost, at most their
    dearest's.
    """
    mixture = [0.0] * len(shares)
    for arm in above:
        mixture[arm] = shares[arm]
    mass = max(1 - sum(mixture), 0.0)
    cost = -sum([shares[arm] * excess[arm] for arm in above])
    rest = sorted(tied, key=excess.__getitem__)
    for arm in tied:
        rest.remove(arm)
        least = max(mass - shares[arm], 0.0)  # must stay for the others
        room = cost - mass * excess[arm]
        chain = [(shares[other], excess[other] - excess[arm]) for other in rest]
        stay = _first_mass(chain, least=least, target=room)
        if binding:
            chain = [(share, -slope) for share, slope in reversed(chain)]
            stay = max(stay, _first_mass(chain, least=least, target=-room))
        stay = min(stay, mass)
        mixture[arm] = mass - stay
        cost -= mixture[arm] * excess[arm]
        mass = stay
    return mixture


def _first_mass(chain: list[tuple[float, float]], *, least: float, target: float) -> float:
    """Return the smallest mass from ``least`` on where a convex chain of (length, slope) reaches ``target``.

    Where it never is (by rounding), the mass where it is lowest.
    """
    position = height = 0.0
    for length, slope in chain:
        end = height + length * slope
        if position + length >= least:
            inside = max(least - position, 0.0)
            if slope >= 0 or height + inside * slope <= target:
                return position + inside
            if end <= target:
                return position + (target - height) / slope
        position += length
        height = end
    return max(position, least)


def cheapest_mixture_cost(cost: FloatArray, *, max_share: FloatArray) -> FloatArray:
    """Return what the cheapest feasible mixture costs, per row.

    Args:
        cost: US dollars per call, shape (rows, arms).
        max_share: largest share of each arm, shape (arms,); scaled up where they sum to less than 1.

    >>> cheapest_mixture_cost(np.array([[1.0, 2.0, 4.0]]), max_share=np.array([0.4, 0.4, 0.4]))
    array([2.])
    """
    if max_share.min() >= 1:
        return np.asarray(cost.min(axis=1))
    order = np.argsort(cost, axis=1)
    share = (max_share / min(1.0, float(max_share.sum())))[order]
    before = np.cumsum(share, axis=1) - share
    mass = np.clip(1 - before, 0, share)
    return np.asarray((np.take_along_axis(cost, order, axis=1) * mass).sum(axis=1))
