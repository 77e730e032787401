"""Numbers and times as the page writes them: few digits, a unit, and a dash where there is nothing."""

from __future__ import annotations

import math
from datetime import datetime, timezone

from stageroute_router.reports.figures import Unit

NOTHING = "\u2013"
_THIN = "\u202f"  # a narrow space that does not break: between a number and its unit


def usd(amount: float | None) -> str:
    """Return dollars: cents from a dollar on, two digits that matter below.

    >>> usd(0.00213), usd(12.5), usd(4321.0), usd(0), usd(0.00000087)
    ('$0.0021', '$12.50', '$4,321', '$0', '$0.00000087')
    >>> usd(None) == usd(math.inf) == NOTHING
    True
    """
    if amount is None or not math.isfinite(amount):
        return NOTHING
    if amount < 0:
        return f"-{usd(-amount)}"
    if amount == 0:
        return "$0"
    if amount >= 0.995:
        return f"${amount:,.0f}" if amount >= 1000 else f"${amount:,.2f}"
    decimals = 1 - math.floor(math.log10(amount))
    return f"${amount:.{min(decimals, 12)}f}"


def percent(part: float | None) -> str:
    r"""Return a part of the whole.

    >>> percent(0.1234), percent(1.0), percent(0.0), percent(0.0002)
    ('12.3\u202f%', '100\u202f%', '0\u202f%', '<\u202f0.1\u202f%')
    """
    if part is None or not math.isfinite(part):
        return NOTHING
    if 0 < part < 0.0005:
        return f"<{_THIN}0.1{_THIN}%"
    text = f"{100 * part:,.1f}"
    return f"{'0' if text == '0.0' else '100' if text == '100.0' else text}{_THIN}%"


def reward(value: float | None) -> str:
    """Return a reward.

    >>> reward(0.71249), reward(1.0), reward(None) == reward(math.inf) == NOTHING
    ('0.712', '1.000', True)
    """
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.3f}"


def count(number: int | None) -> str:
    """Return how many.

    >>> count(1234567), count(None) == NOTHING
    ('1,234,567', True)
    """
    return NOTHING if number is None else f"{number:,}"


def rate(per_minute: float | None) -> str:
    """Return calls a minute, with two digits that matter: more would change at every look.

    >>> rate(123.4), rate(6.66), rate(0.0123), rate(0), rate(None) == NOTHING
    ('120', '6.7', '0.012', '0', True)
    """
    if per_minute is None or not math.isfinite(per_minute):
        return NOTHING
    if per_minute < 0.001:
        return "0"
    decimals = 1 - math.floor(math.log10(per_minute))
    return f"{round(per_minute, decimals):,.{max(decimals, 0)}f}"


def number(value: float | None, unit: Unit) -> str:
    """Return a figure's value by its unit.

    >>> number(2000, "count"), number(0.5, "reward"), number(7, "ordinal"), number(None, "usd") == NOTHING
    ('2,000', '0.500', '7', True)
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if unit == "usd":
        return usd(value)
    if unit == "share":
        return percent(value)
    if unit == "reward":
        return reward(value)
    if unit == "count":
        return f"{value:,.0f}"
    return clock(value) if unit == "moment" else f"{value:.6g}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """Return a number of things.

    >>> plural(1, "call"), plural(2000, "call")
    ('1 call', '2,000 calls')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def iso(at: float | None) -> str:
    """Return a time for machines, in UTC; the browser writes it in its own zone.

    >>> iso(1767225600.0), iso(None), iso(1e30)
    ('2026-01-01T00:00:00Z', '', '')
    """
    try:
        return "" if at is None else f"{datetime.fromtimestamp(at, tz=timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):
        return ""


def clock(at: float | None) -> str:
    """Return a time for people, in UTC.

    >>> clock(1767225600.0), clock(None) == NOTHING
    ('2026-01-01 00:00 UTC', True)
    """
    text = iso(at)
    return f"{text[:10]} {text[11:16]} UTC" if text else NOTHING
