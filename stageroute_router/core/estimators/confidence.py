"""Confidence bounds of an arm's mean reward and mean cost, each naming its source and where we differ.

All functions take numbers (and return a number) or arrays (and return an array), elementwise.
"""

from __future__ import annotations

from typing import TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from stageroute_router.core.arrays import FloatArray

IntArray: TypeAlias = NDArray[np.int64]
Counts: TypeAlias = FloatArray | IntArray


@overload
def paper_radius(value: float, number: float, *, gamma: float) -> float: ...
@overload
def paper_radius(value: FloatArray, number: Counts | float, *, gamma: float) -> FloatArray: ...
def paper_radius(value: FloatArray | float, number: Counts | float, *, gamma: float) -> FloatArray | float:
    """Return the paper's confidence radius, sqrt(gamma v / n) + gamma / n.

    Args:
        value: v, an empirical mean; at least 0.
        number: n, the number of observations plus one; at least 1.
        gamma: how sure to be; above 0. The paper's theory asks for about log(arms * calls / delta), its
            experiments are reported with 0.1.

    Returns:
        The radius, at least gamma / n.

    Source: Li & Li, arXiv 2506.17254, the form Agrawal and Devanur (2014) use for budgets. Where the paper
    speaks of the empirical variance we take the mean, as the lemma behind this form does (on [0, 1] it is the
    larger).

    >>> paper_radius(0.25, 4, gamma=1.0)
    0.5
    """
    ratio = gamma / number
    radius = np.sqrt(value * ratio) + ratio
    return radius if isinstance(radius, np.ndarray) else float(radius)


@overload
def paper_reward_ucb(count: float, total: float, *, gamma: float) -> float: ...
@overload
def paper_reward_ucb(count: Counts, total: FloatArray, *, gamma: float) -> FloatArray: ...
def paper_reward_ucb(count: Counts | float, total: FloatArray | float, *, gamma: float) -> FloatArray | float:
    """Return the paper's upper bound of the mean reward: clip(m + 2 rad(m, N + 1), 0, 1), m = sum / (N + 1).

    Args:
        count: N, rewards reported; at least 0. Fractions are welcome (a prior worth half an observation).
        total: their sum, each reward in [0, 1].
        gamma: see ``paper_radius``.

    Returns:
        A bound in [0, 1]; 1 for an arm without rewards, even where gamma < 1/2 would give less.

    Source: Li & Li, arXiv 2506.17254; unseen arms at 1 as there.

    >>> round(paper_reward_ucb(100, 60.0, gamma=0.1), 6)
    0.644544
    >>> paper_reward_ucb(0, 0.0, gamma=0.1)
    1.0
    """
    number = count + 1
    mean = total / number
    # The mean is at least 0 but for rounding in sums that observations were taken back from.
    bound = mean + 2 * paper_radius(np.maximum(mean, 0.0), number, gamma=gamma)
    bound = np.where(np.equal(count, 0), 1.0, np.minimum(np.maximum(bound, 0.0), 1.0))
    return bound if bound.ndim else float(bound)


@overload
def paper_cost_lcb(count: float, total: float, *, gamma: float, lowest: float, highest: float) -> float: ...
@overload
def paper_cost_lcb(
    count: Counts, total: FloatArray, *, gamma: float, lowest: float, highest: float
) -> FloatArray: ...
def paper_cost_lcb(
    count: Counts | float, total: FloatArray | float, *, gamma: float, lowest: float, highest: float
) -> FloatArray | float:
    """Return the paper's lower bound of the mean cost: clip(m - 2 rad(m, N + 1), lowest, highest).

    Costs must be **normalised**: divided by a scale such as the dearest arm's expected cost. In dollars per
    call (1e-5 to 1e-2) the term gamma / n is far larger than any cost, the bound sticks at ``lowest`` and the
    budget is overrun.

    Args:
        count: N, costs seen; at least 0.
        total: their sum, in units of the scale.
        gamma: see ``paper_radius``.
        lowest: the least a call can cost on average, at least 0; what an unseen arm is credited with.
        highest: the most a call can cost on average.

    Returns:
        A bound in [lowest, highest]; ``lowest`` for an arm without costs.

    Source: Li & Li, arXiv 2506.17254.

    >>> round(paper_cost_lcb(100, 60.0, gamma=0.1, lowest=0.0, highest=1.0), 6)
    0.543574
    """
    number = count + 1
    mean = total / number
    bound = mean - 2 * paper_radius(np.maximum(mean, 0.0), number, gamma=gamma)
    bound = np.where(np.equal(count, 0), lowest, np.minimum(np.maximum(bound, lowest), highest))
    return bound if bound.ndim else float(bound)


