"""What decisions and rewards amount to: the sums that statistics and accounts must always be equal to.

Decisions and rewards are the log, and the truth; statistics and accounts are sums of it, kept because adding up a
million rows takes too long. Here they are added up, by the database itself, so that checking the sums shares no code
with keeping them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, literal_column, null, select

from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store.ledger.sums import EXTRA, SUMS, Fold, FoldKey, Folds, add_up
from stageroute_router.store.sql import tables

# -- in the database ---------------------------------------------------------------------------------------------

_d = tables.decisions.c
_r = tables.rewards.c
_f = tables.folded.c
_g = tables.segments.c

_of_segment = and_(_g.group_name == _d.group_name, _g.segment == _d.segment)
_segment: ColumnElement[str] = case(
    (_d.made_at < _g.forgotten_until, literal_column("''")), else_=_d.segment
).label("segment")
"""The segment that a decision counts in: its own, unless that was forgotten since."""

_counts = _d.state != "withdrawn"
_is_open = _d.state == "open"
_has_cost = and_(_d.state == "settled", _d.lost_at.is_(None))
_prompt, _completion = func.coalesce(_d.prompt_tokens, 0), func.coalesce(_d.completion_tokens, 0)


def _total(condition: ColumnElement[bool], value: object, *, nothing: float) -> ColumnElement[Any]:
    return func.sum(case((condition, value), else_=nothing))


_DECISIONS: Select[Any] = (
    select(
        _d.group_name,
        _d.stage,
        _segment,
        _d.served_arm,
        func.count().label("pulls"),
        _total(_d.state == "failed", 1, nothing=0).label("failures"),
        _total(_has_cost, 1, nothing=0).label("cost_count"),
        _total(_has_cost, _d.cost_usd, nothing=0.0).label("cost_sum"),
        _total(_has_cost, _d.cost_usd * _d.cost_usd, nothing=0.0).label("cost_sumsq"),
        _total(_is_open, 1, nothing=0).label("open_calls"),
        _total(_is_open, _d.expected_cost_usd, nothing=0.0).label("in_flight_usd"),
        func.sum(func.coalesce(_d.cost_usd, 0.0)).label("spend_usd"),
        _total(_prompt + _completion > 0, 1, nothing=0).label("token_calls"),
        func.sum(_prompt).label("prompt_tokens"),
        func.sum(_completion).label("completion_tokens"),
    )
    .outerjoin_from(tables.decisions, tables.segments, _of_segment)
    .where(_counts)
    .group_by(_d.group_name, _d.stage, _segment, _d.served_arm)
)
_REWARDS: Select[Any] = (
    select(
        _d.group_name,
        _d.stage,
        _segment,
        _d.served_arm,
        func.count().label("reward_count"),
        func.sum(_r.reward).label("reward_sum"),
        func.sum(_r.reward * _r.reward).label("reward_sumsq"),
    )
    .join_from(tables.rewards, tables.decisions, _r.decision_id == _d.decision_id)
    .outerjoin(tables.segments, _of_segment)
    .where(_counts)
    .group_by(_d.group_name, _d.stage, _segment, _d.served_arm)
)
_FOLDED: Select[Any] = select(
    _f.group_name,
    null().label("stage"),
    _f.segment,
    _f.arm.label("served_arm"),
    *(_f[name] for name in SUMS),
    *(_f[name] for name in EXTRA),
)


def fold_log(connection: Connection, *, group: str | None = None) -> Folds:
    """Return what everything that was ever decided and rewarded amounts to: the rows, and what was folded away.

    Args:
        connection: in a transaction.
        group: only this group's.
    """
    rows = () if group is None else (_d.group_name == group,)
    folded = _FOLDED if group is None else _FOLDED.where(_f.group_name == group)
    return add_up(
        [
            *_add_up_rows(connection, _DECISIONS.where(*rows), _REWARDS.where(*rows)).items(),
            *(_parsed(row) for row in connection.execute(folded).mappings()),
        ]
    )


def fold_until(connection: Connection, moment: float) -> Folds:
    """Return what the decisions made up to a moment amount to, with their rewards.

    Takes as long as there are such decisions, whatever else is stored.
    """
    old = _d.made_at <= moment
    # Said of the rewards too, because SQLite would read all of them otherwise.
    of_old = _r.decision_id.in_(select(_d.decision_id).where(old))
    return _add_up_rows(connection, _DECISIONS.where(old), _REWARDS.where(old, of_old))


def _add_up_rows(connection: Connection, *statements: Select[Any]) -> Folds:
    return add_up(
        _parsed(row) for statement in statements for row in connection.execute(statement).mappings()
    )


def _parsed(row: Mapping[Any, Any]) -> tuple[FoldKey, Fold]:
    # PostgreSQL adds integers up to decimals, and SQLite nothing but NULLs to NULL.
    values: dict[str, Any] = {
        name: (float if name.endswith(("_usd", "_sum", "_sumsq")) else int)(value or 0)
        for name, value in row.items()
        if name not in ("group_name", "stage", "segment", "served_arm")
    }
    statistics = ArmStatistics(**{name: values.pop(name) for name in SUMS if name in values})
    cell = (row["segment"], row["served_arm"])
    return (row["group_name"], row["stage"], cell), Fold(statistics=statistics, **values)
