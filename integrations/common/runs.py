"""Decisions by the ids of runs: of frameworks whose work is a tree of runs, each with an id of the framework's own.

A decision belongs to the run it was made in and to all runs around that one, so that a reward may be given to any of
them. Nothing is written down: what is remembered is this process's, and bounded.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque

from stageroute_router.errors import UnknownDecisionError
from stageroute_router.hook.calls.episode import Episode, enter
from stageroute_router.rewards.receipt import RewardReceipt
from stageroute_router.router.control import Control

REMEMBERED = 100_000
"""How many pairs of a run and a decision are kept, unless told otherwise: some 60 MB with trees of five runs."""


class Runs:
    """Which decisions were made inside which run.

    Args:
        control: the router's handle.
        remembered: how many pairs of a run and a decision are kept; the oldest are forgotten.
    """

    def __init__(self, control: Control, *, remembered: int = REMEMBERED) -> None:
        self.control = control
        """The router's handle."""
        self._remembered = remembered
        self._lock = threading.RLock()
        self._runs: OrderedDict[str, _Run] = OrderedDict()  # a dict takes long to find its first key again
        self._order: deque[tuple[_Run, str]] = deque()

    def began(self, run_id: str, *, inside: str | None = None) -> None:
        """Take note that the code which runs from now on, in this context, is a run.

        Args:
            run_id: the run's id.
            inside: the id of the run around it, if there is one.
        """
        with self._lock:
            around = None if inside is None else self._run(inside, around=None)
            run = self._run(run_id, around=around)
            run.over = False
            run.around = around or run.around
        enter(run, instead_of=lambda episode: isinstance(episode, _Run) and episode.keeper is self)

    def ended(self, run_id: str) -> None:
        """Take note, in whatever context, that a run has ended: what is routed from now on is none of it."""
        with self._lock:
            run = self._runs.get(run_id)
            if run is not None:
                run.over = True
                self._forget_if_empty(run)

    def follows(self, run_id: str) -> bool:
        """Return whether a run has begun, and has not ended or been forgotten."""
        with self._lock:
            run = self._runs.get(run_id)
            return run is not None and not run.over

    def ids(self) -> tuple[str, ...]:
        """Return the ids of the runs that decisions are remembered of, in the order in which they began."""
        with self._lock:
            return tuple(run_id for run_id, run in self._runs.items() if not run.empty)

    def decisions(self, run_id: str) -> tuple[str, ...]:
        """Return the ids of the decisions made inside a run, in order; none for a run that is not remembered."""
        with self._lock:
            known = self._runs.get(run_id)
            return () if known is None else known.decisions

    def record_reward(self, run_id: str, reward: object, *, source: str) -> tuple[RewardReceipt, ...]:
        """Give every decision made inside a run the same reward, and wait until that is durable.

        Args:
            run_id: of the run.
            reward: a finite number in [0, 1].
            source: who says so; the same source again replaces its earlier value.

        Raises:
            UnknownDecisionError: nothing was routed inside such a run in this process, or it is forgotten.
            InvalidRewardError: the reward is not a finite number in [0, 1], or the source is no name.
            StoreError: it could not be committed.
        """
        return self._known(run_id).record_reward(reward, source=source)

    async def arecord_reward(self, run_id: str, reward: object, *, source: str) -> tuple[RewardReceipt, ...]:
        """Do the same as :meth:`record_reward` without blocking the event loop."""
        return await self._known(run_id).arecord_reward(reward, source=source)

    def _known(self, run_id: str) -> _Run:
        with self._lock:
            known = self._runs.get(run_id)
            if known is not None and not known.empty:
                return known
        msg = (
            f"no decision is remembered of the run {run_id!r}: nothing was routed inside it in this process since its "
            "runs are followed, or so much since that it is forgotten (see `remembered`)"
        )
        raise UnknownDecisionError(msg)

    def _run(self, run_id: str, *, around: _Run | None) -> _Run:
        known = self._runs.get(run_id)
        if known is None:
            known = self._runs[run_id] = _Run(self, run_id, around)
            if len(self._runs) > self._remembered:  # too many that never ended
                self._runs.popitem(last=False)
        return known

    def _note(self, run: _Run, decision_id: str) -> None:
        """Note a decision for a run and all around it; for those that have ended by now, only around them."""
        with self._lock:
            at: _Run | None = run
            while at is not None and at.over:
                at = at.around
            while at is not None:
                Episode.add(at, decision_id)
                self._order.append((at, decision_id))
                at = at.around
            while len(self._order) > self._remembered:
                self._forget(*self._order.popleft())

    def _drop(self, run: _Run, decision_id: str) -> None:
        with self._lock:
            at: _Run | None = run
            while at is not None:
                self._forget(at, decision_id)
                at = at.around

    def _forget(self, run: _Run, decision_id: str) -> None:
        Episode.discard(run, decision_id)
        self._forget_if_empty(run)

    def _forget_if_empty(self, run: _Run) -> None:
        if run.over and run.empty and self._runs.get(run.run_id) is run:
            del self._runs[run.run_id]


class _Run(Episode):
    """The decisions made inside one run."""

    def __init__(self, keeper: Runs, run_id: str, around: _Run | None) -> None:
        super().__init__(keeper.control.routing)
        self.keeper = keeper
        self.run_id = run_id
        self.around = around
        self.over = False

    @property
    def empty(self) -> bool:
        """Whether it has no decisions."""
        return not self._decisions

    def add(self, decision_id: str) -> None:
        self.keeper._note(self, decision_id)  # noqa: SLF001 - two halves of one thing

    def discard(self, decision_id: str) -> None:
        self.keeper._drop(self, decision_id)  # noqa: SLF001
