"""Numbers, times and foreign text as a terminal shows them."""

from __future__ import annotations

import math
import unicodedata
from datetime import datetime, timezone

from rich.text import Text

from stageroute_router.reports.figures import Unit

NOTHING = "-"
"""What stands where there is no value."""


def usd(amount: float | None) -> str:
    """Return dollars with the digits that matter for costs of single calls.

    >>> usd(0.00043), usd(12.5), usd(None)
    ('$0.000430', '$12.50', '-')
    """
    if amount is None:
        return NOTHING
    if amount == 0:
        return "$0"
    if not math.isfinite(amount):
        return "unknown"
    if amount < 0:
        return f"-{usd(-amount)}"
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.{_decimals(amount)}f}"


def _decimals(amount: float) -> int:
    decimals = 3
    while amount < 1 and decimals < 10:
        amount *= 10
        decimals += 1
    return decimals - 1


def share(value: float | None) -> str:
    """Return a probability or share as a percentage.

    >>> share(0.8125), share(0.0004), share(None)
    ('81.2%', '0.04%', '-')
    """
    if value is None:
        return NOTHING
    return f"{value:.2%}" if 0 < value < 0.001 else f"{value:.1%}"


def reward(value: float | None) -> str:
    """Return a reward with three decimals.

    >>> reward(0.5), reward(None)
    ('0.500', '-')
    """
    return NOTHING if value is None else f"{value:.3f}"


def number(value: float | None, unit: Unit) -> str:
    """Return a figure's value by its unit.

    >>> number(2000, "count"), number(0.25, "share"), number(7, "ordinal"), number(None, "usd")
    ('2,000', '25.0%', '7', '-')
    """
    if value is None:
        return NOTHING
    if unit == "usd":
        return usd(value)
    if unit == "share":
        return share(value)
    if unit == "reward":
        return reward(value)
    if unit == "count":
        return f"{value:,.0f}"
    return moment(value) if unit == "moment" else f"{value:.6g}"


def moment(at: float, *, seconds: bool = False) -> str:
    """Return a time in UTC, to the minute unless ``seconds`` matter.

    >>> moment(1767225605.0), moment(1767225605.0, seconds=True)
    ('2026-01-01 00:00 UTC', '2026-01-01 00:00:05 UTC')
    """
    try:
        told = datetime.fromtimestamp(at, tz=timezone.utc)
    except (OverflowError, ValueError, OSError):
        return "an unknown time"
    return f"{told:%Y-%m-%d %H:%M:%S} UTC" if seconds else f"{told:%Y-%m-%d %H:%M} UTC"


def span(seconds: float) -> str:
    """Return how long something has lasted, in the unit a person would use.

    >>> span(12.4), span(90), span(7300), span(200000)
    ('12 s', '90 s', '2.0 h', '2.3 days')
    """
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"


def counted(count: int, what: str) -> str:
    """Return a number of things.

    >>> counted(1, "call"), counted(2000, "call")
    ('1 call', '2,000 calls')
    """
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def clean(text: str) -> str:
    r"""Return text from outside without what would steer a terminal.

    Names of arms and ids come from settings, clients and providers: an escape sequence in one could rewrite what
    the operator reads.

    >>> clean("gpt\x1b[2J"), clean("né")
    ('gpt\ufffd[2J', 'né')
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        "\ufffd" if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co"} else char for char in text
    )


def plain(text: str, style: str = "") -> Text:
    """Return foreign text, cleaned, in which square brackets are no markup."""
    return Text(clean(text), style=style)
