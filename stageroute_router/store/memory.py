"""A store in memory: for tests, for replaying recorded calls, and for trying things out."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from stageroute_router.core.account import Account
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.forking import ForkAware, survive_fork
from stageroute_router.store.base import (
    EXPIRY_INTERVAL_S,
    CellKey,
    CommitReport,
    StagePlanned,
    StoredDecision,
    StoredGroup,
    Write,
)
from stageroute_router.store.ledger import Ledger
from stageroute_router.store.validation import check_batch


class MemoryStore(ForkAware):
    """Keeps everything until the process ends; keeps every contract of a store except durability.

    Args:
        clock: returns seconds since the epoch; by it, rewards nobody claims are dropped after a day.

    >>> from stageroute_router.store.base import RewardReported
    >>> reward = RewardReported(key="no-such-call", reward=1.0, source="app", reported_at=0.0, keep=False)
    >>> MemoryStore().commit([reward]).rewards[0].status
    'unknown'
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        survive_fork(self)
        self._expired_at = clock()
        self._ledger = Ledger()
        self._statistics: defaultdict[str, dict[CellKey, ArmStatistics]] = defaultdict(dict)

    def load(self, group: str) -> StoredGroup:
        """Return what is stored of a group; an empty one when nothing is."""
        with self._lock:
            stages = self._stages(group)
            return StoredGroup(
                account=self._ledger.accounts.get(group, Account()),
                statistics=dict(self._statistics.get(group, {})),
                stage=stages[-1] if stages else None,
                configuration=self._ledger.configurations.get(group),
                version=self._ledger.versions.get(group, 0),
            )

    def groups(self) -> Sequence[str]:
        """Return the names of all groups with anything stored, sorted."""
        with self._lock:
            return sorted(
                {
                    *self._ledger.accounts,
                    *self._ledger.configurations,
                    *(group for group, _ in self._ledger.stages),
                }
            )

    def versions(self) -> Mapping[str, int]:
        """Return the version of each group."""
        with self._lock:
            return dict(self._ledger.versions)

    def stages(self, group: str, *, last: int | None = None) -> Sequence[StagePlanned]:
        """Return a group's stages in order, or only the ``last`` so many."""
        with self._lock:
            stages = self._stages(group)
        return stages if last is None else stages[max(0, len(stages) - last) :]

    def decision(self, key: str) -> StoredDecision | None:
        """Return the decision a key names (decision, response or call id), or None."""
        with self._lock:
            return self._ledger.decision(key)

    def commit(self, batch: Sequence[Write]) -> CommitReport:
        """Apply a batch in order, whole or not at all.

        Raises:
            InvalidRewardError: a reward is not in [0, 1]. Nothing was applied.
            ValueError: another number of the batch cannot be stored. Nothing was applied.
        """
        check_batch(batch)
        with self._lock:
            now = self._clock()
            if now - self._expired_at > EXPIRY_INTERVAL_S:
                self._ledger.drop_expired(now)
                self._expired_at = now
            report = self._ledger.apply(batch, now=now).report
            for group, change in report.changes.items():
                statistics = self._statistics[group]
                for cell, increment in change.statistics.items():
                    statistics[cell] = statistics.get(cell, _NOTHING) + increment
            return report

    def interrupt(self) -> None:
        """Do nothing: nothing here waits."""

    def close(self) -> None:
        """Do nothing: there is nothing to release, and what is stored stays readable."""

    def before_fork(self) -> None:
        """Wait until no other thread is in the middle of a change."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Go on with a copy of everything: from here on, two processes know different things."""
        self._lock.release()

    def _stages(self, group: str) -> list[StagePlanned]:
        return [stage for (name, _), stage in sorted(self._ledger.stages.items()) if name == group]


_NOTHING = ArmStatistics()
