"""The charts: valid, complete, readable in both themes, and robust against whatever is known of arms."""

from __future__ import annotations

import math
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from stageroute_router.charts import draw
from stageroute_router.charts.drawing import THEMES, ThemeName
from stageroute_router.charts.figures import Figure
from stageroute_router.page import series
from stageroute_router.reports.values import StageReport
from stageroute_router.store.history import HistoryPoint
from tests.support import sample
from tests.support.sample import NASTY, SampleReports


@pytest.fixture(scope="module")
def ran() -> SampleReports:
    return sample.ran()


@pytest.fixture(scope="module")
def figures(ran: SampleReports) -> dict[str, Figure]:
    history = ran.history("chat")
    return {
        "spend": series.spend_figure(ran.groups["chat"], history),
        "live-set": series.live_set_figure(ran.stages("chat"), now=history[-1].at),
        "arms": series.arms_figure(ran.groups["chat"]),
    }


def words(picture: str) -> list[str]:
    return [text for element in ElementTree.fromstring(picture).iter() for text in [element.text] if text]  # noqa: S314


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [280, 620, 1200])
@pytest.mark.parametrize("kind", ["spend", "live-set", "arms"])
def test_charts_fit_the_width_and_the_theme(
    figures: dict[str, Figure], kind: str, width: int, theme: ThemeName
) -> None:
    root = ElementTree.fromstring(draw.svg(figures[kind], label="A label", theme=theme, width=width))  # noqa: S314
    assert 0.85 * width <= float(root.get("width", "0")) <= width
    assert root.get("aria-label") == "A label"
    assert root[0].get("fill") == THEMES[theme].background


@pytest.mark.parametrize("kind", ["spend", "live-set", "arms"])
def test_charts_are_valid_and_the_same_as_png(figures: dict[str, Figure], kind: str) -> None:
    chart = draw.draw(figures[kind])
    chart.to_dict(validate=True)
    assert draw.png(figures[kind]).startswith(b"\x89PNG")


def test_spend_is_shown_against_the_budget(ran: SampleReports, figures: dict[str, Figure]) -> None:
    told = words(draw.svg(figures["spend"], label="x"))
    assert {"average since the start", "of late", "budget $1.00", "$ per 1,000 calls", "UTC"} <= set(told)
    figure = series.spend_figure(ran.groups["chat"], ran.history("chat"))
    last = ran.history("chat")[-1]
    assert figure.points[-1].average == pytest.approx((last.spend_usd + last.in_flight_usd) / last.calls)
    assert figure.points[0].average is None


def test_recent_spend_is_that_of_the_latest_calls() -> None:
    points = [
        HistoryPoint(
            at=float(at),
            calls=100 * at,
            open_calls=0,
            spend_usd=spend,
            in_flight_usd=0.0,
            reward_count=0,
            reward_total=0.0,
        )
        for at, spend in ((1, 1.0), (2, 2.0), (3, 5.0), (4, 4.5))
    ]
    figure = series.spend_figure(sample.ran(calls=50, per_stage=50).groups["chat"], points)
    # A late correction makes spend fall; a rate does not.
    assert [point.recent for point in figure.points] == [None, 0.01, 0.03, 0.0]


def test_the_live_set_joins_stages_and_says_who_left(figures: dict[str, Figure], ran: SampleReports) -> None:
    stages = ran.stages("chat")
    figure = series.live_set_figure(stages, now=ran.history("chat")[-1].at + 60)
    assert set(figure.arms) == {
        series.short_names(sorted({arm for stage in stages for arm in stage.live}))[arm]
        for stage in stages
        for arm in stage.live
    }
    # Every stage's live set is what the spans say at its middle.
    ends = [*(stage.opened_at for stage in stages[1:]), figure.end]
    names = series.short_names(sorted({arm for stage in stages for arm in stage.live}))
    for stage, end in zip(stages, ends, strict=True):
        middle = (stage.opened_at + end) / 2
        there = {span.arm for span in figure.spans if span.start <= middle < span.end}
        assert there == {names[arm] for arm in stage.live}
        looked = {s.arm for s in figure.spans if s.start <= middle < s.end and s.state == "revisit"}
        assert looked == ({names[stage.explored]} if stage.explored else set())
    told = words(draw.svg(figures["live-set"], label="x"))
    assert {"stage 1", "live", "revisit"} <= set(told)


