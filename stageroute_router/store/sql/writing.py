"""Writes back what a batch has changed: one statement per table, its rows sorted by key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from functools import cache
from operator import itemgetter

from sqlalchemy import Connection, Table, and_, bindparam, delete, insert, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite

from stageroute_router.core.budget.account import Account
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.store.ledger.entries import NOTHING, Applied, Entry, Segment, StageCell
from stageroute_router.store.ledger.ledger import Ledger
from stageroute_router.store.ledger.sums import SUMS
from stageroute_router.store.records import GroupChange
from stageroute_router.store.sql import tables
from stageroute_router.store.sql.bodies import text_of_evidence, text_of_mix
from stageroute_router.store.sql.drivers.statements import run
from stageroute_router.store.sql.reading.quarantine import SOUND_STATISTICS
from stageroute_router.store.writes import ArmPinned, MixRecorded, SegmenterFitted, StagePlanned

_NO_SUMS = asdict(NOTHING)
_COUNTS = ("pulls", "failures", "reward_count", "cost_count")
_TOTALS = tuple(f.name for f in fields(Account))
_DECISION_AND_SOURCE = itemgetter(0, 1)
_CHANGEABLE = (
    "served_arm",
    "state",
    "cost_usd",
    "prompt_tokens",
    "completion_tokens",
    "response_id",
    "closed_at",
    "lost_at",
)

_d = tables.decisions.c
_r = tables.rewards.c
_p = tables.pending_rewards.c
_s = tables.statistics.c
_t = tables.stage_statistics.c
_f = tables.folded.c

_INSERT_DECISION = insert(tables.decisions)
_UPDATE_DECISION = (
    update(tables.decisions)
    .where(_d.decision_id == bindparam("id"))
    .values({name: bindparam(f"new_{name}") for name in _CHANGEABLE})
)
_DELETE_REWARD = delete(tables.rewards).where(
    and_(_r.decision_id == bindparam("id"), _r.source == bindparam("by"))
)
_DELETE_PENDING = delete(tables.pending_rewards).where(
    and_(_p.reported_key == bindparam("key"), _p.source == bindparam("by"))
)
_CHANGE_STATISTICS = (
    update(tables.statistics)
    .where(
        and_(_s.group_name == bindparam("group"), _s.segment == bindparam("seg"), _s.arm == bindparam("of")),
        SOUND_STATISTICS,
    )
    .values({name: _s[name] + bindparam(f"more_{name}") for name in SUMS})
)


_CELL = ("group_name", "segment", "arm")
ADD_FOLDED = (
    update(tables.folded)
    .where(_f.group_name == bindparam("group"), _f.segment == bindparam("seg"), _f.arm == bindparam("of"))
    .values(
        {column.name: column + bindparam(f"more_{column.name}") for column in _f if column.name not in _CELL}
    )
)
"""Adds to the sums of a cell that are there already."""
_FOLDED = select(tables.folded).where(_f.group_name == bindparam("group"), _f.segment == bindparam("seg"))
_DELETE_FOLDED = delete(tables.folded).where(
    _f.group_name == bindparam("group"), _f.segment == bindparam("seg")
)
_DELETE_STAGES = delete(tables.stage_statistics).where(
    _t.group_name == bindparam("group"), _t.segment == bindparam("seg")
)
_DELETE_STATISTICS = delete(tables.statistics).where(
    _s.group_name == bindparam("group"), _s.segment == bindparam("seg")
)


def write_back(connection: Connection, ledger: Ledger, applied: Applied) -> None:
    """Write what applying a batch has changed."""
    if applied.mixes:
        run(
            connection,
            insert_missing(tables.mixes, connection.dialect.name),
            [_mix_row(mix) for mix in applied.mixes],
        )
    if applied.created:
        rows = [_decision_row(ledger.decisions[key]) for key in applied.created]
        run(connection, _INSERT_DECISION, rows)
    if applied.updated:
        changed = [ledger.decisions[key] for key in sorted(applied.updated)]
        run(connection, _UPDATE_DECISION, [_changed_row(entry) for entry in changed])
    _write_rewards(connection, applied)
    _write_pending(connection, ledger, applied)
    if applied.stages:
        plans = [ledger.stages[key] for key in sorted(applied.stages)]
        # Where there is a row already, no plan can be read from it.
        connection.execute(
            upsert(tables.stages, connection.dialect.name), [_stage_row(plan) for plan in plans]
        )
    if applied.configurations:
        given = [asdict(ledger.configurations[group]) for group in sorted(applied.configurations)]
        rows = [{"group_name": row.pop("group"), **row} for row in given]
        connection.execute(upsert(tables.configurations, connection.dialect.name), rows)
    if applied.pins:
        pins = [_pin_row(ledger.pins[key]) for key in sorted(applied.pins)]
        connection.execute(upsert(tables.pins, connection.dialect.name), pins)
    if applied.segmenters:
        fitted = [_segmenter_row(ledger.segmenters[key]) for key in sorted(applied.segmenters)]
        # As with stages: where there is a row already, it cannot be read.
        connection.execute(upsert(tables.segmenters, connection.dialect.name), fitted)
    if applied.segments:
        seen = [_segment_row(key, ledger.segments[key]) for key in sorted(applied.segments)]
        connection.execute(upsert(tables.segments, connection.dialect.name), seen)
    _write_sums(connection, ledger, applied)


def _write_sums(connection: Connection, ledger: Ledger, applied: Applied) -> None:
    _write_groups(connection, applied.report.changes)
    if applied.forgotten:
        _forget(connection, ledger, applied)
    if applied.by_stage:
        # After what was forgotten has moved: what the batch has changed in those segments is of later decisions.
        add_to_stages(connection, [stage_row(key, more) for key, more in applied.by_stage.items()])


def add_to_stages(connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
    """Add to the sums per stage."""
    run(connection, _add(tables.stage_statistics, connection.dialect.name), rows)


def stage_row(key: StageCell, statistics: ArmStatistics) -> dict[str, object]:
    """Return a row of the sums per stage."""
    group, stage, (segment, arm) = key
    return {
        "group_name": group,
        "stage": stage,
        "segment": segment,
        "arm": arm,
        **{name: getattr(statistics, name) for name in SUMS},
    }


def _write_rewards(connection: Connection, applied: Applied) -> None:
    given, gone = [], []
    for decision_id, source, reward in sorted(applied.rewards, key=_DECISION_AND_SOURCE):
        if reward is None:
            gone.append({"id": decision_id, "by": source})
        else:
            given.append(
                {
                    "decision_id": decision_id,
                    "source": source,
                    "reward": reward.reward,
                    "reported_key": reward.key,
                    "reported_at": reward.reported_at,
                }
            )
    if given:
        run(connection, upsert(tables.rewards, connection.dialect.name), given)
    if gone:
        connection.execute(_DELETE_REWARD, gone)


def _write_pending(connection: Connection, ledger: Ledger, applied: Applied) -> None:
    waiting, gone = [], []
    for key, source in sorted(applied.pending):
        pending = ledger.pending.get(key, {}).get(source)
        if pending is None:
            gone.append({"key": key, "by": source})
        else:
            waiting.append(
                {
                    "reported_key": key,
                    "source": source,
                    "reward": pending.given.reward,
                    "reported_at": pending.given.reported_at,
                    "received_at": pending.received_at,
                    "caller": pending.caller,
                }
            )
    if waiting:
        connection.execute(upsert(tables.pending_rewards, connection.dialect.name), waiting)
    if gone:
        connection.execute(_DELETE_PENDING, gone)


def _write_groups(connection: Connection, changes: Mapping[str, GroupChange]) -> None:
    accounts, added, taken_back, increments = [], [], [], []
    for group, change in sorted(changes.items()):
        totals = {name: getattr(change.account, name) for name in _TOTALS}
        accounts.append({"group_name": group, "version": change.version, **totals})
        for (segment, arm), statistics in sorted(change.statistics.items()):
            cell = {"group_name": group, "segment": segment, "arm": arm}
            more = {name: getattr(statistics, name) for name in SUMS}
            if all(more[name] >= 0 for name in _COUNTS):
                added.append({**cell, **more})
                continue
            # A table's checks look at the row to be inserted before they find that it is there already.
            taken_back.append({**cell, **_NO_SUMS})
            increment = {f"more_{name}": value for name, value in more.items()}
            increments.append({"group": group, "seg": segment, "of": arm, **increment})
    if accounts:
        run(connection, upsert(tables.groups, connection.dialect.name), accounts)
    if added:
        run(connection, _add(tables.statistics, connection.dialect.name), added)
    if taken_back:
        run(connection, insert_missing(tables.statistics, connection.dialect.name), taken_back)
        run(connection, _CHANGE_STATISTICS, increments)


def _forget(connection: Connection, ledger: Ledger, applied: Applied) -> None:
    """Move what was folded away of forgotten segments, and delete the rows of their sums, which are zeros by now."""
    gone = [key for key in sorted(applied.forgotten) if not ledger.segments[key].is_known]
    keys = [{"group": group, "seg": segment} for group, segment in sorted(applied.forgotten)]
    zeros, increments = [], []
    for key in keys:
        connection.execute(_move_stages(connection.dialect.name), key)
        connection.execute(_DELETE_STAGES, key)
        for row in connection.execute(_FOLDED, key).mappings():
            sums = {name: value for name, value in row.items() if name not in _CELL}
            zeros.append({**row, "segment": "", **dict.fromkeys(sums, 0)})
            more = {f"more_{name}": value for name, value in sums.items()}
            increments.append({"group": row["group_name"], "seg": "", "of": row["arm"], **more})
    if zeros:
        connection.execute(insert_missing(tables.folded, connection.dialect.name), zeros)
        connection.execute(ADD_FOLDED, increments)
        connection.execute(_DELETE_FOLDED, keys)
    if gone:
        connection.execute(_DELETE_STATISTICS, [{"group": group, "seg": segment} for group, segment in gone])


# Building such a statement takes longer than running it, so each is built once.
@cache
def upsert(table: Table, dialect: str) -> sqlite.Insert | postgresql.Insert:
    """Return the statement that inserts rows, or replaces those that are there."""
    statement = _insert_for(table, dialect)
    keys = [column.name for column in table.primary_key]
    return statement.on_conflict_do_update(
        index_elements=keys,
        set_={column.name: statement.excluded[column.name] for column in table.c if column.name not in keys},
    )


@cache
def insert_missing(table: Table, dialect: str) -> sqlite.Insert | postgresql.Insert:
    """Return the statement that inserts those rows that are not there yet."""
    return _insert_for(table, dialect).on_conflict_do_nothing(
        index_elements=[column.name for column in table.primary_key]
    )


@cache
def _add(table: Table, dialect: str) -> sqlite.Insert | postgresql.Insert:
    """Return the statement that adds to the sums of cells, new ones among them."""
    return _adding(_insert_for(table, dialect), table)


def _adding(statement: sqlite.Insert | postgresql.Insert, table: Table) -> sqlite.Insert | postgresql.Insert:
    return statement.on_conflict_do_update(
        index_elements=[column.name for column in table.primary_key],
        set_={name: table.c[name] + statement.excluded[name] for name in SUMS},
        where=SOUND_STATISTICS if table is tables.statistics else None,
    )


@cache
def _move_stages(dialect: str) -> sqlite.Insert | postgresql.Insert:
    """Return the statement that adds a segment's sums per stage to those of the segment without a name."""
    names = [column.name for column in _t]
    moved = select(*(literal("").label(name) if name == "segment" else _t[name] for name in names)).where(
        _t.group_name == bindparam("group"), _t.segment == bindparam("seg")
    )
    return _adding(
        _insert_for(tables.stage_statistics, dialect).from_select(names, moved), tables.stage_statistics
    )


