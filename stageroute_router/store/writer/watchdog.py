"""Keeps promises about time while the writer's thread hangs inside a database driver.

The writer's own thread cannot look at the clock while it waits for a database that accepts and never answers.
A second thread does: it fails the futures of rewards at their deadline, and breaks off what takes too long. It
lives only while there is something to watch, and sleeps until the next deadline.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from stageroute_router.errors import StoreUnavailableError
from stageroute_router.store.writer.write_queue import WriteQueue

T = TypeVar("T")


class Watchdog:
    """Deadlines of futures, and of the one operation under way.

    It looks for itself who waits, when a deadline may have passed: telling it of every future would cost each
    caller more than the future itself.

    Args:
        clock: seconds from any origin, never going back.
        rewards: the queue whose rewards have deadlines.
        deadline_s: how long it is from a future's beginning to its deadline, in seconds.
        patience_s: after how many seconds an operation is broken off, and again after as many more.
        reason: says why nothing was stored, for the message.
        interrupt: breaks off the operation; called from the watchdog's thread.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        rewards: WriteQueue,
        deadline_s: float,
        patience_s: float,
        reason: Callable[[], object],
        interrupt: Callable[[], object],
    ) -> None:
        self._clock = clock
        self._rewards = rewards
        self._deadline_s = deadline_s
        self._patience_s = patience_s
        self._reason = reason
        self._interrupt = interrupt
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._wakes_at = 0.0
        self._since: float | None = None
        self._patient_until = 0.0

    @property
    def busy_s(self) -> float:
        """For how many seconds the operation under way has taken; 0 if there is none."""
        since = self._since
        return 0.0 if since is None else self._clock() - since

    @contextmanager
    def operation(self) -> Iterator[None]:
        """Watch what is done inside the block."""
        with self._changed:
            self._since = self._clock()
            self._patient_until = self._since + self._patience_s
            next_due = self._rewards.next_due
            deadline = self._since + self._deadline_s if next_due is None else next_due
            self._be_awake_by(min(self._patient_until, deadline))
        try:
            yield
        finally:
            self._since = None

    def look(self) -> None:
        """Look at the clock now."""
        with self._changed:
            if self._thread is not None:
                self._wakes_at = self._clock()
                self._changed.notify()

    def fail_all(self, error: Exception) -> None:
        """Fail every future that a caller waits for."""
        for _, future in self._rewards.awaited:
            fail(future, error)

    # -- the thread ----------------------------------------------------------------------------------------

    def _be_awake_by(self, moment: float) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._loop, name="stageroute-watchdog", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending, or the system has no thread left
                return
            self._thread = thread
            self._wakes_at = moment
        elif moment < self._wakes_at:
            self._wakes_at = moment
            self._changed.notify()

    def _loop(self) -> None:
        while True:
            with self._changed:
                now = self._clock()
                open_ones = [(due, future) for due, future in self._rewards.awaited if not future.done()]
                late = [future for due, future in open_ones if due <= now]
                is_stuck = self._is_stuck(now)
                if not late and not is_stuck:
                    # While commits fail, no other thread would begin to watch over a reward that is added.
                    if self._since is None and not self._rewards.pending:
                        self._thread = None
                        return
                    # A caller that begins to wait from now on has a later deadline than this.
                    self._wakes_at = open_ones[0][0] if open_ones else now + self._deadline_s
                    if self._since is not None:
                        self._wakes_at = min(self._wakes_at, self._patient_until)
                    self._changed.wait(max(0.0, self._wakes_at - now))
                    continue
            for future in late:
                fail(
                    future,
                    StoreUnavailableError(
                        f"the reward was not stored within {self._deadline_s:g} s ({self._reason()}); "
                        "it stays queued, and repeating it is harmless"
                    ),
                )
            if is_stuck:
                self._interrupt()

    def _is_stuck(self, now: float) -> bool:
        if self._since is None or now < self._patient_until:
            return False
        self._patient_until = now + self._patience_s
        return True


def fail(future: Future[Any], error: Exception) -> None:
    """Give a future an error, unless it is done. Two threads may try at once: the first one wins."""
    with suppress(InvalidStateError):
        future.set_exception(error)


def succeed(future: Future[T], result: T) -> None:
    """Give a future its result, unless it is done."""
    try:  # noqa: SIM105 - once per reward, and ``suppress`` takes half as long as the future itself
        future.set_result(result)
    except InvalidStateError:
        pass
