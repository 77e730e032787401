"""Axes, scales and formats that the pictures share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stageroute_router.charts.drawing import Theme
from stageroute_router.charts.figures import ArmsFigure

NARROW = 600
"""Below this width, panels stand on top of each other."""

ROW = 26
LABELS = 165
LABELS_NARROW = 118
_DAY = 86400.0
Data = dict[str, list[dict[str, Any]]]
"""The rows that marks are drawn from, by the name charts call them."""

STATES = ["live", "revisit", "not live"]


LEFT = 64
"""Width of a vertical axis with its title, pixels."""


def rows_axis(alt: Any, figure: ArmsFigure, theme: Theme, labels: int) -> Any:  # noqa: ANN401
    """Return the axis with a row per arm."""
    return alt.Y(
        "arm:N",
        sort=[row.arm for row in figure.rows],
        title=None,
        axis=names(alt, theme, labels) if labels else alt.Axis(labels=False, ticks=False, domain=False),
    )


def names(alt: Any, theme: Theme, labels: int) -> Any:  # noqa: ANN401
    """Return an axis that shows the arms' names."""
    return alt.Axis(
        labelLimit=labels - 8,
        minExtent=labels,
        maxExtent=labels,
        labelColor=theme.text,
        ticks=False,
        domain=False,
        labelPadding=8,
    )


def state_colour(alt: Any, theme: Theme, states: list[str], *, orient: str = "top", columns: int = 3) -> Any:  # noqa: ANN401
    """Return the colours of states, with their legend."""
    colours = {"live": theme.accent, "revisit": theme.second, "not live": theme.faint}
    return alt.Color(
        "state:N",
        title=None,
        scale=alt.Scale(domain=states, range=[colours[state] for state in states]),
        legend=alt.Legend(
            orient=orient,
            columns=columns,
            symbolType="circle",
            symbolStrokeWidth=0,
            symbolOpacity=1,
            offset=12,
        ),
    )


def time_axis(
    alt: Any,  # noqa: ANN401
    times: Sequence[float],
    *,
    zone_minutes: int,
    width: int,
    field: str = "at",
) -> Any:  # noqa: ANN401
    """Return a time axis in the reader's time zone."""
    start, end = (min(times), max(times)) if times else (0.0, 1.0)
    span = end - start
    return alt.X(
        f"{field}:T",
        title=_zone_name(zone_minutes),
        scale=alt.Scale(
            type="utc",
            domain=[clock(start, zone_minutes), clock(max(end, start + 1), zone_minutes)],
            nice=False,
        ),
        axis=alt.Axis(
            format=_time_format(span), tickCount=max(width // 110, 2), labelOverlap=True, grid=False
        ),
    )


def _time_format(span: float) -> str:
    if span <= 300:
        return "%H:%M:%S"
    if span <= 1.6 * _DAY:
        return "%H:%M"
    return "%d %b %H:%M" if span <= 4 * _DAY else "%d %b"


def _zone_name(minutes: int) -> str:
    if not minutes:
        return "UTC"
    hours, rest = divmod(abs(minutes), 60)
    return f"UTC{'+' if minutes > 0 else '-'}{hours}" + (f":{rest:02}" if rest else "")


def clock(at: float, zone_minutes: int) -> float:
    """Return the viewer's local time as milliseconds of a clock in UTC."""
    return (at + zone_minutes * 60) * 1000


def calls_per_dollar_unit(budget: float) -> int:
    """Return the number of calls to state costs for, so that the budget is no fraction of a cent.

    >>> calls_per_dollar_unit(0.002), calls_per_dollar_unit(0.5), calls_per_dollar_unit(2e-6)
    (1000, 1000, 1000000)
    """
    return 1_000 if budget >= 1e-5 else 1_000_000


def dollar_format(top: float) -> str:
    """Return the format of amounts on an axis that ends at ``top``."""
    decimals = 0 if top >= 20 else 1 if top >= 5 else 2 if top >= 0.2 else 3
    return f"$,.{decimals}f"


def log_ticks(low: float, high: float, *, most: int) -> list[float]:
    """Return round values in a range, at most so many where powers of ten leave a choice.

    >>> log_ticks(0.03, 13, most=4), log_ticks(0.5, 13, most=6)
    ([0.1, 1.0, 10.0], [0.5, 1.0, 2.0, 5.0, 10.0])
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{step}e{power}") for power in powers for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            break
    return ticks


def dollars(amount: float) -> str:
    """Return an amount as text."""
    return f"${amount:,.2f}" if amount >= 0.1 else f"${amount:.2g}"
