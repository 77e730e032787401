"""Which rows can be used. One that cannot, never reaches routing; it stays as it is until an operator repairs it.

A file may be edited by hand, half restored or damaged; a constraint may be missing. A bad row of statistics is left
alone by commits too, because adding to it would make up something new: ``stageroute db rebuild`` repairs it from
the decisions and rewards, which go on being kept. A bad account is taken from them at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, ColumnElement, Row, and_

from stageroute_router.store.ledger.entries import Segment
from stageroute_router.store.records import StoredProblem
from stageroute_router.store.sql import tables
from stageroute_router.store.sql.bodies import evidence_of_text
from stageroute_router.store.validation import is_segmenter
from stageroute_router.store.writes import ArmPinned, GroupConfigured, SegmenterFitted, StagePlanned

_ROUNDING = 1e-6
"""By how much a sum may be outside of its range: taking observations back leaves rounding errors."""

_MOST = 1e300
"""More than any sum. What is not a number is more than any number to both databases, or compares as unknown."""

_s = tables.statistics.c
_g = tables.groups.c


def _between(column: Column[Any], low: float, high: float | ColumnElement[Any]) -> ColumnElement[bool]:
    return and_(column >= low, column <= high)


SOUND_STATISTICS = and_(
    _between(_s.pulls, 0, _MOST),
    _between(_s.failures, 0, _s.pulls),
    _between(_s.reward_count, 0, _MOST),
    _between(_s.reward_sum, -_ROUNDING, _s.reward_count + _ROUNDING),
    _between(_s.reward_sumsq, -_ROUNDING, _s.reward_sum + _ROUNDING),
    _between(_s.cost_count, 0, _s.pulls),
    _between(_s.cost_sum, -_ROUNDING, _MOST),
    _between(_s.cost_sumsq, -_ROUNDING, _MOST),
)
"""Whether a row of statistics can have come from observations."""

SOUND_ACCOUNT = and_(
    _between(_g.calls, 0, _MOST),
    _between(_g.open_calls, 0, _g.calls),
    _between(_g.spend_usd, 0, _MOST),
    _between(_g.in_flight_usd, -_ROUNDING, _MOST),
    _between(_g.surplus_usd, -_MOST, _MOST),
    _between(_g.debt_usd, 0, _MOST),
    _between(_g.token_calls, 0, _g.calls),
    _between(_g.prompt_tokens, 0, _MOST),
    _between(_g.completion_tokens, 0, _MOST),
)
"""Whether an account can have come from calls."""


def bad_sums(table: str, row: tuple[str, ...], sums: Mapping[str, object]) -> StoredProblem:
    """Return the problem of a row of statistics, or of an account, that is not sound."""
    values = ", ".join(f"{name}={value!r}" for name, value in sums.items())
    return StoredProblem(table=table, row=row, problem=f"no calls can have led to {values}")


def stage_or_problem(row: Row[Any]) -> StagePlanned | StoredProblem:
    """Return a stored plan, or what is wrong with it."""
    try:
        live = json.loads(row.live)
    except (TypeError, ValueError):
        live = None
    wrong = None
    if not isinstance(live, list) or not live or not all(isinstance(arm, str) and arm for arm in live):
        wrong = f"live is {row.live!r}, which is not a JSON list of arms"
    elif row.explored is not None and row.explored not in live:
        wrong = f"explored is {row.explored!r}, which is not one of its live arms"
    elif not _is_number(row.explore_share) or not 0.0 <= row.explore_share < 1.0:
        wrong = f"explore_share is {row.explore_share!r}, which is not in [0, 1)"
    elif not _is_number(row.opened_at) or not math.isfinite(row.opened_at):
        wrong = f"opened_at is {row.opened_at!r}, which is no time"
    elif not isinstance(row.opened_at_call, int) or row.opened_at_call < 0:
        wrong = f"opened_at_call is {row.opened_at_call!r}, which is no number of calls"
    if wrong is not None:
        return StoredProblem(table=tables.stages.name, row=(row.group_name, row.stage), problem=wrong)
    return StagePlanned(
        group=row.group_name,
        stage=row.stage,
        live=tuple(live),
        explored=row.explored,
        explore_share=row.explore_share,
        reason=row.reason,
        opened_at=row.opened_at,
        opened_at_call=row.opened_at_call,
        evidence=evidence_of_text(row.evidence),
    )


def pin_or_problem(row: Row[Any]) -> ArmPinned | StoredProblem:
    """Return what an operator decided of an arm, or what is wrong with the row."""
    wrong = None
    if row.pinned is not None and (not isinstance(row.pinned, int) or row.pinned not in (0, 1)):
        wrong = f"pinned is {row.pinned!r}, which is neither 0, 1 nor NULL"
    elif not _is_number(row.set_at) or not math.isfinite(row.set_at):
        wrong = f"set_at is {row.set_at!r}, which is no time"
    if wrong is not None:
        return StoredProblem(table=tables.pins.name, row=(row.group_name, row.arm), problem=wrong)
    pinned = None if row.pinned is None else bool(row.pinned)
    return ArmPinned(group=row.group_name, arm=row.arm, pinned=pinned, set_at=row.set_at)


def segment_or_problem(row: Row[Any]) -> Segment | StoredProblem:
    """Return a stored segment, or what is wrong with it."""
    wrong = None
    if row.kind not in ("label", "auto"):
        wrong = f"kind is {row.kind!r}, which is neither label nor auto"
    for name in ("first_seen", "last_seen", "forgotten_until"):
        value = getattr(row, name)
        is_missing = name == "forgotten_until" and value is None
        if not is_missing and not (_is_number(value) and math.isfinite(value)):
            wrong = f"{name} is {value!r}, which is no time"
    if wrong is not None:
        return StoredProblem(table=tables.segments.name, row=(row.group_name, row.segment), problem=wrong)
    return Segment(
        kind=row.kind,
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        forgotten_until=row.forgotten_until,
    )


def segmenter_or_problem(row: Row[Any]) -> SegmenterFitted | StoredProblem:
    """Return a stored segmenter, or what is wrong with it."""
    wrong = None
    if not is_segmenter(row.fitted):
        wrong = "fitted is not a JSON object"
    elif not _is_number(row.fitted_at) or not math.isfinite(row.fitted_at):
        wrong = f"fitted_at is {row.fitted_at!r}, which is no time"
    if wrong is not None:
        return StoredProblem(table=tables.segmenters.name, row=(row.group_name, row.version), problem=wrong)
    return SegmenterFitted(
        group=row.group_name, version=row.version, fitted=row.fitted, fitted_at=row.fitted_at
    )


def configuration_or_problem(row: Row[Any]) -> GroupConfigured | StoredProblem:
    """Return a stored configuration, or what is wrong with it."""
    for name, text, kind in (("settings", row.settings, dict), ("arms", row.arms, list)):
        try:
            is_right = isinstance(json.loads(text), kind)
        except (TypeError, ValueError):
            is_right = False
        if not is_right:
            return StoredProblem(
                table=tables.configurations.name,
                row=(row.group_name,),
                problem=f"{name} is not a JSON {'object' if kind is dict else 'array'}",
            )
    return GroupConfigured(group=row.group_name, settings=row.settings, arms=row.arms)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
