"""What every picture of the project shares: the drawing library, two themes, and the way to SVG and PNG.

Text sizes and colours are the same on the page, in files and in the replay's picture. Colours stay apart for people who
see few of them, text has a contrast of 4.5 and marks one of 3 on the theme's background.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from stageroute_router.errors import StageRouteError

ThemeName = Literal["light", "dark"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """Colours of a picture.

    Args:
        background: what it is drawn on.
        text: titles and labels that are read first.
        muted: axis labels.
        grid: lines to measure by.
        accent: what is going on: live arms, spend on average.
        budget: limits: the budget, largest shares.
        second: a second look.
        faint: what is not in use.
    """

    background: str
    text: str
    muted: str
    grid: str
    accent: str
    budget: str
    second: str
    faint: str


THEMES: dict[ThemeName, Theme] = {
    "light": Theme(
        background="#ffffff",
        text="#1c2733",
        muted="#52606d",
        grid="#e3e8ed",
        accent="#0b6bab",
        budget="#c2410c",
        second="#a16207",
        faint="#8793a0",
    ),
    "dark": Theme(
        background="#151c24",
        text="#e8eef4",
        muted="#a3b1bf",
        grid="#2a3641",
        accent="#5bb3ee",
        budget="#ff9257",
        second="#e9c046",
        faint="#71808f",
    ),
}


def load_altair() -> Any:  # noqa: ANN401 - a module without types
    """Return the drawing library.

    Raises:
        StageRouteError: altair or vl-convert is not installed.
    """
    try:
        import altair  # noqa: PLC0415 - an optional extra
        import vl_convert as _  # noqa: PLC0415
    except ImportError as error:
        msg = 'pictures need altair and vl-convert: pip install "stageroute-router[charts]"'
        raise StageRouteError(msg) from error
    return altair


def dressed(chart: Any, theme: Theme, *, padding: int = 16) -> Any:  # noqa: ANN401
    """Return a chart with the theme's colours and the project's text sizes."""
    axis = {
        "grid": True,
        "gridColor": theme.grid,
        "domainColor": theme.grid,
        "tickColor": theme.grid,
        "labelColor": theme.muted,
        "titleColor": theme.muted,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 10,
    }
    legend = {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "labelColor": theme.text,
        "titleColor": theme.muted,
        "labelLimit": 220,
        "symbolLimit": 0,
    }
    return chart.configure(
        aria=False,
        axis=axis,
        background=theme.background,
        font="sans-serif",
        legend=legend,
        padding=padding,
        title={"anchor": "start", "fontSize": 14, "color": theme.text},
        view={"strokeOpacity": 0},
    )


def to_svg(chart: Any, *, label: str) -> str:  # noqa: ANN401
    """Return a chart as SVG, which assistive technology reads as one picture with this label."""
    import vl_convert  # noqa: PLC0415 - an optional extra

    drawn: str = vl_convert.vegalite_to_svg(chart.to_dict(validate=False), vl_version=_version())
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


def to_png(chart: Any, *, scale: float = 1.5) -> bytes:  # noqa: ANN401
    """Return a chart as PNG, ``scale`` pixels to the unit."""
    import vl_convert  # noqa: PLC0415 - an optional extra

    drawn: bytes = vl_convert.vegalite_to_png(
        chart.to_dict(validate=False), vl_version=_version(), scale=scale
    )
    return drawn


def _version() -> str:
    """Return which Vega-Lite the drawing library writes, as vl-convert names it: major and minor."""
    return ".".join(load_altair().SCHEMA_VERSION.removeprefix("v").split(".")[:2])
