"""Which automatic segment a call belongs to: asked for each call, of groups whose segments are found in texts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from stageroute_router.groups.group import Group
from stageroute_router.groups.segmenter import Segmenting
from stageroute_router.process.logs import RateLimitedLogger
from stageroute_router.reports.status import StatusWarning
from stageroute_router.reports.warnings import segment_warnings

logger = logging.getLogger("stageroute_router")


class CallSegments:
    """Finds automatic segments. Raises nothing: a call whose text cannot be used goes on without a segment.

    Args:
        groups: the managed groups by name.
    """

    def __init__(self, groups: Mapping[str, Group]) -> None:
        self._groups = groups
        self._log = RateLimitedLogger(logger)

    def of_text(self, group: str, text: str) -> str:
        """Return the automatic segment of a call by what it asks; ``""`` until enough calls were seen to find any.

        Nothing of the text is kept: 18 numbers of it are, in memory, until the segments are found.
        """
        segmenting = self._segmenting(group)
        return "" if segmenting is None else segmenting.segment(text)

    def known(self, group: str, text: str) -> str | None:
        """Return the automatic segment of a call if it can be told without embedding its text; None where it cannot."""
        segmenting = self._segmenting(group)
        return "" if segmenting is None else segmenting.known(text)

    def of_embedding(self, group: str, text: str, numbers: Sequence[float]) -> str:
        """Return the automatic segment of a call by its text's embedding, as :meth:`of_text` does by the text.

        Of the text a digest is kept for a while, in memory, under a key of this process's own.
        """
        known = self._groups.get(group)
        if known is None or known.segments is None or known.segments.segmenting is None:
            return ""
        segmenting = known.segments.segmenting
        failures = segmenting.failures
        try:
            return known.segments.of_embedding(text, numbers)
        finally:
            if segmenting.failures != failures:
                self._log_failures(group, segmenting)

    def failed(self, group: str, why: str) -> None:
        """Count a call whose text could not be embedded, and log it at most once a minute.

        Args:
            group: the model group.
            why: must tell nothing of the text.
        """
        segmenting = self._segmenting(group)
        if segmenting is not None:
            segmenting.failed(why)
            self._log_failures(group, segmenting)

    def failures(self) -> Mapping[str, int]:
        """Return how many calls could not be told apart in this process, by group whose segments are found in texts."""
        found = ((name, self._segmenting(name)) for name in self._groups)
        return {name: segmenting.failures for name, segmenting in found if segmenting is not None}

    def warnings(self, group: str) -> list[StatusWarning]:
        """Return the warnings about a group's automatic segments."""
        segmenting = self._segmenting(group)
        return [] if segmenting is None else segment_warnings(segmenting.failures, segmenting.last_failure)

    def _segmenting(self, group: str) -> Segmenting | None:
        known = self._groups.get(group)
        return None if known is None or known.segments is None else known.segments.segmenting

    def _log_failures(self, group: str, segmenting: Segmenting) -> None:
        self._log.warning(
            "calls of group %r go on without a segment, %d so far: %s",
            group,
            segmenting.failures,
            segmenting.last_failure,
        )
