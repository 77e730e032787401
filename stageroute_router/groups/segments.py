"""The segments of one group's calls in one process: which there may be, and how a text's is found."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from stageroute_router.core.segments.clusters import Segmenter
from stageroute_router.core.segments.features import BYTES
from stageroute_router.core.segments.projection import projected
from stageroute_router.groups.segmenter import Segmenting, embedding_featuriser
from stageroute_router.process.fork import ForkAware, survive_fork
from stageroute_router.settings.segments import SegmentSettings
from stageroute_router.store.records import StoredGroup, StoredSegment
from stageroute_router.store.writes import SegmenterFitted, SegmentsForgotten

_AUTOMATIC_SEGMENTS = 32  # measured: 16 to 128 are the same


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


class GroupSegments:
    """Which segments a group has, and where they are found in texts, the segmenter of these.

    Args:
        group: the model group.
        settings: the group's.

    Attributes:
        known: the segments that calls may belong to.
        segmenting: finds the automatic segments of texts; None where segments are not found so.
    """

    def __init__(self, group: str, settings: SegmentSettings) -> None:
        self._group = group
        self.known = KnownSegments(most=settings.most, forget_after_s=settings.forget_after)
        self.segmenting: Segmenting | None = None
        if settings.by == "auto":
            self.segmenting = Segmenting(
                featuriser=BYTES if settings.embedding is None else embedding_featuriser(settings.embedding),
                segments=min(settings.most, _AUTOMATIC_SEGMENTS),
            )
        self._is_fitted = False  # a segmenter is on its way to the database

    def of_embedding(self, text: str, numbers: Sequence[float]) -> str:
        """Return the automatic segment of a text by its embedding. Numbers that cannot be used are a failure."""
        if self.segmenting is None:
            return ""
        try:
            return self.segmenting.segment_of(projected(numbers), text=text)
        except ValueError as error:
            self.segmenting.failed(f"what it was embedded as cannot be used: {error}")
            return ""

    # --- what is stored, on the writer's thread ------------------------------------------------------------

    def read(self, stored: StoredGroup, *, now: float) -> None:
        """Take over what is stored of the group's segments.

        Raises:
            ValueError: the segmenter that is stored cannot be read: a later version of ours made it, perhaps.
        """
        self.known.read(stored.segments, now=now)
        if stored.segmenter is not None:
            self.adopt(stored.segmenter)

    def forget(self, *, now: float) -> SegmentsForgotten | None:
        """Forget the segments that no call had for too long; return what is to be stored."""
        unseen_since = self.known.forget(now=now)
        return (
            None if unseen_since is None else SegmentsForgotten(group=self._group, unseen_since=unseen_since)
        )

    def fit(self, *, now: float) -> SegmenterFitted | None:
        """Return a segmenter to be stored where enough calls were collected: all workers use the first one stored."""
        if self.segmenting is None or self._is_fitted or not self.segmenting.is_due:
            return None
        fitted = self.segmenting.fit()
        if fitted is None:
            return None
        self._is_fitted = True
        return SegmenterFitted(
            group=self._group, version=fitted.version, fitted=fitted.to_json(), fitted_at=now
        )

    def adopt(self, stored: SegmenterFitted) -> None:
        """Take over the segmenter that is stored.

        Raises:
            ValueError: it cannot be read.
        """
        if self.segmenting is None:
            return
        present = self.segmenting.segmenter
        if present is not None and stored.version <= present.version:
            return  # read again because something else of the group is new
        self.segmenting.adopt(Segmenter.from_json(stored.fitted))

    def committed(self, stored: SegmenterFitted) -> None:
        """Take over the segmenter that this process has stored, or that was stored before it.

        Raises:
            ValueError: it cannot be read.
        """
        self._is_fitted = False
        self.adopt(stored)
