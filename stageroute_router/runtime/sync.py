"""Keeps what a process believes and what is stored the same: everything here runs on the writer's thread.

Between two commits, so that nothing this process stores comes in between.
"""

from __future__ import annotations

import logging
import math
import random
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError

from stageroute_router.errors import StoreError, StoreOutageError
from stageroute_router.groups.group import Group
from stageroute_router.groups.live_changes import LiveHooks
from stageroute_router.store.contract import Store
from stageroute_router.store.health import Incident
from stageroute_router.store.records import CommitReport
from stageroute_router.store.writer.writer import Writer
from stageroute_router.store.writes import CallFailed, CallSettled, CallWithdrawn, Write

logger = logging.getLogger("stageroute_router")

_OUTCOMES = (CallSettled, CallFailed, CallWithdrawn)  # a union is slower to ask
_START_PATIENCE_S = 10.0


class StoreSync:
    """Has a writer store what groups decide and see, and moves their snapshots by what was committed.

    Args:
        groups: the managed groups by name.
        store: where everything is kept.
        live_hooks: are told of live sets that changed.
        clock: returns seconds since the epoch.
        monotonic: returns seconds from any origin, never going back.
        refresh_interval: what others have stored is read at most so many seconds later, > 0.
        reward_deadline: after how many seconds without a commit a reward fails, > 0.
        max_queue: how many writes may wait.
        on_error: a method that is given an error for which a stored segmenter is not used. Held weakly, so that a
            runtime can be forgotten while the writer's thread is at work here.

    Attributes:
        writer: takes what is to be stored.
        reading: since when the store cannot be read; None while it can.
    """

    def __init__(
        self,
        groups: Mapping[str, Group],
        store: Store,
        *,
        live_hooks: LiveHooks,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        refresh_interval: float,
        reward_deadline: float,
        max_queue: int,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._groups = groups
        self._store = store
        self._live_hooks = live_hooks
        self._clock = clock
        self._monotonic = monotonic
        self._refresh_interval = refresh_interval
        self._error_handler = weakref.WeakMethod(on_error)
        self.reading: Incident | None = None
        self._refresh_at = self._next_refresh()
        self.writer = Writer(
            store,
            on_commit=self._committed,
            tick=self.tick,
            max_queue=max_queue,
            reward_deadline_s=reward_deadline,
            clock=monotonic,
        )

    # --- called on other threads ---------------------------------------------------------------------------

    def start(self) -> None:
        """Read what is stored; if the database does not answer now, log that and go on."""
        try:
            self.writer.run(self.read).result(_START_PATIENCE_S)
        except (StoreOutageError, FutureTimeoutError) as error:
            logger.warning(
                "routing starts without what was learned before, and will take it over when the database answers: %s",
                str(error) or f"no answer within {_START_PATIENCE_S:g} s",
            )

    def refresh_soon(self) -> None:
        """Read what is stored at the next tick."""
        self._refresh_at = -math.inf

    def open_wanted_window(self, group: Group) -> None:
        """Have the writer's thread open a window at once where no live arm answers, or one that did not does again."""
        if group.window_wanted(now=self._clock()) is not None:
            self.writer.wake()

    def tell_live_hooks(self) -> None:
        """Tell hooks of the live sets that changed. Any thread may."""
        for name, group in self._groups.items():
            snapshot = group.settled()
            if snapshot is not None:
                self._live_hooks.moved(name, stage=snapshot.stage.number, live=snapshot.live)

    # --- called on the writer's thread ---------------------------------------------------------------------

    def tick(self) -> float:
        """Read what others have stored, open the windows whose time has come; return the seconds until then."""
        if self._refresh_at <= self._monotonic():
            self.catch_up()
            self._forget_segments()
            self._refresh_at = self._next_refresh()
            self.tell_live_hooks()
        waits = [self._refresh_at - self._monotonic()]
        for group in self._groups.values():
            wanted = group.window_wanted(now=self._clock())
            if wanted is not None:
                self.open_window(group, wanted)
            if _is_past(group.due_at(), self._clock()):
                self.catch_up()  # another process may have opened it
                if _is_past(group.due_at(), self._clock()):
                    self.open_window(group, "schedule")
            due = group.due_at()
            if due is not None:
                waits.append(due - self._clock())
        return max(min(waits), 0.0)

    def open_window(self, group: Group, reason: str) -> None:
        """Open a group's maintenance window now."""
        plan = group.open_window(reason=reason, now=self._clock())
        if plan is not None:
            self.writer.submit(plan)

    def catch_up(self, *groups: Group) -> bool:
        """Read some groups (all of them by default) unless the database is away; return whether it is there."""
        try:
            self.read(*groups)
        except StoreError:
            return False
        return True

    def read(self, *groups: Group) -> None:
        """Read what is stored of some groups (all of them by default) that others have changed.

        Raises:
            StoreError: the database cannot be read.
        """
        try:
            versions = self._store.versions()
            for group in groups or self._groups.values():
                if group.is_behind(versions.get(group.name, 0)):
                    stored = self._store.load(group.name)
                    if group.segments is not None:
                        try:
                            group.segments.read(stored, now=self._clock())
                        except ValueError as error:
                            self._on_error(error)
                    plan = group.read(stored, now=self._clock())
                    if plan is not None:
                        self.writer.submit(plan)
        except StoreError as error:
            reading = self.reading
            self.reading = (
                Incident(since=self._clock(), error=error) if reading is None else reading.again(error)
            )
            raise
        self.reading = None

    def _committed(self, report: CommitReport, batch: Sequence[Write]) -> None:
        now = self._clock()
        for name, change in report.changes.items():
            group = self._groups.get(name)
            if group is None:
                continue
            if not group.must_read(change, now=now) or not self.catch_up(group):
                plan = group.committed(change, now=now)
                if plan is not None:
                    self.writer.submit(plan)
        # Only now: a call counts as under way until the snapshot knows what it cost.
        over = [w.decision_id for w in batch if isinstance(w, _OUTCOMES)]
        for group in self._groups.values():
            group.ended(over)
        for stored in report.stages:
            if stored.group in self._groups:
                self._groups[stored.group].adopt(stored)
        self._move_segmenters(report)
        self.tell_live_hooks()

    def _move_segmenters(self, report: CommitReport) -> None:
        """Take over segmenters that were stored, and have new ones stored where enough calls were collected."""
        for fitted in report.segmenters:
            group = self._groups.get(fitted.group)
            if group is not None and group.segments is not None:
                try:
                    group.segments.committed(fitted)
                except ValueError as error:
                    self._on_error(error)
        for group in self._groups.values():
            fit = None if group.segments is None else group.segments.fit(now=self._clock())
            if fit is not None:
                self.writer.submit(fit)

    def _forget_segments(self) -> None:
        """Let the database forget the segments that no call had for too long."""
        for group in self._groups.values():
            forgotten = None if group.segments is None else group.segments.forget(now=self._clock())
            if forgotten is not None:
                self.writer.submit(forgotten)

    def _on_error(self, error: BaseException) -> None:
        handler = self._error_handler()
        if handler is not None:
            handler(error)

    def _next_refresh(self) -> float:
        # Jittered, so that workers started together do not ask together; never later than promised.
        return self._monotonic() + self._refresh_interval * random.uniform(0.5, 1.0)


def _is_past(due: float | None, now: float) -> bool:
    return due is not None and due <= now
