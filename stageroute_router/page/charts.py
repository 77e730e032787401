"""The page's charts: the same functions draw them as SVG for the page and as PNG for files.

Everything is drawn from :mod:`~stageroute_router.page.figures`, at a width in pixels, in a theme. Drawing takes tens of
milliseconds, the first one a second, and holds Python's lock meanwhile: a server draws in another process
(:mod:`~stageroute_router.page.painting`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stageroute_router.drawing import THEMES, Theme, ThemeName, dressed, load_altair, to_png, to_svg
from stageroute_router.page.figures import ArmRow, ArmsFigure, Figure, LiveSetFigure, SpendFigure

NARROW = 600
"""Below this width, panels stand on top of each other."""

_ROW = 26
_LABELS = 165
_LABELS_NARROW = 118
_DAY = 86400.0
Data = dict[str, list[dict[str, Any]]]
"""The rows that marks are drawn from, by the name charts call them."""

_STATES = ["live", "second look", "not live"]


def draw(figure: Figure, *, theme: ThemeName = "light", width: int = 760, zone_minutes: int = 0) -> Any:  # noqa: ANN401
    """Return a chart, an Altair object.

    Args:
        figure: what it shows.
        theme: its colours.
        width: of the whole picture, in pixels, at least 280.
        zone_minutes: how far the clock of who looks is ahead of UTC.

    Raises:
        StageRouteError: altair or vl-convert is not installed.
    """
    alt = load_altair()
    colours = THEMES[theme]
    if isinstance(figure, SpendFigure):
        chart, data = _spend(alt, figure, theme=colours, width=width, zone_minutes=zone_minutes)
    elif isinstance(figure, LiveSetFigure):
        chart, data = _live_set(alt, figure, theme=colours, width=width, zone_minutes=zone_minutes)
    else:
        chart, data = _arms(alt, figure, theme=colours, width=width)
    chart = dressed(chart, colours, padding=4)
    # Last, and by name: Altair copies what a chart holds whenever it is put into another one.
    chart["datasets"] = data
    return chart


def svg(
    figure: Figure,
    *,
    label: str,
    name: str = "chart",
    theme: ThemeName = "light",
    width: int = 760,
    zone_minutes: int = 0,
) -> str:
    """Return a chart as SVG.

    Args:
        figure: as for :func:`draw`, like the rest.
        label: what it shows, for those who do not see it.
        name: sets its ids apart from those of other pictures in the same document.
        theme: likewise.
        width: likewise.
        zone_minutes: likewise.
    """
    chart = draw(figure, theme=theme, width=width, zone_minutes=zone_minutes)
    return to_svg(chart, label=label, name=name)


def png(figure: Figure, *, theme: ThemeName = "light", width: int = 760, zone_minutes: int = 0) -> bytes:
    """Return a chart as PNG, 1.5 pixels to the unit. Arguments as for :func:`draw`."""
    return to_png(draw(figure, theme=theme, width=width, zone_minutes=zone_minutes))


# --- spend ------------------------------------------------------------------------------------------------------------


def _spend(
    alt: Any,  # noqa: ANN401
    figure: SpendFigure,
    *,
    theme: Theme,
    width: int,
    zone_minutes: int,
) -> tuple[Any, Data]:
    unit = _calls_per_dollar_unit(figure.budget)
    budget = figure.budget * unit
    average, recent, limit = "average since the start", "of late", f"budget {_dollars(budget)}"
    lines: list[dict[str, Any]] = [
        {"at": _clock(point.at, zone_minutes), "usd": value * unit, "what": what}
        for point in figure.points
        for what, value in ((recent, point.recent), (average, point.average))
        if value is not None
    ]
    tops = sorted(line["usd"] for line in lines)
    # A few dear calls in a row must not flatten everything else: the top twentieth may leave the picture.
    top = max(1.5 * budget, 1.15 * tops[int(0.95 * (len(tops) - 1))] if tops else 0.0)
    times = [point.at for point in figure.points]
    ends = [_clock(at, zone_minutes) for at in ((min(times), max(times)) if times else (0.0, 1.0))]
    lines.extend({"at": at, "usd": budget, "what": limit} for at in ends)
    what = [average, recent, limit]
    colours = [theme.accent, theme.faint, theme.budget]
    plot = width - _LEFT - 14
    chart = (
        alt.Chart(alt.NamedData("spend"))
        .mark_line(clip=True)
        .encode(
            x=_time_axis(alt, times, zone_minutes=zone_minutes, width=plot),
            y=alt.Y(
                "usd:Q",
                title=f"$ per {unit:,} calls",
                scale=alt.Scale(domain=[0, top], nice=False),
                axis=alt.Axis(format=_dollar_format(top), tickCount=5, minExtent=44, maxExtent=44),
            ),
            color=alt.Color(
                "what:N",
                title=None,
                scale=alt.Scale(domain=what, range=colours),
                legend=alt.Legend(orient="top", symbolType="stroke", columns=1 if width < 400 else 3),
            ),
            strokeDash=alt.StrokeDash(
                "what:N", scale=alt.Scale(domain=what, range=[[1, 0], [1, 0], [6, 4]]), title=None
            ),
            strokeWidth=alt.StrokeWidth(
                "what:N", scale=alt.Scale(domain=what, range=[2.8, 1.5, 1.8]), title=None
            ),
        )
        .properties(width=plot, height=240)
    )
    return chart, {"spend": lines}


_LEFT = 64
"""What a vertical axis with its title takes."""


# --- live set ---------------------------------------------------------------------------------------------------------


def _live_set(
    alt: Any,  # noqa: ANN401
    figure: LiveSetFigure,
    *,
    theme: Theme,
    width: int,
    zone_minutes: int,
) -> tuple[Any, Data]:
    labels = _LABELS_NARROW if width < NARROW else _LABELS
    plot = width - labels - 14
    times = [*(mark.at for mark in figure.stages), figure.end]
    spans = [
        {
            "arm": span.arm,
            "start": _clock(span.start, zone_minutes),
            "end": _clock(span.end, zone_minutes),
            "state": span.state,
        }
        for span in figure.spans
    ]
    y = alt.Y("arm:N", sort=list(figure.arms), title=None, axis=_names(alt, theme, labels))
    x = _time_axis(alt, times, zone_minutes=zone_minutes, width=plot)
    bars = (
        alt.Chart(alt.NamedData("spans"))
        .mark_bar(height=_ROW * 0.5, cornerRadius=2)
        .encode(
            x=_time_axis(alt, times, zone_minutes=zone_minutes, width=plot, field="start"),
            x2="end",
            y=y,
            color=_state_colour(alt, theme, _STATES[:2], orient="bottom"),
        )
    )
    marks = [
        {"at": _clock(mark.at, zone_minutes), "stage": str(mark.number) if index else f"stage {mark.number}"}
        for index, mark in enumerate(_spread(figure.stages, plot=plot, end=figure.end))
    ]
    starts = alt.Chart(alt.NamedData("marks")).encode(x=x)
    lines = starts.mark_rule(color=theme.faint, strokeWidth=1, strokeDash=[1, 3])
    numbers = starts.mark_text(y=-8, align="left", dx=2, color=theme.muted, fontSize=11).encode(
        text="stage:N"
    )
    chart = alt.layer(lines, bars, numbers).properties(width=plot, height=_ROW * max(len(figure.arms), 1))
    return chart, {"spans": spans, "marks": marks}


def _spread(marks: Sequence[Any], *, plot: int, end: float) -> list[Any]:
    """Return as many of the stages' beginnings as have room for their numbers."""
    if not marks:
        return []
    pixels = plot / max(end - marks[0].at, 1e-9)
    kept, free = [marks[0]], marks[0].at + 54 / pixels
    for mark in marks[1:]:
        if free <= mark.at <= end - 14 / pixels:
            kept.append(mark)
            free = mark.at + 26 / pixels
    return kept


