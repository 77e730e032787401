"""Durable, acknowledged rewards per second, against the plainest program that keeps the same promise, in one run.

    python -m benchmarks.durability.rewards [--database sqlite|postgresql|both] [--pairs 9] [--json FILE]

**SQLite**: 64 threads of one process report rewards, each for another stored decision, and wait for each one to be
durable (``Runtime.record_reward(...).result()``). Beside it a bare ``sqlite3`` loop with the same acknowledgement:
a queue, a writer thread that takes what is there, one transaction (reward row and statistic, WAL,
``synchronous=FULL``), then the futures. It knows no decisions, no receipts, no account and no snapshot.

**PostgreSQL** (a server of its own, started for this, at its default durability): 4 processes, of 16 threads each and
of 64. Beside it 4 processes that commit one transaction per reward, on a connection each: through our own store, which
does the same work per reward; and in bare psycopg, which inserts a row and adds to a sum, and knows no decisions.

Blocks of both alternate, in an order that alternates too; the ratio is the median over the pairs. The processor time
per reward (of the reporting processes, not of PostgreSQL) is told too: whatever else the machine does, it stays.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import queue
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.durability.fixture import (
    ARMS,
    GROUP,
    decisions,
    postgresql,
    prepare,
    runtime_on,
    store_decisions,
)
from stageroute_router.store.opening import open_store
from stageroute_router.store.writes import RewardReported

CALLERS = 64
PROCESSES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What a block of rewards took.

    Args:
        rewards: how many.
        seconds: until the last one was acknowledged.
        cpu_s: processor time, user and system, of all threads.
    """

    rewards: int
    seconds: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        """Rewards per second."""
        return self.rewards / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of processor time per reward."""
        return 1e6 * self.cpu_s / self.rewards


def timed(callers: int, keys: Sequence[str], report: Callable[[str], object]) -> Block:
    """Report a reward for every key from so many threads, each waiting for its own."""
    start = threading.Barrier(callers + 1)
    failures: list[BaseException] = []

    def work(mine: Sequence[str]) -> None:
        start.wait()
        try:
            for key in mine:
                report(key)
        except BaseException as error:  # noqa: BLE001 - told to the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(keys[i::callers],)) for i in range(callers)]
    for thread in threads:
        thread.start()
    start.wait()
    begun, cpu_begun = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.join()
    seconds, cpu_s = time.perf_counter() - begun, time.process_time() - cpu_begun
    if failures:
        raise failures[0]
    return Block(rewards=len(keys), seconds=seconds, cpu_s=cpu_s)


class BareLoop:
    """The same group commit with nothing around it."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "CREATE TABLE rewards (decision TEXT PRIMARY KEY, source TEXT, reward REAL, at REAL) WITHOUT ROWID",
            "CREATE TABLE statistics (arm TEXT PRIMARY KEY, count INTEGER, total REAL, squares REAL) WITHOUT ROWID",
        ):
            self._connection.execute(statement)
        self._queue: queue.SimpleQueue[tuple[tuple[str, str, float, float], Future[None]] | None]
        self._queue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def report(self, key: str) -> None:
        """Report a reward and wait until it is durable."""
        future: Future[None] = Future()
        self._queue.put(((key, "app", 0.5, time.time()), future))
        future.result()

    def close(self) -> None:
        """End the thread."""
        self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _write(self) -> None:
        connection = self._connection
        while True:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            given = [item for item in batch if item is not None]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO rewards VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", [row for row, _ in given]
            )
            connection.executemany(
                "INSERT INTO statistics VALUES ('arm', 1, ?, ?) ON CONFLICT (arm) DO UPDATE SET"
                " count = count + 1, total = total + excluded.total, squares = squares + excluded.squares",
                [(reward, reward * reward) for (_, _, reward, _), _ in given],
            )
            connection.execute("COMMIT")
            for _, future in given:
                future.set_result(None)
            if None in batch:
                return


