"""The SELECT statements of the readers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Select, bindparam, or_, outerjoin, select

from stageroute_router.core.budget.account import Account
from stageroute_router.store.ledger.sums import SUMS
from stageroute_router.store.sql import tables
from stageroute_router.store.sql.drivers.statements import among_keys, fetch, key_list
from stageroute_router.store.sql.reading.quarantine import SOUND_ACCOUNT, SOUND_STATISTICS

TOTALS = tuple(f.name for f in fields(Account))
KEY = itemgetter(0)

_d = tables.decisions.c
_r = tables.rewards.c
_p = tables.pending_rewards.c
_s = tables.statistics.c
_t = tables.stage_statistics.c
_f = tables.folded.c

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
    _d.lost_at,
    _d.caller,
    _d.mix_id,
)
DECISIONS: Select[Any] = select(*_DECISION_COLUMNS)
DECISIONS_BY_ID: Select[Any] = DECISIONS.where(among_keys(_d.decision_id))
DECISIONS_BY_OTHER_KEY: Select[Any] = select(*_DECISION_COLUMNS).where(
    or_(among_keys(_d.response_id), among_keys(_d.call_id))
)
TARGETS: Select[Any] = (
    select(
        _d.decision_id,
        _d.group_name,
        _d.stage,
        _d.segment,
        _d.served_arm,
        _d.state,
        _d.caller,
        _d.made_at,
        _r.source,
        _r.reward,
        _r.reported_key,
        _r.reported_at,
    )
    .select_from(outerjoin(tables.decisions, tables.rewards, _r.decision_id == _d.decision_id))
    .where(among_keys(_d.decision_id))
)
REWARDS: Select[Any] = (
    select(_r.decision_id, _r.source, _r.reward, _r.reported_key, _r.reported_at)
    .where(among_keys(_r.decision_id))
    .order_by(_r.decision_id, _r.source)
)
PENDING: Select[Any] = (
    select(_p.reported_key, _p.source, _p.reward, _p.reported_at, _p.received_at, _p.caller)
    .where(among_keys(_p.reported_key))
    .order_by(_p.reported_key, _p.source)
)
ACCOUNTS: Select[Any] = select(
    tables.groups.c.group_name,
    tables.groups.c.version,
    SOUND_ACCOUNT.label("is_sound"),
    *(tables.groups.c[name] for name in TOTALS),
).where(among_keys(tables.groups.c.group_name))
STAGES = select(tables.stages)
PINS = select(tables.pins)
SEGMENTS: Select[Any] = select(tables.segments).where(among_keys(tables.segments.c.group_name))
SEGMENTERS = select(tables.segmenters)

# Every worker reads its groups every few seconds: these are built once, and go to the driver as they are.
VERSIONS: Select[Any] = select(tables.groups.c.group_name, tables.groups.c.version)
STATISTICS_OF_GROUP: Select[Any] = (
    select(_s.segment, _s.arm, SOUND_STATISTICS, *(_s[name] for name in SUMS))
    .where(_s.group_name == bindparam("group"))
    .order_by(_s.segment, _s.arm)
)
STATISTICS_BY_STAGE: Select[Any] = (
    select(_t.stage, _t.segment, _t.arm, *(_t[name] for name in SUMS))
    .where(_t.group_name == bindparam("group"))
    .order_by(_t.stage, _t.segment, _t.arm)
)
FOLDED_OF_GROUP: Select[Any] = (
    select(_f.segment, _f.arm, *(_f[name] for name in SUMS))
    .where(_f.group_name == bindparam("group"))
    .order_by(_f.segment, _f.arm)
)
STAGES_OF_GROUP: Select[Any] = STAGES.where(tables.stages.c.group_name == bindparam("group")).order_by(
    tables.stages.c.stage.desc()
)
LAST_STAGES_OF_GROUP: Select[Any] = STAGES_OF_GROUP.limit(bindparam("most"))
PINS_OF_GROUP: Select[Any] = PINS.where(tables.pins.c.group_name == bindparam("group")).order_by(
    tables.pins.c.arm
)
SEGMENTERS_OF_GROUP: Select[Any] = SEGMENTERS.where(
    tables.segmenters.c.group_name == bindparam("group")
).order_by(tables.segmenters.c.version.desc())
CONFIGURATION_OF_GROUP: Select[Any] = select(tables.configurations).where(
    tables.configurations.c.group_name == bindparam("group")
)


def fetch_by_keys(
    connection: Connection, statement: Select[Any], keys: Iterable[str]
) -> list[tuple[Any, ...]]:
    """Fetch the rows of some keys; no statement is run for none."""
    wanted = list(keys)
    return fetch(connection, statement, key_list(connection, wanted)) if wanted else []
