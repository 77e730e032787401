"""Shared by all pictures: the drawing library, two themes, and output as SVG and PNG.

Text sizes and colours are the same on the page, in files and in the replay's picture. Colours stay apart for people who
see few of them, text has a contrast of 4.5 and marks one of 3 on the theme's background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from xml.etree import ElementTree

from stageroute_router.errors import StageRouteError

_SVG = "http://www.w3.org/2000/svg"

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
        second: a revisit.
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
        import vl_convert  # noqa: F401, PLC0415 - what it draws with
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


def to_svg(chart: Any, *, label: str, name: str = "chart") -> str:  # noqa: ANN401
    """Return a chart as SVG, which assistive technology reads as one picture.

    Args:
        chart: what to draw.
        label: what it shows, for those who do not see it.
        name: sets its ids apart from those of other pictures in the same document.
    """
    import vl_convert  # noqa: PLC0415 - an optional extra

    drawn = vl_convert.vegalite_to_svg(chart.to_dict(validate=False), vl_version=_version())
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(drawn)  # noqa: S314 - our own drawing
    for element in root.iter():
        # Groups of marks are announced one by one otherwise, and none of them says anything.
        for attribute in ("role", "aria-roledescription", "aria-label", "aria-hidden"):
            element.attrib.pop(attribute, None)
        for attribute, value in element.attrib.items():
            if attribute == "id":
                element.set(attribute, f"{name}-{value}")
            elif value.startswith("url(#"):
                element.set(attribute, value.replace("url(#", f"url(#{name}-", 1))
    root.set("role", "img")
    root.set("aria-label", label)
    return ElementTree.tostring(root, encoding="unicode")


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
