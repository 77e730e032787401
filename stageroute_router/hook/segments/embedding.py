"""Ask a model of the router for the embedding of a call's text, before the call is routed.

The question is a call of its own through the same router, with LiteLLM's limits and logging, and left to LiteLLM's own
choice. It is made once: another try would keep the call waiting, and another model's numbers would mean something else.
Whatever becomes of it, the call goes on, after the deadline at the latest.

An asynchronous call awaits it in its own event loop, and takes it along when it is cancelled. A synchronous one has it
asked by a thread, synchronously: asking asynchronously, in an event loop of ours, would make LiteLLM's older versions
forget the reports of calls in other loops.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from stageroute_router.hook.calls.response import field_of
from stageroute_router.hook.interfaces import Routing
from stageroute_router.process.fork import ForkAware, survive_fork
from stageroute_router.settings.group import GroupSettings

T = TypeVar("T")

READ_CHARACTERS = 2048
"""How many characters of a text are embedded, from its beginning: about 350 English words, which tell what it is about.
It bounds the price, and most models take no more than some thousands of tokens."""

EMBEDDING_CALL_KEY = "stageroute_embedding_for"
"""The group stands under this key of the question's metadata, for callbacks that listen to LiteLLM's calls."""

_PATIENCE = 5
"""After so many failures in a row the process pauses its questions: each may have cost a call the whole deadline."""
_REST_S = 30.0

_asking: ContextVar[bool] = ContextVar("stageroute_asking_for_an_embedding", default=False)


def is_asking() -> bool:
    """Return whether the present call is such a question, and not one to be routed."""
    return _asking.get()


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """Which model embeds a group's texts, by its name in the router, and how many seconds a call waits for it."""

    model: str
    deadline_s: float


def embeddings(groups: Mapping[str, GroupSettings]) -> dict[str, Embedding]:
    """Return how the texts of each group are embedded; groups whose texts are not are left out."""
    return {
        name: Embedding(model=one.segments.embedding, deadline_s=one.segments.embedding_deadline_s)
        for name, one in groups.items()
        if one.segments is not None and one.segments.embedding is not None
    }


