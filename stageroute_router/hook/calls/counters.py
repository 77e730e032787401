"""What a strategy counts of its own work: calls that LiteLLM chose for, and how long its choices took.

Metrics are read from here when they are asked for. It needs no metrics library, and costs a choice about a microsecond.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from stageroute_router.process.fork import ForkAware, survive_fork

CHOICE_BOUNDS_S = (
    0.00001,
    0.000025,
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.1,
    1.0,
)
"""Upper bounds, in seconds, by which choices are sorted: from what a choice takes (tens of microseconds) to what would
be felt beside a provider's answer."""


class FallbackReason(Enum):
    """Why LiteLLM chose for a call, as it would without StageRoute."""

    UNMANAGED = "unmanaged"
    """Its model group is not managed by StageRoute. Counted under no group: requested names are the clients'."""
    CLOSED = "closed"
    """The control object was closed. Counted under no group, likewise."""
    PINNED = "pinned"
    """The caller named one deployment. Counted under no group where the name need not be a group's."""
    NO_ARM = "no_arm"
    """No healthy deployment of the group is one of its arms."""
    NO_CHOICE = "no_choice"
    """The runtime had no choice to make: an error inside, or no arms yet."""
    ERROR = "error"
    """An error inside the strategy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyCounts:
    """What was counted until now, in this process.

    Args:
        fallbacks: calls that LiteLLM chose for, by model group (``""`` where there is none) and reason.
        choices: choices by duration: one number for each of ``CHOICE_BOUNDS_S``, of choices that took at most so
            long and longer than the bound before, and one for what took longer than all.
        choice_seconds: their durations in all, seconds.
        misnamed: calls whose segment's name could not be used, so that they count in ``""``, by model group.
    """

    fallbacks: Mapping[tuple[str, FallbackReason], int]
    choices: tuple[int, ...]
    choice_seconds: float
    misnamed: Mapping[str, int] = field(default_factory=dict)


class StrategyCounters(ForkAware):
    """Counts. Every method may be called from any thread; a forked child counts from zero."""

    def __init__(self) -> None:
        survive_fork(self)
        self._begin()

    def after_fork_in_child(self) -> None:
        """Count what this process does, and hold no lock of the parent's threads."""
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._fallbacks: Counter[tuple[str, FallbackReason]] = Counter()
        self._choices = [0] * (len(CHOICE_BOUNDS_S) + 1)
        self._choice_seconds = 0.0
        self._misnamed: Counter[str] = Counter()

    def record_fallback(self, group: str, reason: FallbackReason) -> None:
        """Count a call that LiteLLM chooses for."""
        with self._lock:
            self._fallbacks[group, reason] += 1

    def record_choice(self, seconds: float) -> None:
        """Count a choice that took so many seconds."""
        bucket = bisect_left(CHOICE_BOUNDS_S, seconds)
        with self._lock:
            self._choices[bucket] += 1
            self._choice_seconds += seconds

    def record_misnamed(self, group: str) -> None:
        """Count a call whose segment's name could not be used."""
        with self._lock:
            self._misnamed[group] += 1

    def read(self) -> StrategyCounts:
        """Return what was counted until now."""
        with self._lock:
            return StrategyCounts(
                fallbacks=dict(self._fallbacks),
                choices=tuple(self._choices),
                choice_seconds=self._choice_seconds,
                misnamed=dict(self._misnamed),
            )
