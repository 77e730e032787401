"""The data of each chart as plain values: ``series`` makes them from reports, ``charts`` draws them.

They travel to the process that draws. Amounts are US dollars per call, times seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ArmState = Literal["live", "revisit", "not live"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendPoint:
    """Spend at one moment.

    Args:
        at: when.
        calls: the group's calls until then.
        average: spend per call since the start, calls under way at what they are expected to cost; None before any.
        recent: the same of the latest calls only; None without any.
    """

    at: float
    calls: int
    average: float | None
    recent: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendFigure:
    """Spend against the budget over time.

    Args:
        budget: what a call may cost on average.
        points: the oldest first.
    """

    budget: float
    points: tuple[SpendPoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSpan:
    """Stages in a row in which an arm was live.

    Args:
        arm: its name as the chart writes it.
        start: when the first of them opened.
        end: when the last of them ended, or the present.
        state: what it was live for.
    """

    arm: str
    start: float
    end: float
    state: ArmState


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMark:
    """Where a stage began."""

    number: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSetFigure:
    """Which arms were live when.

    Args:
        arms: the rows, from the top.
        spans: what is in them.
        stages: the oldest first.
        end: the present.
    """

    arms: tuple[str, ...]
    spans: tuple[LiveSpan, ...]
    stages: tuple[StageMark, ...]
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRow:
    """One arm: bounds and mean of its reward, its cost, its share of the calls.

    Args:
        arm: its name as the chart writes it.
        state: what it is in the current stage.
        reward_lcb: lower bound.
        reward_mean: None without rewards.
        reward_ucb: upper bound.
        cost: mean, or what is expected of it; None where nothing is known.
        cost_seen: whether ``cost`` was observed.
        share: of the calls, now.
        cap: largest share it may have.
    """

    arm: str
    state: ArmState
    reward_lcb: float
    reward_mean: float | None
    reward_ucb: float
    cost: float | None
    cost_seen: bool
    share: float
    cap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmsFigure:
    """The arms of a group, side by side.

    Args:
        budget: what a call may cost on average.
        rows: from the top.
    """

    budget: float
    rows: tuple[ArmRow, ...]


Figure = SpendFigure | LiveSetFigure | ArmsFigure
