"""The pictures with a time axis: what was spent, and which arms were live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stageroute_router.charts.axes import (
    LABELS,
    LABELS_NARROW,
    LEFT,
    NARROW,
    ROW,
    STATES,
    Data,
    calls_per_dollar_unit,
    clock,
    dollar_format,
    dollars,
    names,
    state_colour,
    time_axis,
)
from stageroute_router.charts.drawing import Theme
from stageroute_router.charts.figures import LiveSetFigure, SpendFigure


def spend(
    alt: Any,  # noqa: ANN401
    figure: SpendFigure,
    *,
    theme: Theme,
    width: int,
    zone_minutes: int,
) -> tuple[Any, Data]:
    """Draw what was spent, against the budget."""
    unit = calls_per_dollar_unit(figure.budget)
    budget = figure.budget * unit
    average, recent, limit = "average since the start", "of late", f"budget {dollars(budget)}"
    lines: list[dict[str, Any]] = [
        {"at": clock(point.at, zone_minutes), "usd": value * unit, "what": what}
        for point in figure.points
        for what, value in ((recent, point.recent), (average, point.average))
        if value is not None
    ]
    tops = sorted(line["usd"] for line in lines)
    # A few dear calls in a row must not flatten everything else: the top twentieth may leave the picture.
    top = max(1.5 * budget, 1.15 * tops[int(0.95 * (len(tops) - 1))] if tops else 0.0)
    times = [point.at for point in figure.points]
    ends = [clock(at, zone_minutes) for at in ((min(times), max(times)) if times else (0.0, 1.0))]
    lines.extend({"at": at, "usd": budget, "what": limit} for at in ends)
    what = [average, recent, limit]
    colours = [theme.accent, theme.faint, theme.budget]
    plot = width - LEFT - 14
    chart = (
        alt.Chart(alt.NamedData("spend"))
        .mark_line(clip=True)
        .encode(
            x=time_axis(alt, times, zone_minutes=zone_minutes, width=plot),
            y=alt.Y(
                "usd:Q",
                title=f"$ per {unit:,} calls",
                scale=alt.Scale(domain=[0, top], nice=False),
                axis=alt.Axis(format=dollar_format(top), tickCount=5, minExtent=44, maxExtent=44),
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


def live_set(
    alt: Any,  # noqa: ANN401
    figure: LiveSetFigure,
    *,
    theme: Theme,
    width: int,
    zone_minutes: int,
) -> tuple[Any, Data]:
    """Draw which arms were live, stage by stage."""
    labels = LABELS_NARROW if width < NARROW else LABELS
    plot = width - labels - 14
    times = [*(mark.at for mark in figure.stages), figure.end]
    spans = [
        {
            "arm": span.arm,
            "start": clock(span.start, zone_minutes),
            "end": clock(span.end, zone_minutes),
            "state": span.state,
        }
        for span in figure.spans
    ]
    y = alt.Y("arm:N", sort=list(figure.arms), title=None, axis=names(alt, theme, labels))
    x = time_axis(alt, times, zone_minutes=zone_minutes, width=plot)
    bars = (
        alt.Chart(alt.NamedData("spans"))
        .mark_bar(height=ROW * 0.5, cornerRadius=2)
        .encode(
            x=time_axis(alt, times, zone_minutes=zone_minutes, width=plot, field="start"),
            x2="end",
            y=y,
            color=state_colour(alt, theme, STATES[:2], orient="bottom"),
        )
    )
    marks = [
        {"at": clock(mark.at, zone_minutes), "stage": str(mark.number) if index else f"stage {mark.number}"}
        for index, mark in enumerate(_spread(figure.stages, plot=plot, end=figure.end))
    ]
    starts = alt.Chart(alt.NamedData("marks")).encode(x=x)
    lines = starts.mark_rule(color=theme.faint, strokeWidth=1, strokeDash=[1, 3])
    numbers = starts.mark_text(y=-8, align="left", dx=2, color=theme.muted, fontSize=11).encode(
        text="stage:N"
    )
    chart = alt.layer(lines, bars, numbers).properties(width=plot, height=ROW * max(len(figure.arms), 1))
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
