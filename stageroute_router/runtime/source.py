"""What a routing process knows of its groups, for reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from stageroute_router.errors import SettingsError, UnknownGroupError
from stageroute_router.groups.codec import notes_on
from stageroute_router.groups.group import Group
from stageroute_router.reports.describe import describe
from stageroute_router.reports.status import GroupStatus
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
        notes_of: returns further warnings about a group, by its name.
    """

    def __init__(
        self,
        groups: Mapping[str, Group],
        *,
        store: Store,
        clock: Callable[[], float],
        health: Callable[[], Health],
        internal_errors: Callable[[], int],
        notes_of: Callable[[str], Sequence[str]],
    ) -> None:
        self.store = store
        self._groups = groups
        self._clock = clock
        self._health = health
        self._internal_errors = internal_errors
        self._notes_of = notes_of

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
        notes = self._notes()
        return [self._describe(state, notes) for state in self._groups.values() if state.snapshot is not None]

    def status_of(self, group: str) -> GroupStatus:
        """Return the status of one group.

        Raises:
            UnknownGroupError: it is not managed.
            SettingsError: it has no deployments yet.
        """
        return self._describe(self.managed(group), self._notes())

    def health(self) -> Health:
        """Return whether what the process learns is stored. Waits for nothing."""
        return self._health()

    def _describe(self, state: Group, notes: Sequence[str]) -> GroupStatus:
        snapshot = state.current()
        if snapshot is None:
            msg = f"group {state.name!r} has no deployments yet"
            raise SettingsError(msg)
        return describe(
            state.name,
            policy=state.policy,
            snapshot=snapshot,
            notes=[
                *notes,
                *state.benchmark_warnings,
                *notes_on(state.problems),
                *self._notes_of(state.name),
            ],
            decided=state.overridden,
            outages=state.outages(now=self._clock()),
        )

    def _notes(self) -> list[str]:
        notes = []
        health = self._health()
        if health.state != "ok":
            notes.append(
                f"{health.state}: {health.reason}; {health.queued} writes are queued, routing goes on with what is "
                "known"
            )
        if health.dropped:
            notes.append(f"{health.dropped} writes were refused because the queue was full")
        if health.rejected:
            notes.append(
                f"{health.rejected} writes were dropped because of a value the database refuses; see the log"
            )
        errors = self._internal_errors()
        if errors:
            notes.append(
                f"{errors} internal errors were kept from calls; LiteLLM chose where StageRoute could not; "
                "see the log"
            )
        return notes
