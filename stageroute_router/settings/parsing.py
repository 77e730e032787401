"""Checks settings, and says what is wrong with them in a sentence."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pydantic import ValidationError

from stageroute_router.errors import SettingsError
from stageroute_router.settings.arms import ArmSettings
from stageroute_router.settings.group import FORMER_ESTIMATOR, GroupSettings
from stageroute_router.settings.options import Options
from stageroute_router.settings.segments import SegmentSettings
from stageroute_router.settings.stage import StageSettings

logger = logging.getLogger("stageroute_router")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a router is made with, checked.

    Args:
        groups: settings by model group.
        options: of the router as a whole.
        database_url: where to keep what is learned, as an SQLAlchemy URL.
    """

    groups: Mapping[str, GroupSettings]
    options: Options
    database_url: str


def parse_options(options: Mapping[str, object], *, place: str = "") -> Options:
    """Check what the user wrote besides the groups' settings.

    Args:
        options: by name.
        place: where the user wrote them, for messages; nowhere in particular by default.

    Raises:
        SettingsError: anything is wrong; the message lists every problem with its name, value and fix.

    >>> parse_options({"refresh_interval": "10s"}).refresh_interval
    10.0
    """
    try:
        return Options.model_validate(dict(options))
    except ValidationError as error:
        raise SettingsError("; ".join(_readable(error, place=place, names=Options.model_fields))) from None


def parse_groups(
    stageroute: object, *, known_groups: Collection[str] | None = None, place: str = "stageroute"
) -> dict[str, GroupSettings]:
    """Check what the user wrote as ``stageroute=`` and return settings by group name.

    Args:
        stageroute: a mapping from group name to that group's settings.
        known_groups: the groups of the ``model_list``, if known.
        place: where the user wrote it, for messages.

    Raises:
        SettingsError: anything is wrong; the message lists every problem with its place, value and fix.

    >>> parse_groups({"chat": {"budget_usd_per_call": 0.002}})["chat"].max_live_models
    5
    """
    if not isinstance(stageroute, Mapping) or not stageroute:
        msg = (
            f"{place} must map the name of each model group to its settings, such as "
            f'{{"chat": {{"budget_usd_per_call": 0.002}}}}; it is {stageroute!r}'
        )
        raise SettingsError(msg)
    if "groups" in stageroute and known_groups is not None and "groups" not in known_groups:
        msg = (
            f"{place} has 'groups' in it, like the section stageroute_settings of a configuration file: what stands "
            f"under 'groups' is all that belongs into {place}; {_others(stageroute)} belongs beside it"
        )
        raise SettingsError(msg)
    problems: list[str] = []
    groups: dict[str, GroupSettings] = {}
    for name, value in stageroute.items():
        if known_groups is not None and name not in known_groups:
            near = difflib.get_close_matches(str(name), list(known_groups), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            problems.append(
                f"{place}[{name!r}]: no deployment in model_list has this model_name "
                f"(there are: {', '.join(sorted(known_groups)) or 'none'}){hint}"
            )
        if isinstance(value, Mapping) and FORMER_ESTIMATOR in value:
            logger.warning("%s[%r].%s is now called estimator; rename it", place, name, FORMER_ESTIMATOR)
        try:
            groups[name] = GroupSettings.model_validate(value)
        except ValidationError as error:
            names = (
                *GroupSettings.model_fields,
                *StageSettings.model_fields,
                *SegmentSettings.model_fields,
            )
            problems.extend(_readable(error, place=f"{place}[{name!r}]", names=names, nested=True))
    problems.extend(_wrong_embeddings(groups, managed=stageroute, known_groups=known_groups, place=place))
    if problems:
        raise SettingsError("; ".join(problems))
    return groups


def parse_arm(given: object, *, place: str) -> ArmSettings:
    """Check what the user wrote as ``model_info.stageroute`` of a deployment.

    Args:
        given: a mapping.
        place: where the user wrote it, for messages.

    Raises:
        SettingsError: anything is wrong; the message lists every problem with its place, value and fix.

    >>> parse_arm({"max_share": 0.5}, place="model_info.stageroute").max_share
    0.5
    """
    try:
        return ArmSettings.model_validate(given)
    except ValidationError as error:
        raise SettingsError(
            "; ".join(_readable(error, place=place, names=ArmSettings.model_fields))
        ) from None


def _others(settings: Mapping[object, object]) -> str:
    return ", ".join(str(name) for name in settings if name != "groups") or "the rest, such as database_url,"


def is_model_of(model: str, names: Collection[str]) -> bool:
    """Return whether a model is among a router's by name, where ``openai/*`` names all that begin so.

    >>> is_model_of("openai/text-embedding-3-small", {"chat", "openai/*"})
    True
    """
    return any(model == name or ("*" in name and fnmatchcase(model, name)) for name in names)


def _wrong_embeddings(
    groups: Mapping[str, GroupSettings],
    *,
    managed: Collection[str],
    known_groups: Collection[str] | None,
    place: str,
) -> Iterable[str]:
    """Return a line for each embedding model that cannot be one."""
    for name, settings in groups.items():
        model = None if settings.segments is None else settings.segments.embedding
        if model is None:
            continue
        where = f"{place}[{name!r}].segments.embedding = {model!r}"
        if model in managed:
            whose = "the group itself" if model == name else "a group that StageRoute routes as well"
            yield (
                f"{where}: that is {whose}, whose models would embed alike texts differently; name a model of the "
                "router that is not routed"
            )
        elif known_groups is not None and not is_model_of(model, known_groups):
            near = difflib.get_close_matches(model, list(known_groups), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield (
                f"{where}: no deployment in model_list has this model_name "
                f"(there are: {', '.join(sorted(known_groups)) or 'none'}){hint}"
            )


def _readable(error: ValidationError, *, place: str, names: Iterable[str], nested: bool = False) -> list[str]:
    """Return one line per problem: place, what is accepted, the value.

    ``nested`` says that ``names`` are those of several places, of which a message lists none.
    """
    # A value that fits no branch of a union is reported once per branch; the first says it best.
    by_place: dict[str, str] = {}
    for problem in error.errors(include_url=False):
        path = [str(part) for part in problem["loc"] if not _is_union_branch(part)]
        where = ".".join([place, *path] if place else path)
        message = re.sub("^Input should", "must", problem["msg"].removeprefix("Value error, "))
        if problem["type"] == "missing":
            line = f"{where}: missing; add it"
        elif problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(path[-1], list(names))
            hint = "" if nested else f"; there are: {', '.join(names)}"
            if near:
                hint = f"; did you mean {near[0]!r}?"
            line = f"{where}: there is no such setting{hint}"
        else:
            line = f"{where} = {_short(problem['input'])}: {message[:1].lower()}{message[1:]}"
        by_place.setdefault(where, line)
    return list(by_place.values())


def _is_union_branch(part: object) -> bool:
    """Return whether pydantic put the branch of a union into a location."""
    return isinstance(part, str) and (
        part in {"float", "int", "str", "StageSettings", "none"} or part.startswith(("literal[", "function-"))
    )


def _short(value: object, *, most: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
