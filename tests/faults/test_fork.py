"""Workers forked from a process that has used its router already, as ``gunicorn --preload`` does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
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
    assert group.account.calls == len(made)
    assert (group.account.open_calls, round(group.account.spend_usd, 6)) == (0, round(0.001 * len(made), 6))
    assert sum(cell.reward_count for cell in group.statistics.values()) == len(rewarded)
    assert {one for one, decision in stored.items() if decision.rewards} == set(rewarded)
    assert not differences
    assert stages == list(range(1, len(stages) + 1))
    assert len(stages) >= 8

    arms = defaultdict(list)
    for one in made.values():
        arms[one["pid"]].append(one["arm"])
    workers = [tuple(sequence[:40]) for sequence in arms.values() if len(sequence) == 150]
    assert len(workers) == 4
    assert len(set(workers)) == 4, "each worker has a randomness of its own"
