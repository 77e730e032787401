"""The six reports, for every place that has them: a routed router, a routing process, a database alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, overload

from stageroute_router.errors import NotAResponseError
from stageroute_router.process.ids import stored_id
from stageroute_router.reports.receipts import receipt_of
from stageroute_router.reports.stages import stages_of
from stageroute_router.reports.status import GroupStatus, Status
from stageroute_router.reports.values import DecisionReceipt, StageReport
from stageroute_router.store.contract import Store
from stageroute_router.store.health import Health
from stageroute_router.store.history import HistoryPoint


class ReportSource(Protocol):
    """What reports are computed from. Called from any thread, once or twice a report."""

    @property
    def store(self) -> Store:
        """The database, for the reports that are read from it."""
        ...

    def check(self, group: str) -> None:
        """Raise unless the group is known.

        Args:
            group: the model group.

        Raises:
            SettingsError: it is not.
        """
        ...

    def statuses(self) -> Sequence[GroupStatus]:
        """Return the status of every group that has a stage."""
        ...

    def status_of(self, group: str) -> GroupStatus:
        """Return the status of one group.

        Args:
            group: the model group.

        Raises:
            SettingsError: the group is not known, or has no stage yet.
        """
        ...

    def health(self) -> Health:
        """Return whether what is learned is stored. Waits for nothing where a process routes."""
        ...


def given_id(key: object, _caller: str | None = None) -> str:
    """Return an id as it was given: there is no process here whose calls have other ids.

    Args:
        key: the id.
        _caller: who asks; makes no difference.

    Raises:
        NotAResponseError: it is no text.
    """
    if isinstance(key, str):
        return key
    msg = f"give a decision id, response id or call id; a {type(key).__name__} is none"
    raise NotAResponseError(msg)


class Reports:
    """Everything an operator may look at: of a routing process, or of a database alone.

    ``router.stageroute`` is one, and so is :class:`~stageroute_router.reports.database.StoredReports`.
    :class:`~stageroute_router.reports.remote.ProxyReports` asks a proxy for the same.

    Args:
        source: what the reports are computed from.
        flush: called before each report that may wait: returns when what happened before is in the source, or after a
            moment. By default there is nothing to wait for.
        id_of: returns the id under which the database knows what ``receipt`` was asked for, and on whose behalf. By
            default ids are taken as they are.

    ```python
    from stageroute_router.reports import Reports


    def overview(reports: Reports, group: str) -> str:
        spend = reports.group_status(group).spend_usd
        window = reports.stages(group, last=1)[-1].opened_at
        return f"{len(reports.status().groups)} groups; {group}: ${spend:.4f}, last window at {window:.0f}"


    print(overview(router.stageroute, "chat"), router.stageroute.health().state)
    calls = [point.calls for point in router.stageroute.history("chat", points=10)]
    why = router.stageroute.receipt(response.id)
    ```
    """

    def __init__(
        self,
        source: ReportSource,
        *,
        flush: Callable[[], object] = lambda: None,
        id_of: Callable[[object, str | None], str] = given_id,
    ) -> None:
        self._source = source
        self._flush = flush
        self._id_of = id_of

    @overload
    def status(self, group: str) -> GroupStatus: ...

    @overload
    def status(self, group: None = None) -> Status: ...

    def status(self, group: str | None = None) -> Status | GroupStatus:
        """Return the status of one managed group, or of all of them.

        Args:
            group: the model group; all of them by default.

        Raises:
            SettingsError: the group is not managed.
            StoreError: there is a database alone, and it cannot be read.

        ```python
        status = router.stageroute.status("chat")
        assert status.spend_ratio <= 1.0
        assert {arm.name for arm in status.arms if arm.live}
        ```
        """
        self._flush()
        return self.known_status() if group is None else self._source.status_of(group)

    def known_status(self) -> Status:
        """Return the status of all groups as of the last commit this process knows of. Waits for nothing.

        :meth:`status` first waits, for a moment, until what happened before is stored.

        ```python
        assert router.stageroute.known_status().groups[0].name == "chat"
        ```
        """
        return Status(groups=tuple(self._source.statuses()))

    def group_status(self, group: str) -> GroupStatus:
        """Return the status of one managed group.

        Args:
            group: the model group.

        Raises:
            SettingsError: the group is not managed, or, in a database alone, none of its calls was routed yet.
            StoreError: there is a database alone, and it cannot be read.

        ```python
        assert router.stageroute.group_status("chat").feasible
        ```
        """
        return self.status(group)

    def stages(self, group: str, *, last: int = 50) -> Sequence[StageReport]:
        """Return the ``last`` stages of a group: who was live, who came and went, and why. The oldest first.

        Args:
            group: the model group.
            last: how many; 50 by default.

        Raises:
            SettingsError: the group is not managed.
            StoreError: the database cannot be read.

        ```python
        for stage in router.stageroute.stages("chat", last=3):
            print(stage.stage, stage.live, stage.moves)
        ```
        """
        self._source.check(group)
        self._flush()
        return stages_of(self._source.store, group, last=last)

    def history(self, group: str, *, points: int = 300) -> Sequence[HistoryPoint]:
        """Return a group's calls, spend and rewards at moments of the past, the oldest first, the present one last.

        Args:
            group: the model group.
            points: at most so many; 300 by default, as many as a picture has room for.

        Raises:
            SettingsError: the group is not managed.
            StoreError: the database cannot be read.

        ```python
        for point in router.stageroute.history("chat", points=10):
            print(point.at, point.spend_usd)
        ```
        """
        self._source.check(group)
        self._flush()
        return self._source.store.history(group, points=points)

    def receipt(self, key: object, *, caller: str | None = None) -> DecisionReceipt | None:
        """Return why a call went where it went, and what became of it; None if no such call was routed.

        Args:
            key: the call's decision id, response id or call id; of a router, what the call returned as well.
            caller: on whose behalf, by your own authentication: to it, calls of others are unknown. None (the default)
                for your own code: not checked.

        Raises:
            NotAResponseError: ``key`` is neither a response nor an id.
            StoreError: the database cannot be read.

        ```python
        receipt = router.stageroute.receipt(response)
        assert 0 < receipt.probability <= 1
        ```
        """
        decision = stored_id(self._id_of(key, caller))
        self._flush()
        return receipt_of(self._source.store, decision, caller=caller)

    def health(self) -> Health:
        """Return whether what is learned is stored. Routing goes on in any case.

        Of a routing process: waits for nothing. Of a database alone: whether it can be read.

        ```python
        assert router.stageroute.health().state == "ok"
        ```
        """
        return self._source.health()
