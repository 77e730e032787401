"""Run LiteLLM's asynchronous listing of healthy deployments inside a synchronous call.

LiteLLM offers that list only asynchronously, and the synchronous choice of its own class skips several of its
filters (tags, teams, ``async_filter_deployments``). ``Router.completion`` calls the strategy in a thread whose
event loop is already running, so ``asyncio.run`` is refused. Two ways remain, tried in this order:

1. Step the coroutine by hand. With LiteLLM's in-memory caches it never waits for anything, so one step ends it,
   in the calling thread, at the price of a function call.
2. If it does wait (Redis, token counting in a thread, a user's own filter), run it on a private event loop's
   thread, from the start, and do so from then on. That costs two thread switches.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from stageroute_router.process.fork import ForkAware, survive_fork

T = TypeVar("T")


class LoopThread(ForkAware):
    """One event loop on a daemon thread, started when first needed (and again in a forked process)."""

    def __init__(self) -> None:
        self.after_fork_in_child()
        survive_fork(self)

    def after_fork_in_child(self) -> None:
        """Have no loop yet: the parent's thread did not come along."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end and return its result. Context variables of the caller are visible in it.

        Raises:
            RuntimeError: called from the loop's own thread, which could only wait for itself.
        """
        loop = self._running()
        if threading.current_thread() is self._thread:
            coroutine.close()
            msg = "a synchronous call was made from inside LiteLLM's own filters"
            raise RuntimeError(msg)
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._thread is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="stageroute-healthy", daemon=True
                )
                self._thread.start()
            return self._loop


_loop_thread = LoopThread()


class SyncRunner:
    """Runs coroutines of one router synchronously, remembering whether they have to wait.

    Args:
        waits: whether they are known to.
    """

    def __init__(self, *, waits: bool = False) -> None:
        self.waits = waits

    def run(self, start: Callable[[], Coroutine[Any, Any, T]], *, rewind: Callable[[], None]) -> T:
        """Return the result of the coroutine that ``start`` makes.

        Args:
            start: makes the coroutine; called a second time if the first one had to wait.
            rewind: undoes what a half-run coroutine did to its arguments.
        """
        if not self.waits:
            finished = self._step(start())
            if finished is not None:
                return finished[0]
            rewind()
        return _loop_thread.run(start())

    def _step(self, coroutine: Coroutine[Any, Any, T]) -> tuple[T] | None:
        try:
            with _pretended_loop():
                coroutine.send(None)
        except StopIteration as done:
            return (done.value,)
        except _MustWaitError:
            pass
        except RuntimeError:
            if _in_event_loop():
                raise
            # It wanted a task to run in, and this thread has none: asyncio's way of saying that it waits.
        else:
            with contextlib.suppress(RuntimeError):
                coroutine.close()
        self.waits = True
        return None


class _MustWaitError(BaseException):
    """A coroutine wants to wait. No ``Exception``: LiteLLM skips a filter that fails by one."""


class _PretendedLoop:
    """What a coroutine that is stepped by hand finds as its event loop: using it means waiting."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever an event loop has
        if name.startswith("_"):
            raise AttributeError(name)  # looked for by debuggers and the like, not by who wants to wait
        raise _MustWaitError(name)


_PRETENDED_LOOP: Any = _PretendedLoop()


@contextlib.contextmanager
def _pretended_loop() -> Iterator[None]:
    """Let coroutines of this thread find an event loop, if there is none."""
    if _in_event_loop():
        yield
        return
    asyncio._set_running_loop(_PRETENDED_LOOP)  # noqa: SLF001 - asyncio's interface for makers of event loops
    try:
        yield
    finally:
        asyncio._set_running_loop(None)  # noqa: SLF001


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