# --- arms -------------------------------------------------------------------------------------------------------------


def _arms(alt: Any, figure: ArmsFigure, *, theme: Theme, width: int) -> tuple[Any, Data]:  # noqa: ANN401
    unit = _calls_per_dollar_unit(figure.budget)
    data: Data = {
        "rows": [_row_values(row, unit=unit) for row in figure.rows],
        "budget": [{"usd": figure.budget * unit}],
    }
    colour = _state_colour(alt, theme, _STATES, columns=2 if width < 400 else 3)
    if width < NARROW:
        plot = width - _LABELS_NARROW - 16
        panels = [
            panel.properties(width=plot, height=_ROW * max(len(figure.rows), 1))
            for panel in (
                _rewards(alt, figure, theme=theme, colour=colour, labels=_LABELS_NARROW),
                _costs(alt, figure, theme=theme, colour=colour, labels=_LABELS_NARROW, plot=plot),
                _shares(alt, figure, theme=theme, colour=colour, labels=_LABELS_NARROW),
            )
        ]
        return alt.vconcat(*panels, spacing=14).resolve_scale(color="shared"), data
    plot = width - _LABELS - 2 * 24 - 24
    reward, cost = int(plot * 0.4), int(plot * 0.33)
    height = _ROW * max(len(figure.rows), 1)
    chart = alt.hconcat(
        _rewards(alt, figure, theme=theme, colour=colour, labels=_LABELS).properties(
            width=reward, height=height
        ),
        _costs(alt, figure, theme=theme, colour=colour, labels=0, plot=cost).properties(
            width=cost, height=height
        ),
        _shares(alt, figure, theme=theme, colour=colour, labels=0).properties(
            width=plot - reward - cost, height=height
        ),
        spacing=24,
    ).resolve_scale(color="shared")
    return chart, data


