"""Which segment a call belongs to, by what came with it: its label, its tags, whose it is, or a function's word.

Nothing here makes a call fail: what is wrong with a segment is said by :class:`WrongSegmentError`, and the strategy
counts it and goes on without one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from inspect import iscoroutinefunction
from typing import Any

from stageroute_router.core.segments.names import AUTO_PREFIX, LONGEST_SEGMENT, is_segment
from stageroute_router.errors import SettingsError
from stageroute_router.hook.calls.request import (
    APP_KEY,
    LABEL,
    PRICE,
    given_with,
    noted,
    origin_of,
    tags_of,
    text_of,
)
from stageroute_router.settings.group import GroupSettings
from stageroute_router.settings.segments import SegmentSettings


class WrongPriceError(ValueError):
    """What a caller would pay is no number. The message never has what was given: it may be anything."""


class WrongSegmentError(ValueError):
    """What names a call's segment is no name. The message never has the text: it may be anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One attempt of a call, as far as its segment may depend on it.

    Args:
        request: its keyword arguments, with LiteLLM's notes.
        asked: those that LiteLLM passes apart: the model group, messages, input.
        by_text: finds the automatic segment of what it asks.
    """

    request: Mapping[str, Any]
    asked: Mapping[str, Any]
    by_text: Callable[[str], str]


SegmentSource = Callable[[Call], str]
"""Returns a call's segment; ``""`` for none. May raise anything, and :class:`WrongSegmentError` for what is no name."""


def segment_sources(groups: Mapping[str, GroupSettings]) -> dict[str, SegmentSource]:
    """Return where the segments of each group's calls come from; groups whose calls have none are left out.

    Raises:
        SettingsError: a function is not where its settings say.
    """
    return {
        name: segment_source(settings.segments, place=f"stageroute[{name!r}].segments")
        for name, settings in groups.items()
        if settings.segments is not None
    }


def segment_source(settings: SegmentSettings, *, place: str) -> SegmentSource:
    """Return where segments come from.

    Args:
        settings: the group's.
        place: of the settings, for messages.

    Raises:
        SettingsError: as for :func:`segment_sources`.
    """
    names = frozenset(settings.names)
    match settings.by:
        case "label":
            return lambda call: _listed(_checked(_label(call.request), what="the label"), names)
        case "tag":
            return lambda call: _of_tags(tags_of(call.request), names)
        case "key":
            return lambda call: _listed(_first_name(_key_names(call.request), what="the key's alias"), names)
        case "team":
            return lambda call: _listed(_first_name(_team_names(call.request), what="the key's team"), names)
        case "auto":
            return _by_text
        case function:
            found = _imported(function, place=f"{place}.by") if isinstance(function, str) else function
            return lambda call: _listed(
                _checked(found({**call.asked, **call.request}), what="what the function returned"), names
            )


def price_of(request: Mapping[str, Any]) -> float | None:
    """Return what the caller would pay: reward that a dollar has to buy, at least 0; None where it does not say.

    Raises:
        WrongPriceError: it is no such number.
    """
    given = given_with(request)
    price = given.get(PRICE) if isinstance(given, Mapping) else None
    if price is None:
        return None
    if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < math.inf:
        raise WrongPriceError(
            f"metadata[{APP_KEY!r}][{PRICE!r}] is no finite number of at least 0; write the reward that a dollar has "
            f'to buy, such as {{"{PRICE}": 50}}'
        )
    return float(price)


def _by_text(call: Call) -> str:
    return call.by_text(text_of(call.request, call.asked))


def _listed(name: str, names: frozenset[str]) -> str:
    return name if not names or name in names else ""


def _label(request: Mapping[str, Any]) -> object:
    given = given_with(request)
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise WrongSegmentError(
            f"metadata[{APP_KEY!r}] is a {type(given).__name__}; it has to be a mapping such as "
            f'{{"{LABEL}": "sql"}}'
        )
    return given.get(LABEL)


def _of_tags(tags: Iterable[object], names: frozenset[str]) -> str:
    if names:
        return next((tag for tag in tags if isinstance(tag, str) and tag in names), "")
    return next((_checked(tag, what="the first tag") for tag in tags), "")


def _key_names(request: Mapping[str, Any]) -> Iterable[object]:
    """Return the names of the key that a call was made with: a server's word, or else the application's own."""
    origin = origin_of(request)
    return (noted(request, "user_api_key_alias"),) if origin is None else (origin.alias, origin.caller)


def _team_names(request: Mapping[str, Any]) -> Iterable[object]:
    origin = origin_of(request)
    if origin is not None:
        return origin.teams
    return (noted(request, "user_api_key_team_alias"), noted(request, "user_api_key_team_id"))


def _first_name(candidates: Iterable[object], *, what: str) -> str:
    """Return the first that can be stored: what is no name stands back behind an id."""
    given = [one for one in candidates if one]
    usable = (one for one in given if isinstance(one, str) and is_segment(one))
    found = next(usable, None)
    return found if found is not None else _checked(next(iter(given), None), what=what)


def _checked(name: object, *, what: str) -> str:
    if name is None or name == "":
        return ""
    if not isinstance(name, str):
        raise WrongSegmentError(f"{what} is a {type(name).__name__}; a segment is named by text")
    if not is_segment(name):
        raise WrongSegmentError(
            f"{what} has {len(name)} characters; a segment's name has 1 to {LONGEST_SEGMENT} printable ones, and "
            f"does not begin with {AUTO_PREFIX!r}"
        )
    return name


def _imported(place_of_function: str, *, place: str) -> Callable[[dict[str, Any]], object]:
    module, _, path = place_of_function.partition(":")
    try:
        found: Any = import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except Exception as error:
        # Importing runs code that is not ours, so any error may come out of it.
        msg = f"{place} = {place_of_function!r}: it cannot be imported ({type(error).__name__}: {error})"
        raise SettingsError(msg) from error
    if not callable(found) or iscoroutinefunction(found):
        kind = "an async function" if callable(found) else f"a {type(found).__name__}"
        msg = f"{place} = {place_of_function!r}: it is {kind}; it has to be a plain function"
        raise SettingsError(msg)
    function: Callable[[dict[str, Any]], object] = found
    return function
