"""How many segments a group has: known in memory, so that asking costs a call nothing."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from stageroute_router.process.fork import ForkAware, survive_fork
from stageroute_router.store.records import StoredSegment


class KnownSegments(ForkAware):
    """The segments that calls of one group may belong to, in one process: what is stored, and what it has seen itself.

    Workers that do not know of each other's newcomers yet may admit a few too many between them: at most as many as
    there were places, each. When they have read what is stored, those seen first stay, the same ones everywhere, and
    the others share ``""`` until they are forgotten. So there are never more for longer than a refresh.

    Args:
        most: so many segments with a name, at most.
        forget_after_s: after how many seconds without a call a segment is forgotten.
    """

    def __init__(self, *, most: int, forget_after_s: float) -> None:
        self._most = most
        self._forget_after_s = forget_after_s
        self._last_used: dict[str, float] = {}
        self._excess: dict[str, float] = {}  # stored, and over the limit; the oldest first
        self._lock = threading.Lock()
        survive_fork(self)

    def after_fork_in_child(self) -> None:
        """Hold no lock of the parent's threads."""
        self._lock = threading.Lock()

    def admit(self, segment: str, *, now: float) -> str:
        """Return the segment that a call counts in: the one it names, or ``""`` where there is no place for it.

        Args:
            segment: as the call names it.
            now: seconds since the epoch.
        """
        known = self._last_used
        if segment in known:
            known[segment] = now
            return segment
        if not segment or len(known) >= self._most:
            return ""
        with self._lock:
            if segment in self._excess or (
                segment not in self._last_used and len(self._last_used) >= self._most
            ):
                return ""
            self._last_used[segment] = now
        return segment

    def read(self, stored: Mapping[str, StoredSegment], *, now: float) -> None:
        """Take over what is stored.

        Args:
            stored: all segments of the group that are not forgotten.
            now: seconds since the epoch.
        """
        by_age = sorted(stored.values(), key=lambda one: (one.first_seen, one.segment))
        since = now - self._forget_after_s
        with self._lock:
            used = dict(self._last_used)
            known = {
                one.segment: max(one.last_seen, used.get(one.segment, 0.0)) for one in by_age[: self._most]
            }
            for segment, last_used in used.items():
                # Its first decision may be on its way to the database.
                if segment not in stored and last_used >= since and len(known) < self._most:
                    known[segment] = last_used
            self._last_used = known
            self._excess = {one.segment: one.last_seen for one in by_age[self._most :]}

    def forget(self, *, now: float) -> float | None:
        """Forget the segments that no call had for too long.

        Args:
            now: seconds since the epoch.

        Returns:
            The moment before which a segment must have been seen last to be forgotten in the database too; None where
            there is none as far as this process knows.
        """
        since = now - self._forget_after_s
        with self._lock:
            # A dictionary that other threads write to has to be copied before it is gone through.
            kept = {name: used for name, used in dict(self._last_used).items() if used >= since}
            excess = {name: used for name, used in self._excess.items() if used >= since}
            if len(kept) == len(self._last_used) and len(excess) == len(self._excess):
                return None
            for name in list(excess)[: self._most - len(kept)]:  # the oldest first
                kept[name] = excess.pop(name)
            self._last_used, self._excess = kept, excess
        return since
