"""Reads rows: what a batch needs of the tables, and what a restarted process needs.

Reading for a batch costs a fixed number of statements, however many writes it has.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sqlalchemy import BindParameter, Connection, Row, Select, bindparam, or_, select, tuple_

from stageroute_router.core.account import Account, Charge
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store import tables
from stageroute_router.store.base import (
    CallFailed,
    CallSettled,
    CallWithdrawn,
    CellKey,
    DecisionMade,
    GroupConfigured,
    RewardReported,
    StagePlanned,
    Write,
)
from stageroute_router.store.ledger import Entry, GivenReward, Ledger, PendingReward

# Older builds of SQLite accept 999 parameters in a statement, and one of ours uses every key twice.
_KEYS_PER_STATEMENT = 400

_SUMS = tuple(f.name for f in fields(ArmStatistics))
_TOTALS = tuple(f.name for f in fields(Account))

_d = tables.decisions.c
_r = tables.rewards.c
_p = tables.pending_rewards.c
_s = tables.statistics.c

_DECISION_COLUMNS = (
    _d.row_number,
    _d.decision_id,
    _d.call_id,
    _d.group_name,
    _d.segment,
    _d.arm,
    _d.stage,
    _d.probability,
    _d.expected_cost_usd,
    _d.budget_usd,
    _d.surplus_cap_usd,
    _d.booking,
    _d.reward_ucb,
    _d.cost_lcb_usd,
    _d.shadow_price,
    _d.made_at,
    _d.served_arm,
    _d.state,
    _d.cost_usd,
    _d.prompt_tokens,
    _d.completion_tokens,
    _d.response_id,
    _d.closed_at,
)
_keys: BindParameter[Any] = bindparam("keys", expanding=True)
_DECISIONS_BY_ID: Select[Any] = select(*_DECISION_COLUMNS).where(_d.decision_id.in_(_keys))
_DECISIONS_BY_OTHER_KEY: Select[Any] = select(*_DECISION_COLUMNS).where(
    or_(_d.response_id.in_(_keys), _d.call_id.in_(_keys))
)
_REWARDS: Select[Any] = (
    select(_r.decision_id, _r.source, _r.reward, _r.reported_key, _r.reported_at)
    .where(_r.decision_id.in_(_keys))
    .order_by(_r.decision_id, _r.source)
)
_PENDING: Select[Any] = (
    select(_p.reported_key, _p.source, _p.reward, _p.reported_at, _p.received_at)
    .where(_p.reported_key.in_(_keys))
    .order_by(_p.reported_key, _p.source)
)
_ACCOUNTS: Select[Any] = select(
    tables.groups.c.group_name, tables.groups.c.version, *(tables.groups.c[name] for name in _TOTALS)
).where(tables.groups.c.group_name.in_(_keys))
_STAGES = select(tables.stages)


@dataclass(slots=True)
class _Needed:
    """The keys of everything a batch may touch. Dicts serve as sets that remember the order."""

    decisions: dict[str, None] = field(default_factory=dict)
    rewarded: dict[str, None] = field(default_factory=dict)
    waited_for: dict[str, None] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)
    stages: dict[tuple[str, int], None] = field(default_factory=dict)

    @classmethod
    def by(cls, batch: Sequence[Write]) -> _Needed:
        needed = cls()
        for write in batch:
            match write:
                case RewardReported():
                    needed.rewarded[write.key] = None
                case DecisionMade():
                    needed.decisions[write.decision_id] = None
                    needed.waited_for[write.decision_id] = needed.waited_for[write.call_id] = None
                    needed.groups.add(write.group)
                case CallSettled():
                    needed.decisions[write.decision_id] = None
                    if write.response_id is not None:
                        needed.waited_for[write.response_id] = None
                case CallFailed() | CallWithdrawn():
                    needed.decisions[write.decision_id] = None
                case StagePlanned():
                    needed.stages[write.group, write.stage] = None
                    needed.groups.add(write.group)
        return needed


def load_ledger(connection: Connection, batch: Sequence[Write]) -> Ledger:
    """Return a ledger with every row that applying a batch may need."""
    needed = _Needed.by(batch)
    ledger = _ledger_of(connection, ids=needed.decisions, reward_keys=needed.rewarded)
    for key, source, reward, reported_at, received_at in _fetch(connection, _PENDING, needed.waited_for):
        given = GivenReward(reward, key=key, reported_at=reported_at)
        ledger.pending[key][source] = PendingReward(given, received_at=received_at)
    needed.groups.update(entry.decision.group for entry in ledger.decisions.values())
    for row in _fetch(connection, _ACCOUNTS, sorted(needed.groups)):
        ledger.versions[row[0]], ledger.accounts[row[0]] = row[1], _account_of(row)
    if needed.stages:
        keys = tuple_(tables.stages.c.group_name, tables.stages.c.stage).in_(list(needed.stages))
        for row in connection.execute(_STAGES.where(keys)):
            planned = _stage_of(row)
            ledger.stages[planned.group, planned.stage] = planned
    return ledger


def load_key(connection: Connection, key: str) -> Ledger:
    """Return a ledger with the decisions one key may name."""
    return _ledger_of(connection, ids=(), reward_keys=(key,))


def load_statistics(connection: Connection, group: str) -> dict[CellKey, ArmStatistics]:
    """Return a group's statistics per cell, sorted by cell."""
    statement = (
        select(_s.segment, _s.arm, *(_s[name] for name in _SUMS))
        .where(_s.group_name == group)
        .order_by(_s.segment, _s.arm)
    )
    return {
        (segment, arm): ArmStatistics(**dict(zip(_SUMS, sums, strict=True)))
        for segment, arm, *sums in connection.execute(statement)
    }