def test_so_many_stages_leave_room_for_their_numbers() -> None:
    many = [
        StageReport(
            group="chat",
            stage=number,
            reason="schedule",
            opened_at=1000.0 + number,
            opened_at_call=number,
            calls=1,
            live=("a",),
            explored=None,
            explore_share=0.0,
            moves=(),
            evidence=(),
        )
        for number in range(1, 51)
    ]
    figure = series.live_set_figure(many, now=1052.0)
    assert len(figure.spans) == 1
    numbers = [text for text in words(draw.svg(figure, label="x", width=480)) if text.isdigit()]
    assert 3 <= len(numbers) <= 12


@pytest.mark.parametrize(
    "changes",
    [
        {"reward_mean": None, "reward_ucb": 1.0, "reward_lcb": 0.0, "cost_mean_usd": None},
        {"cost_mean_usd": None, "expected_cost_usd": math.inf},
        {"cost_mean_usd": math.nan},
        {"cost_mean_usd": 0.0, "expected_cost_usd": 0.0},
        {"cost_mean_usd": 1e-12},
        {"cost_mean_usd": 1e6},
        {"name": NASTY},
        {"name": "x" * 500},
        {"name": "line\nbreak\x00and\x1bescape"},
        {"name": ""},
        {"probability": 1.0, "share_limit": 1e-9},
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_whatever_is_known_of_an_arm_can_be_drawn(
    ran: SampleReports, changes: dict[str, object], *, alone: bool
) -> None:
    group = ran.groups["chat"]
    odd = replace(group.arms[0], **changes)  # type: ignore[arg-type]
    figure = series.arms_figure(replace(group, arms=(odd,) if alone else (odd, *group.arms[1:])))
    root = ElementTree.fromstring(draw.svg(figure, label="x"))  # noqa: S314
    assert not [element for element in root.iter() if element.tag.endswith(("script", "}img"))]
    assert not [value for element in root.iter() for value in element.attrib.values() if "NaN" in value]


@pytest.mark.parametrize("budget", [1e-9, 1e-4, 3.0, 1e5])
def test_any_budget_can_be_drawn(ran: SampleReports, budget: float) -> None:
    group = replace(ran.groups["chat"], budget_usd_per_call=budget)
    for figure in (series.spend_figure(group, ran.history("chat")), series.arms_figure(group)):
        assert "NaN" not in draw.svg(figure, label="x")


def test_nothing_known_is_an_empty_picture(ran: SampleReports) -> None:
    group = replace(ran.groups["chat"], arms=())
    for figure in (
        series.spend_figure(group, []),
        series.live_set_figure([], now=5.0),
        series.arms_figure(group),
    ):
        assert "NaN" not in draw.svg(figure, label="x")


def test_names_are_short_and_differ() -> None:
    names = [f"provider/{'long-' * 20}{end}" for end in ("a", "b")] + ["a/x", "b/x", "c/y"]
    names.append(f"provider/{'long-' * 19}long-{'z' * 30}a")
    short = series.short_names(names)
    assert len(set(short.values())) == len(names)
    assert all(len(text) <= series.MOST_LETTERS + 4 for text in short.values())
    assert short["c/y"] == "y"
    assert short["a/x"] == "a/x"


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_have_contrast(theme: ThemeName) -> None:
    colours = THEMES[theme]
    back = _luminance(colours.background)

    def contrast(colour: str) -> float:
        low, high = sorted((_luminance(colour), back))
        return (high + 0.05) / (low + 0.05)

    for text in (colours.text, colours.muted):
        assert contrast(text) >= 4.5
    for mark in (colours.accent, colours.budget, colours.second, colours.faint):
        assert contrast(mark) >= 3
