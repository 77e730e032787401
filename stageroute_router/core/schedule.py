"""When the next maintenance window opens. Time is handed in, never read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

USUAL_CALLS_PER_STAGE = 500
"""Stage length assumed for schedules by time until a stage has shown how many calls it gets."""


class Schedule(Protocol):
    """Decides when the current stage ends.

    Args of its methods: ``opened_at`` and ``now`` are seconds since the epoch; ``opened_at_call`` and ``calls``
    are the group's decisions, of all its workers, when the stage opened and now.

    >>> schedule: Schedule = EverySeconds(3600)
    >>> schedule.is_due(opened_at=0, opened_at_call=0, now=1800, calls=900), schedule.due_at(opened_at=0)
    (False, 3600)
    >>> schedule.calls_per_stage(previous_calls=1800)
    1800
    """

    def is_due(self, *, opened_at: float, opened_at_call: int, now: float, calls: int) -> bool:
        """Return whether the stage has ended."""
        ...

    def due_at(self, *, opened_at: float) -> float | None:
        """Return when the stage ends, seconds since the epoch, or None if time does not end it."""
        ...

    def calls_per_stage(self, *, previous_calls: int | None) -> int:
        """Return how many calls a stage has, or will probably have, given the previous stage's."""
        ...


@dataclass(frozen=True, slots=True)
class EveryCalls:
    """A window after every ``calls`` decisions of the group (at least 1), counted over all workers.

    >>> stages = EveryCalls(500)
    >>> stages.is_due(opened_at=0, opened_at_call=1000, now=0, calls=1500)
    True
    >>> stages.due_at(opened_at=0) is None, stages.calls_per_stage(previous_calls=None)
    (True, 500)
    """

    calls: int

    def is_due(self, *, opened_at: float, opened_at_call: int, now: float, calls: int) -> bool:
        """Return whether the stage has had its calls."""
        return calls - opened_at_call >= self.calls

    def due_at(self, *, opened_at: float) -> float | None:
        """Return None: time does not end this stage."""
        return None

    def calls_per_stage(self, *, previous_calls: int | None) -> int:
        """Return the configured number."""
        return self.calls


@dataclass(frozen=True, slots=True)
class EverySeconds:
    """A window every ``seconds`` (> 0) after the last one.

    >>> hourly = EverySeconds(3600)
    >>> hourly.is_due(opened_at=0, opened_at_call=0, now=3600, calls=40), hourly.due_at(opened_at=0)
    (True, 3600)
    >>> hourly.calls_per_stage(previous_calls=None), hourly.calls_per_stage(previous_calls=40)
    (500, 40)
    """

    seconds: float

    def is_due(self, *, opened_at: float, opened_at_call: int, now: float, calls: int) -> bool:
        """Return whether the time is up."""
        return now >= opened_at + self.seconds

    def due_at(self, *, opened_at: float) -> float | None:
        """Return the opening plus the interval."""
        return opened_at + self.seconds

    def calls_per_stage(self, *, previous_calls: int | None) -> int:
        """Return the previous stage's calls, or the usual number for the first stage."""
        return previous_calls or USUAL_CALLS_PER_STAGE


@dataclass(frozen=True, slots=True)
class AtTimes:
    """A window at given times, such as those of a cron line.

    Args:
        next_after: returns the first time after its argument, both in seconds since the epoch.

    >>> daily = AtTimes(lambda seconds: (seconds // 86_400 + 1) * 86_400)  # midnight, UTC
    >>> daily.due_at(opened_at=100), daily.is_due(opened_at=100, opened_at_call=0, now=86_399, calls=10_000)
    (86400, False)
    >>> daily.calls_per_stage(previous_calls=10_000)
    10000
    """

    next_after: Callable[[float], float]

    def is_due(self, *, opened_at: float, opened_at_call: int, now: float, calls: int) -> bool:
        """Return whether a time has come since the stage opened."""
        return now >= self.next_after(opened_at)

    def due_at(self, *, opened_at: float) -> float | None:
        """Return the first time after the opening."""
        return self.next_after(opened_at)

    def calls_per_stage(self, *, previous_calls: int | None) -> int:
        """Return the previous stage's calls, or the usual number for the first stage."""
        return previous_calls or USUAL_CALLS_PER_STAGE


@dataclass(frozen=True, slots=True)
class Manual:
    """A window opens only when the application calls ``redeploy``.

    >>> Manual().is_due(opened_at=0, opened_at_call=0, now=1e9, calls=10**9), Manual().due_at(opened_at=0)
    (False, None)
    >>> Manual().calls_per_stage(previous_calls=None)
    500
    """

    def is_due(self, *, opened_at: float, opened_at_call: int, now: float, calls: int) -> bool:
        """Return False."""
        return False

    def due_at(self, *, opened_at: float) -> float | None:
        """Return None."""
        return None

    def calls_per_stage(self, *, previous_calls: int | None) -> int:
        """Return the previous stage's calls, or the usual number for the first stage."""
        return previous_calls or USUAL_CALLS_PER_STAGE
