"""How a group's totals went: samples of them, taken by commits, fewer the older they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

SAMPLE_INTERVAL_S = 15.0
"""A sample is taken at most so often, in seconds, however many workers a group has; and at each new stage."""

THINNING_INTERVAL_S = 3600.0
"""How often samples are thinned, in seconds."""

_STEPS_BY_AGE_S = ((3600.0, 300.0), (2 * 86_400.0, 3600.0))
"""From which age on one sample per so many seconds is enough: five minutes after an hour, an hour after two days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPoint:
    """A group's totals at one moment. Differences of two points tell what happened in between.

    Args:
        at: when.
        calls: decisions until then.
        open_calls: of those, calls whose cost was not known yet.
        spend_usd: costs known until then.
        in_flight_usd: expected costs of the open calls.
        reward_count: rewards known until then.
        reward_total: their sum.
    """

    at: float
    calls: int
    open_calls: int
    spend_usd: float
    in_flight_usd: float
    reward_count: int
    reward_total: float


def is_sample_due(last_at: float | None, *, now: float) -> bool:
    """Return whether the last sample is old enough for another one; also when the clock was set back since."""
    return last_at is None or abs(now - last_at) >= SAMPLE_INTERVAL_S


def is_thinning_due(last_at: float, *, now: float) -> bool:
    """Return whether an hour of the clock has begun since upkeep was last done."""
    return math.floor(last_at / THINNING_INTERVAL_S) != math.floor(now / THINNING_INTERVAL_S)


def superfluous(moments: Iterable[float], *, now: float, keep_s: float | None) -> list[float]:
    """Return which samples of a group are to go: the last one of every step stays, and none beyond ``keep_s``.

    Thinning again changes nothing, because steps begin at multiples of their length.

    >>> superfluous([1.0, 2.0, 299.0, 301.0], now=4000.0, keep_s=None)
    [1.0, 2.0]
    >>> superfluous([1.0, 2.0], now=3000.0, keep_s=None)
    []
    >>> superfluous([1.0, 2_000.0], now=4000.0, keep_s=3000.0)
    [1.0]
    """
    last: dict[tuple[float, float], float] = {}
    gone = []
    for moment in sorted(moments):
        age = now - moment
        if keep_s is not None and age > keep_s:
            gone.append(moment)
            continue
        step = max((step for since, step in _STEPS_BY_AGE_S if age > since), default=0.0)
        if step:
            place = (step, math.floor(moment / step))
            if place in last:
                gone.append(last[place])
            last[place] = moment
    return gone


def spread(samples: Sequence[T], most: int) -> Sequence[T]:
    """Return at most so many of the samples, evenly chosen by their order, the first and the last one among them.

    Not by their time: the recent past keeps its finer steps.

    >>> spread(range(10), 4)
    [0, 3, 6, 9]
    >>> spread([1, 2], 4)
    [1, 2]
    """
    if len(samples) <= most:
        return samples
    if most <= 1:
        return [samples[-1]][: max(most, 0)]
    return [samples[round(i * (len(samples) - 1) / (most - 1))] for i in range(most)]
