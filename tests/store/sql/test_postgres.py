"""What is PostgreSQL's own: one moment per reader, and several processes that never deadlock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from stageroute_router.store.sql.reading.group import load_group
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.testing.store.writes import decided, planned, rewarded

CLIENT = Path(__file__).with_name("contending_client.py")
PROCESSES, BATCHES = 4, 25


def test_a_reader_sees_one_moment(postgres_tables: str) -> None:
    store = SqlStore(postgres_tables)
    store.commit([decided("d1"), planned(1)])
    other = SqlStore(postgres_tables)
    with store._reading() as connection:
        before = load_group(connection, "chat")
        other.commit([decided("d2"), rewarded("d1", 0.5), planned(2)])
        assert load_group(connection, "chat") == before
    assert store.load("chat").version == before.version + 1
    other.close()
    store.close()


def test_processes_that_write_the_same_rows_in_any_order_neither_deadlock_nor_lose(
    postgres_tables: str,
) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, str(CLIENT), postgres_tables, str(number), str(BATCHES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = [process.communicate("go\n", timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES
    counted = sum(int(output) for output in outputs)
    store = SqlStore(postgres_tables)
    groups = [store.load(group) for group in store.groups()]
    assert sum(group.account.calls for group in groups) == PROCESSES * BATCHES * 10
    assert sum(group.version for group in groups) == counted  # every change moved the version
    cells = [cell for group in groups for cell in group.statistics.values()]
    assert sum(cell.reward_count for cell in cells) == PROCESSES * BATCHES * 10
    assert list(store.verify()) == []
    store.close()
