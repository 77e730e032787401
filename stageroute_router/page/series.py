"""From what is reported of a group to what its charts show: few enough rows to read, names short enough to fit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from stageroute_router.charts.figures import (
    ArmRow,
    ArmsFigure,
    ArmState,
    LiveSetFigure,
    LiveSpan,
    SpendFigure,
    SpendPoint,
    StageMark,
)
from stageroute_router.reports.status import ArmStatus, GroupStatus
from stageroute_router.reports.values import StageReport
from stageroute_router.store.history import HistoryPoint

MOST_ROWS = 16
"""Arms a chart shows at most: what fits on a screen beside its siblings. Tables have them all."""

RECENT_PARTS = 12
"""Spend "of late" is that of a twelfth of the history: short enough to show a change, long enough not to be noise."""

MOST_LETTERS = 26
"""Letters of a name in a chart: about a third of its width."""


def spend_figure(status: GroupStatus, history: Sequence[HistoryPoint]) -> SpendFigure:
    """Return a group's spend over time."""
    window = max(len(history) // RECENT_PARTS, 1)
    before: Sequence[HistoryPoint | None] = [*[None] * window, *history][: len(history)]
    return SpendFigure(
        budget=status.budget_usd_per_call,
        points=tuple(
            SpendPoint(
                at=point.at,
                calls=point.calls,
                average=_per_call(_booked(point), point.calls),
                recent=None
                if earlier is None
                else _per_call(_booked(point) - _booked(earlier), point.calls - earlier.calls),
            )
            for earlier, point in zip(before, history, strict=True)
        ),
    )


def live_set_figure(stages: Sequence[StageReport], *, now: float) -> LiveSetFigure:
    """Return which arms were live when: those live now first, the longest serving on top, then by who left last."""
    if not stages:
        return LiveSetFigure(arms=(), spans=(), stages=(), end=now)
    end = max(now, stages[-1].opened_at)
    ends = [*(later.opened_at for later in stages[1:]), end]
    last: dict[str, float] = {}
    served: Counter[str] = Counter()
    for stage, until in zip(stages, ends, strict=True):
        last.update(dict.fromkeys(stage.live, until))
        served.update(name for name in stage.live if name != stage.explored)
    looked = stages[-1].explored
    arms = sorted(last, key=lambda name: (-last[name], name == looked, -served[name], name))[:MOST_ROWS]
    names = short_names(arms)
    spans: list[LiveSpan] = []
    for arm in arms:
        spans.extend(_spans(arm, names[arm], stages, ends))
    return LiveSetFigure(
        arms=tuple(names[arm] for arm in arms),
        spans=tuple(spans),
        stages=tuple(StageMark(number=stage.stage, at=stage.opened_at) for stage in stages),
        end=end,
    )


def arms_figure(status: GroupStatus) -> ArmsFigure:
    """Return the arms side by side: the live ones, then those that could earn most."""
    shown = shown_arms(status)
    names = short_names([arm.name for arm in shown])
    return ArmsFigure(
        budget=status.budget_usd_per_call,
        rows=tuple(_row(arm, names[arm.name]) for arm in shown),
    )


def shown_arms(status: GroupStatus) -> list[ArmStatus]:
    """Return the arms that a chart has room for, those it is about first."""
    return by_interest(status)[:MOST_ROWS]


def by_interest(status: GroupStatus) -> list[ArmStatus]:
    """Return the live arms by share, then the others by what they could earn."""
    return sorted(
        status.arms, key=lambda arm: (not arm.live, -arm.probability, -(arm.reward_mean or 0.0), arm.name)
    )


def state_of(arm: ArmStatus) -> ArmState:
    """Return what an arm is in the current stage."""
    if not arm.live:
        return "not live"
    return "revisit" if arm.explored else "live"


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return names that fit into a chart and still differ, by full name.

    What is before the last slash is dropped where the rest says enough, and the middle where it is still too long.

    >>> short_names(["openai/gpt-4o", "mistral/large"])
    {'openai/gpt-4o': 'gpt-4o', 'mistral/large': 'large'}
    >>> short_names(["azure/gpt-4o", "openai/gpt-4o"])
    {'azure/gpt-4o': 'azure/gpt-4o', 'openai/gpt-4o': 'openai/gpt-4o'}
    """
    clean = {name: printable(name) for name in names}
    tails = {name: text.rstrip("/").rsplit("/", 1)[-1] or text for name, text in clean.items()}
    counts = Counter(tails.values())
    short = {name: _fitted(tail if counts[tail] == 1 else clean[name]) for name, tail in tails.items()}
    taken: Counter[str] = Counter()
    for name, text in short.items():
        taken[text] += 1
        if taken[text] > 1:
            short[name] = f"{text} ({taken[text]})"
    return short


def printable(text: str) -> str:
    r"""Return text without what does not print: a picture is XML, which has no word for most of it.

    >>> printable("a\x00b")
    'a\ufffdb'
    """
    return "".join(one if one.isprintable() else "\ufffd" for one in text)


def _fitted(name: str) -> str:
    if len(name) <= MOST_LETTERS:
        return name
    half = (MOST_LETTERS - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _spans(arm: str, label: str, stages: Sequence[StageReport], ends: Sequence[float]) -> list[LiveSpan]:
    """Return an arm's stages, those in a row joined."""
    spans: list[LiveSpan] = []
    joins = False
    for stage, end in zip(stages, ends, strict=True):
        if arm not in stage.live:
            joins = False
            continue
        state: ArmState = "revisit" if stage.explored == arm else "live"
        if joins and spans[-1].state == state:
            spans[-1] = LiveSpan(arm=label, start=spans[-1].start, end=end, state=state)
        else:
            spans.append(LiveSpan(arm=label, start=stage.opened_at, end=end, state=state))
        joins = True
    return spans


def _row(arm: ArmStatus, label: str) -> ArmRow:
    cost = arm.expected_cost_usd if arm.cost_mean_usd is None else arm.cost_mean_usd
    return ArmRow(
        arm=label,
        state=state_of(arm),
        reward_lcb=arm.reward_lcb,
        reward_mean=arm.reward_mean,
        reward_ucb=arm.reward_ucb,
        cost=cost if math.isfinite(cost) else None,
        cost_seen=arm.cost_mean_usd is not None,
        share=arm.probability,
        cap=arm.share_limit,
    )


def _booked(point: HistoryPoint) -> float:
    return point.spend_usd + point.in_flight_usd


def _per_call(usd: float, calls: int) -> float | None:
    # Late corrections of older costs can make a difference negative; a rate of spending is at least 0.
    return max(usd, 0.0) / calls if calls > 0 and math.isfinite(usd) else None
