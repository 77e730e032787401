"""``kill -9`` at any moment: what was acknowledged is stored, once, and the statistics add up."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from stageroute_router.store.sql import SqlStore
from stageroute_router.testing.writes import decided, fold, rewarded, same_statistics

ROUNDS = 5
CLIENT = Path(__file__).with_name("crashing_client.py")


def run_and_kill(url: str, name: str, *, after: int) -> dict[str, float]:
    """Start a client, kill it after so many acknowledgements; return all that it was given."""
    process = subprocess.Popen([sys.executable, str(CLIENT), url, name], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        lines = [process.stdout.readline() for _ in range(after)]
    finally:
        process.kill()
    # What it had written before it died is still in the pipe. The last line may be half a line.
    lines += [line for line in process.stdout if line.endswith("\n")]
    process.stdout.close()
    assert process.wait(timeout=60) == -9
    return {key: float(reward) for key, reward in (line.split() for line in lines)}


def test_no_acknowledged_reward_is_lost_or_counted_twice_when_the_process_is_killed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    moments = random.Random(20_250_617)
    acknowledged: dict[str, float] = {}
    for number in range(ROUNDS):
        acknowledged |= run_and_kill(url, f"round{number}", after=moments.randint(20, 200))

        store = SqlStore(url)
        with closing(sqlite3.connect(tmp_path / "s.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            ids = [row[0] for row in connection.execute("SELECT decision_id FROM stageroute_decisions")]
        stored = {one: store.decision(one) for one in ids}
        for key, reward in acknowledged.items():
            found = stored[key]
            assert found is not None
            assert found.rewards["app"] == reward
        group = store.load("chat")
        assert same_statistics(group.statistics, fold(stored.values()))
        known = [decision for decision in stored.values() if decision is not None]
        assert group.account.calls == len(known)
        assert group.account.open_calls == sum(decision.state == "open" for decision in known)
        assert abs(group.account.spend_usd - sum(decision.cost_usd or 0.0 for decision in known)) < 1e-9
        # The client reports again what it is not sure of: nothing counts twice.
        again = store.commit([rewarded(f"call-{key}", reward) for key, reward in acknowledged.items()])
        assert {receipt.status for receipt in again.rewards} == {"unchanged"}
        assert not again.changes
        store.close()
    assert len(acknowledged) > 20 * ROUNDS


def test_a_killed_migration_is_done_again(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from stageroute_router.store import migrations, sqlite_file\n"
        "from stageroute_router.store.sql import SqlStore\n"
        "sqlite_file.stamp = lambda *args, **options: os.kill(os.getpid(), signal.SIGKILL)\n"
        "SqlStore(sys.argv[1])\n"
    )
    url = f"sqlite:///{tmp_path}/s.db"
    killed = subprocess.run([sys.executable, "-c", program, url], check=False, timeout=120)
    assert killed.returncode == -9
    store = SqlStore(url)
    store.commit([decided("d1")])
    assert store.load("chat").account.calls == 1
    store.close()
