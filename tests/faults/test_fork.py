"""Workers forked from a process that has used its router already, as ``gunicorn --preload`` does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stageroute_router.store.opening import open_store

SERVER = Path(__file__).with_name("forking_server.py")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/s.db"
    postgres = request.getfixturevalue("postgres")
    return str(postgres.url(postgres.new_database()))


def test_forked_workers_lose_nothing_count_nothing_twice_and_explore_each_for_itself(url: str) -> None:
    # Python warns of any fork with threads, and the server has some.
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(SERVER), url],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = [json.loads(line) for line in done.stdout.splitlines()]
    made = {one["made"]: one for one in said if "made" in one}
    rewarded = {one["rewarded"]: one["status"] for one in said if "rewarded" in one}
    assert [one["ended"] for one in said if "ended" in one] == [[0, 0, 0, 0]]
    assert [one["lost"] for one in said if "lost" in one] == [0] * 5
    assert set(rewarded.values()) == {"recorded"}
    assert len(made) == 20 + 150 + 50 + 4 * 150 + 4

    store = open_store(url)
    group = store.load("chat")
    stored: dict[str, Any] = {one: store.decision(one) for one in made}
    stages = [plan.stage for plan in store.stages("chat")]
    differences = store.verify()
    store.close()
    # What the twins chose may be stored, or not: they leave without a word.
    assert group.account.calls - group.account.open_calls == len(made)
    assert round(group.account.spend_usd, 6) == round(0.001 * len(made), 6)
    assert sum(cell.reward_count for cell in group.statistics.values()) == len(rewarded)
    assert {one for one, decision in stored.items() if decision.rewards} == set(rewarded)
    assert not differences
    assert stages == list(range(1, len(stages) + 1))
    assert len(stages) >= 8

    twins = [tuple(one["twin"]) for one in said if "twin" in one]
    assert len(set(twins)) == len(twins) == 3, "each worker has a randomness of its own"


def run(program: str, *arguments: str) -> None:
    """Run a program that forks, and have it end well."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")


CHILD_OUTLIVES_ITS_PARENTS_CONNECTIONS = """
import os, sys
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.testing.store.writes import decided
store = SqlStore(sys.argv[1])
store.commit([decided("of the parent")])
closed, written = os.pipe(), os.pipe()
pid = os.fork()
if not pid:
    store.commit([decided("early")])
    os.write(written[1], b".")
    os.read(closed[0], 1)
    store.commit([decided("late")])
    os._exit(0)
os.read(written[0], 1)
store.close()  # had the child no lock of its own, the log it writes to would be deleted now
other = SqlStore(sys.argv[1])
other.commit([decided("of another")])
other.close()
os.write(closed[1], b".")
assert os.waitpid(pid, 0)[1] == 0
store = SqlStore(sys.argv[1])
missing = [one for one in ("of the parent", "early", "late", "of another") if store.decision(one) is None]
assert not missing, missing
"""


def test_child_holds_locks_of_its_own_on_an_sqlite_file(tmp_path: Path) -> None:
    run(CHILD_OUTLIVES_ITS_PARENTS_CONNECTIONS, f"sqlite:///{tmp_path}/s.db")


BOTH_SPEAK_AFTER_A_FORK_IN_THE_MIDDLE_OF_SOMETHING = """
import os, sys
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.testing.store.writes import decided
store = SqlStore(sys.argv[1])
store.commit([decided("first")])
with store._reading():  # in use, so that it could not be closed before
    pid = os.fork()
for number in range(100):
    store.commit([decided(f"{pid != 0}-{number}")])
if not pid:
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert store.load("chat").account.calls == 201
store.close()
"""


def test_child_leaves_connections_it_inherits_alone(postgres: Any) -> None:
    run(BOTH_SPEAK_AFTER_A_FORK_IN_THE_MIDDLE_OF_SOMETHING, postgres.url(postgres.new_database()))