def _row_values(row: ArmRow, *, unit: int) -> dict[str, Any]:
    return {
        "arm": row.arm,
        "state": row.state,
        "low": row.reward_lcb,
        "mean": row.reward_mean,
        "high": row.reward_ucb,
        "usd": None if row.cost is None else row.cost * unit,
        "seen": row.cost_seen,
        "share": row.share,
        "cap": row.cap if row.cap < 1 and row.state != "not live" else None,
    }


def _rewards(alt: Any, figure: ArmsFigure, *, theme: Theme, colour: Any, labels: int) -> Any:  # noqa: ANN401
    low = min((row.reward_lcb for row in figure.rows), default=0.0)
    high = max((row.reward_ucb for row in figure.rows), default=1.0)
    margin = max((high - low) * 0.04, 0.01)
    base = alt.Chart(alt.NamedData("rows")).encode(y=_rows_axis(alt, figure, theme, labels), color=colour)
    bounds = base.mark_rule(strokeWidth=5, strokeCap="round", opacity=0.45).encode(
        x=alt.X(
            "low:Q",
            title="reward: bounds and mean",
            scale=alt.Scale(domain=[max(low - margin, 0.0), min(high + margin, 1.0)], nice=False),
            axis=alt.Axis(tickCount=5, orient="top"),
        ),
        x2="high",
    )
    means = (
        base.transform_filter("isValid(datum.mean)")
        .mark_point(filled=True, size=70, opacity=1)
        .encode(x="mean:Q")
    )
    return bounds + means


