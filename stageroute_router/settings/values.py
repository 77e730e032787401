"""Types of single settings: amounts, shares, durations."""

from __future__ import annotations

import math
import os
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictFloat, StrictInt
from pytimeparse2 import parse as parse_duration


def number(value: object) -> object:
    """Refuse what Python takes for a number and people do not."""
    if isinstance(value, bool):
        msg = "must be a number, not a boolean"
        raise ValueError(msg)
    if isinstance(value, float) and not math.isfinite(value):
        msg = "must be a finite number"
        raise ValueError(msg)
    return value


def checked_seconds(value: float | str) -> float:
    """Check a span of time longer than 0; return it in seconds."""
    seconds = parse_duration(value) if isinstance(value, str) else value
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        msg = 'must be a time longer than 0, in seconds or like "6h", "30m" or "1d 12h"'
        raise ValueError(msg)
    return float(seconds)


TimeSpan = Annotated[StrictFloat | StrictInt | str, BeforeValidator(number), AfterValidator(checked_seconds)]
Dollars = Annotated[StrictFloat | StrictInt, BeforeValidator(number), Field(gt=0)]
UnitInterval = Annotated[StrictFloat | StrictInt, BeforeValidator(number), Field(ge=0, le=1)]
Share = Annotated[StrictFloat | StrictInt, BeforeValidator(number), Field(gt=0, le=1)]
Amount = Annotated[StrictFloat | StrictInt, BeforeValidator(number), Field(ge=0)]


DAY_S = 24 * 3600.0


def checked_retention(value: object) -> float | None:
    """Check for how long decisions are kept; return seconds, or None for ever."""
    if value == "never":
        return None
    seconds = parse_duration(value) if isinstance(value, str) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not DAY_S <= seconds < math.inf:
        msg = (
            'must be a day or longer, in seconds or like "90d", or "never": rewards and the ends of calls may come a '
            "day late"
        )
        raise ValueError(msg)
    return float(seconds)


def table_path(value: object) -> str | None:
    """Check the path of a table; return it as text."""
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike) or not str(value).lower().endswith((".csv", ".parquet")):
        msg = "must be the path of a .csv or .parquet file"
        raise ValueError(msg)
    return str(value)


class Strict(BaseModel):
    """Settings that refuse what they do not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def days(value: object) -> float:
    """Check a span of a day or longer; return it in seconds."""
    seconds = parse_duration(value) if isinstance(value, str) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not DAY_S <= seconds < math.inf:
        msg = 'must be a day or longer, in seconds or like "30d": calls end and are rewarded after a while'
        raise ValueError(msg)
    return float(seconds)
