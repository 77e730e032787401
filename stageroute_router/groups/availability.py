"""Which deployments of a group answer, as one process sees it by the outcomes of its calls.

In memory only, and not shared: a worker finds out by a handful of its own calls, sooner than it would hear from others.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from stageroute_router.core.availability import (
    AVAILABLE,
    FOLLOW_UP_SHARE,
    LAST_PROBE_SHARES,
    PROBE_SHARE,
    RECOVERED,
    UNAVAILABLE,
    Availability,
    Belief,
    rounded,
)

Eligible = Collection[str] | Mapping[str, Sequence[str]]
"""The arms that could serve a call: their names, or by name the ids of the deployments that could."""

PROBE_PAUSE_S = 0.5
"""Longest pause after a failed probe before the next one; it doubles from a tenth of that."""

_PROBE_LIFETIME_S = 60.0
"""A probe whose end was not reported for so many seconds keeps others from being made no longer."""


@dataclass(slots=True)
class _Tracked:
    """A deployment that failed of late."""

    arm: str
    since: float
    belief: Belief = field(default_factory=Belief)
    failures: int = 0
    in_a_row: int = 0
    last_failure: str = ""
    calls_since: int = 0  # calls that could have gone there since one did
    probe: str | None = None
    probe_at: float = 0.0
    next_probe_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """An arm that does not answer every call.

    Args:
        arm: the arm.
        chance: the chance that it answers the next call, in (0, 1).
        since: time of the first failure, seconds since the epoch.
        failures: how many calls failed since, in this process.
        last_failure: the kind of the last one, such as ``"Timeout"``.
    """

    arm: str
    chance: float
    since: float
    failures: int
    last_failure: str


class Answering:
    """What a process knows of a group's deployments. Not thread-safe: its owner holds a lock.

    Only deployments that failed of late are tracked, so that a group in which all answer costs nothing.

    >>> answering = Answering()
    >>> for moment in (1.0, 2.0, 3.0):
    ...     answering.failed("gpt", deployment="eu", kind="Timeout", now=moment)
    >>> answering.down(now=3.0)
    frozenset({'gpt'})
    >>> answering.available({"gpt": ["eu", "us"]}, live=("gpt",), has_retry=True, now=3.0) is None
    True
    """

    def __init__(self) -> None:
        self.tracked: dict[str, _Tracked] = {}
        self.deployments: Mapping[str, Sequence[str]] = {}

    def know(self, deployments: Mapping[str, Sequence[str]]) -> None:
        """Take the deployments that each arm has now, by id; what was known of others is forgotten."""
        self.deployments = deployments
        there = {one for ids in deployments.values() for one in ids}
        self.tracked = {key: one for key, one in self.tracked.items() if key in there}

    def failed(self, arm: str, *, deployment: str, kind: str, now: float) -> None:
        """Learn that a call failed at its provider.

        Args:
            arm: the arm.
            deployment: id of the deployment; the arm's name where deployments are not told apart.
            kind: of the failure, in a word; nothing of the error's text.
            now: seconds since the epoch.
        """
        known = self.tracked.get(deployment)
        if known is None:
            known = self.tracked[deployment] = _Tracked(arm=arm, since=now)
        known.belief = known.belief.after(answered=False, now=now)
        known.failures += 1
        known.in_a_row += 1
        known.calls_since = 0
        known.last_failure = kind
        known.probe = None
        pause = PROBE_PAUSE_S * min(2.0 ** (known.in_a_row - 1) / 10, 1.0)
        known.next_probe_at = now + pause

    def answered(self, deployment: str, *, now: float) -> None:
        """Learn that a call was answered. Costs a look-up where the deployment has not failed of late."""
        known = self.tracked.get(deployment)
        if known is None:
            return
        known.belief = known.belief.after(answered=True, now=now)
        known.in_a_row, known.calls_since, known.probe, known.next_probe_at = 0, 0, None, 0.0
        if known.belief.chance >= RECOVERED:
            del self.tracked[deployment]

    def ended(self, decision_id: str) -> None:
        """Let others probe: a call is over of which nothing is learned."""
        for known in self.tracked.values():
            if known.probe == decision_id:
                known.probe = None

    def available(
        self, eligible: Eligible, *, live: Collection[str], has_retry: bool, now: float
    ) -> Availability | None:
        """Return which of a call's arms may not answer; None where all of them do.

        Args:
            eligible: the arms that could serve the call.
            live: the arms whose probes are worth a call.
            has_retry: whether another attempt is made if this one fails.
            now: seconds since the epoch.
        """
        chance: dict[str, float] = {}
        probes: list[str] = []
        follow_ups: list[str] = []
        waited = 0
        tracked_arms = {one.arm for one in self.tracked.values()}
        for arm in eligible:
            if arm not in tracked_arms:
                continue
            ids = eligible[arm] if isinstance(eligible, Mapping) else self.deployments.get(arm, (arm,))
            best = max(self._chances(ids, now=now), default=1.0)
            if best >= AVAILABLE:
                continue
            chance[arm] = rounded(best)
            failing = [self.tracked[one] for one in ids]
            for one in failing:
                one.calls_since += 1
            if arm in live and all(_may_be_probed(one, now=now) for one in failing):
                probes.append(arm)
                waited = max(waited, min(one.calls_since for one in failing))
                if not any(one.in_a_row for one in failing):
                    follow_ups.append(arm)
        if not chance:
            return None
        share = FOLLOW_UP_SHARE if follow_ups else _probe_share(has_retry=has_retry, waited=waited)
        # Where no arm answers, every call is a probe.
        is_spared = len(chance) < len(eligible) or any(one >= UNAVAILABLE for one in chance.values())
        return Availability(
            chance=chance, probes=tuple(follow_ups or probes) if is_spared else (), probe_share=share
        )

    def weights(self, deployments: Sequence[str], *, has_retry: bool, now: float) -> Sequence[float] | None:
        """Return by how much less each replica of an arm is to be asked, in (0, 1]; None where all of them answer."""
        if not any(one in self.tracked for one in deployments):
            return None
        least = PROBE_SHARE if has_retry else LAST_PROBE_SHARES[0][1]
        return [least if chance < UNAVAILABLE else chance for chance in self._chances(deployments, now=now)]

    def routed(self, arm: str, *, decision_id: str, now: float) -> None:
        """Note that a call goes to an arm: as long as it is under way, no other one need probe it."""
        for known in self.tracked.values():
            if known.arm == arm:
                known.probe, known.probe_at, known.calls_since = decision_id, now, 0

    def _chances(self, deployments: Sequence[str], *, now: float) -> list[float]:
        known = (self.tracked.get(one) for one in deployments)
        return [1.0 if one is None else one.belief.at_time(now).chance for one in known]

    def down(self, *, now: float) -> frozenset[str]:
        """Return the arms that do not answer."""
        return frozenset(one.arm for one in self.outages(now=now) if one.chance < UNAVAILABLE)

    def outages(self, *, now: float) -> list[Outage]:
        """Return the arms that do not answer every call, the worst first."""
        arms: dict[str, list[_Tracked]] = {}
        for one in self.tracked.values():
            arms.setdefault(one.arm, []).append(one)
        found = []
        for arm, tracked in arms.items():
            if len(tracked) < len(self.deployments.get(arm, ())):
                continue  # a replica answers
            chance = max(one.belief.at_time(now).chance for one in tracked)
            last = max(tracked, key=lambda one: one.belief.at)
            if chance < AVAILABLE:
                found.append(
                    Outage(
                        arm=arm,
                        chance=chance,
                        since=min(one.since for one in tracked),
                        failures=sum(one.failures for one in tracked),
                        last_failure=last.last_failure,
                    )
                )
        return sorted(found, key=lambda one: (one.chance, one.arm))


class Providers:
    """What a process knows of a group's deployments, for any thread.

    Args:
        answering: the knowledge; code that holds ``lock`` asks it directly.
        lock: the group's, which its choices hold.
    """

    def __init__(self, answering: Answering, lock: threading.Lock) -> None:
        self._answering = answering
        self._lock = lock

    def know(self, deployments: Mapping[str, Sequence[str]]) -> None:
        """Take the deployments that each arm has now, by id; what was known of others is forgotten."""
        with self._lock:
            self._answering.know(deployments)

    def failed(self, arm: str, *, deployment: str, kind: str, now: float) -> None:
        """Learn that a call failed at its provider; ``deployment`` is ``""`` where deployments are not told apart."""
        with self._lock:
            self._answering.failed(arm, deployment=deployment or arm, kind=kind, now=now)

    def answered(self, arm: str, *, deployment: str, now: float) -> None:
        """Learn that a call was answered."""
        if self._answering.tracked:
            with self._lock:
                self._answering.answered(deployment or arm, now=now)

    def ended(self, decision_id: str) -> None:
        """Learn that a call ended and says nothing of its provider."""
        if self._answering.tracked:
            with self._lock:
                self._answering.ended(decision_id)

    def weights(self, deployments: Sequence[str], *, has_retry: bool, now: float) -> Sequence[float] | None:
        """Return by how much less each replica of an arm is to be asked, in (0, 1]; None where all of them answer."""
        if not self._answering.tracked:
            return None
        with self._lock:
            return self._answering.weights(deployments, has_retry=has_retry, now=now)

    def outages(self, *, now: float) -> Sequence[Outage]:
        """Return the arms that do not answer every call, the worst first."""
        if not self._answering.tracked:
            return ()
        with self._lock:
            return self._answering.outages(now=now)

    def down(self, *, now: float) -> frozenset[str]:
        """Return the arms that do not answer of late."""
        if not self._answering.tracked:
            return frozenset()
        with self._lock:
            return self._answering.down(now=now)


def _probe_share(*, has_retry: bool, waited: int) -> float:
    """Return the share of calls that probe, after so many that did not."""
    if has_retry:
        return PROBE_SHARE
    return max((share for calls, share in LAST_PROBE_SHARES if waited >= calls), default=0.0)


def _may_be_probed(known: _Tracked, *, now: float) -> bool:
    if known.probe is not None and 0 <= now - known.probe_at < _PROBE_LIFETIME_S:
        return False
    # A clock that was set back does not make the pause longer.
    return now >= known.next_probe_at or now < known.next_probe_at - PROBE_PAUSE_S
