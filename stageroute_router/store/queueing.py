"""What waits to be written: order, groups, and what is refused when there is no room."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future

from stageroute_router.store.base import (
    CallFailed,
    CallSettled,
    CallWithdrawn,
    GroupConfigured,
    RewardReceipt,
    StagePlanned,
    Write,
)

Queued = tuple[Write, "Future[RewardReceipt] | None"]
"""A write, and the future of a reward somebody waits for."""


class WriteQueue:
    """The writes of one process that are not stored yet, in order. Not thread-safe: its owner holds a lock.

    The batch being committed is part of it: while commits fail, the very same batch is tried again.

    Args:
        most: how many writes may wait; outcomes get a tenth more, so that calls already counted as open can
            close, and stages and settings, which are few, are always taken.
        most_at_once: how many writes one batch takes at most.
    """

    def __init__(self, *, most: int, most_at_once: int) -> None:
        self.most = most
        self.most_at_once = most_at_once
        self.batch: list[Queued] = []
        """What is being committed."""
        self.submitted = 0
        self.done = 0
        self.rewards = 0
        """Rewards among those that are not done: somebody waits for them."""
        self._waiting: deque[Queued] = deque()
        self._isolated = 0
        # So many of the next writes are committed one by one, to find the one that cannot be stored.

    def __len__(self) -> int:
        """Return how many writes wait, the batch being committed not among them."""
        return len(self._waiting)

    @property
    def pending(self) -> int:
        """Writes taken that are not done."""
        return self.submitted - self.done

    @property
    def is_full(self) -> bool:
        """Whether rewards and decisions are refused."""
        return len(self._waiting) >= self.most

    @property
    def is_urgent(self) -> bool:
        """Whether what waits should not wait for company."""
        return bool(self.rewards or self._isolated or len(self._waiting) >= self.most_at_once)

    def has_room_for(self, write: Write) -> bool:
        """Whether this write may be added."""
        if not self.is_full or isinstance(write, StagePlanned | GroupConfigured):
            return True
        is_outcome = isinstance(write, CallSettled | CallFailed | CallWithdrawn)
        return is_outcome and len(self._waiting) < self.most + self.most // 10

    def add(self, write: Write, future: Future[RewardReceipt] | None) -> None:
        """Add a write at the end."""
        self._waiting.append((write, future))
        self.submitted += 1
        self.rewards += future is not None

    def fill_batch(self) -> None:
        """Make the next writes the batch, unless there is one: kept since a commit failed."""
        if self.batch:
            return
        size = 1 if self._isolated else self.most_at_once
        self.batch = [self._waiting.popleft() for _ in range(min(size, len(self._waiting)))]
        self._isolated = max(0, self._isolated - 1)

    def take_apart(self) -> None:
        """Have each write of the batch committed by itself from now on."""
        self._waiting.extendleft(reversed(self.batch))
        self._isolated = len(self.batch)
        self.batch = []

    def finish(self, batch: list[Queued]) -> None:
        """Count a batch as done."""
        self.done += len(batch)
        self.rewards -= sum(future is not None for _, future in batch)
