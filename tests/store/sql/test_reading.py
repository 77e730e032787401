"""What a batch reads, it finds by an index: a commit takes as long with a million decisions as with none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from stageroute_router.store.sql.drivers.statements import fetch_named
from stageroute_router.store.sql.reading import group
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.testing.clock import FakeClock
from stageroute_router.testing.store.writes import EPOCH, decided, planned, rewarded, settled


@pytest.mark.parametrize("key", ["a", "call-a", "response-a"])
def test_no_commit_reads_a_table_from_end_to_end(tmp_path: Path, key: str) -> None:
    store = SqlStore(f"sqlite:///{tmp_path / 's.db'}", clock=FakeClock(EPOCH))
    store.commit([decided("a", call="call-a"), settled("a", response="response-a")])
    asked: list[str] = []
    event.listen(
        store._writer, "checkout", lambda connection, *_: connection.set_trace_callback(asked.append)
    )
    store.commit([rewarded(key, 0.5)])
    selects = [statement for statement in asked if statement.startswith("SELECT")]
    assert any("stageroute_decisions" in statement for statement in selects)
    with store._reader.connect() as connection:
        for statement in selects:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")
            steps = [row.detail for row in plan]
            assert not [
                step for step in steps if step.startswith("SCAN stageroute_") and "upkeep" not in step
            ], statement
    store.close()


def test_reading_a_group_takes_no_longer_the_more_stages_it_has_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[int] = []

    def counting(*arguments: Any) -> list[Any]:
        rows = fetch_named(*arguments)
        fetched.append(len(rows))
        return rows

    monkeypatch.setattr(group, "fetch_named", counting)
    store = SqlStore(f"sqlite:///{tmp_path / 's.db'}", clock=FakeClock(EPOCH))
    store.commit([planned(number) for number in range(1, 501)])
    fetched.clear()
    assert store.load("chat").stage == planned(500)
    assert sum(fetched) == 1
    store.close()
