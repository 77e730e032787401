"""What a routing process knows of its groups, for reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from stageroute_router.errors import SettingsError, UnknownGroupError
from stageroute_router.groups.group import Group
from stageroute_router.reports.describe import describe
from stageroute_router.reports.status import GroupStatus, StatusWarning
from stageroute_router.reports.warnings import benchmark_warnings, database_warnings, process_warnings
from stageroute_router.store.contract import Store
from stageroute_router.store.health import Health


class ProcessSource:
    """The groups of a routing process. Implements :class:`~stageroute_router.reports.reports.ReportSource`.

    Args:
        groups: by name.
        store: where everything is kept.
        clock: returns seconds since the epoch.
        health: returns whether what the process learns is stored. Waits for nothing.
        internal_errors: returns how many errors of ours were kept from calls.
        warnings_of: returns further warnings about a group, by its name.
    """

    def __init__(
        self,
        groups: Mapping[str, Group],
        *,
        store: Store,
        clock: Callable[[], float],
        health: Callable[[], Health],
        internal_errors: Callable[[], int],
        warnings_of: Callable[[str], Sequence[StatusWarning]],
    ) -> None:
        self.store = store
        self._groups = groups
        self._clock = clock
        self._health = health
        self._internal_errors = internal_errors
        self._warnings_of = warnings_of

    def managed(self, group: str) -> Group:
        """Return the state of a group.

        Raises:
            UnknownGroupError: it is not managed.
        """
        state = self._groups.get(group)
        if state is None:
            msg = f"group {group!r} is not managed; there are: {', '.join(sorted(self._groups))}"
            raise UnknownGroupError(msg)
        return state

    def check(self, group: str) -> None:
        """Raise unless the group is managed.

        Raises:
            UnknownGroupError: it is not.
        """
        self.managed(group)

    def statuses(self) -> Sequence[GroupStatus]:
        """Return the status of every group that has a stage."""
        warnings = self._warnings()
        return [
            self._describe(state, warnings) for state in self._groups.values() if state.snapshot is not None
        ]

    def status_of(self, group: str) -> GroupStatus:
        """Return the status of one group.

        Raises:
            UnknownGroupError: it is not managed.
            SettingsError: it has no deployments yet.
        """
        return self._describe(self.managed(group), self._warnings())

    def health(self) -> Health:
        """Return whether what the process learns is stored. Waits for nothing."""
        return self._health()

    def _describe(self, state: Group, warnings: Sequence[StatusWarning]) -> GroupStatus:
        snapshot = state.current()
        if snapshot is None:
            msg = f"group {state.name!r} has no deployments yet"
            raise SettingsError(msg)
        return describe(
            state.name,
            policy=state.policy,
            snapshot=snapshot,
            warnings=[
                *warnings,
                *benchmark_warnings(state.unused_benchmark),
                *database_warnings(state.problems),
                *self._warnings_of(state.name),
            ],
            decided=state.overridden,
            outages=state.outages(now=self._clock()),
        )

    def _warnings(self) -> Sequence[StatusWarning]:
        return process_warnings(self._health(), internal_errors=self._internal_errors())
