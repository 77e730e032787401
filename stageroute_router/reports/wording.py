"""Sentences that every view of a group says alike: the command line, the page, the documentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone

from stageroute_router.core.segment_worth import SegmentWorth

_MOST_NAMED = 3
_PER_CALLS = 1000
_SMALLEST = 1e-6
_LARGEST_STEP = 0.1


def shadow_price_sentence(shadow_price: float, *, budget_usd_per_call: float | None = None) -> str:
    """Return what more budget would buy, as a sentence without its full stop.

    Args:
        shadow_price: reward that one more dollar would buy; 0 while the budget is slack, infinite (or NaN) where no
            mixture of the live arms keeps the budget.
        budget_usd_per_call: the group's budget, where known: the dollar is then spread over so many calls that it
            is at most a tenth of the budget. The price holds for small steps only.

    >>> shadow_price_sentence(12.0)
    '$1 more per 1,000 calls buys +0.012 reward per call'
    >>> shadow_price_sentence(61.2, budget_usd_per_call=0.002)
    '$1 more per 10,000 calls buys +0.0061 reward per call'
    >>> shadow_price_sentence(0.0)
    'the budget is slack: more of it would buy no reward'
    >>> shadow_price_sentence(math.inf)
    'no mixture of the live arms keeps the budget'
    """
    if not math.isfinite(shadow_price):
        return "no mixture of the live arms keeps the budget"
    if shadow_price <= 0:
        return "the budget is slack: more of it would buy no reward"
    calls = _PER_CALLS if budget_usd_per_call is None else _calls_of_a_small_step(budget_usd_per_call)
    return f"$1 more per {calls:,} calls buys {_gain(shadow_price / calls)} reward per call"


def callers_price_sentence(price: float) -> str:
    """Return that a call had a price of its own, as a sentence without its full stop.

    Args:
        price: reward that a dollar had to buy.

    >>> callers_price_sentence(50.0)
    "this call's price was its caller's: 50 reward per dollar"
    """
    return f"this call's price was its caller's: {price:,.6g} reward per dollar"


def segment_worth_sentence(worth: SegmentWorth) -> str:
    """Return what telling calls apart is worth, as a sentence without its full stop.

    >>> segment_worth_sentence(SegmentWorth(gain=0.0312, lower=0.018, upper=0.044))
    'routing by segment is worth +0.031 reward per call at the same spend (90 % interval +0.018 to +0.044)'
    """
    return (
        f"routing by segment is worth {worth.gain:+.3f} reward per call at the same spend "
        f"(90 % interval {worth.lower:+.3f} to {worth.upper:+.3f})"
    )


def utc(at: float) -> str:
    """Return a moment, in seconds since the epoch, as a text that means the same everywhere.

    >>> utc(1767225605.9), utc(1e30)
    ('2026-01-01 00:00:05 UTC', 'an unknown time')
    """
    try:
        return f"{datetime.fromtimestamp(at, tz=timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return "an unknown time"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them, the first three of many.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    if len(names) > _MOST_NAMED:
        names = [*names[:_MOST_NAMED], f"{len(names) - _MOST_NAMED} more"]
    return " and ".join([part for part in (", ".join(names[:-1]), *names[-1:]) if part])


def _calls_of_a_small_step(budget_usd: float) -> int:
    """Return over how many calls, a power of ten, a dollar is at most a tenth of the budget.

    >>> _calls_of_a_small_step(0.01), _calls_of_a_small_step(0.002), _calls_of_a_small_step(50)
    (1000, 10000, 1)
    """
    return int(10 ** max(math.ceil(-math.log10(_LARGEST_STEP * budget_usd) - 1e-9), 0))


def _gain(reward: float) -> str:
    """Return a gain with two significant digits at least, and never in powers of ten.

    >>> _gain(0.0123), _gain(0.000456), _gain(1.5), _gain(3e-8)
    ('+0.012', '+0.00046', '+1.500', 'less than +0.000001')
    """
    if reward < _SMALLEST:
        return f"less than +{_SMALLEST:.6f}"
    decimals = max(3, 1 - math.floor(math.log10(reward)))
    return f"+{reward:.{decimals}f}"
