"""What segments are worth: the mixes by segment against the best single mix, at the same budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stageroute_router.core.arrays import FloatArray
from stageroute_router.core.estimators.base import Scenarios
from stageroute_router.core.mix import Mix, solve_mix

_NINETY = 1.645
"""Standard deviations on either side that hold 90 % of a normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentWorth:
    """Reward per call gained by routing each segment for itself, at the same budget.

    Args:
        gain: expected.
        lower: of an interval that holds it with 90 %, as far as is known now.
        upper: likewise.
    """

    gain: float
    lower: float
    upper: float


def segment_worth(
    scenarios: Scenarios, mix: Mix, *, budget_usd: float, max_share: FloatArray, cost_tolerance: float
) -> SegmentWorth | None:
    """Return what the mixes by segment gain over the best mix of all calls; None without segments.

    Both are judged in every scenario, so the interval is that of what is known, not that of luck to come. Neither is
    told the scenario it is judged in, so that many segments of few calls are not worth something by chance.

    Args:
        scenarios: rewards and costs of the live arms, shape (scenarios, segments, arms).
        mix: of the live arms, with those by segment.
        budget_usd: the budget both keep, US dollars per call.
        max_share: largest share of each live arm, shape (arms,).
        cost_tolerance: as in :func:`~stageroute_router.core.mix.solve_mix`.

    >>> import numpy as np
    >>> from stageroute_router.core.mix import solve_mix
    >>> reward = np.array([[[0.9, 0.2], [0.2, 0.9]]])
    >>> known = Scenarios(
    ...     reward=reward, cost=np.full((1, 2, 2), 0.001), segments=("sql", "text"), weight=np.array([0.5, 0.5])
    ... )
    >>> limits = dict(budget_usd=0.002, max_share=np.ones(2), cost_tolerance=0.0)
    >>> mix = solve_mix(known, preference=[0, 0], explored=None, explore_share=0.0, **limits)
    >>> round(segment_worth(known, mix, **limits).gain, 3)
    0.35
    """
    if scenarios.weight is None or not mix.by_segment:
        return None
    weight = scenarios.weight
    overall = Scenarios(
        reward=np.einsum("s,dsk->dk", weight, scenarios.reward).mean(axis=0, keepdims=True),
        cost=np.einsum("s,dsk->dk", weight, scenarios.cost).mean(axis=0, keepdims=True),
    )
    single = solve_mix(
        overall,
        budget_usd=budget_usd,
        max_share=max_share,
        cost_tolerance=cost_tolerance,
        preference=[0.0] * len(max_share),
        explored=None,
        explore_share=0.0,
    )
    joint = np.array([mix.by_segment[name].probabilities for name in scenarios.segments])
    gained = joint - np.array(single.probabilities)
    gains = np.einsum("s,sk,dsk->d", weight, gained, scenarios.reward)
    # What one of them spends less, it could spend: at the price of a dollar.
    spent = np.einsum("s,sk,dsk->d", weight, gained, scenarios.cost)
    price = mix.shadow_price if np.isfinite(mix.shadow_price) else 0.0
    worth = gains - price * spent
    middle, spread = float(worth.mean()), float(worth.std())
    return SegmentWorth(gain=middle, lower=middle - _NINETY * spread, upper=middle + _NINETY * spread)
