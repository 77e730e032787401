"""A replay in one picture: what it earned, what it spent, who answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stageroute_router.charts.drawing import THEMES, dressed, load_altair, to_png, to_svg
from stageroute_router.replay.result import ReplayResult

WINDOWS = 20
"""The running mean reward is taken over this part of the calls."""

_MOST_MODELS = 10
_THEME = THEMES["light"]


def save_picture(result: ReplayResult, path: Path, *, baselines: dict[str, float] | None = None) -> None:
    """Draw a replay and write it as PNG or SVG, by the ending of ``path``.

    Args:
        result: what was replayed.
        path: where to write; ``.png`` or ``.svg``.
        baselines: mean rewards over the whole stream to draw as horizontal lines, by label.

    Raises:
        StageRouteError: altair and vl-convert are not installed.
    """
    alt = load_altair()
    chart = alt.vconcat(
        _reward(alt, result, baselines or {}),
        _spend(alt, result),
        _traffic(alt, result),
        spacing=18,
    ).resolve_scale(color="independent")
    chart = dressed(chart, _THEME)
    if path.suffix == ".png":
        path.write_bytes(to_png(chart))
    else:
        path.write_text(
            to_svg(chart, label=f"Reward, spend and traffic of {result.calls:,} replayed calls"),
            encoding="utf-8",
        )


def _reward(alt: Any, result: ReplayResult, baselines: dict[str, float]) -> Any:  # noqa: ANN401
    window = max(result.calls // WINDOWS, 1)
    running = np.convolve(result.reward, np.ones(window) / window, mode="valid")
    calls = np.arange(window, result.calls + 1)
    keep = _thinned(len(calls))
    lines = [
        *({"call": int(calls[i]), "reward": float(running[i]), "who": "StageRoute"} for i in keep),
        *(
            {"call": i + 1, "reward": float(result.oracle_reward_per_call[i]), "who": "optimum"}
            for i in _thinned(result.calls)
        ),
        *(
            {"call": call, "reward": value, "who": label}
            for label, value in baselines.items()
            for call in (1, result.calls)
        ),
    ]
    order = ["StageRoute", "optimum", *baselines]
    dashes = [[1, 0], [1, 0], *[[6, 3]] * len(baselines)]
    return (
        alt.Chart(alt.Data(values=lines))
        .mark_line(clip=True)
        .encode(
            x=alt.X("call:Q", title=None, scale=alt.Scale(domain=[0, result.calls], nice=False)),
            y=alt.Y("reward:Q", title="mean reward", scale=alt.Scale(zero=False)),
            color=alt.Color(
                "who:N", sort=order, title=None, scale=alt.Scale(domain=order, scheme="tableau10")
            ),
            strokeDash=alt.StrokeDash(
                "who:N", sort=order, legend=None, scale=alt.Scale(domain=order, range=dashes)
            ),
        )
        .properties(
            width=680,
            height=170,
            title=f"Reward: {result.reward_ratio:.1%} of the optimum (mean of the last {window:,} calls)",
        )
    )


def _spend(alt: Any, result: ReplayResult) -> Any:  # noqa: ANN401
    calls = np.arange(1, result.calls + 1)
    average = np.cumsum(result.cost_usd) / calls
    points = [{"call": int(calls[i]), "usd": float(average[i] * 1000)} for i in _thinned(result.calls)]
    budget = result.budget_usd * 1000
    top = max(2 * budget, float(np.percentile(average, 95)) * 1000)
    base = alt.Chart(alt.Data(values=points))
    line = base.mark_line(color=_THEME.accent, clip=True).encode(
        x=alt.X("call:Q", title=None, scale=alt.Scale(domain=[0, result.calls], nice=False)),
        y=alt.Y("usd:Q", title="$ per 1,000 calls", scale=alt.Scale(domain=[0, top])),
    )
    estimator = (
        alt.Chart(alt.Data(values=[{"budget": budget}]))
        .mark_rule(color=_THEME.budget, strokeDash=[6, 3], strokeWidth=2)
        .encode(y="budget:Q")
    )
    label = (
        alt.Chart(alt.Data(values=[{"budget": budget, "call": result.calls, "text": "budget"}]))
        .mark_text(align="right", baseline="bottom", dy=-4, color=_THEME.budget)
        .encode(x="call:Q", y="budget:Q", text="text:N")
    )
    return (line + estimator + label).properties(
        width=680,
        height=110,
        title=f"Spend: {result.spend_ratio:.1%} of the budget (average since the start)",
    )


def _traffic(alt: Any, result: ReplayResult) -> Any:  # noqa: ANN401
    stages = np.unique(result.stage)
    ranked = sorted(result.calls_per_model, key=lambda name: -result.calls_per_model[name])
    shown = ranked[:_MOST_MODELS]
    bars = []
    for stage in stages:
        mine = np.flatnonzero(result.stage == stage)
        counts = np.bincount(result.model[mine], minlength=len(result.models)) / len(mine)
        for index, share in enumerate(counts):
            if share > 0:
                name = result.models[index]
                bars.append(
                    {
                        "first": int(mine[0]),
                        "end": int(mine[-1]) + 1,
                        "share": float(share),
                        "model": name if name in shown else "others",
                        "rank": ranked.index(name),
                    }
                )
    order = [*shown, *(["others"] if len(ranked) > len(shown) else [])]
    return (
        alt.Chart(alt.Data(values=_stacked(bars)))
        .mark_rect(stroke="white", strokeWidth=0.5)
        .encode(
            x=alt.X("first:Q", title="call", scale=alt.Scale(domain=[0, result.calls], nice=False)),
            x2="end:Q",
            y=alt.Y(
                "low:Q", title="share of calls", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])
            ),
            y2="high:Q",
            color=alt.Color(
                "model:N", sort=order, title="model", scale=alt.Scale(domain=order, scheme="tableau20")
            ),
        )
        .properties(width=680, height=200, title="Who answered, stage by stage")
    )


def _stacked(bars: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give each bar its place on top of the ones ranked before it in the same stage."""
    heights: dict[int, float] = {}
    stacked = []
    for bar in sorted(bars, key=lambda bar: (bar["first"], bar["rank"])):
        low = heights.get(bar["first"], 0.0)
        heights[bar["first"]] = high = min(low + bar["share"], 1.0)
        stacked.append({**bar, "low": low, "high": high})
    return stacked


def _thinned(count: int, *, most: int = 1_000) -> list[int]:
    """Return at most ``most`` indices of ``count``, evenly, the first and the last among them."""
    return sorted(set(np.linspace(0, count - 1, min(count, most)).astype(int).tolist()))
