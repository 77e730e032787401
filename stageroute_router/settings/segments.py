"""The settings of a group's segments."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictInt, StrictStr, field_serializer, model_validator

from stageroute_router.core.segments.names import LONGEST_SEGMENT, is_segment
from stageroute_router.settings.values import DAY_S, Strict, TimeSpan, days, number

SegmentFunction = Callable[[dict[str, Any]], str | None]
"""Returns the segment of a call, given the arguments of its request; None or ``""`` for none."""

_SOURCES = ("label", "tag", "key", "team", "auto")
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_<][\w.<>]*")


def _source_of_segments(value: object) -> str | SegmentFunction:
    if inspect.iscoroutinefunction(value):
        msg = "must be a plain function: synchronous calls cannot wait for an async one"
        raise ValueError(msg)
    if callable(value):
        return value
    if isinstance(value, str) and (value in _SOURCES or _FUNCTION.fullmatch(value)):
        return value
    msg = (
        f"must be one of {', '.join(map(repr, _SOURCES))}, a function, or the place of one such as "
        '"package.module:function"'
    )
    raise ValueError(msg)


def _segment_names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(
        isinstance(name, str) and is_segment(name) for name in value
    ):
        msg = f"must be a list of names of 1 to {LONGEST_SEGMENT} printable characters, none beginning with 'auto:'"
        raise ValueError(msg)
    return tuple(dict.fromkeys(value))


DEFAULT_EMBEDDING_DEADLINE_S = 2.0
"""How long a call waits for its embedding: several times what one takes, and short beside an answer."""


class SegmentSettings(Strict):
    """Where the segment of a call comes from, and how many of them there may be.

    Args:
        by: ``"label"``: what the call says in ``metadata={"stageroute": {"segment": "sql"}}``. ``"tag"``: the first of
            its LiteLLM tags (that is among ``names``, if there are any). ``"key"``: in the proxy, the alias of the key
            it was made with, or a short digest naming the caller. ``"team"``: in the proxy, the key's team, by alias or
            id. ``"auto"``: clusters of prompts, found by StageRoute. Or a function that is given the request's
            arguments as a dictionary and returns a segment or None; or its place, ``"package.module:function"``.
            Required.
        names: the only segments there are; calls of any other share ``""``. Default: whatever comes, up to ``most``.
        most: so many segments with a name, at most, in [1, 256]; calls of further ones share ``""``. Default 64.
        forget_after: what is known of a segment that no call had for so long is added to ``""``: seconds, or text such
            as ``"30d"`` (the default); at least a day.
        embedding: the model of the router that prompts are embedded by, by its ``model_name``, to be told apart by what
            they mean; only with ``by="auto"``, and no managed group. None (default): by what they look like.
        embedding_deadline: a call waits for its embedding at most so long: seconds, or text; only with ``embedding``.
            Default 2 seconds.
    """

    by: Annotated[Any, BeforeValidator(_source_of_segments)]
    names: Annotated[tuple[str, ...], BeforeValidator(_segment_names)] = ()
    most: Annotated[StrictInt, BeforeValidator(number), Field(ge=1, le=256)] = 64
    forget_after: Annotated[float, BeforeValidator(days)] = 30 * DAY_S
    embedding: Annotated[StrictStr, Field(min_length=1)] | None = None
    embedding_deadline: TimeSpan | None = None

    @field_serializer("by")
    def _place(self, by: str | SegmentFunction) -> str:
        """Return how a function is named in what is stored: to be shown only."""
        return by if isinstance(by, str) else place_of_function(by)

    @model_validator(mode="after")
    def _no_more_names_than_segments(self) -> SegmentSettings:
        if len(self.names) > self.most:
            msg = f"has {len(self.names)} names, and most = {self.most}; raise most, or remove names"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _embedding_is_of_automatic_segments(self) -> SegmentSettings:
        if self.embedding is not None and self.by != "auto":
            msg = '"embedding" belongs to by="auto"; remove it or choose that'
            raise ValueError(msg)
        if self.embedding_deadline is not None and self.embedding is None:
            msg = (
                '"embedding_deadline" needs "embedding", the model that is waited for; remove it or add that'
            )
            raise ValueError(msg)
        return self

    @property
    def embedding_deadline_s(self) -> float:
        """For how many seconds a call waits for its embedding."""
        return (
            DEFAULT_EMBEDDING_DEADLINE_S
            if self.embedding_deadline is None
            else float(self.embedding_deadline)
        )


def place_of_function(function: object) -> str:
    """Return the module and name of a function, or of the class of what else is callable.

    >>> from stageroute_router.settings.parsing import parse_groups
    >>> place_of_function(parse_groups)
    'stageroute_router.settings.parsing:parse_groups'
    """
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{named.__qualname__}"
