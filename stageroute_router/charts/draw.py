"""The page's charts: the same functions draw them as SVG for the page and as PNG for files.

Everything is drawn from :mod:`~stageroute_router.charts.figures`, at a width in pixels, in a theme. Drawing takes tens
of milliseconds, the first one a second, and holds Python's lock meanwhile: a server draws in another process
(:mod:`~stageroute_router.charts.renderer`).
"""

from __future__ import annotations

from typing import Any

from stageroute_router.charts.arms import arms
from stageroute_router.charts.drawing import THEMES, ThemeName, dressed, load_altair, to_png, to_svg
from stageroute_router.charts.figures import Figure, LiveSetFigure, SpendFigure
from stageroute_router.charts.over_time import live_set, spend


def draw(figure: Figure, *, theme: ThemeName = "light", width: int = 760, zone_minutes: int = 0) -> Any:  # noqa: ANN401
    """Return a chart, an Altair object.

    Args:
        figure: what it shows.
        theme: its colours.
        width: of the whole picture, in pixels, at least 280.
        zone_minutes: how far the clock of who looks is ahead of UTC.

    Raises:
        StageRouteError: altair or vl-convert is not installed.
    """
    alt = load_altair()
    colours = THEMES[theme]
    if isinstance(figure, SpendFigure):
        chart, data = spend(alt, figure, theme=colours, width=width, zone_minutes=zone_minutes)
    elif isinstance(figure, LiveSetFigure):
        chart, data = live_set(alt, figure, theme=colours, width=width, zone_minutes=zone_minutes)
    else:
        chart, data = arms(alt, figure, theme=colours, width=width)
    chart = dressed(chart, colours, padding=4)
    # Last, and by name: Altair copies what a chart holds whenever it is put into another one.
    chart["datasets"] = data
    return chart


def svg(
    figure: Figure,
    *,
    label: str,
    name: str = "chart",
    theme: ThemeName = "light",
    width: int = 760,
    zone_minutes: int = 0,
) -> str:
    """Return a chart as SVG.

    Args:
        figure: as for :func:`draw`, like the rest.
        label: what it shows, for those who do not see it.
        name: sets its ids apart from those of other pictures in the same document.
        theme: likewise.
        width: likewise.
        zone_minutes: likewise.
    """
    chart = draw(figure, theme=theme, width=width, zone_minutes=zone_minutes)
    return to_svg(chart, label=label, name=name)


def png(figure: Figure, *, theme: ThemeName = "light", width: int = 760, zone_minutes: int = 0) -> bytes:
    """Return a chart as PNG, 1.5 pixels to the unit. Arguments as for :func:`draw`."""
    return to_png(draw(figure, theme=theme, width=width, zone_minutes=zone_minutes))
