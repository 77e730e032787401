"""Reads decisions, one call's or a page of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from stageroute_router.core.budget.account import Charge
from stageroute_router.store.ledger.entries import Entry, GivenReward
from stageroute_router.store.records import StoredDecision
from stageroute_router.store.sql import tables
from stageroute_router.store.sql.bodies import mix_of_text
from stageroute_router.store.sql.reading.statements import DECISIONS, REWARDS, fetch_by_keys
from stageroute_router.store.writes import DecisionMade, MixRecorded

_d = tables.decisions.c


def load_call(connection: Connection, call_id: str) -> list[StoredDecision]:
    """Return all decisions of a call in the order of their arrival, but the withdrawn ones."""
    return _stored(connection, DECISIONS.where(_d.call_id == call_id).order_by(_d.row_number))


def load_recent(
    connection: Connection, group: str, *, limit: int, before: float | None
) -> list[StoredDecision]:
    """Return a group's latest decisions, the latest first, but the withdrawn ones."""
    statement = DECISIONS.where(_d.group_name == group, _d.state != "withdrawn")
    if before is not None:
        statement = statement.where(_d.made_at < before)
    return _stored(connection, statement.order_by(_d.made_at.desc(), _d.row_number.desc()).limit(limit))


def load_page(
    connection: Connection, *, group: str | None, after: int, rows: int
) -> tuple[list[StoredDecision], int | None]:
    """Return decisions in the order of their arrival, and the number of the last row; None at the end.

    Args:
        connection: in a transaction.
        group: only this group's; None for all.
        after: the number of the last row of the page before.
        rows: so many.
    """
    of_group = () if group is None else (_d.group_name == group,)
    page = connection.execute(
        DECISIONS.where(_d.row_number > after, *of_group).order_by(_d.row_number).limit(rows)
    ).all()
    return _with_rewards(connection, page), page[-1].row_number if page else None


def load_mix(connection: Connection, mix_id: str) -> MixRecorded | None:
    """Return a recorded mix, or None: there is none, or it cannot be read."""
    c = tables.mixes.c
    row = connection.execute(
        select(c.mix_id, c.group_name, c.made_at, c.body).where(c.mix_id == mix_id)
    ).one_or_none()
    return None if row is None else mix_of_text(row.mix_id, row.group_name, row.made_at, row.body)


def _stored(connection: Connection, statement: Select[Any]) -> list[StoredDecision]:
    return _with_rewards(connection, connection.execute(statement).all())


def _with_rewards(connection: Connection, rows: Sequence[Row[Any]]) -> list[StoredDecision]:
    entries = {row.decision_id: entry_of(row) for row in rows}
    for decision_id, source, reward, key, reported_at in fetch_by_keys(connection, REWARDS, entries):
        entries[decision_id].rewards[source] = GivenReward(reward, key=key, reported_at=reported_at)
    return [stored for stored in map(Entry.stored, entries.values()) if stored is not None]


def entry_of(row: Sequence[Any]) -> Entry:
    """Return a row of decisions as an entry of the ledger."""
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
        lost_at,
        caller,
        mix_id,
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
        caller=caller,
        mix_id=mix_id,
    )
    return Entry(
        decision,
        served_arm=served_arm,
        state=state if lost_at is None else "lost",
        cost_usd=cost_usd,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        response_id=response_id,
        closed_at=closed_at,
    )
