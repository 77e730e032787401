"""What users write about a group, checked once, here, before anything runs."""

from __future__ import annotations

import difflib
import inspect
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)
from pytimeparse2 import parse as parse_duration

from stageroute_router.benchmark_table import DEFAULT_WEIGHT
from stageroute_router.core.evidence import ExpectedTokens
from stageroute_router.core.paper_rule import PaperRule
from stageroute_router.core.posterior_rule import PosteriorRule
from stageroute_router.core.rule import ConfidenceRule
from stageroute_router.core.schedule import AtTimes, EveryCalls, EverySeconds, Manual, Schedule
from stageroute_router.core.snapshot import GroupPolicy
from stageroute_router.errors import SettingsError
from stageroute_router.segment_names import LONGEST_SEGMENT, is_segment
from stageroute_router.store.base import DEFAULT_RETENTION_S


def _number(value: object) -> object:
    """Refuse what Python takes for a number and people do not."""
    if isinstance(value, bool):
        msg = "must be a number, not a boolean"
        raise ValueError(msg)
    if isinstance(value, float) and not math.isfinite(value):
        msg = "must be a finite number"
        raise ValueError(msg)
    return value


def _seconds(value: float | str) -> float:
    seconds = parse_duration(value) if isinstance(value, str) else value
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        msg = 'must be a time longer than 0, in seconds or like "6h", "30m" or "1d 12h"'
        raise ValueError(msg)
    return float(seconds)


_TimeSpan = Annotated[StrictFloat | StrictInt | str, BeforeValidator(_number), AfterValidator(_seconds)]
Dollars = Annotated[StrictFloat | StrictInt, BeforeValidator(_number), Field(gt=0)]
UnitInterval = Annotated[StrictFloat | StrictInt, BeforeValidator(_number), Field(ge=0, le=1)]
Tokens = Annotated[StrictFloat | StrictInt, BeforeValidator(_number), Field(ge=0)]


_DAY_S = 24 * 3600.0

DEFAULT_TOKEN_LIFETIME_S = 30 * _DAY_S
"""How long a reward token is good: 30 days. Feedback comes late, but a token that lies around is a way in."""


def _retention(value: object) -> float | None:
    if value == "never":
        return None
    seconds = parse_duration(value) if isinstance(value, str) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not _DAY_S <= seconds < math.inf:
        msg = (
            'must be a day or longer, in seconds or like "90d", or "never": rewards and the ends of calls may come a '
            "day late"
        )
        raise ValueError(msg)
    return float(seconds)


def _table_path(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike) or not str(value).lower().endswith((".csv", ".parquet")):
        msg = "must be the path of a .csv or .parquet file"
        raise ValueError(msg)
    return str(value)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StageSettings(_Strict):
    """When a maintenance window opens: exactly one of ``calls``, ``every`` and ``cron``.

    Args:
        calls: after so many calls of the group, counted over all its workers.
        every: after so much time: seconds, or text such as ``"6h"`` or ``"1d 12h"``.
        cron: at the times of a cron line, such as ``"0 2 * * *"``.
        timezone: of the cron line, an IANA name; UTC by default.
    """

    calls: Annotated[StrictInt, BeforeValidator(_number), Field(ge=1)] | None = None
    every: StrictFloat | StrictInt | str | None = None
    cron: str | None = None
    timezone: str = "UTC"

    @field_validator("every")
    @classmethod
    def _every(cls, value: float | str | None) -> float | None:
        return None if value is None else _seconds(value)

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            msg = 'must be a time zone such as "UTC" or "Europe/Paris"'
            raise ValueError(msg) from None
        return value

    @field_validator("cron")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                next(CronSim(value, datetime.now(tz=timezone.utc)))
            except (CronSimError, StopIteration) as error:
                msg = f'must be a cron line of five fields such as "0 2 * * *" ({error})'
                raise ValueError(msg) from None
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> StageSettings:
        given = [name for name in ("calls", "every", "cron") if getattr(self, name) is not None]
        if len(given) != 1:
            msg = (
                'must have exactly one of "calls", "every" and "cron"'
                f' (it has {" and ".join(given) or "none"}), or be the word "manual"'
            )
            raise ValueError(msg)
        return self

    def schedule(self) -> Schedule:
        """Return the schedule these settings describe."""
        if self.calls is not None:
            return EveryCalls(self.calls)
        if self.every is not None:
            return EverySeconds(float(self.every))
        line, zone = str(self.cron), ZoneInfo(self.timezone)

        def next_after(seconds: float) -> float:
            return next(CronSim(line, datetime.fromtimestamp(seconds, tz=zone))).timestamp()

        return AtTimes(next_after)


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


def _days(value: object) -> float:
    seconds = parse_duration(value) if isinstance(value, str) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not _DAY_S <= seconds < math.inf:
        msg = 'must be a day or longer, in seconds or like "30d": calls end and are rewarded after a while'
        raise ValueError(msg)
    return float(seconds)


