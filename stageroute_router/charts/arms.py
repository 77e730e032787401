"""The picture of the arms: what each one earns, costs and gets of the calls."""

from __future__ import annotations

from typing import Any

from stageroute_router.charts.axes import (
    LABELS,
    LABELS_NARROW,
    NARROW,
    ROW,
    STATES,
    Data,
    calls_per_dollar_unit,
    dollar_format,
    log_ticks,
    rows_axis,
    state_colour,
)
from stageroute_router.charts.drawing import Theme
from stageroute_router.charts.figures import ArmRow, ArmsFigure


def arms(alt: Any, figure: ArmsFigure, *, theme: Theme, width: int) -> tuple[Any, Data]:  # noqa: ANN401
    """Draw the arms: reward, cost and share of each."""
    unit = calls_per_dollar_unit(figure.budget)
    data: Data = {
        "rows": [_row_values(row, unit=unit) for row in figure.rows],
        "budget": [{"usd": figure.budget * unit}],
    }
    colour = state_colour(alt, theme, STATES, columns=2 if width < 400 else 3)
    if width < NARROW:
        plot = width - LABELS_NARROW - 16
        panels = [
            panel.properties(width=plot, height=ROW * max(len(figure.rows), 1))
            for panel in (
                _rewards(alt, figure, theme=theme, colour=colour, labels=LABELS_NARROW),
                _costs(alt, figure, theme=theme, colour=colour, labels=LABELS_NARROW, plot=plot),
                _shares(alt, figure, theme=theme, colour=colour, labels=LABELS_NARROW),
            )
        ]
        return alt.vconcat(*panels, spacing=14).resolve_scale(color="shared"), data
    plot = width - LABELS - 2 * 24 - 24
    reward, cost = int(plot * 0.4), int(plot * 0.33)
    height = ROW * max(len(figure.rows), 1)
    chart = alt.hconcat(
        _rewards(alt, figure, theme=theme, colour=colour, labels=LABELS).properties(
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
    base = alt.Chart(alt.NamedData("rows")).encode(y=rows_axis(alt, figure, theme, labels), color=colour)
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
    unit = calls_per_dollar_unit(figure.budget)
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
        {"values": log_ticks(min(everything) / 1.3, max(everything) * 1.3, most=max(plot // 60, 2))}
        if wide
        else {"tickCount": max(plot // 70, 2), "format": dollar_format(max(everything))}
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
        .encode(x=x, y=rows_axis(alt, figure, theme, labels), color=colour)
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
    base = alt.Chart(alt.NamedData("rows")).encode(y=rows_axis(alt, figure, theme, labels))
    bars = base.mark_bar(height=ROW * 0.45, cornerRadiusEnd=2).encode(
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
        .mark_tick(color=theme.budget, thickness=2.5, height=ROW * 0.7)
        .encode(x="cap:Q")
    )
    return alt.layer(bars, caps)
