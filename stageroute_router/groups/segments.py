"""The segments of one group's calls in one process: which there may be, and how a text's is found."""

from __future__ import annotations

from collections.abc import Sequence

from stageroute_router.core.segments.clusters import Segmenter
from stageroute_router.core.segments.features import BYTES
from stageroute_router.core.segments.projection import projected
from stageroute_router.groups.known_segments import KnownSegments
from stageroute_router.groups.segmenter import Segmenting, embedding_featuriser
from stageroute_router.settings.segments import SegmentSettings
from stageroute_router.store.records import StoredGroup
from stageroute_router.store.writes import SegmenterFitted, SegmentsForgotten

_AUTOMATIC_SEGMENTS = 32  # measured: 16 to 128 are the same


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