def _insert_for(table: Table, dialect: str) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def _decision_row(entry: Entry) -> dict[str, object]:
    decision = entry.decision
    return {
        "decision_id": decision.decision_id,
        "call_id": decision.call_id,
        "group_name": decision.group,
        "segment": decision.segment,
        "arm": decision.arm,
        "stage": decision.stage,
        "probability": decision.probability,
        "expected_cost_usd": decision.charge.expected_cost_usd,
        "budget_usd": decision.charge.budget_usd,
        "surplus_cap_usd": decision.charge.surplus_cap_usd,
        "booking": decision.charge.booking,
        "reward_ucb": decision.reward_ucb,
        "cost_lcb_usd": decision.cost_lcb_usd,
        "shadow_price": decision.shadow_price,
        "made_at": decision.made_at,
        "caller": decision.caller,
        "mix_id": decision.mix_id,
        **_changeable(entry),
    }


def _changed_row(entry: Entry) -> dict[str, object]:
    return {
        "id": entry.decision.decision_id,
        **{f"new_{name}": value for name, value in _changeable(entry).items()},
    }


def _changeable(entry: Entry) -> dict[str, object]:
    is_lost = entry.state == "lost"
    return {
        "served_arm": entry.served_arm,
        "state": "settled" if is_lost else entry.state,
        "cost_usd": entry.cost_usd,
        "prompt_tokens": entry.prompt_tokens,
        "completion_tokens": entry.completion_tokens,
        "response_id": entry.response_id,
        "closed_at": entry.closed_at,
        "lost_at": entry.closed_at if is_lost else None,
    }


def _stage_row(planned: StagePlanned) -> dict[str, object]:
    row = asdict(planned)
    row["group_name"] = row.pop("group")
    row["live"] = json.dumps(planned.live)
    row["evidence"] = text_of_evidence(planned.evidence)
    return row


def _pin_row(pin: ArmPinned) -> dict[str, object]:
    return {
        "group_name": pin.group,
        "arm": pin.arm,
        "pinned": None if pin.pinned is None else int(pin.pinned),
        "set_at": pin.set_at,
    }


def _segment_row(key: tuple[str, str], segment: Segment) -> dict[str, object]:
    return {
        "group_name": key[0],
        "segment": key[1],
        "kind": segment.kind,
        "first_seen": segment.first_seen,
        "last_seen": segment.last_seen,
        "forgotten_until": segment.forgotten_until,
    }


def _segmenter_row(fitted: SegmenterFitted) -> dict[str, object]:
    row = asdict(fitted)
    row["group_name"] = row.pop("group")
    return row


def _mix_row(mix: MixRecorded) -> dict[str, object]:
    return {
        "mix_id": mix.mix_id,
        "group_name": mix.group,
        "made_at": mix.made_at,
        "body": text_of_mix(mix),
    }
