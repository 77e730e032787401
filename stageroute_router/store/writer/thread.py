"""The thread behind a :class:`~stageroute_router.store.writer.Writer`: its loop and its state."""

from __future__ import annotations

import atexit
import inspect
import logging
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar, get_args

from stageroute_router.errors import StoreError, StoreOverloadedError, StoreUnavailableError
from stageroute_router.process.fork import ForkAware, survive_fork
from stageroute_router.rewards.receipt import RewardReceipt
from stageroute_router.store.contract import Store
from stageroute_router.store.health import Incident, WriterState
from stageroute_router.store.records import CommitReport
from stageroute_router.store.writer.watchdog import Watchdog, fail, succeed
from stageroute_router.store.writer.write_queue import Queued, WriteQueue
from stageroute_router.store.writes import RewardWrite, Write

OnCommit = Callable[[CommitReport, Sequence[Write]], object]
Tick = Callable[[], "float | None"]
T = TypeVar("T")

logger = logging.getLogger(__name__)

_REWARDS = get_args(RewardWrite)  # a union is slower to ask
_QUIET_S = 60.0
_TICK_AGAIN_S = 5.0
_EXIT_TIMEOUT_S = 2.0


class Worker(ForkAware):
    """The queue, the thread and their state: everything that a forked process has to begin anew.

    The thread holds this and not the :class:`Writer`, so that a forgotten writer is noticed.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_commit: OnCommit | None,
        tick: Tick | None,
        max_queue: int,
        max_batch: int,
        linger_s: float,
        reward_deadline_s: float,
        patience_s: float,
        retry_s: tuple[float, float],
        clock: Callable[[], float],
    ) -> None:
        self.store = store
        self.on_commit = _weakly(on_commit)
        self.tick = _weakly(tick)
        self.max_queue = max_queue
        self.max_batch = max_batch
        self.linger_s = linger_s
        self.reward_deadline_s = reward_deadline_s
        self.patience_s = patience_s
        self.retry_s = retry_s
        self.clock = clock
        self.closing = False
        self._begin()
        survive_fork(self)

    def _begin(self) -> None:
        # Re-entrant, because forgetting a Writer may be noticed in the middle of anything.
        lock = threading.RLock()
        self.work = threading.Condition(lock)
        """The thread waits here."""
        self.progress = threading.Condition(lock)
        """Those who flush wait here."""
        self.thread: threading.Thread | None = None
        self.idle = False
        self.given_up = False

        self.queue = WriteQueue(most=self.max_queue, most_at_once=self.max_batch)
        self.watchdog = Watchdog(
            clock=self.clock,
            rewards=self.queue,
            deadline_s=self.reward_deadline_s,
            patience_s=self.patience_s,
            reason=lambda: self.last_error or "the database is slow",
            interrupt=self.store.interrupt,
        )
        self.jobs: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self.wanted = 0
        """A caller waits until so many are done."""
        self.linger_until: float | None = None
        """Until then the first write that waits may wait for company; None if none waits, as far as is known."""

        self.incident: Incident | None = None
        self.failures = 0
        self.retry_at: float | None = None
        self.tick_at: float | None = self.clock() if self.tick is not None else None

        self.last_commit_at: float | None = None
        self.dropped = 0
        self.rejected = 0
        self.callback_errors = 0
        self._complained_at: dict[str, float] = {}

    def after_fork_in_child(self) -> None:
        """Begin with an empty queue: what is queued, and its futures, are the parent's."""
        self._begin()
        self.given_up = self.closing

    # -- called from any thread ----------------------------------------------------------------------------

    @property
    def last_error(self) -> Exception | None:
        """Why commits are failing now; None when they are not."""
        incident = self.incident
        return None if incident is None else incident.error

    def state(self) -> WriterState:
        """Return what an operator should know."""
        return WriterState(
            incident=self.incident,
            unanswered_s=self.watchdog.busy_s,
            is_full=self.queue.is_full,
            queued=self.queue.pending,
            dropped=self.dropped,
            rejected=self.rejected,
            last_commit_at=self.last_commit_at,
        )

    def put(self, write: Write, future: Future[RewardReceipt] | None) -> bool:
        """Queue a write, with the future of a reward that a caller waits for."""
        # What the last commits lead to, such as a stage, is stored before the end.
        closed = self.closing and threading.current_thread() is not self.thread
        if closed or (self.queue.is_full and not self.queue.has_room_for(write)):
            return self._refuse(write)
        queued = (write, future, self.clock() + self.reward_deadline_s if future is not None else 0.0)
        self.queue.add(queued)
        # In this order: first the write is there, then we look whether the thread waits. The thread first says that
        # it waits, then looks whether there is a write. So one of the two sees the other, without a lock. The caller
        # that rouses the thread says that it waits no longer, so that the next ones need not.
        if self.idle or self.thread is None or self.closing:
            with self.work:
                if self.given_up or (self.closing and self.thread is None):
                    self.queue.take_back(queued)
                    return self._refuse(write)
                if self.linger_until is None or self._is_urgent():
                    self._rouse(unless_retrying=True)
        return True

    def put_job(self, job: Callable[[], T], future: Future[T]) -> None:
        """Queue a function to run on the thread."""
        with self.work:
            if self.closing:
                raise StoreUnavailableError("the writer was closed; nothing can be run on its thread")
            self.jobs.append((job, future))
            self._rouse()

    def wake(self) -> None:
        """Have the tick called, and deadlines looked at, soon."""
        self.watchdog.look()
        with self.work:
            if self.closing:
                return
            if self.tick is not None:
                self.tick_at = self.clock()
            self._rouse()

    def flush(self, timeout: float | None) -> bool:
        """Wait until everything submitted so far is stored: whether it is."""
        if threading.current_thread() is self.thread:
            raise RuntimeError("flush() on the writer's own thread would wait for itself")
        with self.work:
            queue = self.queue
            target = queue.done + queue.pending
            if queue.done < target:
                self.wanted = max(self.wanted, target)
                self._retry_now()
            return self.progress.wait_for(lambda: queue.done >= target or self.given_up, timeout) and (
                queue.done >= target
            )

    def close(self, timeout: float | None) -> int:
        """Store what is queued and end the thread; return how many writes are left."""
        if threading.current_thread() is self.thread:
            raise RuntimeError("close() on the writer's own thread would wait for itself")
        give_up_at = None if timeout is None else time.monotonic() + timeout
        with self.work:
            self.closing = True
            thread = self.thread
            if thread is not None:
                self._retry_now()
                self.progress.wait_for(
                    lambda: self.given_up or (self.queue.pending == 0 and not self.jobs), timeout
                )
            left = self.queue.pending
            self.given_up = True
            jobs = [future for _, future in self.jobs]
            self.jobs.clear()
            self.work.notify()
            self.progress.notify_all()
        error = StoreUnavailableError("the writer was closed before the database took the write")
        self.watchdog.fail_all(error)
        for future in jobs:
            fail(future, error)
        if thread is not None and not left:
            thread.join(None if give_up_at is None else max(0.1, give_up_at - time.monotonic()))
        return left

    def abandon(self) -> None:
        """Let the thread store what is queued and end; no caller waits for it."""
        with self.work:
            self.closing = True
            self.work.notify()

    # -- the thread ----------------------------------------------------------------------------------------

    def loop(self) -> None:
        """Do what is due until the end: the thread's whole life."""
        while (step := self._next_step()) is not None:
            with self.watchdog.operation():
                step()

    def _next_step(self) -> Callable[[], None] | None:
        """Wait until there is something to do, and return it; None to end."""
        with self.work:
            while not self.given_up:
                self.idle = True  # before looking at the queue, see put()
                now = self.clock()
                step = self._due(now)
                if step is not None:
                    self.idle = False
                    return step
                if self.closing and not self.queue.pending:
                    break
                self.work.wait(self._seconds_to_wait(now))
            self.idle = False
            self.thread = None
            return None

    def _due(self, now: float) -> Callable[[], None] | None:
        if self.jobs:
            return self._run_job
        if self.tick_at is not None and self.tick_at <= now and not self.closing:
            return self._tick
        if self.retry_at is not None and self.retry_at > now:
            return None
        if not self.queue.pending:
            return None
        if self.linger_until is None:
            self.linger_until = now + self.linger_s
        if self.queue.batch or self._is_urgent() or self.linger_until <= now:
            self.linger_until = None
            return self._commit
        return None

    def _is_urgent(self) -> bool:
        """Whether what is queued should not wait for company."""
        return self.closing or self.queue.is_urgent or self.queue.done < self.wanted

    def _seconds_to_wait(self, now: float) -> float | None:
        moments = [self.retry_at, None if self.closing else self.tick_at]
        if self.retry_at is None:
            moments.append(self.linger_until)
        known = [moment for moment in moments if moment is not None]
        return min(max(0.0, min(known) - now), threading.TIMEOUT_MAX) if known else None

    def _commit(self) -> None:
        with (
            self.work
        ):  # those who flush count what is not stored, and nothing may be between queue and batch then
            self.queue.fill_batch()
        try:
            report = self.store.commit(_writes_of(self.queue.batch), more=self._more)
        except StoreError as error:
            self._keep(error)
        except Exception as error:  # noqa: BLE001 - an unforeseen value must not end the thread
            self._reject(error)
        else:
            self._acknowledge(report, _writes_of(self.queue.batch))

    def _more(self) -> Sequence[Write]:
        """Return what has been queued while the commit waited for its turn: from now on part of its batch."""
        with self.work:
            return _writes_of(self.queue.extend_batch())

    def _acknowledge(self, report: CommitReport, writes: Sequence[Write]) -> None:
        with self.work:
            self.last_commit_at = time.time()
            self.incident = None
            self.failures = 0
            self.retry_at = None
        receipts = iter(report.rewards)
        for write, future, _ in self.queue.batch:
            if isinstance(write, _REWARDS):
                receipt = next(receipts)
                if future is not None:
                    succeed(future, receipt)
        on_commit = self.on_commit() if self.on_commit is not None else None
        if on_commit is not None:
            try:
                on_commit(report, writes)
            except Exception:  # noqa: BLE001 - the callback must not end the thread
                self._count_callback_error("on_commit")
        with self.work:
            self.queue.finish()
            self.progress.notify_all()

    def _keep(self, error: StoreError) -> None:
        shortest, longest = self.retry_s
        with self.work:
            incident = self.incident
            self.incident = (
                Incident(since=time.time(), error=error) if incident is None else incident.again(error)
            )
            delay = min(longest, shortest * 2.0 ** min(self.failures, 30))
            self.failures += 1
            self.retry_at = self.clock() + delay * random.uniform(0.5, 1.0)
        self._complain("commit", "cannot store %d writes, will try again: %s", len(self.queue.batch), error)

    def _reject(self, error: Exception) -> None:
        """Drop a write that no attempt will ever store; first find it, if it came with others."""
        with self.work:
            if len(self.queue.batch) > 1:
                self.queue.take_apart()
                return
            self.rejected += 1
        for write, future, _ in self.queue.batch:
            self._complain("reject", "dropped a %s that cannot be stored: %r", type(write).__name__, error)
            if future is not None:
                fail(future, error)
        with self.work:
            self.queue.finish()
            self.progress.notify_all()

    def _run_job(self) -> None:
        with self.work:
            job, future = self.jobs.popleft()
        try:
            result = job()
        except Exception as error:  # noqa: BLE001 - handed to the caller that waits for the future
            fail(future, error)
        else:
            succeed(future, result)
        with self.work:
            self.progress.notify_all()

    def _tick(self) -> None:
        with self.work:
            self.tick_at = None
        tick = self.tick() if self.tick is not None else None
        if tick is None:
            return
        try:
            delay = tick()
        except Exception:  # noqa: BLE001 - the callback must not end the thread
            self._count_callback_error("tick")
            delay = _TICK_AGAIN_S
        with self.work:
            # Woken in the meantime: that asks for a call earlier than any delay.
            if self.tick_at is None and delay is not None:
                self.tick_at = self.clock() + delay

    # -- helpers -------------------------------------------------------------------------------------------

    def _refuse(self, write: Write) -> bool:
        """Count a write that is not taken, and raise if it is a reward, whose caller should know."""
        with self.work:
            self.dropped += 1
        if not isinstance(write, RewardWrite):
            self._complain(
                "drop", "dropped a %s: the writer is closed, or its queue full", type(write).__name__
            )
        elif self.closing:
            raise StoreUnavailableError("the writer was closed; rewards can no longer be stored")
        else:
            raise StoreOverloadedError(
                f"{len(self.queue)} writes are waiting for the database, which is all that may "
                f"({self.last_error or 'it is slow'}); report rewards more slowly, or this one again later"
            )
        return False

    def _rouse(self, *, unless_retrying: bool = False) -> None:
        """Start the thread, or wake it if it waits; a thread that waits to try again need not know."""
        if self.thread is None:
            self._start()
        elif self.idle and not (unless_retrying and self.retry_at is not None):
            self.idle = False
            self.work.notify()

    def _start(self) -> None:
        thread = threading.Thread(target=self.loop, name="stageroute-writer", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the interpreter is ending, or the system has no thread left
            self.incident = Incident(since=time.time(), error=error)
            return
        self.thread = thread
        _running.add(self)

    def _retry_now(self) -> None:
        self.retry_at = None
        self.failures = 0
        self._rouse()

    def _count_callback_error(self, name: str) -> None:
        self.callback_errors += 1
        self._complain(name, "%s failed; %d such errors so far", name, self.callback_errors, exc_info=True)

    def _complain(self, kind: str, message: str, *details: object, exc_info: bool = False) -> None:
        """Log a warning, at most once a minute of each kind."""
        now = time.monotonic()
        if now - self._complained_at.get(kind, -_QUIET_S) >= _QUIET_S:
            self._complained_at[kind] = now
            logger.warning(message, *details, exc_info=exc_info)


_running: weakref.WeakSet[Worker] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Store what is queued when the program ends without closing its writers."""
    for worker in list(_running):
        was_closed = worker.given_up
        lost = worker.close(_EXIT_TIMEOUT_S)
        if lost and not was_closed:
            logger.error(
                "the program ends with %d writes that the database did not take: they are lost", lost
            )


def _writes_of(batch: Sequence[Queued]) -> list[Write]:
    return [write for write, _, _ in batch]


def _weakly(function: Callable[..., Any] | None) -> Callable[[], Callable[..., Any] | None] | None:
    if function is None:
        return None
    return weakref.WeakMethod(function) if inspect.ismethod(function) else lambda: function