class Embedder:
    """Finds the segments of one group's calls by embeddings.

    Args:
        router: the ``litellm.Router`` that is asked.
        routing: the runtime, which finds a segment by the numbers and counts failures.
        group: the model group whose calls are told apart.
        embedding: what is asked.
        has_model: returns whether the router has a model of that name, for the message when asking has failed.
        clock: returns seconds from any origin, never going back.
    """

    def __init__(
        self,
        router: Any,  # noqa: ANN401 - its type differs between generations of LiteLLM
        routing: Routing,
        *,
        group: str,
        embedding: Embedding,
        has_model: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._router = router
        self._routing = routing
        self._group = group
        self._model = embedding.model
        self._deadline_s = embedding.deadline_s
        self._has_model = has_model
        self._rest = _Rest(clock)

    async def segment(self, text: str) -> str:
        """Return the segment of an asynchronous call by its text; ``""`` if it cannot be found in time."""
        text = _readable(text)
        known = self._known(text)
        if known is not None:
            return known
        task = asyncio.create_task(self._ask_async(text))
        # A question that no call waits for any more may still fail, and asyncio would complain of an unseen error.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            done, _ = await asyncio.wait({task}, timeout=self._deadline_s)
        finally:
            task.cancel()
        try:
            response = task.result() if done else None
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the call goes on without a segment
            return self._failed(self._why(error))
        return self._found(text, response) if done else self._failed(self._late())

    def segment_now(self, text: str) -> str:
        """Return the segment of a synchronous call likewise."""
        text = _readable(text)
        known = self._known(text)
        if known is not None:
            return known
        try:
            response = _in_a_thread(lambda: self._ask(text), timeout=self._deadline_s)
        except FutureTimeoutError:
            return self._failed(self._late())
        except Exception as error:  # noqa: BLE001 - the call goes on without a segment
            return self._failed(self._why(error))
        return self._found(text, response)

    def _known(self, text: str) -> str | None:
        """Return the segment if there is nothing to ask for, or the model is not asked now."""
        if not text or text.isspace():
            return ""  # models refuse to embed nothing
        known = self._routing.known_segment(self._group, text)
        if known is None and not self._rest.may_ask():
            self._routing.segment_failed(
                self._group,
                f"embedding model {self._model!r} is given a rest of {_REST_S:g} s, for it failed {_PATIENCE} times "
                "in a row or more",
            )
            return ""
        return known

    async def _ask_async(self, text: str) -> object:
        _asking.set(True)  # in this task only
        return await self._router.aembedding(model=self._model, input=[text], **self._said())

    def _ask(self, text: str) -> object:
        _asking.set(True)  # in this thread's own context
        # Python cannot end a thread: LiteLLM has to give up.
        return self._router.embedding(
            model=self._model, input=[text], timeout=self._deadline_s, **self._said()
        )

    def _said(self) -> dict[str, Any]:
        """Return what else is said: to try once, by this model, for a call waits for it."""
        return {
            "num_retries": 0,
            "disable_fallbacks": True,
            "metadata": {EMBEDDING_CALL_KEY: self._group},
        }

    def _found(self, text: str, response: object) -> str:
        try:
            numbers = field_of(field_of(response, "data")[0], "embedding")
        except (TypeError, LookupError):
            return self._failed(f"embedding model {self._model!r} answered without an embedding")
        self._rest.over()
        return self._routing.segment_of_embedding(self._group, text, numbers)

    def _failed(self, why: str) -> str:
        self._rest.failed()
        self._routing.segment_failed(self._group, why)
        return ""

    def _late(self) -> str:
        return f"embedding model {self._model!r} did not answer within {self._deadline_s:g} s"

    def _why(self, error: BaseException) -> str:
        """Say what went wrong, but not in the error's words: they may quote the text."""
        if not self._has_model(self._model):
            return f"the router has no model {self._model!r} to embed with"
        status = getattr(error, "status_code", None)
        shown = f" {status}" if isinstance(status, int) else ""
        return f"embedding model {self._model!r} failed with {type(error).__name__}{shown}"


class _Rest(ForkAware):
    """Whether a model that fails is to be asked: after some failures in a row, once in a while and no more."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = 0.0
        self.after_fork_in_child()
        survive_fork(self)

    def after_fork_in_child(self) -> None:
        """Hold no lock of the parent's threads, and ask."""
        self._lock = threading.Lock()
        self._failures = 0

    def may_ask(self) -> bool:
        with self._lock:
            if self._failures < _PATIENCE:
                return True
            now = self._clock()
            if now < self._until:
                return False
            self._until = now + _REST_S  # one tries, and the others wait for what becomes of it
            return True

    def failed(self) -> None:
        with self._lock:
            self._failures += 1
            self._until = self._clock() + _REST_S

    def over(self) -> None:
        with self._lock:
            self._failures = 0


def _readable(text: str) -> str:
    """Return what is sent of a text: its beginning, with a question mark for what is half a character."""
    return text[:READ_CHARACTERS].encode("utf-8", "replace").decode("utf-8")


def _in_a_thread(function: Callable[[], T], *, timeout: float) -> T:
    """Return what a function returns in a thread, in a copy of this context; the thread is left to itself afterwards.

    A thread for each, because a pool's would be waited for when the process ends.

    Raises:
        concurrent.futures.TimeoutError: it took longer than so many seconds.
        Exception: whatever the function raised.
    """
    done: Future[T] = Future()
    context = copy_context()

    def run() -> None:
        try:
            done.set_result(context.run(function))
        except BaseException as error:  # noqa: BLE001 - it belongs to who waits
            done.set_exception(error)

    threading.Thread(target=run, name="stageroute-embedding", daemon=True).start()
    return done.result(timeout)
