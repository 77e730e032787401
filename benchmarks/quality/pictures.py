"""The report's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.measure import mean_curve
from benchmarks.quality.study import Cell
from benchmarks.quality.summary import Slope

_SHADES = [
    *("#d62728", "#1f77b4", "#6baed6", "#9ecae1", "#bcbd22", "#c7c7c7", "#8c564b", "#2ca02c", "#98df8a"),
    *("#ff7f0e", "#9467bd", "#c5b0d5", "#e377c2", "#f7b6d2", "#7f7f7f"),
]


def save_pictures(cells: Sequence[Cell], slopes: Sequence[Slope], folder: Path) -> list[Path]:
    """Draw reward against spend, regret over calls, and regret against the number of calls; return the files."""
    import altair as alt  # noqa: PLC0415 - takes a second to import

    names = list(dict.fromkeys(cell.policy for cell in cells))
    colour = alt.Color("policy:N", title=None, sort=names, scale=alt.Scale(domain=names, range=_SHADES))
    variants = list(dict.fromkeys(cell.variant for cell in cells))
    first = [cell for cell in cells if cell.variant == variants[0]]
    saved = [
        _save(_reward_by_spend(alt, first, colour), folder / "reward-by-spend.png"),
        _save(_regret_over_calls(alt, first, colour), folder / "regret-over-calls.png"),
    ]
    if slopes:
        saved.append(_save(_regret_by_calls(alt, slopes, colour), folder / "regret-by-calls.png"))
    return saved


def _save(chart: Any, path: Path) -> Path:  # noqa: ANN401
    chart.configure_view(strokeOpacity=0.2).configure_title(anchor="start").properties(
        padding=16, background="white"
    ).save(str(path), scale_factor=1.5)
    return path


def _title(cell: Cell) -> str:
    return f"{cell.table}, f = {cell.fraction:g}"


def _reward_by_spend(alt: Any, cells: Sequence[Cell], colour: Any) -> Any:  # noqa: ANN401
    points = [
        {
            "cell": _title(cell),
            "policy": cell.policy,
            "reward": run.reward_ratio,
            "spend": max(run.judged_spend, 1e-3),
        }
        for cell in cells
        for run in cell.runs
    ]
    base = alt.Chart()
    dots = base.mark_point(filled=True, size=45, opacity=0.8, clip=True).encode(
        x=alt.X("spend:Q", title="spend / budget", scale=alt.Scale(type="log", nice=False, padding=8)),
        y=alt.Y("reward:Q", title="reward / optimum", scale=alt.Scale(domain=[0.7, 1.1])),
        color=colour,
    )
    budget = base.mark_rule(strokeDash=[4, 3]).encode(x=alt.datum(1.0))
    return (
        alt.layer(dots, budget, data=alt.Data(values=points))
        .properties(width=230, height=170)
        .facet(facet=alt.Facet("cell:N", title=None, sort=None), columns=3)
        .properties(title="Reward and spend of every run (rewards below 0.7 of the optimum are not shown)")
    )


def _regret_over_calls(alt: Any, cells: Sequence[Cell], colour: Any) -> Any:  # noqa: ANN401
    titles = list(dict.fromkeys(_title(cell) for cell in cells))
    charts = []
    for title in titles:
        mine = [cell for cell in cells if _title(cell) == title]
        curves = {cell.policy: mean_curve(cell.runs) for cell in mine}
        # The worst policies would flatten the others: what is above twice the median ends is cut off.
        top = 2 * max(float(np.median([curve[-1] for curve in curves.values()])), 1.0)
        bottom = max(min(float(curve.min()) for curve in curves.values()), -top)
        lines = [
            {"policy": policy, "call": float(call), "regret": float(regret)}
            for policy, curve in curves.items()
            for call, regret in zip(np.linspace(0, mine[0].runs[0].calls, len(curve)), curve, strict=True)
        ]
        charts.append(
            alt.Chart(alt.Data(values=lines))
            .mark_line(clip=True)
            .encode(
                x=alt.X("call:Q", title="call"),
                y=alt.Y("regret:Q", title="regret", scale=alt.Scale(domain=[bottom, top])),
                color=colour,
            )
            .properties(width=230, height=170, title=title)
        )
    return alt.concat(*charts, columns=3).properties(
        title="Mean regret over the calls (below 0: reward bought over budget)"
    )


def _regret_by_calls(alt: Any, slopes: Sequence[Slope], colour: Any) -> Any:  # noqa: ANN401
    points = [
        {
            "cell": found.table if found.table == "all" else f"{found.table}, f = {found.fraction:g}",
            "policy": found.policy,
            "calls": calls,
            "regret": regret,
        }
        for found in slopes
        for calls, regret in zip(found.calls, found.regret, strict=True)
        if regret > 0
    ]
    return (
        alt.Chart(alt.Data(values=points))
        .mark_line(point=True)
        .encode(
            x=alt.X("calls:Q", scale=alt.Scale(type="log", nice=False)),
            y=alt.Y("regret:Q", scale=alt.Scale(type="log", nice=False)),
            color=colour,
        )
        .properties(width=230, height=170)
        .facet(facet=alt.Facet("cell:N", title=None, sort=None), columns=3)
        .resolve_scale(y="independent")
        .properties(title="Mean regret by number of calls")
    )
