"""Whether a long history costs anything: a status, a restart, and the memory of a worker.

    python -m benchmarks.durability.history [--decisions 1000000] [--calls 20000 200000] [--json FILE]

A million answered and rewarded decisions are made inside an SQLite file, and the sums rebuilt from them (``stageroute
db rebuild``). Then ``stageroute status --database`` runs as a user runs it, a process of its own included, and a
runtime is opened on the file until it can choose. Each is the median of five.

Memory is what a worker process holds (resident set) after so many calls, decided, settled, rewarded and stored.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.durability.fixture import ARMS, GROUP, prepare, runtime_on
from stageroute_router.store.sql.store import SqlStore

REPEATS = 5

_MAKE_DECISIONS = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)
INSERT INTO stageroute_decisions (decision_id, call_id, response_id, group_name, segment, arm, served_arm, stage,
    probability, expected_cost_usd, budget_usd, surplus_cap_usd, booking, reward_ucb, cost_lcb_usd, shadow_price,
    made_at, state, cost_usd, prompt_tokens, completion_tokens, closed_at)
SELECT printf('sr-%012x7%019x', (:now + n / 1000.0) * 1000, n), printf('call-%032x', n), printf('resp-%032x', n),
    :group_name, '', 'arm' || n % :arms, 'arm' || n % :arms, 1, 0.2, 0.002, 0.002, 0.1, 'surplus', 0.9, 0.001, 10.0,
    :now + n / 1000.0, 'settled', 0.001 + 0.00001 * (n % 100), 20, 10, :now + n / 1000.0 + 1
FROM numbers
"""
_MAKE_REWARDS = """
INSERT INTO stageroute_rewards (decision_id, source, reward, reported_key, reported_at)
SELECT decision_id, 'app', (row_number % 11) / 10.0, decision_id, made_at + 2 FROM stageroute_decisions
"""


def make_history(path: Path, *, count: int) -> None:
    """Store so many decisions with their rewards, and sums that agree with them."""
    url = f"sqlite:///{path}"
    prepare(url)
    runtime = runtime_on(url)  # so that settings and the first stage are stored
    runtime.flush()
    runtime.close()
    with closing(sqlite3.connect(path)) as connection:
        now = time.time() - count / 1000.0 - 10
        names = {"count": count, "now": now, "group_name": GROUP, "arms": len(ARMS)}
        connection.execute(_MAKE_DECISIONS, names)
        connection.execute(_MAKE_REWARDS)
        connection.commit()
    store = SqlStore(url)
    store.rebuild()
    if store.load(GROUP).account.calls != count:
        raise RuntimeError("the sums are not those of the decisions")
    store.close()


def timed(action: Callable[[], object]) -> float:
    """Return the median time of an action in seconds."""
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        action()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def status(url: str) -> None:
    """Ask for the status as a user does."""
    command = "import sys; from stageroute_router.cli import main; sys.exit(main())"
    subprocess.run(
        [sys.executable, "-c", command, "status", "--database", url], check=True, stdout=subprocess.DEVNULL
    )


def restart(url: str) -> None:
    """Open a runtime until it has chosen."""
    runtime = runtime_on(url)
    if runtime.choose(GROUP, eligible=ARMS, call_id="first") is None:
        raise RuntimeError("nothing was chosen")
    runtime.close()


def resident_mb(calls: list[int]) -> list[float]:
    """Return the megabytes that this process holds after so many calls each."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/memory.db"
        prepare(url)
        runtime = runtime_on(url)
        made, found = 0, []
        for stop in calls:
            while made < stop:
                made += 1
                routed = runtime.choose(GROUP, eligible=ARMS, call_id=f"call-{made}")
                if routed is None:
                    raise RuntimeError("nothing was chosen")
                runtime.settled(
                    routed.decision_id,
                    arm=routed.arm,
                    cost_usd=0.002,
                    prompt_tokens=20,
                    completion_tokens=10,
                    response_id=f"resp-{made}",
                )
                runtime.record_reward(routed.decision_id, 0.5)
                if made % 500 == 0:
                    runtime.flush(60)
            runtime.flush(60)
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            found.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        runtime.close()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "history.db")
        make_history(path, count=arguments.decisions)
        results["file_mb"] = path.stat().st_size / 2**20
        results["status_s"] = timed(lambda: status(f"sqlite:///{path}"))
        results["restart_s"] = timed(lambda: restart(f"sqlite:///{path}"))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for calls, megabytes in zip(
            arguments.calls, pool.apply(resident_mb, (arguments.calls,)), strict=True
        ):
            results[f"resident_mb_after_{calls}_calls"] = megabytes
    table = Table("history", f"{arguments.decisions:,} decisions")
    for name, value in results.items():
        table.add_row(name, f"{value:,.2f}")
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
