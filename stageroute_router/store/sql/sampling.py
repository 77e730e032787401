"""Samples of groups' totals in an SQL database: taken by commits, thinned by upkeep, read for a chart."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, delete, func, select

from stageroute_router.store.history import HistoryPoint, is_sample_due, is_thinning_due, spread, superfluous
from stageroute_router.store.ledger.entries import Applied
from stageroute_router.store.sql import tables
from stageroute_router.store.sql.writing import insert_missing

_h = tables.history.c
_g = tables.groups.c
_s = tables.statistics.c
_COLUMNS = tuple(f.name for f in fields(HistoryPoint))

_GROUP: Any = bindparam("group")
_LAST = select(func.max(_h.at)).where(_h.group_name == _GROUP)
_ACCOUNT: Select[Any] = select(_g.calls, _g.open_calls, _g.spend_usd, _g.in_flight_usd).where(
    _g.group_name == _GROUP
)
_REWARDS: Select[Any] = select(func.sum(_s.reward_count), func.sum(_s.reward_sum)).where(
    _s.group_name == _GROUP
)
_SAMPLES: Select[Any] = (
    select(*(_h[name] for name in _COLUMNS)).where(_h.group_name == _GROUP).order_by(_h.at)
)
_DELETE = delete(tables.history).where(and_(_h.group_name == _GROUP, _h.at == bindparam("moment")))


class Sampler:
    """Takes the samples of one store, in the commits that change a group.

    What it remembers spares nearly every commit a question: when the last sample was taken, as far as it knows.
    """

    def __init__(self) -> None:
        self._last_at: dict[str, float] = {}

    def sample(self, connection: Connection, applied: Applied, *, now: float) -> None:
        """Store the totals of groups that have changed, where it is time: after all else is written.

        Args:
            connection: in the transaction of the commit.
            applied: what the commit has changed.
            now: seconds since the epoch.
        """
        opened = {group for group, _ in applied.stages}
        for group in applied.report.changes:
            if group not in opened and not is_sample_due(self._last_at.get(group), now=now):
                continue
            if group not in opened:
                # Another worker may have taken one.
                last_at = connection.execute(_LAST, {"group": group}).scalar()
                if last_at is not None and not is_sample_due(last_at, now=now):
                    self._last_at[group] = last_at
                    continue
            self._last_at[group] = now
            point = _present(connection, group, now=now)
            if point is not None:
                row = {"group_name": group, **asdict(point)}
                connection.execute(insert_missing(tables.history, connection.dialect.name), [row])


def load_history(connection: Connection, group: str, *, points: int, now: float) -> list[HistoryPoint]:
    """Return a group's totals over time, the present ones last; nothing for a group without calls."""
    present = _present(connection, group, now=now)
    if present is None:
        return []
    samples = [
        HistoryPoint(**dict(zip(_COLUMNS, row, strict=True)))
        for row in connection.execute(_SAMPLES, {"group": group})
        if row.at < now
    ]
    return [*spread(samples, points - 1), present]


def thin(connection: Connection, *, last_at: float, now: float, retention_s: float | None) -> None:
    """Delete samples that are not needed any more, if an hour has begun since upkeep was last done."""
    if not last_at or not is_thinning_due(last_at, now=now):
        return
    moments: defaultdict[str, list[float]] = defaultdict(list)
    for group, at in connection.execute(select(_h.group_name, _h.at)):
        moments[group].append(at)
    gone = [
        {"group": group, "moment": moment}
        for group in sorted(moments)
        for moment in superfluous(moments[group], now=now, keep_s=retention_s)
    ]
    if gone:
        connection.execute(_DELETE, gone)


def _present(connection: Connection, group: str, *, now: float) -> HistoryPoint | None:
    account = connection.execute(_ACCOUNT, {"group": group}).one_or_none()
    if account is None:
        return None
    count, total = connection.execute(_REWARDS, {"group": group}).one()
    return HistoryPoint(
        at=now,
        calls=account.calls,
        open_calls=account.open_calls,
        spend_usd=account.spend_usd,
        in_flight_usd=account.in_flight_usd,
        # PostgreSQL adds integers up to decimals; a sum of nothing is NULL.
        reward_count=int(count or 0),
        reward_total=float(total or 0.0),
    )
