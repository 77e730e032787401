"""Commits batches that name the same rows as other processes', in an order of its own; no test itself.

Run by ``test_postgres.py``. It waits for a line on standard input, and prints how often a group's version moved.
"""

from __future__ import annotations

import random
import sys

from stageroute_router.store.sql.store import SqlStore
from stageroute_router.testing.store.writes import decided, rewarded, settled

GROUPS = ("a", "b", "c", "d")


def main() -> None:
    """Work through all batches once."""
    url, number, batches = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    order = random.Random(number)
    store = SqlStore(url)
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    versions = 0
    for batch in range(batches):
        calls = [
            (f"{number}-{batch}-{i}", order.choice(GROUPS), f"arm{order.randrange(5)}") for i in range(10)
        ]
        order.shuffle(calls)
        report = store.commit([decided(one, group=group, arm=arm) for one, group, arm in calls])
        versions += len(report.changes)
        rewards = [rewarded(one, 0.5) for one, _, _ in calls]
        order.shuffle(rewards)
        report = store.commit([*(settled(one, arm=arm) for one, _, arm in calls), *rewards])
        versions += len(report.changes)
    print(versions)  # noqa: T201
    store.close()


if __name__ == "__main__":
    main()
