"""Credit everything that was routed inside a ``with`` block, however deep in a framework.

The block is carried by a context variable: coroutines and tasks started inside it inherit it, and so do
``asyncio.to_thread`` and ``loop.run_in_executor(None, contextvars.copy_context().run, ...)``. A plain worker
thread (``threading.Thread``, ``ThreadPoolExecutor.submit``) does not: open the episode inside the worker, or
run the worker's function in a copied context. The same holds for a synchronous LiteLLM call made from inside a
running event loop, because LiteLLM itself moves it to a plain thread: use the asynchronous method there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from stageroute_router.rewards.receipt import RewardReceipt

logger = logging.getLogger("stageroute_router")


class Rewardable(Protocol):
    """What an episode needs of the runtime."""

    def record_reward(self, key: str, reward: object, *, source: str = "app") -> Future[RewardReceipt]:
        """Report how good an answer was."""


class Episode:
    """The decisions made inside one block.

    Episodes nest: a decision made inside an inner one belongs to the outer ones, too. Rewards of one decision
    replace each other when they name the same source; give ``source`` to keep an inner and an outer reward apart.
    """

    def __init__(self, routing: Rewardable) -> None:
        self._routing = routing
        self._decisions: dict[str, None] = {}

    @property
    def decisions(self) -> tuple[str, ...]:
        """Ids of the decisions made so far, in order, without attempts that failed and cache answers."""
        return tuple(self._decisions)

    def record_reward(self, reward: object, *, source: str = "episode") -> tuple[RewardReceipt, ...]:
        """Give every decision of the episode the same reward, and wait until that is durable.

        May be called inside the block (for what was routed so far) or any time after it.

        Args:
            reward: a finite number in [0, 1].
            source: who says so; the same source again replaces its earlier value.

        Returns:
            One receipt per decision; empty (with a warning in the log) if nothing was routed inside.

        Raises:
            InvalidRewardError: the reward is not a finite number in [0, 1].
            StoreError: it could not be committed.

        ```python
        with router.stageroute.episode() as episode:
            agent.run(task)
        receipts = episode.record_reward(1.0)
        assert len(receipts) == len(episode.decisions)
        ```
        """
        return tuple(future.result() for future in self._report(reward, source=source))

    async def arecord_reward(self, reward: object, *, source: str = "episode") -> tuple[RewardReceipt, ...]:
        """Do the same as :meth:`record_reward` without blocking the event loop.

        ```python
        with router.stageroute.episode() as episode:
            await router.acompletion(model="chat", messages=[{"role": "user", "content": "hello"}])
        receipts = await episode.arecord_reward(0.5)
        ```
        """
        futures = self._report(reward, source=source)
        # Shielded: cancelling the caller must not cancel a future that the writer is going to complete.
        return tuple([await asyncio.shield(asyncio.wrap_future(future)) for future in futures])

    def add(self, decision_id: str) -> None:
        """Note a decision (called by the strategy)."""
        self._decisions[decision_id] = None

    def discard(self, decision_id: str) -> None:
        """Forget a decision that did not answer: its attempt failed, or LiteLLM's cache answered instead."""
        self._decisions.pop(decision_id, None)

    def belongs_to(self, routing: Rewardable) -> bool:
        """Return whether this episode was opened on a router with this runtime."""
        return self._routing is routing

    def _report(self, reward: object, *, source: str) -> list[Future[RewardReceipt]]:
        decisions = self.decisions
        if not decisions:
            logger.warning(
                "a reward was given to an episode in which no call of a managed group was routed; if it made calls "
                "in worker threads, open the episode inside them"
            )
        return [self._routing.record_reward(key, reward, source=source) for key in decisions]


_episodes: ContextVar[tuple[Episode, ...]] = ContextVar("stageroute_episodes", default=())


def open_episodes(routing: Rewardable) -> tuple[Episode, ...]:
    """Return the episodes of one router that this code runs inside, outermost first."""
    return tuple(episode for episode in _episodes.get() if episode.belongs_to(routing))


@contextmanager
def episode(routing: Rewardable) -> Iterator[Episode]:
    """Open an episode for the calls made inside the block."""
    opened = Episode(routing)
    token = _episodes.set((*_episodes.get(), opened))
    try:
        yield opened
    finally:
        _episodes.reset(token)


def enter(entered: Episode, *, instead_of: Callable[[Episode], bool]) -> None:
    """Count what this code routes from now on to an episode that no ``with`` block surrounds.

    For those who are told where something begins, and of its end elsewhere: other tasks and threads have other
    contexts, so there is no leaving. The episode must itself disregard what is routed after its end.

    Args:
        entered: the episode.
        instead_of: which of the episodes that this code is inside now it takes the place of.
    """
    kept = (episode for episode in _episodes.get() if not instead_of(episode))
    _episodes.set((*kept, entered))
