"""The one thread of a process that writes: it commits in groups, and acknowledges only what is stored."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future

from stageroute_router.rewards.receipt import Promise, RewardReceipt
from stageroute_router.store.contract import Store
from stageroute_router.store.health import WriterState
from stageroute_router.store.writer.thread import OnCommit, T, Tick, Worker
from stageroute_router.store.writes import RewardWrite, Write


class Writer:
    """Takes writes from any thread, without waiting, and commits them to a store in the order given.

    While one commit is under way the next batch gathers, so many callers share a commit. Rewards, for which
    a caller waits, are committed at once, with everything before them. Decisions and outcomes, for which
    no caller waits, first wait a moment for company: a commit takes a millisecond of the interpreter that the
    calls themselves need. A reward's future is resolved after the commit that stored it, never before.

    When the store fails, the batch is kept and tried again, in order, until it is stored; routing goes on.
    What the queue cannot hold is refused: a reward with :class:`StoreOverloadedError`, a decision or its
    outcome silently but counted in :attr:`dropped` (they are telemetry; a caller's answer must not wait for
    them). Outcomes get a tenth more room than decisions, so that calls already counted as open can close.

    A forked child begins with an empty queue and a thread of its own; what was queued stays the parent's.

    Args:
        store: where to write. It is not closed with the writer.
        on_commit: called on the writer's thread after every commit, and after the futures of its rewards are
            resolved, with the report and the batch. What it raises is counted and logged at most once a
            minute. A bound method is held weakly, so that an object which owns its writer can be forgotten.
        tick: called on the writer's thread when it starts, after :meth:`wake`, and when the seconds it
            returned have passed; None means not before the next :meth:`wake`. Held weakly likewise.
        max_queue: how many writes may wait; at about 1 kB each, the default is 100 MB at worst.
        max_batch: how many writes one commit takes at most; so many are committed without waiting.
        linger_s: how long a decision or outcome may wait for company, in seconds. A crash loses at most so
            much of them; never a reward that was acknowledged, nor its decision.
        reward_deadline_s: after how many seconds without a commit a reward's future gets
            :class:`StoreUnavailableError`, even while a commit hangs. The reward stays queued.
        patience_s: after how many seconds a commit, or whatever else the thread is doing, is broken off by
            :meth:`Store.interrupt`, to be tried again over a new connection.
        retry_s: the shortest and longest wait after a failed commit, in seconds; it doubles from one to the
            other, with jitter.
        clock: seconds from any origin, never going back.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_commit: OnCommit | None = None,
        tick: Tick | None = None,
        max_queue: int = 100_000,
        max_batch: int = 500,
        linger_s: float = 0.25,
        reward_deadline_s: float = 10.0,
        patience_s: float = 15.0,
        retry_s: tuple[float, float] = (0.05, 5.0),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker = Worker(
            store,
            on_commit=on_commit,
            tick=tick,
            max_queue=max_queue,
            max_batch=max_batch,
            linger_s=linger_s,
            reward_deadline_s=reward_deadline_s,
            patience_s=patience_s,
            retry_s=retry_s,
            clock=clock,
        )

    def submit(self, write: Write) -> bool:
        """Queue a write and return at once: whether it was taken, or dropped because the queue is full.

        Raises:
            StoreOverloadedError: the write is a reward, and the queue is full.
            StoreUnavailableError: the write is a reward, and the writer was closed.
        """
        return self._worker.put(write, None)

    def submit_reward(self, write: RewardWrite, future: Promise | None = None) -> Future[RewardReceipt]:
        """Queue a reward, or its revocation; the future gives its receipt once it is stored.

        Args:
            write: the reward.
            future: the one to use, for a kind of its own; a plain one by default.

        Raises:
            StoreOverloadedError: the queue is full.
            StoreUnavailableError: the writer was closed.
        """
        future = Promise() if future is None else future
        self._worker.put(write, future)
        return future

    def run(self, job: Callable[[], T]) -> Future[T]:
        """Run a function on the writer's thread between two commits; the future gives what it returns.

        Raises:
            StoreUnavailableError: the writer was closed.
        """
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        self._worker.put_job(job, future)
        return future

    def wake(self) -> None:
        """Have ``tick`` called soon; starts the thread if need be."""
        self._worker.wake()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything submitted before is stored and ``on_commit`` has seen it.

        Args:
            timeout: at most so many seconds; None waits for ever.

        Returns:
            Whether everything is.
        """
        return self._worker.flush(timeout)

    def close(self, timeout: float | None = 5.0) -> int:
        """Store what is queued, then end the thread. Closing twice is harmless.

        Args:
            timeout: at most so many seconds; None waits for ever.

        Returns:
            How many writes could not be stored in that time, and are lost: 0 when all is well.
        """
        return self._worker.close(timeout)

    @property
    def pending(self) -> int:
        """Writes submitted that are not stored yet."""
        return self._worker.queue.pending

    @property
    def state(self) -> WriterState:
        """What an operator should know."""
        return self._worker.state()

    @property
    def healthy(self) -> bool:
        """Whether the last commit succeeded (True before the first)."""
        return self._worker.last_error is None

    @property
    def last_error(self) -> Exception | None:
        """Why commits are failing now; None when they are not."""
        return self._worker.last_error

    @property
    def dropped(self) -> int:
        """Writes refused because the queue was full or the writer closed."""
        return self._worker.dropped

    @property
    def rejected(self) -> int:
        """Writes that the store refused for good, because of a value it cannot keep."""
        return self._worker.rejected

    @property
    def callback_errors(self) -> int:
        """Exceptions raised by ``on_commit`` and ``tick``."""
        return self._worker.callback_errors

    def __del__(self) -> None:
        worker = getattr(self, "_worker", None)
        if worker is None or worker.closing:
            return
        if worker.queue.pending:
            warnings.warn(
                f"a Writer with {worker.queue.pending} pending writes was forgotten; call close() to be sure of them",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
        worker.abandon()