def _costs(
    alt: Any,  # noqa: ANN401
    figure: ArmsFigure,
    *,
    theme: Theme,
    colour: Any,  # noqa: ANN401
    labels: int,
    plot: int,
) -> Any:  # noqa: ANN401
    unit = _calls_per_dollar_unit(figure.budget)
    known = [row.cost * unit for row in figure.rows if row.cost is not None]
    budget = figure.budget * unit
    everything = [*known, budget]
    wide = min(everything) > 0 and max(everything) / min(everything) > 12
    scale = (
        alt.Scale(type="log", domain=[min(everything) / 1.3, max(everything) * 1.3], nice=False)
        if wide
        else alt.Scale(domain=[0, max(everything) * 1.12], nice=False)
    )
    ticks = (
        {"values": _log_ticks(min(everything) / 1.3, max(everything) * 1.3, most=max(plot // 60, 2))}
        if wide
        else {"tickCount": max(plot // 70, 2), "format": _dollar_format(max(everything))}
    )
    x = alt.X(
        "usd:Q",
        title=f"$ per {unit:,} calls" + (" (log)" if wide else ""),
        scale=scale,
        axis=alt.Axis(
            orient="top", labelExpr="format(datum.value, datum.value < 1 ? '$~r' : '$,~r')", **ticks
        )
        if wide
        else alt.Axis(orient="top", labelOverlap=True, **ticks),
    )
    base = (
        alt.Chart(alt.NamedData("rows"))
        .transform_filter("isValid(datum.usd)")
        .encode(x=x, y=_rows_axis(alt, figure, theme, labels), color=colour)
    )
    seen = base.transform_filter("datum.seen").mark_point(filled=True, size=70, opacity=1)
    expected = base.transform_filter("!datum.seen").mark_point(filled=False, size=60, strokeWidth=1.8)
    limit = (
        alt.Chart(alt.NamedData("budget"))
        .mark_rule(color=theme.budget, strokeDash=[6, 4], strokeWidth=1.6)
        .encode(x="usd:Q")
    )
    return alt.layer(limit, seen, expected)


def _shares(alt: Any, figure: ArmsFigure, *, theme: Theme, colour: Any, labels: int) -> Any:  # noqa: ANN401
    base = alt.Chart(alt.NamedData("rows")).encode(y=_rows_axis(alt, figure, theme, labels))
    bars = base.mark_bar(height=_ROW * 0.45, cornerRadiusEnd=2).encode(
        x=alt.X(
            "share:Q",
            title="share of calls",
            scale=alt.Scale(domain=[0, 1]),
            axis=alt.Axis(format="%", values=[0, 0.25, 0.5, 0.75, 1], orient="top", labelOverlap=True),
        ),
        color=colour,
    )
    caps = (
        base.transform_filter("isValid(datum.cap)")
        .mark_tick(color=theme.budget, thickness=2.5, height=_ROW * 0.7)
        .encode(x="cap:Q")
    )
    return alt.layer(bars, caps)


def _rows_axis(alt: Any, figure: ArmsFigure, theme: Theme, labels: int) -> Any:  # noqa: ANN401
    return alt.Y(
        "arm:N",
        sort=[row.arm for row in figure.rows],
        title=None,
        axis=_names(alt, theme, labels) if labels else alt.Axis(labels=False, ticks=False, domain=False),
    )


# --- shared -----------------------------------------------------------------------------------------------------------


def _names(alt: Any, theme: Theme, labels: int) -> Any:  # noqa: ANN401
    return alt.Axis(
        labelLimit=labels - 8,
        minExtent=labels,
        maxExtent=labels,
        labelColor=theme.text,
        ticks=False,
        domain=False,
        labelPadding=8,
    )


def _state_colour(alt: Any, theme: Theme, states: list[str], *, orient: str = "top", columns: int = 3) -> Any:  # noqa: ANN401
    colours = {"live": theme.accent, "second look": theme.second, "not live": theme.faint}
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


def _time_axis(
    alt: Any,  # noqa: ANN401
    times: Sequence[float],
    *,
    zone_minutes: int,
    width: int,
    field: str = "at",
) -> Any:  # noqa: ANN401
    start, end = (min(times), max(times)) if times else (0.0, 1.0)
    span = end - start
    return alt.X(
        f"{field}:T",
        title=_zone_name(zone_minutes),
        scale=alt.Scale(
            type="utc",
            domain=[_clock(start, zone_minutes), _clock(max(end, start + 1), zone_minutes)],
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


def _clock(at: float, zone_minutes: int) -> float:
    """Return what the clock of who looks shows, as milliseconds of a clock in UTC."""
    return (at + zone_minutes * 60) * 1000


def _calls_per_dollar_unit(budget: float) -> int:
    """Return per how many calls to tell costs, so that the budget is no fraction of a cent.

    >>> _calls_per_dollar_unit(0.002), _calls_per_dollar_unit(0.5), _calls_per_dollar_unit(2e-6)
    (1000, 1000, 1000000)
    """
    return 1_000 if budget >= 1e-5 else 1_000_000


def _dollar_format(top: float) -> str:
    decimals = 0 if top >= 20 else 1 if top >= 5 else 2 if top >= 0.2 else 3
    return f"$,.{decimals}f"


def _log_ticks(low: float, high: float, *, most: int) -> list[float]:
    """Return round values in a range, at most so many where powers of ten leave a choice.

    >>> _log_ticks(0.03, 13, most=4), _log_ticks(0.5, 13, most=6)
    ([0.1, 1.0, 10.0], [0.5, 1.0, 2.0, 5.0, 10.0])
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{step}e{power}") for power in powers for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            break
    return ticks


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 0.1 else f"${amount:.2g}"
