"""How many calls of a group are under way, by arm: counted where choices are made, at the moment they are made.

The account knows this too, a commit later. A burst of hundreds of calls is over by then.
"""

from __future__ import annotations

from collections.abc import Mapping

LIFETIME_S = 3600.0
"""After how many seconds a call counts as over although its end was never reported.

LiteLLM reports nothing for some calls: the application left a stream unread, or was cancelled. An hour is longer than
any answer takes, and short enough that such calls do not keep an arm at its limit for long.
"""

MOST = 100_000
"""Calls remembered at most; beyond that the oldest count as over."""


class InFlight:
    """The open calls of one group in this process. Not thread-safe: its owner holds a lock.

    >>> calls = InFlight()
    >>> calls.started("a", arm="large", now=0.0)
    []
    >>> calls.count["large"]
    1
    >>> calls.ended("a")
    >>> dict(calls.count)
    {}
    """

    def __init__(self) -> None:
        self._arms: dict[str, tuple[str, float]] = {}
        self._count: dict[str, int] = {}

    @property
    def count(self) -> Mapping[str, int]:
        """Open calls by arm; arms without any are missing."""
        return self._count

    def started(self, decision_id: str, *, arm: str, now: float) -> list[str]:
        """Count a call, and return the decisions that are taken to be over because they are too old."""
        over: list[str] = []
        for oldest, (_, since) in self._arms.items():
            if now - since <= LIFETIME_S and len(self._arms) - len(over) < MOST:
                break
            over.append(oldest)
        for decision in over:
            self.ended(decision)
        self._arms[decision_id] = (arm, now)
        self._count[arm] = self._count.get(arm, 0) + 1
        return over

    def ended(self, decision_id: str) -> None:
        """Count a call no longer. Unknown ones are ignored."""
        arm, _ = self._arms.pop(decision_id, (None, 0.0))
        if arm is None:
            return
        left = self._count[arm] - 1
        if left:
            self._count[arm] = left
        else:
            del self._count[arm]
