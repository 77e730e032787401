"""Which arms answer which segment, as rows and columns: few enough to read, the busiest first."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stageroute_router.page.series import short_names
from stageroute_router.reports.status import GroupStatus, SegmentStatus

FEW_SEGMENTS = 12
"""Rows until the reader asks for more."""

MOST_SEGMENTS = 64
"""Rows at most: as many as a group has segments by default. The status has them all."""

MOST_COLUMNS = 6
"""Arms with a column of their own; more of them do not fit beside each other."""

SHADES = 5
"""Steps in which a cell gets darker with the share of calls it stands for."""


_NOTABLE = 0.05
"""A smaller share of a segment's calls is not shaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The share of a segment's calls that goes to an arm, or to several.

    Args:
        part: in [0, 1].
        mostly: the arm that gets most of it, where several share it and that one gets a tenth of the calls or more.
    """

    part: float
    mostly: str | None = None

    @property
    def shade(self) -> int:
        """How dark its cell is, 0 to :data:`SHADES`; 0 is for what is not worth looking at."""
        return math.ceil(SHADES * min(self.part, 1.0)) if self.part >= _NOTABLE else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRow:
    """A segment, and where its calls go.

    Args:
        segment: the segment.
        shares: one per column, then that of the other live arms, if there are any.
    """

    segment: SegmentStatus
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentTable:
    """The segments of a group by its live arms.

    Args:
        columns: names of the arms with a column of their own, those with most of the calls first.
        others: how many more arms are live.
        rows: the busiest segments.
        overall: the same of all calls of the group.
        most: so many rows there would be at most.
        hidden: how many more segments there are.
        hidden_share: their share of the calls, in [0, 1].
    """

    columns: tuple[str, ...]
    others: int
    rows: tuple[SegmentRow, ...]
    overall: tuple[Share, ...]
    most: int
    hidden: int
    hidden_share: float


def segment_table(group: GroupStatus, *, every: bool = False) -> SegmentTable | None:
    """Return where the calls of a group's segments go; None where they are not told apart.

    Args:
        group: the group.
        every: whether to have :data:`MOST_SEGMENTS` rows, instead of a few.
    """
    if not group.segments:
        return None
    overall = {arm.name: arm.probability for arm in group.arms if arm.live}
    live = sorted(overall, key=lambda name: (-overall[name], name))
    columns = live[:MOST_COLUMNS]
    rest = live[MOST_COLUMNS:]
    names = short_names(live)

    def shares(parts: dict[str, float]) -> tuple[Share, ...]:
        own = [Share(part=parts.get(name, 0.0)) for name in columns]
        if rest:
            largest = max(rest, key=lambda name: parts.get(name, 0.0))
            own.append(
                Share(
                    part=sum(parts.get(name, 0.0) for name in rest),
                    mostly=names[largest] if parts.get(largest, 0.0) >= 0.1 else None,
                )
            )
        return tuple(own)

    shown = group.segments[: MOST_SEGMENTS if every else FEW_SEGMENTS]
    hidden = group.segments[len(shown) :]
    return SegmentTable(
        columns=tuple(names[name] for name in columns),
        others=len(rest),
        rows=tuple(SegmentRow(segment=one, shares=shares(one.probabilities)) for one in shown),
        overall=shares(overall),
        most=min(len(group.segments), MOST_SEGMENTS),
        hidden=len(hidden),
        hidden_share=sum(one.share for one in hidden),
    )
