"""What an operator has a routing process do: plan a stage now, pin an arm, read what others have stored."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import Protocol

from stageroute_router.errors import StoreError, StoreUnavailableError
from stageroute_router.groups.group import Group
from stageroute_router.reports.reports import Reports
from stageroute_router.reports.status import GroupStatus
from stageroute_router.runtime.source import ProcessSource
from stageroute_router.store.writer.writer import Writer

_PATIENCE_S = 10.0
_MOST_WINDOWS = 2


class _Read(Protocol):
    def __call__(self, *groups: Group) -> None: ...


class Operations:
    """Done on the writer's thread, between two commits: nothing that this process stores comes in between.

    Args:
        source: the groups.
        reports: tells what came of an operation.
        writer: on whose thread the work is done.
        clock: returns seconds since the epoch.
        read: reads what is stored of some groups (all of them by default); on the writer's thread.
        open_window: opens a maintenance window of a group, for a reason; on the writer's thread.
    """

    def __init__(
        self,
        source: ProcessSource,
        *,
        reports: Reports,
        writer: Writer,
        clock: Callable[[], float],
        read: _Read,
        open_window: Callable[[Group, str], None],
    ) -> None:
        self._source = source
        self._reports = reports
        self._writer = writer
        self._clock = clock
        self._read = read
        self._open_window = open_window

    def refresh(self) -> None:
        """Take over now what other processes have stored, instead of within the refresh interval.

        Raises:
            StoreError: the database cannot be read.
        """
        self._wait_for(self._read)

    def redeploy(self, group: str) -> GroupStatus:
        """Open a maintenance window now and return the group's status after it.

        Raises:
            SettingsError: the group is not managed.
            StoreUnavailableError: the database leaves this process waiting; the window opens when it answers.
        """
        state = self._source.managed(group)

        def open_window() -> None:
            with suppress(
                StoreError
            ):  # the window is planned from what is known, and stored when that is possible
                self._read()
            self._open_window(state, "manual")

        self._wait_for(open_window)
        return self._reports.group_status(group)

    def pin(self, group: str, arm: str, *, pinned: bool | None = True) -> GroupStatus:
        """Decide whether an arm is live in every stage; see :meth:`~stageroute_router.router.control.Control.pin`.

        Raises:
            SettingsError: the group is not managed, has no deployments yet, or has no such arm; or more arms would be
                pinned than may be live. Nothing was stored.
            StoreError: the database did not take it. Nothing was stored, or doing it again is harmless.
            StoreUnavailableError: the database leaves this process waiting; it is done when it answers.
        """
        state = self._source.managed(group)
        self._source.status_of(group)  # which refuses a group without deployments

        def decide() -> None:
            self._read(state)
            write = state.pin(arm, pinned=pinned, now=self._clock())
            if write is not None:
                self._source.store.commit([write])
                self._read(state)
            open_window()

        def open_window() -> None:
            if state.is_missing(arm):
                self._open_window(state, "manual")

        self._wait_for(decide)
        status = self._reports.group_status(group)
        for _ in range(_MOST_WINDOWS):
            # Another worker, which did not know of the pin yet, may have planned this stage a moment before.
            if not state.is_missing(arm):
                break
            self._wait_for(open_window)
            status = self._reports.group_status(group)
        return status

    def _wait_for(self, job: Callable[[], None]) -> None:
        """Run a job on the writer's thread, which may be waiting for the database.

        Raises:
            StoreUnavailableError: it is; the job is done afterwards.
        """
        try:
            self._writer.run(job).result(_PATIENCE_S)
        except FutureTimeoutError:
            msg = (
                f"the database has left this process waiting for {_PATIENCE_S:g} s; what was asked for is "
                "done when it answers"
            )
            raise StoreUnavailableError(msg) from None