def load_account(connection: Connection, group: str) -> tuple[int, Account]:
    """Return a group's version and account; an empty one for a group nobody has called."""
    row = connection.execute(_ACCOUNTS, {"keys": [group]}).one_or_none()
    return (0, Account()) if row is None else (row[1], _account_of(row))


def load_versions(connection: Connection) -> dict[str, int]:
    """Return the version of each group."""
    rows = connection.execute(select(tables.groups.c.group_name, tables.groups.c.version))
    return {row.group_name: row.version for row in rows}


def load_configuration(connection: Connection, group: str) -> GroupConfigured | None:
    """Return a group's configuration, or None."""
    c = tables.configurations.c
    statement = select(c.settings, c.arms).where(c.group_name == group)
    row = connection.execute(statement).one_or_none()
    return None if row is None else GroupConfigured(group=group, settings=row.settings, arms=row.arms)


def load_stages(connection: Connection, group: str, *, last: int | None) -> list[StagePlanned]:
    """Return a group's stages in order, or only the last so many."""
    statement = (
        _STAGES.where(tables.stages.c.group_name == group).order_by(tables.stages.c.stage.desc()).limit(last)
    )
    return [_stage_of(row) for row in connection.execute(statement)][::-1]


def _ledger_of(connection: Connection, *, ids: Iterable[str], reward_keys: Iterable[str]) -> Ledger:
    """Return a ledger with the decisions of these ids and those that rewards may mean."""
    rows: dict[str, Row[Any]] = {}
    for row in _fetch(connection, _DECISIONS_BY_ID, {**dict.fromkeys(ids), **dict.fromkeys(reward_keys)}):
        rows[row.decision_id] = row
    # What is no decision's id is a response id, a call id, or nobody's.
    others = [key for key in reward_keys if key not in rows]
    for row in _fetch(connection, _DECISIONS_BY_OTHER_KEY, others):
        rows[row.decision_id] = row
    ledger = Ledger()
    for row in sorted(rows.values(), key=_row_number):
        ledger.insert(_entry_of(row))
    for decision_id, source, reward, key, reported_at in _fetch(connection, _REWARDS, ledger.decisions):
        given = GivenReward(reward, key=key, reported_at=reported_at)
        ledger.decisions[decision_id].rewards[source] = given
    return ledger


def _fetch(connection: Connection, statement: Select[Any], keys: Iterable[str]) -> Iterator[Any]:
    wanted = list(keys)
    for start in range(0, len(wanted), _KEYS_PER_STATEMENT):
        yield from connection.execute(statement, {"keys": wanted[start : start + _KEYS_PER_STATEMENT]})


def _row_number(row: Row[Any]) -> int:
    return int(row.row_number)


def _account_of(row: Row[Any]) -> Account:
    return Account(**dict(zip(_TOTALS, row[2:], strict=True)))


def _stage_of(row: Row[Any]) -> StagePlanned:
    return StagePlanned(
        group=row.group_name,
        stage=row.stage,
        live=tuple(json.loads(row.live)),
        explored=row.explored,
        explore_share=row.explore_share,
        reason=row.reason,
        opened_at=row.opened_at,
        opened_at_call=row.opened_at_call,
    )


def _entry_of(row: Sequence[Any]) -> Entry:
    (
        decision_id,
        call_id,
        group,
        segment,
        arm,
        stage,
        probability,
        expected_cost_usd,
        budget_usd,
        surplus_cap_usd,
        booking,
        reward_ucb,
        cost_lcb_usd,
        shadow_price,
        made_at,
        served_arm,
        state,
        cost_usd,
        prompt_tokens,
        completion_tokens,
        response_id,
        closed_at,
    ) = row[1:]
    decision = DecisionMade(
        decision_id=decision_id,
        call_id=call_id,
        group=group,
        segment=segment,
        arm=arm,
        stage=stage,
        probability=probability,
        charge=Charge(
            expected_cost_usd=expected_cost_usd,
            budget_usd=budget_usd,
            surplus_cap_usd=surplus_cap_usd,
            booking=booking,
        ),
        reward_ucb=reward_ucb,
        cost_lcb_usd=cost_lcb_usd,
        shadow_price=shadow_price,
        made_at=made_at,
    )
    return Entry(
        decision,
        served_arm=served_arm,
        state=state,
        cost_usd=cost_usd,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        response_id=response_id,
        closed_at=closed_at,
    )
