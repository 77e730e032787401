"""What waits to be written: order, groups, and what is refused when there is no room."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future

from stageroute_router.rewards.receipt import RewardReceipt
from stageroute_router.store.writes import (
    CallFailed,
    CallSettled,
    CallWithdrawn,
    GroupConfigured,
    SegmenterFitted,
    StagePlanned,
    Write,
)

Queued = tuple[Write, "Future[RewardReceipt] | None", float]
"""A write; the future of a reward that a caller waits for, and by when it should be done."""


class WriteQueue:
    """The writes of one process that are not stored yet, in order.

    Any thread may add to it, without a lock: 64 threads that report at once would spend their time waiting for one.
    Everything else is for the thread that commits, or for the one that holds its lock.

    The batch being committed is part of the queue: while commits fail, the very same batch is tried again.

    Args:
        most: how many writes may wait; outcomes get a tenth more, so that calls already counted as open can
            close, and stages and settings, which are few, are always taken.
        most_at_once: how many writes one batch takes at most.
    """

    def __init__(self, *, most: int, most_at_once: int) -> None:
        self.most = most
        self.most_at_once = most_at_once
        self.batch: list[Queued] = []
        """What is being committed, or acknowledged."""
        self.done = 0
        self._waiting: deque[Queued] = deque()
        self._hurried = False
        # A caller may wait for one of those: set after a reward is added, taken back before writes are taken.
        self._may_grow = False
        self._isolated = 0
        # So many of the next writes are committed one by one, to find the one that cannot be stored.

    def __len__(self) -> int:
        """Return how many writes wait, the batch being committed not among them."""
        return len(self._waiting)

    @property
    def pending(self) -> int:
        """Writes taken that are not done."""
        return len(self.batch) + len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether rewards and decisions are refused."""
        return len(self._waiting) >= self.most

    @property
    def is_urgent(self) -> bool:
        """Whether what waits should not wait for company."""
        return bool(self._hurried or self._isolated or len(self._waiting) >= self.most_at_once)

    @property
    def awaited(self) -> list[tuple[float, Future[RewardReceipt]]]:
        """The futures of all rewards that are not done, by when they should be: the oldest first."""
        return [(due, future) for _, future, due in (*self.batch, *self._waiting) if future is not None]

    @property
    def next_due(self) -> float | None:
        """By when the oldest reward that is not done should be; None if there is none."""
        oldest = [due for _, future, due in self.batch if future is not None][:1]
        if not oldest and self._hurried:
            oldest = [due for due, _ in self.awaited][:1]
        return oldest[0] if oldest else None

    def has_room_for(self, write: Write) -> bool:
        """Whether this write may be added."""
        if not self.is_full or isinstance(write, StagePlanned | GroupConfigured | SegmenterFitted):
            return True
        is_outcome = isinstance(write, CallSettled | CallFailed | CallWithdrawn)
        return is_outcome and len(self._waiting) < self.most + self.most // 10

    def add(self, queued: Queued) -> None:
        """Add a write at the end."""
        self._waiting.append(queued)
        if queued[1] is not None:
            self._hurried = True

    def take_back(self, queued: Queued) -> None:
        """Remove a write that was added when it was too late."""
        self._waiting.remove(queued)

    def fill_batch(self) -> None:
        """Make the next writes the batch, unless there is one: kept since a commit failed."""
        if self.batch:
            self._may_grow = False
            return
        self._may_grow = not self._isolated
        self.batch = self._take(1 if self._isolated else self.most_at_once)
        self._isolated = max(0, self._isolated - 1)

    def extend_batch(self) -> list[Queued]:
        """Add what waits to the batch, and return it: nothing if the batch is tried again, or one write alone."""
        added = self._take(self.most_at_once - len(self.batch)) if self._may_grow else []
        self.batch = [*self.batch, *added]
        return added

    def _take(self, most: int) -> list[Queued]:
        self._hurried = False
        taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._hurried = self._hurried or bool(self._waiting)
        return taken

    def take_apart(self) -> None:
        """Have each write of the batch committed by itself from now on."""
        self._waiting.extendleft(reversed(self.batch))
        self._isolated = len(self.batch)
        self.batch = []

    def finish(self) -> None:
        """Count the batch as done."""
        self.done += len(self.batch)
        self.batch = []
