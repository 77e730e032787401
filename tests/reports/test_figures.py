"""The table of figures: names, metrics and columns are unique, and what a view needs of a row is there."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

import pytest

from stageroute_router.page import numbers
from stageroute_router.reports.figures import (
    ARM_FIGURES,
    GROUP_FIGURES,
    SEGMENT_FIGURES,
    STORE_FIGURES,
    WORTH_FIGURES,
    Column,
    Figure,
    Unit,
    View,
    columns,
)
from stageroute_router.terminal import formats

TABLES: list[tuple[Figure[Any], ...]] = [
    GROUP_FIGURES,
    ARM_FIGURES,
    SEGMENT_FIGURES,
    WORTH_FIGURES,
    STORE_FIGURES,
]


@pytest.mark.parametrize("table", TABLES)
def test_names_and_places_are_unique(table: tuple[Figure[Any], ...]) -> None:
    assert max(Counter(figure.name for figure in table).values()) == 1
    for view in get_args(View):
        places = [column.place for column, _ in columns(table, view)]
        assert places == sorted(set(places))


def test_metrics_are_unique_and_a_chart_has_a_title_and_a_metric() -> None:
    figures = [figure for table in TABLES for figure in table]
    assert max(Counter(figure.metric for figure in figures if figure.metric).values()) == 1
    assert all(figure.title and figure.metric for figure in figures if figure.chart)
    assert all(figure.metric or figure.shown for figure in figures), "a figure that no view shows"


def test_columns_are_those_of_the_view_by_place() -> None:
    def figure(name: str, **shown: Column) -> Figure[Any]:
        return Figure(name=name, unit="count", help="", value=lambda _: 1, shown=shown)  # type: ignore[arg-type]

    table = (
        figure("b", page=Column(2, "B")),
        figure("c", tile=Column(1, "C")),
        figure("a", page=Column(1, "A")),
    )
    assert [(column.heading, one.name) for column, one in columns(table, "page")] == [("A", "a"), ("B", "b")]


@pytest.mark.parametrize("unit", get_args(Unit))
def test_every_unit_can_be_written(unit: Any) -> None:
    assert formats.number(None, unit) == formats.NOTHING
    assert numbers.number(None, unit) == numbers.NOTHING
    assert formats.number(1, unit)[0] in "1$"
    assert numbers.number(1, unit)[0] in "1$"
