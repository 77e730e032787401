"""The contract of a store: what is written, what comes back, and what is promised.

A store keeps, per group: sufficient statistics per (segment, arm), the account, the stages with their live
sets, what operators pinned, the decisions, and the rewards. Everything is written through :meth:`Store.commit`, which
applies a batch of writes in one transaction, in order, and says what each of them did. A batch is applied whole or not
at all; once ``commit`` returns, it is durable. Applying the same batch twice changes nothing the second time
(as long as its writes are in the order of their times, and it names no decision before making it: what was ignored
then would be found now).

Two things happen in a commit besides, now and then, whichever worker makes it (an empty batch will do): decisions
without a reported outcome are closed as lost, and what is older than the store retains is folded away. And a commit
that changes a group takes a sample of its totals, if the last one is old enough or a stage was opened.

Nothing of prompts, answers, headers or keys is ever part of a write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from stageroute_router.store.history import HistoryPoint
from stageroute_router.store.records import (
    CommitReport,
    Difference,
    StatisticsByStage,
    StoredDecision,
    StoredGroup,
)
from stageroute_router.store.writes import MixRecorded, StagePlanned, Write

PENDING_REWARD_LIFETIME_S = 24 * 3600.0
"""How long a reward with an unknown key is kept, in seconds: a day.

Long enough for a worker's decisions to arrive after an outage of the database, short enough that a typing
error in a key does not stay for ever.
"""

OPEN_LIFETIME_S = 3600.0
"""After how many seconds a decision whose outcome was not reported is closed as lost: an hour.

Its process was killed, or LiteLLM reported nothing (a stream left unread). An hour is longer than any answer takes.
"""

DEFAULT_DATABASE = "sqlite:///stageroute.db"
"""Where what is learned is kept by default: a file in the working directory."""

DEFAULT_RETENTION_S = 90 * 24 * 3600.0
"""How long decisions and rewards are kept before they are folded into sums, in seconds: 90 days."""

UPKEEP_INTERVAL_S = 60.0
"""How often the workers of a database, together, look for what is lost, unclaimed or too old, in seconds."""

MIX_LIFETIME_S = 3600.0
"""For how many seconds decisions may name a recorded mix: an hour. Then it is recorded anew.

So a mix that is older than every decision by this much is unused.
"""

LAST_SEEN_STEP_S = 3600.0
"""When a segment was seen last is stored at most once in so many seconds: an hour."""

LONGEST_SEGMENTER = 1_000_000
"""Characters of a fitted segmenter: 256 clusters by 64 numbers have some 300,000."""

UPKEEP_STEP = 500
"""How many decisions one commit closes as lost, and how many it folds away, at most: a commit stays short."""


More = Callable[[], Sequence[Write]]
"""Returns writes that have come up while a batch waited to be committed, see :meth:`Store.commit`."""


def nothing_more() -> Sequence[Write]:
    """Return no writes."""
    return ()


class Store(Protocol):
    """A place that keeps what was learned. Implementations may be called from any thread."""

    def load(self, group: str) -> StoredGroup:
        """Return what is stored of a group; an empty one when nothing is.

        What cannot be used is left out and named in :attr:`StoredGroup.problems`: it is no error, and it stays.
        """
        ...

    def statistics_by_stage(self, group: str) -> StatisticsByStage:
        """Return a group's statistics per stage and cell; a cell of zeros is as good as none.

        An observation counts in the stage in which its decision was made, however late its cost or reward comes. What
        was folded away has no stage any more: None. All stages together are the statistics that :meth:`load` returns,
        up to rounding.
        """
        ...

    def groups(self) -> Sequence[str]:
        """Return the names of all groups with anything stored, sorted."""
        ...

    def versions(self) -> Mapping[str, int]:
        """Return the version of each group: a cheap way to see whether another worker has changed anything.

        Every commit that changes a group's statistics, account, stages, pins or segments adds 1 to its version, in the
        same transaction; nothing else does. A group without a row yet is missing, which means 0.
        """
        ...

    def stages(self, group: str, *, last: int | None = None) -> Sequence[StagePlanned]:
        """Return a group's stages in order, or only the ``last`` so many."""
        ...

    def stage(self, group: str, number: int) -> StagePlanned | None:
        """Return one stage of a group, or None."""
        ...

    def decision(self, key: str) -> StoredDecision | None:
        """Return the decision a key names (decision, call or response id), or None."""
        ...

    def decisions_of_call(self, call_id: str) -> Sequence[StoredDecision]:
        """Return all decisions of a logical call in the order of their arrival: its retries and fallbacks."""
        ...

    def recent_decisions(
        self, group: str, *, limit: int = 50, before: float | None = None
    ) -> Sequence[StoredDecision]:
        """Return a group's latest decisions, the latest first.

        Args:
            group: the model group.
            limit: at most so many.
            before: only those made before this moment, seconds since the epoch: to go on from the last one seen.
        """
        ...

    def export_decisions(self, group: str | None = None) -> Iterator[StoredDecision]:
        """Return all decisions with their rewards in the order of their arrival, of all groups or of one.

        Needs no more memory however many there are, and keeps no transaction open: what workers store meanwhile is
        seen in what has not been read yet.
        """
        ...

    def mix(self, mix_id: str) -> MixRecorded | None:
        """Return a distribution that decisions were sampled from, or None."""
        ...

    def history(self, group: str, *, points: int = 300) -> Sequence[HistoryPoint]:
        """Return a group's totals over time, the oldest first.

        Samples are taken by commits, see :mod:`~stageroute_router.store.history`.

        Args:
            group: the model group.
            points: at most so many, at least 1: the present ones, which come last, and an even choice of the samples.
        """
        ...

    def commit(self, batch: Sequence[Write], *, more: More = nothing_more) -> CommitReport:
        """Apply a batch in order, in one transaction, durably.

        Args:
            batch: the writes.
            more: asked once, when no other worker can commit before this batch any more: what has come up while it
                waited for that. It is applied after the batch, as a part of it. By default, nothing has.

        Raises:
            StoreError: nothing of the batch was applied (or, if the connection broke at the very end, that is
                not known): committing the same batch again is right in both cases.
            InvalidRewardError: a reward is not in [0, 1]. Nothing was applied, and trying again is useless.
            ValueError: another number of the batch cannot be stored (a negative or infinite cost, say). As
                above.
        """
        ...

    def interrupt(self) -> None:
        """Break off what other threads are waiting for the database to do; their calls raise ``StoreError``.

        For a database that accepts requests and never answers. Harmless when no thread waits.
        """
        ...

    def verify(self) -> Sequence[Difference]:
        """Compare statistics and accounts with what all decisions and rewards amount to; nothing when all is well."""
        ...

    def rebuild(self) -> Sequence[Difference]:
        """Repair what :meth:`verify` finds, and return what was found. Groups that changed get a new version."""
        ...

    def close(self) -> None:
        """Release files and connections. Closing twice is harmless."""
        ...
