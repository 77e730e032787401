"""A clock that stands still until it is told otherwise."""

from __future__ import annotations


class FakeClock:
    """Returns seconds since the epoch when called, and moves only by :meth:`advance`.

    Args:
        now: what it shows at first.

    >>> clock = FakeClock(1_000.0)
    >>> clock.advance(2.5)
    >>> clock()
    1002.5
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now

    def __call__(self) -> float:
        """Return what it shows."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock; negative seconds set it back, as an operator might."""
        self._now += seconds
