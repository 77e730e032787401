"""Availability: the chance that a call to a deployment is answered, learned from answers and failures within seconds.

A hidden Markov model over a handful of levels. A deployment answers at one of ``LEVELS``, and now and then jumps to
another: outages begin and end. Rewards accumulate over weeks, availability changes within minutes: two or
three failures in a row take a deployment that always answered below ``UNAVAILABLE``, and two or three answers in a row
bring it back.

Ours; the filter is the textbook's forward algorithm (Rabiner, "A Tutorial on Hidden Markov Models", 1989, eq. 19-20).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp

LEVELS = (0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.999)
"""Chances of an answer that a deployment may have."""

JUMPS = (0.03, 0.002, 0.002, 0.004, 0.005, 0.02, 0.05, 0.887)
"""Probability of each level after a jump: most deployments answer, and most of the others answer nothing."""

JUMP_PER_CALL = 0.005
"""How likely a jump is between two calls. From 0.002 to 0.02 two or three failures take a deployment down."""

JUMP_TIME_S = 300.0
"""Mean seconds between two jumps while no calls are made: outages last minutes."""

UNAVAILABLE = 0.2
"""An arm with a smaller chance of an answer gets no calls but probes while another arm answers."""

AVAILABLE = 0.95
"""From this chance of an answer on, an arm's reward is not discounted: one lost call in twenty is noise."""

RECOVERED = 0.995
"""From this chance on, a deployment's failures are forgotten: after about ten answers in a row."""

PROBE_SHARE = 0.05
"""Share of the calls with a retry left that probe arms which are down.

Such a call fails once and is answered by another arm. An arm that answers again is found within 20 of them on average.
"""

LAST_PROBE_SHARES = ((50, 0.005), (100, 0.01), (150, 0.02))
"""Probe share of calls without a retry, as (calls since the arm was last tried, share); 0 before the first.

Each such probe costs its caller an answer: one in 150 calls on average, and seldom more than 250 without one.
"""

FOLLOW_UP_SHARE = 0.5
"""Share of the calls that go to an arm after an answered probe, until the arm is no longer down."""

_GRID = 20
"""Chances are rounded to multiples of 1 / this, so that a mix is solved again only when a chance moves that far."""


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
        """Return whether an arm's chance of an answer is at least ``UNAVAILABLE``."""
        return self.chance.get(arm, 1.0) >= UNAVAILABLE


def rounded(chance: float) -> float:
    """Return a chance on the grid that mixes are solved for: 1 where it is as good as that, and never 0.

    >>> [rounded(chance) for chance in (0.999, 0.95, 0.52, 0.004)]
    [1.0, 1.0, 0.5, 0.01]
    """
    if chance >= AVAILABLE:
        return 1.0
    return max(round(chance * _GRID) / _GRID, 0.01) if chance >= UNAVAILABLE else 0.01
