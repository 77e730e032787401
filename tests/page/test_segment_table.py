"""Which arms answer which segment: what is shown of a group with many of both."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stageroute_router.page.segment_table import MOST_SEGMENTS, segment_table
from stageroute_router.reports.status import GroupStatus
from tests.support import sample


@pytest.fixture(scope="module")
def group() -> GroupStatus:
    return sample.many_segments(80).groups["chat"]


def test_there_is_no_table_where_calls_are_not_told_apart(group: GroupStatus) -> None:
    assert segment_table(replace(group, segments=())) is None


def test_the_busiest_are_shown_and_the_rest_is_counted(group: GroupStatus) -> None:
    few, every = segment_table(group), segment_table(group, every=True)
    assert few is not None
    assert every is not None
    assert (len(few.rows), len(every.rows)) == (12, MOST_SEGMENTS)
    assert (few.hidden, every.hidden) == (68, 16)
    assert few.hidden_share == pytest.approx(1 - sum(row.segment.share for row in few.rows))
    assert few.most == MOST_SEGMENTS


def test_every_call_is_in_a_column(group: GroupStatus) -> None:
    table = segment_table(group, every=True)
    assert table is not None
    live = sum(arm.live for arm in group.arms)
    assert len(table.columns) + table.others == live
    for shares in (table.overall, *(row.shares for row in table.rows)):
        assert sum(share.part for share in shares) == pytest.approx(1)


def test_an_arm_without_a_column_is_named_where_it_matters(group: GroupStatus) -> None:
    first = group.segments[0]
    gets_all = max((arm for arm in group.arms if arm.live), key=lambda arm: arm.name)
    probabilities = {arm.name: float(arm.name == gets_all.name) for arm in group.arms if arm.live}
    table = segment_table(replace(group, segments=(replace(first, probabilities=probabilities),)))
    assert table is not None
    (row,) = table.rows
    assert row.shares[-1].part == 1
    assert row.shares[-1].shade == 5
    assert row.shares[-1].mostly is not None
    assert row.shares[-1].mostly in gets_all.name
    assert [share.shade for share in row.shares[:-1]] == [0] * len(table.columns)
