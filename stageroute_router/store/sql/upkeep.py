"""What a commit does besides, now and then: whichever worker comes first, once for all of them.

Decisions without a reported outcome are closed as lost; decisions and rewards older than the store retains are folded
into sums; rewards whose key stayed unknown are dropped. All in small steps, so that no commit takes long.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from sqlalchemy import Connection, bindparam, delete, func, select, update

from stageroute_router.store.contract import (
    MIX_LIFETIME_S,
    OPEN_LIFETIME_S,
    PENDING_REWARD_LIFETIME_S,
    UPKEEP_STEP,
)
from stageroute_router.store.ledger.entries import NOTHING
from stageroute_router.store.ledger.sums import EXTRA, Fold, Folds, Upkeep, add_up, folding_limit
from stageroute_router.store.records import CellKey
from stageroute_router.store.sql import sampling, tables
from stageroute_router.store.sql.drivers.statements import fetch
from stageroute_router.store.sql.folding import fold_until
from stageroute_router.store.sql.writing import ADD_FOLDED, add_to_stages, insert_missing, stage_row

_d = tables.decisions.c
_u = tables.upkeep.c
_g = tables.segments.c

_STATE = select(_u.folded_up_to, _u.last_at)
_OVERDUE = (
    select(_d.decision_id)
    .where(_d.state == "open", _d.made_at <= bindparam("moment"))
    .order_by(_d.made_at, _d.row_number)
    .limit(UPKEEP_STEP)
)
_OLDEST = select(_d.made_at).where(_d.made_at <= bindparam("moment")).order_by(_d.made_at).limit(UPKEEP_STEP)
_EMPTY_STAGES = delete(tables.stage_statistics).where(tables.stage_statistics.c.pulls <= 0)
"""Without a decision there is nothing to sum up but what rounding has left."""
_FORGOTTEN_FOR_GOOD = delete(tables.segments).where(
    _g.forgotten_until <= bindparam("moment"), _g.last_seen < _g.forgotten_until
)


def read_upkeep(connection: Connection) -> Upkeep:
    """Return the state of a database's upkeep."""
    rows = fetch(connection, _STATE, {})
    if not rows:  # the table was emptied by hand
        return Upkeep()
    folded_up_to, last_at = rows[0]
    return Upkeep(folded_up_to=-math.inf if folded_up_to is None else folded_up_to, last_at=last_at)


def overdue(connection: Connection, now: float) -> Sequence[str]:
    """Return the first decisions that have been open for too long, at most a step."""
    return connection.execute(_OVERDUE, {"moment": now - OPEN_LIFETIME_S}).scalars().all()


def do_upkeep(
    connection: Connection, upkeep: Upkeep, *, now: float, retention_s: float | None, lost: int
) -> None:
    """Fold one step of old decisions, drop unclaimed rewards, and remember it; the lost ones are closed already.

    Args:
        connection: in a transaction.
        upkeep: as it was before.
        now: seconds since the epoch.
        retention_s: how old decisions become, in seconds; None for ever.
        lost: how many decisions were closed as lost: a full step means there may be more.
    """
    sampling.thin(connection, last_at=upkeep.last_at, now=now, retention_s=retention_s)
    received_at = tables.pending_rewards.c.received_at
    connection.execute(delete(tables.pending_rewards).where(received_at < now - PENDING_REWARD_LIFETIME_S))
    oldest_open = connection.execute(select(func.min(_d.made_at)).where(_d.state == "open")).scalar()
    limit = folding_limit(now, retention_s=retention_s, oldest_open=oldest_open)
    oldest = [] if limit is None else connection.execute(_OLDEST, {"moment": limit}).scalars().all()
    if oldest:
        _fold_away(connection, oldest[-1])
    if not math.isinf(upkeep.folded_up_to):
        # Nothing is left of what these were remembered for.
        connection.execute(_FORGOTTEN_FOR_GOOD, {"moment": upkeep.folded_up_to})
    is_done = max(lost, len(oldest)) < UPKEEP_STEP
    folded_up_to = max([upkeep.folded_up_to, *oldest])
    row = {
        "id": 1,
        "folded_up_to": None if math.isinf(folded_up_to) else folded_up_to,
        "last_at": now if is_done else 0.0,
    }
    connection.execute(insert_missing(tables.upkeep, connection.dialect.name), [row])
    connection.execute(update(tables.upkeep).values(row))


def _without_stages(folds: Folds) -> Iterator[tuple[tuple[str, CellKey], Fold]]:
    return (((group, cell), fold) for (group, _, cell), fold in folds.items())


def _fold_away(connection: Connection, moment: float) -> None:
    """Move all decisions made up to a moment, with their rewards, into the folded sums."""
    zeros, increments = [], []
    folds = fold_until(connection, moment)
    for (group, (segment, arm)), fold in sorted(add_up(_without_stages(folds)).items()):
        added = {**asdict(fold.statistics), **{name: getattr(fold, name) for name in EXTRA}}
        zeros.append({"group_name": group, "segment": segment, "arm": arm, **dict.fromkeys(added, 0)})
        more = {f"more_{name}": value for name, value in added.items()}
        increments.append({"group": group, "seg": segment, "of": arm, **more})
    if increments:
        connection.execute(insert_missing(tables.folded, connection.dialect.name), zeros)
        connection.execute(ADD_FOLDED, increments)
        gone = sorted((group, stage, cell) for group, stage, cell in folds if stage is not None)
        add_to_stages(connection, [stage_row(key, NOTHING - folds[key].statistics) for key in gone])
        connection.execute(_EMPTY_STAGES)
    old = select(_d.decision_id).where(_d.made_at <= moment)
    connection.execute(delete(tables.rewards).where(tables.rewards.c.decision_id.in_(old)))
    connection.execute(delete(tables.decisions).where(_d.made_at <= moment))
    connection.execute(delete(tables.mixes).where(tables.mixes.c.made_at <= moment - MIX_LIFETIME_S))