def on_sqlite(*, pairs: int, per_caller: int) -> dict[str, float]:
    """Measure both on SQLite files in one folder."""
    size = CALLERS * per_caller
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/ours.db"
        names = decisions(1, count=size * (pairs + 1), at=time.time())
        prepare(url)
        store_decisions(url, names)
        runtime = runtime_on(url)
        bare = BareLoop(Path(folder, "bare.db"))
        keys = iter(names)

        def ours() -> Block:
            return timed(
                CALLERS, list(islice(keys, size)), lambda key: runtime.record_reward(key, 0.5).result()
            )

        fresh = iter(decisions(2, count=size * (pairs + 1), at=time.time()))

        def theirs() -> Block:
            return timed(CALLERS, list(islice(fresh, size)), bare.report)

        try:
            found = alternate(ours, theirs, pairs=pairs)
            recorded = runtime.reports.status(GROUP).arms
            if sum(arm.reward_count for arm in recorded) != size * (pairs + 1):
                raise RuntimeError("the rewards stored are not the rewards reported")
        finally:
            bare.close()
            runtime.close()
    return found


class Plain:
    """One transaction per reward: the row, then the statistic of its arm."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    @staticmethod
    def prepare(url: str) -> None:
        """Make the tables."""
        with psycopg.connect(url) as connection:
            connection.execute(
                "CREATE TABLE plain_rewards (decision TEXT PRIMARY KEY, source TEXT, reward FLOAT8)"
            )
            connection.execute(
                "CREATE TABLE plain_statistics (arm TEXT PRIMARY KEY, count INT8, total FLOAT8)"
            )

    def report(self, key: str, *, arm: str) -> None:
        """Report a reward; it is durable on return."""
        with self._connection.transaction():
            self._connection.execute(
                "INSERT INTO plain_rewards VALUES (%s, 'app', 0.5) ON CONFLICT DO NOTHING", (key,)
            )
            self._connection.execute(
                "INSERT INTO plain_statistics VALUES (%s, 1, 0.5) ON CONFLICT (arm) DO UPDATE SET"
                " count = plain_statistics.count + 1, total = plain_statistics.total + excluded.total",
                (arm,),
            )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class OneByOne:
    """Our own store, with a transaction for every reward: what group commit itself is worth."""

    def __init__(self, url: str) -> None:
        self._store = open_store(url)

    @staticmethod
    def prepare(url: str) -> None:
        """Our tables are there already."""

    def report(self, key: str, *, arm: str) -> None:
        """Report a reward; it is durable on return."""
        self._store.commit(
            [RewardReported(key=key, reward=0.5, source="app", reported_at=time.time(), keep=False)]
        )

    def close(self) -> None:
        """Close the store."""
        self._store.close()


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """What the processes on PostgreSQL do, block by block.

    Args:
        pairs: of blocks that count.
        per_caller: rewards of each caller in a block of ours.
        callers: of each process.
        reference: what ours is compared with.
        at: when the decisions were made, in seconds since the epoch.
    """

    pairs: int
    per_caller: int
    callers: int
    reference: type[Plain] | type[OneByOne]
    at: float

    @property
    def size(self) -> int:
        """Rewards of a process in a block of ours."""
        return self.callers * self.per_caller

    @property
    def reference_size(self) -> int:
        """Rewards of a process in a block of the reference, which should take about as long."""
        return self.size // 8

    def keys(self, number: int, *, of_reference: bool) -> list[str]:
        """Return the decisions that a process rewards."""
        size = self.reference_size if of_reference else self.size
        return decisions(100 * of_reference + number, count=size * (self.pairs + 1), at=self.at)


def on_postgresql(blocks: Blocks) -> dict[str, float]:
    """Measure both with four processes on one server."""
    with postgresql() as url:
        prepare(url)
        blocks.reference.prepare(url)
        for number in range(PROCESSES):
            store_decisions(url, blocks.keys(number, of_reference=False))
            store_decisions(url, blocks.keys(number, of_reference=True))
        context = multiprocessing.get_context("spawn")
        step = context.Barrier(PROCESSES + 1)
        cpu_s = context.Value("d")
        processes = [
            context.Process(target=_reporter, args=(url, number, blocks, step, cpu_s), daemon=True)
            for number in range(PROCESSES)
        ]
        for process in processes:
            process.start()

        def block(rewards: int) -> Block:
            cpu_s.value = 0.0
            step.wait(120)
            begun = time.perf_counter()
            step.wait(600)
            return Block(rewards=rewards, seconds=time.perf_counter() - begun, cpu_s=cpu_s.value)

        found = alternate(
            lambda: block(PROCESSES * blocks.size),
            lambda: block(PROCESSES * blocks.reference_size),
            pairs=blocks.pairs,
        )
        for process in processes:
            process.join(60)
        runtime = runtime_on(url)
        recorded = sum(arm.reward_count for arm in runtime.reports.status(GROUP).arms)
        runtime.close()
        through_us = blocks.size + (blocks.reference_size if blocks.reference is OneByOne else 0)
        if recorded != PROCESSES * through_us * (blocks.pairs + 1):
            raise RuntimeError(f"{recorded} rewards are stored, which is not how many were reported")
    return found


def _reporter(url: str, number: int, blocks: Blocks, step: Barrier, cpu_s: Synchronized[float]) -> None:
    """Report, as one of the processes, in step with the others; add the processor time to theirs."""
    keys = iter(blocks.keys(number, of_reference=False))
    others = iter(blocks.keys(number, of_reference=True))
    runtime, reference = runtime_on(url, seed=number), blocks.reference(url)

    def one_by_one(mine: Sequence[str]) -> None:
        for index, key in enumerate(mine):
            reference.report(key, arm=ARMS[(index + number) % len(ARMS)])

    def grouped(mine: Sequence[str]) -> None:
        timed(blocks.callers, mine, lambda key: runtime.record_reward(key, 0.5).result())

    def block(report: Callable[[Sequence[str]], None], mine: list[str]) -> Block:
        step.wait()
        begun, cpu_begun = time.perf_counter(), time.process_time()
        report(mine)
        mine_s = time.process_time() - cpu_begun
        with cpu_s.get_lock():
            cpu_s.value += mine_s
        step.wait()
        return Block(rewards=len(mine), seconds=time.perf_counter() - begun, cpu_s=mine_s)

    alternate(
        lambda: block(grouped, list(islice(keys, blocks.size))),
        lambda: block(one_by_one, list(islice(others, blocks.reference_size))),
        pairs=blocks.pairs,
    )
    reference.close()
    runtime.close()


def alternate(ours: Callable[[], Block], theirs: Callable[[], Block], *, pairs: int) -> dict[str, float]:
    """Run blocks of both, a first pair for nothing; return the medians of the blocks and of the pairs' ratios."""
    ours(), theirs()
    blocks = []
    for number in range(pairs):
        if number % 2:
            second = theirs()
            blocks.append((ours(), second))
        else:
            blocks.append((ours(), theirs()))
    ratios = [one.per_s / other.per_s for one, other in blocks]
    return {
        "ours_per_s": statistics.median(one.per_s for one, _ in blocks),
        "reference_per_s": statistics.median(other.per_s for _, other in blocks),
        "ratio": statistics.median(ratios),
        "lowest_ratio": min(ratios),
        "highest_ratio": max(ratios),
        "ours_cpu_us": statistics.median(one.cpu_us for one, _ in blocks),
        "reference_cpu_us": statistics.median(other.cpu_us for _, other in blocks),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--per-caller", type=int, default=100, help="rewards of each caller in a block")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = {}
    if arguments.database != "postgresql":
        results["SQLite, against a bare loop"] = on_sqlite(
            pairs=arguments.pairs, per_caller=arguments.per_caller
        )
    if arguments.database != "sqlite":
        for name, reference in (("our store", OneByOne), ("bare psycopg", Plain)):
            for callers in (CALLERS // PROCESSES, CALLERS):
                blocks = Blocks(
                    pairs=arguments.pairs,
                    per_caller=arguments.per_caller * CALLERS // PROCESSES // callers,
                    callers=callers,
                    reference=reference,
                    at=time.time(),
                )
                row = f"PostgreSQL, {PROCESSES} x {callers} callers, against {name}, one by one"
                results[row] = on_postgresql(blocks)
    table = Table(
        "durable rewards", "ours / s", "reference / s", "ratio", "lowest", "highest", "CPU us", "reference"
    )
    for name, row in results.items():
        table.add_row(
            name,
            *(f"{row[key]:,.0f}" for key in ("ours_per_s", "reference_per_s")),
            *(f"{row[key]:.2f}" for key in ("ratio", "lowest_ratio", "highest_ratio")),
            *(f"{row[key]:.0f}" for key in ("ours_cpu_us", "reference_cpu_us")),
        )
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
