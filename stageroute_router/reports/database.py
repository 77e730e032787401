"""Everything an operator may look at, told from the database alone: no router, no LiteLLM."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from types import TracebackType

from stageroute_router.core.engine import Engine
from stageroute_router.errors import SettingsError, StoreError, StoreOutageError
from stageroute_router.groups.codec import arms_of_text, by_arm, stage_of
from stageroute_router.groups.pins import overridden, with_pins
from stageroute_router.reports.describe import describe
from stageroute_router.reports.reports import Reports
from stageroute_router.reports.status import GroupStatus
from stageroute_router.reports.warnings import database_warnings
from stageroute_router.settings.group import GroupSettings
from stageroute_router.store.contract import Store
from stageroute_router.store.health import Health, HealthState
from stageroute_router.store.opening import open_existing_store


class StoredReports(Reports):
    """The reports of a database. Close it, or use it in a ``with`` block.

    The database is only read: nothing is created, migrated or written. The same computations as in a routing process,
    from the same settings, candidates, statistics and stages, all of which are stored. What only a process knows is
    missing: its queue (health tells whether the database can be read) and the present traffic. Probabilities of the
    posterior estimator differ from a routing process's by the noise of its draws.

    Args:
        database_url: an SQLAlchemy URL of a database that is there.

    Raises:
        StoreError: there is no such database, or it cannot be used.
        SchemaError: its tables are older; the message has the command to run.

    ```python
    from stageroute_router.reports.database import StoredReports

    given = router.stageroute.record_reward(response, 0.9)  # so that there is something to see
    with StoredReports("sqlite:///router.db") as reports:
        assert reports.health().state == "ok"
        for group in reports.status().groups:
            print(group.name, group.calls, group.spend_usd)
        assert reports.group_status("chat").reward_coverage == 1.0
        assert reports.stages("chat", last=1)[0].reason == "start"
        assert reports.history("chat", points=10)[-1].calls == 1
        assert reports.receipt(given.decision_id).rewards == {"app": 0.9}
    ```
    """

    def __init__(self, database_url: str) -> None:
        self._store = open_existing_store(database_url)
        super().__init__(_StoredSource(self._store))

    @property
    def store(self) -> Store:
        """The database itself, for what is no report, such as exporting decisions."""
        return self._store

    def close(self) -> None:
        """Close the database. Closing twice is harmless.

        ```python
        reports = StoredReports("sqlite:///router.db")
        reports.close()
        ```
        """
        self._store.close()

    def __enter__(self) -> StoredReports:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _StoredSource:
    """Groups as the database has them. Implements :class:`~stageroute_router.reports.reports.ReportSource`."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def check(self, group: str) -> None:
        groups = self.store.groups()
        if group not in groups:
            msg = f"there is no group {group!r} in this database; there are: {', '.join(groups) or 'none'}"
            raise SettingsError(msg)

    def statuses(self) -> Sequence[GroupStatus]:
        found = (self._describe(name) for name in self.store.groups())
        return [group for group in found if group is not None]

    def status_of(self, group: str) -> GroupStatus:
        self.check(group)
        found = self._describe(group)
        if found is None:
            msg = f"group {group!r} has no stage in this database yet: no call of it was routed"
            raise SettingsError(msg)
        return found

    def health(self) -> Health:
        error: StoreError | None = None
        try:
            self.store.versions()
        except StoreError as caught:
            error = caught
        trouble: HealthState = "degraded" if isinstance(error, StoreOutageError) else "unhealthy"
        return Health(
            state="ok" if error is None else trouble,
            since=None if error is None else time.time(),
            reason=None if error is None else str(error),
            queued=0,
            dropped=0,
            rejected=0,
            last_commit_at=None,
        )

    def _describe(self, name: str) -> GroupStatus | None:
        stored = self.store.load(name)
        if stored.configuration is None or stored.stage is None:
            return None
        settings = GroupSettings.model_validate(json.loads(stored.configuration.settings))
        policy = settings.policy()
        arms = with_pins(arms_of_text(stored.configuration.arms), stored.pins)
        snapshot = Engine(policy, seed=0).start(
            arms,
            now=time.time(),
            statistics=by_arm(stored.statistics),
            cells=None if settings.segments is None else stored.statistics,
            account=stored.account,
            stage=stage_of(policy, stored.stage),
        )
        return describe(
            name,
            policy=policy,
            snapshot=snapshot,
            warnings=database_warnings(stored.problems),
            decided=overridden(stored.pins),
        )
