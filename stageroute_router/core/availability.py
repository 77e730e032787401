"""Availability: the chance that a call to a deployment is answered, learned from answers and failures within seconds.

A hidden Markov model over a handful of levels. A deployment answers at one of ``LEVELS``, and now and then jumps to
another: outages begin and end. Rewards accumulate over weeks, availability changes within minutes: two or
three failures in a row take a deployment that always answered below ``UNAVAILABLE``, two or three answers bring it back.

Ours; the filter is the textbook's forward algorithm (Rabiner, "A Tutorial on Hidden Markov Models", 1989, eq. 19-20).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp

LEVELS = (0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.999)
"""Chances of an answer that a deployment may have."""

JUMPS = (0.03, 0.002, 0.002, 0.004, 0.005, 0.02, 0.05, 0.887)
"""How likely each level is after a jump: most deployments answer, those that do not are mostly gone altogether."""

JUMP_PER_CALL = 0.005
"""How likely a jump is between two calls. From 0.002 to 0.02 it takes two or three failures to leave a deployment."""

JUMP_TIME_S = 300.0
"""Mean seconds between two jumps that are not seen, because no calls are made: outages last minutes."""

UNAVAILABLE = 0.2
"""An arm with a smaller chance of an answer gets no calls but probes while another arm answers."""

AVAILABLE = 0.95
"""From this chance of an answer on, an arm is worth what its answers are worth: one lost call in twenty is noise."""

RECOVERED = 0.995
"""From this chance on, nothing is remembered of a deployment's failures: about ten answers in a row."""

PROBE_SHARE = 0.05
"""Share of the calls with a retry left that probe the arms which did not answer of late.

Such a call fails once and is answered by another arm. An arm that answers again is found within 20 of them on average.
"""

LAST_PROBE_SHARES = ((50, 0.005), (100, 0.01), (150, 0.02))
"""The same for calls without a retry, by how many calls were made since the arm was tried last; 0 before.

Each such probe costs its caller an answer: one in 150 calls on average, and seldom more than 250 without one.
"""

FOLLOW_UP_SHARE = 0.5
"""Share of the calls that go to an arm whose last call was answered, until enough were to trust it again."""

_GRID = 20
"""Chances are rounded to one part in so many: a mix is solved anew only when an arm's moves that far."""


@dataclass(frozen=True, slots=True)
class Belief:
    """How likely each of ``LEVELS`` is, as of ``at`` seconds since the epoch. The default: it has always answered.

    >>> belief = Belief()
    >>> round(belief.chance, 2)
    1.0
    >>> for _ in range(9):
    ...     belief = belief.after(answered=False, now=0.0)
    >>> belief.chance < 0.05
    True
    >>> for _ in range(3):
    ...     belief = belief.after(answered=True, now=0.0)
    >>> belief.chance > 0.95
    True
    """

    weights: tuple[float, ...] = (0.0, 0.0, 0.0, 0.00002, 0.00008, 0.00093, 0.00769, 0.99128)
    at: float = 0.0

    def after(self, *, answered: bool, now: float) -> Belief:
        """Return the belief after one more call, whose outcome was known at ``now`` (seconds since the epoch)."""
        waited = self._until(now, jump=JUMP_PER_CALL)
        likely = [
            weight * (level if answered else 1 - level) for weight, level in zip(waited, LEVELS, strict=True)
        ]
        total = sum(likely)
        return Belief(tuple(weight / total for weight in likely), max(now, self.at))

    def at_time(self, now: float) -> Belief:
        """Return the belief at a later moment, without a call in between."""
        return Belief(self._until(now, jump=0.0), max(now, self.at))

    @property
    def chance(self) -> float:
        """The chance that the next call is answered, in (0, 1)."""
        return sum(weight * level for weight, level in zip(self.weights, LEVELS, strict=True))

    def _until(self, now: float, *, jump: float) -> tuple[float, ...]:
        # A clock that was set back has no time passed.
        stay = (1 - jump) * exp(-max(now - self.at, 0.0) / JUMP_TIME_S) if self.at else 1 - jump
        return tuple(
            stay * weight + (1 - stay) * jumped for weight, jumped in zip(self.weights, JUMPS, strict=True)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Which arms may not answer now, and which of them a call may probe.

    Args:
        chance: the chance that a call is answered, in (0, 1), of each arm where it is below ``AVAILABLE``. The arms
            that are not named answer.
        probes: the arms that the call may probe.
        probe_share: the share of such calls that do, in [0, 1).
    """

    chance: Mapping[str, float] = field(default_factory=dict)
    probes: tuple[str, ...] = ()
    probe_share: float = 0.0

    def answers(self, arm: str) -> bool:
        """Return whether an arm has a chance worth speaking of."""
        return self.chance.get(arm, 1.0) >= UNAVAILABLE


def rounded(chance: float) -> float:
    """Return a chance on the grid that mixes are solved for: 1 where it is as good as that, and never 0.

    >>> [rounded(chance) for chance in (0.999, 0.95, 0.52, 0.004)]
    [1.0, 1.0, 0.5, 0.01]
    """
    if chance >= AVAILABLE:
        return 1.0
    return max(round(chance * _GRID) / _GRID, 0.01) if chance >= UNAVAILABLE else 0.01
