"""Whether an SQL database's statistics and accounts are what its log amounts to, and setting them right."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, delete, insert, select, union

from stageroute_router.core.budget.account import Account
from stageroute_router.store.ledger.entries import NOTHING
from stageroute_router.store.ledger.sums import Folds, cells_of, differences, stages_of
from stageroute_router.store.records import Difference
from stageroute_router.store.sql import tables
from stageroute_router.store.sql.drivers.postgres import without_time_limit
from stageroute_router.store.sql.folding import fold_log
from stageroute_router.store.sql.reading.group import (
    load_account,
    load_stage_statistics,
    load_statistics,
    load_versions,
)
from stageroute_router.store.sql.writing import stage_row, upsert


def groups_in(connection: Connection) -> list[str]:
    """Return the names of all groups with anything stored, sorted."""
    tables_of_groups = (tables.groups, tables.stages, tables.configurations)
    names = union(*(select(table.c.group_name) for table in tables_of_groups))
    return sorted(connection.execute(names).scalars())


def verify(connection: Connection) -> list[Difference]:
    """Return where what is stored differs from what the log amounts to."""
    without_time_limit(connection)
    return _differences(connection, fold_log(connection))


def _differences(connection: Connection, folds: Folds) -> list[Difference]:
    found: list[Difference] = []
    for group in sorted({*_with_sums(connection), *(group for group, *_ in folds)}):
        found += differences(
            group,
            statistics={cell: sums for cell, sums, _ in load_statistics(connection, group)},
            by_stage=load_stage_statistics(connection, group),
            account=load_account(connection, group),
            folds=folds,
        )
    return found


def rebuild(connection: Connection) -> list[Difference]:
    """Make statistics and accounts what the log amounts to where they differ; return where they did."""
    without_time_limit(connection)
    folds = fold_log(connection)
    found = _differences(connection, folds)
    dialect = connection.dialect.name
    versions = load_versions(connection)
    for group in sorted({difference.group for difference in found}):
        cells = cells_of(folds, group)
        of_group = [one for one in found if one.group == group]
        of_all_stages = [one for one in of_group if one.stage is None]
        wrong = sorted({one.cell for one in of_all_stages if one.cell is not None})
        rows = [
            {
                "group_name": group,
                "segment": cell[0],
                "arm": cell[1],
                **asdict(cells[cell].statistics if cell in cells else NOTHING),
            }
            for cell in wrong
        ]
        if rows:
            connection.execute(upsert(tables.statistics, dialect), rows)
        if len(of_all_stages) < len(of_group):
            _rebuild_stages(connection, folds, group)
        account = _without_nonsense(load_account(connection, group))
        right = {one.name: one.folded for one in of_group if one.cell is None}
        row = {"group_name": group, "version": versions.get(group, 0) + 1, **asdict(account), **right}
        connection.execute(upsert(tables.groups, dialect), [row])
    return found


def _rebuild_stages(connection: Connection, folds: Folds, group: str) -> None:
    table = tables.stage_statistics
    connection.execute(delete(table).where(table.c.group_name == group))
    rows = [stage_row((group, *key), sums) for key, sums in sorted(stages_of(folds, group).items())]
    if rows:
        connection.execute(insert(table), rows)


def _with_sums(connection: Connection) -> Iterable[str]:
    tables_of_sums = (tables.groups, tables.statistics, tables.stage_statistics)
    return connection.execute(union(*(select(table.c.group_name) for table in tables_of_sums))).scalars()


def _without_nonsense(account: Account) -> Account:
    """Return an account whose surplus and debt, which no sum gives, start again at 0 if they are no numbers."""
    usable: dict[str, Any] = {
        name: value if isinstance(value, (int, float)) and math.isfinite(value) else 0.0
        for name, value in (("surplus_usd", account.surplus_usd), ("debt_usd", account.debt_usd))
    }
    return replace(account, **usable)
