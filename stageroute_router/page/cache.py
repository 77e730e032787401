"""Reads what is reported of a group once for all who look at it, and tells whether anything changed."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from stageroute_router.errors import StoreError
from stageroute_router.page.numbers import rate
from stageroute_router.reports.reports import Reports
from stageroute_router.reports.status import GroupStatus
from stageroute_router.reports.values import DecisionReceipt, StageReport
from stageroute_router.store.health import Health
from stageroute_router.store.history import HistoryPoint

FRESH_S = 1.0
"""What was read is shown to all clients that look within so many seconds: a wall of screens asks the database once."""

_KEPT = 64

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLook:
    """A group as of one moment.

    Args:
        status: its status.
        health: of the process.
        stages: the latest, the oldest first.
        history: its totals over time, the oldest first.
        missing: why stages and history are not of now, in plain words; None where they are.
        version: changes when, and only when, something changed that is worth showing.
    """

    status: GroupStatus
    health: Health
    stages: Sequence[StageReport]
    history: Sequence[HistoryPoint]
    missing: str | None
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupsLook:
    """All groups as of one moment; see :class:`GroupLook`."""

    groups: Sequence[GroupStatus]
    health: Health
    version: str


class Looking:
    """Looks at reports. Every method may wait for a database, and may be called from any thread.

    Args:
        reports: what is looked at, asked for at each look.
        monotonic: returns seconds from any origin, never going back.
    """

    def __init__(
        self, reports: Callable[[], Reports], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._reports = reports
        self._monotonic = monotonic
        self._guard = threading.Lock()
        self._locks: OrderedDict[str, threading.Lock] = OrderedDict()
        self._seen: OrderedDict[str, tuple[float, object]] = OrderedDict()
        self._past: OrderedDict[str, tuple[Sequence[StageReport], Sequence[HistoryPoint]]] = OrderedDict()

    def groups(self) -> GroupsLook:
        """Return all groups.

        Raises:
            StageRouteError: nothing can be told now.
        """
        return self._once("", self._look_at_groups)

    def group(self, name: str) -> GroupLook:
        """Return one group. Its past is the last one known where the database does not answer.

        Raises:
            SettingsError: there is no such group.
            StageRouteError: nothing can be told now.
        """
        return self._once(f"group {name}", lambda: self._look_at_group(name))

    def receipt(self, key: str) -> DecisionReceipt | None:
        """Return the receipt of a decision, None if there is none.

        Raises:
            StageRouteError: it cannot be told now.
        """
        return self._reports().receipt(key)

    def _look_at_groups(self) -> GroupsLook:
        reports = self._reports()
        groups = tuple(_steady(group) for group in reports.status().groups)
        health = reports.health()
        return GroupsLook(groups=groups, health=health, version=_hash(groups, _worth_showing(health)))

    def _look_at_group(self, name: str) -> GroupLook:
        reports = self._reports()
        status = _steady(reports.group_status(name))
        health = reports.health()
        missing = None
        past: tuple[Sequence[StageReport], Sequence[HistoryPoint]]
        try:
            past = tuple(reports.stages(name)), _settled(reports.history(name))
        except StoreError as error:
            missing = str(error)
            past = self._past.get(name, ((), ()))
        else:
            self._past[name] = past
            while len(self._past) > _KEPT:
                self._past.popitem(last=False)
        stages, history = past
        return GroupLook(
            status=status,
            health=health,
            stages=stages,
            history=history,
            missing=missing,
            version=_hash(status, _worth_showing(health), stages, history, missing),
        )

    def _once(self, key: str, look: Callable[[], T]) -> T:
        """Return what was seen a moment ago, or look: one thread for all who ask at the same time."""
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
            while len(self._locks) > 4 * _KEPT:
                self._locks.popitem(last=False)
        with lock:
            at, seen = self._seen.get(key, (0.0, None))
            if seen is not None and self._monotonic() - at < FRESH_S:
                return seen  # type: ignore[return-value]
            seen = look()
            with self._guard:
                self._seen[key] = (self._monotonic(), seen)
                self._seen.move_to_end(key)
                while len(self._seen) > _KEPT:
                    self._seen.popitem(last=False)
            return seen


def _settled(history: Sequence[HistoryPoint]) -> tuple[HistoryPoint, ...]:
    """Return a history whose last moment moves in steps of a hundredth or so of the whole.

    Time alone is no change worth drawing; but a picture must not end in the past for ever either.
    """
    points = tuple(history)
    if len(points) < 2 or points[-1].at <= points[0].at:
        return points
    step = 2.0 ** math.floor(math.log2((points[-1].at - points[0].at) / 64))
    at = max(points[-2].at, step * math.floor(points[-1].at / step))
    return (*points[:-1], replace(points[-1], at=at))


def _steady(group: GroupStatus) -> GroupStatus:
    """Return a status with as many digits of traffic and availability as are shown: more of them fade all the time."""
    if any(arm.fails for arm in group.arms):
        # Down, so that it stays below each limit that it is below.
        arms = (replace(arm, availability=math.floor(100 * arm.availability) / 100) for arm in group.arms)
        group = replace(group, arms=tuple(arms))
    if group.calls_per_minute is None:
        return group
    return replace(group, calls_per_minute=float(rate(group.calls_per_minute).replace(",", "")))


def _worth_showing(health: Health) -> Health:
    return replace(health, last_commit_at=None)


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:20]