_KL_STEPS = 6
_KL_CERTAIN = 1000.0


@overload
def kl_ucb(mean: float, level: float) -> float: ...
@overload
def kl_ucb(mean: FloatArray, level: FloatArray | float) -> FloatArray: ...
@overload
def kl_ucb(mean: float, level: FloatArray) -> FloatArray: ...
def kl_ucb(mean: FloatArray | float, level: FloatArray | float) -> FloatArray | float:
    """Return the largest q with KL(Bernoulli(mean), Bernoulli(q)) <= level.

    With level = log(f(t)) / n this is the KL-UCB index of an arm with n observations. It is valid for any
    reward in [0, 1], not only 0 and 1, and much tighter than Hoeffding's bound near 0 and 1.

    Args:
        mean: p, empirical mean reward in [0, 1].
        level: how much divergence to allow, at least 0; ``inf`` (nothing observed) gives 1. Shapes broadcast.

    Returns:
        q in [mean, 1], within 1e-9.

    Raises:
        ValueError: a mean outside [0, 1], a level below 0, NaN.

    How: Newton's method for the gap x = q - p on the convex, increasing function KL(p, p + x). From the right
    it approaches the root without overshooting, so the result is never below it. It starts at the least of
    three bounds: from KL >= x^2 / (2 v), v the largest q (1 - q) in [p, q] (for p >= 1/2 that is p (1 - p));
    from KL >= x^2 / (2 (p + x)); and from dropping q in p log(p / q). Each is tight where it matters (p near
    1, p near 0, large levels), so five steps reach the last digit everywhere; one is to spare. Written in x
    with ``log1p``, nothing cancels when q is close to p.

    Source: Garivier and Cappe, "The KL-UCB algorithm for bounded stochastic bandits and beyond" (2011).

    >>> round(kl_ucb(0.5, 0.02), 6), round(kl_ucb(0.0, 0.5), 6), kl_ucb(1.0, 0.3)
    (0.599008, 0.393469, 1.0)
    """
    p = np.asarray(mean, dtype=np.float64)
    allowed = np.asarray(level, dtype=np.float64)
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"mean must lie in [0, 1], got {mean}")
    if not np.all(allowed >= 0):
        raise ValueError(f"level must be at least 0, got {level}")
    # 1 - q <= exp(-level): beyond this level, q is 1 to the last digit, and nothing below overflows.
    allowed = np.minimum(allowed, _KL_CERTAIN)
    rest = np.maximum(1 - p, 1e-300)
    safe = np.maximum(p, 1e-300)
    # q = 1 is where KL is infinite; stay short of it by less than the accuracy promised.
    most = rest * (1 - 1e-12)
    with np.errstate(over="ignore"):
        large = -np.expm1((p * np.log(safe) - allowed) / rest) * rest
    variance = np.where(p >= 0.5, p * rest, 0.25)
    small = np.minimum(np.sqrt(2 * allowed * variance), allowed + np.sqrt(allowed * (allowed + 2 * p)))
    start = np.minimum(np.minimum(large, small), most)
    gap = start
    for _ in range(_KL_STEPS):
        divergence = -p * np.log1p(gap / safe) - rest * np.log1p(-gap / rest)
        slope = np.maximum(gap / ((safe + gap) * (rest - gap)), 1e-300)
        # No further right than the start: levels below 1e-30 are less than a rounding of the divergence.
        gap = np.minimum(np.maximum(gap - (divergence - allowed) / slope, 0.0), start)
    bound = np.where((allowed >= _KL_CERTAIN) | (p == 1), 1.0, np.minimum(p + gap, 1.0))
    return bound if bound.ndim else float(bound)