def _segment_names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(
        isinstance(name, str) and is_segment(name) for name in value
    ):
        msg = f"must be a list of names of 1 to {LONGEST_SEGMENT} printable characters, none beginning with 'auto:'"
        raise ValueError(msg)
    return tuple(dict.fromkeys(value))


DEFAULT_EMBEDDING_DEADLINE_S = 2.0
"""How long a call waits for its embedding: several times what one takes, and short beside an answer."""


class SegmentSettings(_Strict):
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
    most: Annotated[StrictInt, BeforeValidator(_number), Field(ge=1, le=256)] = 64
    forget_after: Annotated[float, BeforeValidator(_days)] = 30 * _DAY_S
    embedding: Annotated[StrictStr, Field(min_length=1)] | None = None
    embedding_deadline: _TimeSpan | None = None

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

    >>> place_of_function(parse_groups)
    'stageroute_router.settings:parse_groups'
    """
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{named.__qualname__}"


class GroupSettings(_Strict):
    """Settings of one managed model group.

    Args:
        budget_usd_per_call: average US dollars a call may cost, > 0. Required.
        max_live_models: most models kept live at once, >= 1; more than there are candidates is fine. Default 5.
        stage: when maintenance windows open; ``{"calls": 500}`` by default.
        confidence: ``"posterior"`` (default: the rule that measures best) or ``"paper"`` (the paper's bounds).
        gamma: width of the paper's bounds, > 0; only with ``confidence="paper"``. Default 0.1.
        pacing: whether the budget follows realised spend. Default: yes for ``"posterior"``, no for ``"paper"``.
        max_unproven_in_flight: most calls under way to an arm of which fewer than 5 costs are known, >= 1, so that a
            burst cannot spend hundreds of calls on a wrong price. Default 8. The cheapest arm by list price may get
            more where the others cannot keep the budget.
        failure_reward: reward in [0, 1] that a call which failed at its provider counts as; None (default) for
            no reward: an outage says nothing about the quality of answers, and calls leave an arm that does not
            answer without it. A call that failed by a mistake of its own never gets it.
        expected_prompt_tokens: prompt tokens of a typical call, used to turn list prices into expected costs
            until calls have been observed. Default 500.
        expected_completion_tokens: completion tokens of a typical call, likewise. Default 250.
        segments: how calls are told apart, see :class:`SegmentSettings`; None (default): they are not.
        pace_priced_calls: whether calls that come with a price of their own, in
            ``metadata={"stageroute": {"price": 50}}``, are paid out of the budget like all others: what they spend
            more, others spend less. Default yes; with False, pacing is left to the calls without.
        benchmark: path of a table of evaluated prompts (:mod:`stageroute_router.benchmark_table`), what arms are
            believed to be worth until rewards say otherwise; read when the router is made. None (default) for none.
        benchmark_weight: most observations that an arm's scores in it count as, > 0; only with ``benchmark``.
            Default 20.
    """

    budget_usd_per_call: Dollars
    max_live_models: Annotated[StrictInt, BeforeValidator(_number), Field(ge=1)] = 5
    stage: StageSettings | Literal["manual"] = Field(default_factory=lambda: StageSettings(calls=500))
    confidence: Literal["posterior", "paper"] = "posterior"
    gamma: Dollars | None = None
    pacing: StrictBool | None = None
    max_unproven_in_flight: Annotated[StrictInt, BeforeValidator(_number), Field(ge=1)] = 8
    pace_priced_calls: StrictBool = True
    failure_reward: UnitInterval | None = None
    expected_prompt_tokens: Tokens = 500
    expected_completion_tokens: Tokens = 250
    segments: SegmentSettings | None = None
    benchmark: Annotated[str, BeforeValidator(_table_path)] | None = None
    benchmark_weight: Dollars | None = None

    @model_validator(mode="after")
    def _gamma_is_the_papers(self) -> GroupSettings:
        if self.gamma is not None and self.confidence != "paper":
            msg = '"gamma" belongs to confidence="paper"; remove it or choose that'
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _weight_is_of_a_benchmark(self) -> GroupSettings:
        if self.benchmark_weight is not None and self.benchmark is None:
            msg = '"benchmark_weight" needs "benchmark", the table that it weighs; remove it or add that'
            raise ValueError(msg)
        return self

    @property
    def most_benchmark_weight(self) -> float:
        """Most observations that an arm's scores in the benchmark count as."""
        return float(self.benchmark_weight or DEFAULT_WEIGHT)

    def policy(self) -> GroupPolicy:
        """Return what the engine needs of these settings."""
        rule: ConfidenceRule
        if self.confidence == "paper":
            rule = PaperRule(gamma=float(self.gamma or 0.1), paced=bool(self.pacing))
        else:
            rule = PosteriorRule(paced=self.pacing is not False)
        return GroupPolicy(
            budget_usd=float(self.budget_usd_per_call),
            max_live=self.max_live_models,
            schedule=Manual() if self.stage == "manual" else self.stage.schedule(),
            rule=rule,
            expected_tokens=ExpectedTokens(
                prompt=float(self.expected_prompt_tokens),
                completion=float(self.expected_completion_tokens),
            ),
            max_unproven_in_flight=self.max_unproven_in_flight,
            pace_priced_calls=self.pace_priced_calls,
        )


class Options(_Strict):
    """Options of a router as a whole: how it keeps what it learns, and who may reward.

    Args:
        durability: ``"full"``: what was acknowledged survives a power loss; ``"normal"``: it survives a crash of the
            process, and the last moments before a power loss may be gone. SQLite only.
        retention: how old decisions and rewards become before they are folded into sums: seconds, text such as
            ``"90d"`` (the default), or ``"never"``. Statistics never change by it; rewards that come later are
            refused as expired. Read back in seconds, None for ever.
        migrate: ``"auto"``: create and migrate the database's tables; ``"verify"``: refuse one that needs it, with the
            command to run. Default: ``"auto"`` for SQLite, ``"verify"`` for PostgreSQL.
        seed: of exploration; fresh entropy by default.
        refresh_interval: what other processes have learned is known at most so much later: seconds, or text such as
            ``"5s"`` (the default).
        reward_deadline: a reward that could not be stored for so long raises ``StoreUnavailableError``: seconds (10 by
            default), or text.
        max_queue: how many writes may wait for the database, 100,000 by default.
        reward_token_keys: secrets of reward tokens, see :func:`~stageroute_router.reward_keys.key_source`, which checks
            them: nothing that holds a secret is shown here.
        reward_token_lifetime: for how long a token is good: seconds, or text such as ``"12h"``; at most the retention.
            Default 30 days, or the retention if that is shorter.
        clients_may_replace: whether a client's later reward of the same call replaces its first. Off by default: a
            client that may try again may also tune what it pushes.
    """

    durability: Literal["full", "normal"] = "full"
    retention: Annotated[float | None, BeforeValidator(_retention)] = DEFAULT_RETENTION_S
    migrate: Literal["auto", "verify"] | None = None
    seed: StrictInt | None = None
    refresh_interval: _TimeSpan = 5.0
    reward_deadline: _TimeSpan = 10.0
    max_queue: Annotated[StrictInt, BeforeValidator(_number), Field(ge=1)] = 100_000
    reward_token_keys: Any = Field(default=(), repr=False)
    reward_token_lifetime: _TimeSpan | None = None
    clients_may_replace: StrictBool = False

    @field_validator("reward_token_lifetime")
    @classmethod
    def _no_longer_than_the_retention(cls, value: float | None, info: ValidationInfo) -> float | None:
        # Without a retention that can be used, that is what is to be said first.
        most = info.data.get("retention")
        if value is not None and most is not None and value > most:
            msg = (
                f"must not be longer than the retention, {most / _DAY_S:g} days: what is rewarded later is forgotten; "
                "shorten it, or raise retention"
            )
            raise ValueError(msg)
        return value

    @property
    def token_lifetime_s(self) -> float:
        """For how many seconds a reward token is good."""
        if self.reward_token_lifetime is not None:
            return float(self.reward_token_lifetime)
        return min(DEFAULT_TOKEN_LIFETIME_S, math.inf if self.retention is None else self.retention)


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
        try:
            groups[name] = GroupSettings.model_validate(value)
        except ValidationError as error:
            names = (
                *GroupSettings.model_fields,
                *StageSettings.model_fields,
                *SegmentSettings.model_fields,
            )
            problems.extend(_readable(error, place=f"{place}[{name!r}]", names=names))
    problems.extend(_wrong_embeddings(groups, managed=stageroute, known_groups=known_groups, place=place))
    if problems:
        raise SettingsError("; ".join(problems))
    return groups


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


def _readable(error: ValidationError, *, place: str, names: Iterable[str]) -> list[str]:
    """Return one line per problem: place, what is accepted, the value."""
    lines: list[str] = []
    for problem in error.errors(include_url=False):
        path = [str(part) for part in problem["loc"] if not _is_union_branch(part)]
        where = ".".join([place, *path] if place else path)
        message = re.sub("^Input should", "must", problem["msg"].removeprefix("Value error, "))
        if problem["type"] == "missing":
            line = f"{where}: missing; add it"
        elif problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(path[-1], list(names))
            hint = f"; did you mean {near[0]!r}?" if near else ""
            line = f"{where}: there is no such setting{hint}"
        else:
            line = f"{where} = {_short(problem['input'])}: {message[:1].lower()}{message[1:]}"
        if line not in lines:
            lines.append(line)
    # A value that fits no branch of a union is reported once per branch; the first says it best.
    by_place: dict[str, str] = {}
    for line in lines:
        by_place.setdefault(line.split(" = ")[0].split(": ")[0], line)
    return list(by_place.values())


def _is_union_branch(part: object) -> bool:
    """Return whether pydantic put the branch of a union into a location."""
    return isinstance(part, str) and (
        part in {"float", "int", "str", "StageSettings", "none"} or part.startswith(("literal[", "function-"))
    )


def _short(value: object, *, most: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
