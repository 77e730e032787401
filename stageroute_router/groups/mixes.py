"""Which mix a decision names: recorded at its first use, and then once an hour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from stageroute_router.core.snapshot import Estimate, Snapshot, UsedMix
from stageroute_router.groups.codec import mix_of
from stageroute_router.process.ids import new_mix_id
from stageroute_router.store.contract import MIX_LIFETIME_S
from stageroute_router.store.writes import MixRecorded

MOST_PRICED_MIXES = 8
"""Mixes at callers' own prices that are recorded per estimate; calls at further prices share one record without arms.

Applications have a few prices. A client that sends another one with every call must not fill the database.
"""


class RecordedMixes:
    """The recorded mixes of a group's latest estimate. Not thread-safe: its owner holds a lock.

    Args:
        group: the model group.
    """

    def __init__(self, group: str) -> None:
        self._group = group
        self._estimate: Estimate | None = None
        # Id and time of each record; None stands for the mixes of all further prices.
        self._records: dict[UsedMix | None, tuple[str, float]] = {}
        self._priced = 0

    def id_of(
        self, used: UsedMix, snapshot: Snapshot, *, now: float, record: Callable[[MixRecorded], object]
    ) -> str:
        """Return the id of what a choice was sampled from.

        Args:
            used: what it was sampled from.
            snapshot: the snapshot it was made by.
            now: seconds since the epoch.
            record: is given the mix where it is to be stored.
        """
        if self._estimate is not snapshot.estimate:
            self._estimate = snapshot.estimate
            self._records, self._priced = {}, 0
        kept: UsedMix | None = used
        if used.priced and used not in self._records and self._priced >= MOST_PRICED_MIXES:
            kept = None
        known = self._records.get(kept)
        if known is not None and now - known[1] < MIX_LIFETIME_S:
            return known[0]
        mix_id = new_mix_id()
        mix = mix_of(self._group, snapshot, used, mix_id=mix_id, made_at=now)
        if kept is None:
            mix = replace(mix, arms=(), shadow_price=None, segment=None)
        elif used.priced and known is None:
            self._priced += 1
        record(mix)
        self._records[kept] = (mix_id, now)
        return mix_id
