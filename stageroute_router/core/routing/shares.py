"""Shares from rate limits and traffic: the fraction of a group's calls that an arm can take.

Rate limits are calls and tokens per minute; the programmes bound an arm by its share of the calls. The bridge is how
many calls a minute the group makes, which is observed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import exp, sqrt
from typing import Literal

from stageroute_router.core.arm import Arm

MEMORY_S = 60.0
"""Time constant of the traffic estimate, seconds: about the minute that rate limits are counted over."""

LEAST_SEEN_S = 10.0
"""A rate observed for fewer seconds than this is computed as if observed this long.

The first calls of a process arrive within milliseconds; they are no traffic of a million calls a minute.
"""

MARGIN_SD = 2.0
"""By how many standard deviations a minute's calls may exceed their mean before a limit is hit.

Calls are sampled, so that a minute with n calls to an arm on average has n give or take the root of n. With 2, one
minute in forty hits the limit; LiteLLM then retries elsewhere.
"""

_LEAST_SHARE = 1e-6
"""Shares stay above 0, so that they can be scaled up where all of them together are too small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How many calls a group makes, estimated with exponentially fading memory.

    Args:
        recent: calls, each weighted by ``exp(-age / MEMORY_S)``.
        since: when the first one was seen, seconds since the epoch; None before any.
        at: when the last ones were seen.

    >>> traffic = Traffic()
    >>> traffic.calls_per_minute is None
    True
    >>> for second in range(600):
    ...     traffic = traffic.after(5, now=float(second))
    >>> round(traffic.calls_per_minute)
    303
    """

    recent: float = 0.0
    since: float | None = None
    at: float = 0.0

    def after(self, calls: int, *, now: float) -> Traffic:
        """Return the traffic after ``calls`` more (>= 0), seen at ``now`` (seconds since the epoch)."""
        if self.since is None:
            return self if calls <= 0 else Traffic(recent=float(calls), since=now, at=now)
        # A clock that was set back must not make old calls weigh more than new ones.
        faded = self.recent * exp(-max(now - self.at, 0.0) / MEMORY_S)
        return Traffic(recent=faded + max(calls, 0), since=min(self.since, now), at=now)

    @property
    def calls_per_minute(self) -> float | None:
        """The estimate, as of the last call seen; None before any."""
        if self.since is None:
            return None
        seen = max(self.at - self.since, LEAST_SEEN_S)
        return self.recent / (1 - exp(-seen / MEMORY_S)) * 60 / MEMORY_S


@dataclass(frozen=True, slots=True)
class ShareLimit:
    """The largest share of a group's calls that an arm may get now, in (0, 1], and what sets it.

    ``reason`` is None where nothing limits the arm.
    """

    share: float
    reason: Literal["max_share", "rpm", "tpm"] | None


def share_limit(arm: Arm, *, calls_per_minute: float | None, tokens_per_call: float) -> ShareLimit:
    """Return an arm's share: the smaller of ``max_share`` and what its rate limits allow.

    Args:
        arm: with its limits.
        calls_per_minute: of the whole group; None while unknown, which leaves ``max_share`` alone.
        tokens_per_call: prompt and completion tokens of a call of this group, on average.

    >>> arm = Arm(name="large", max_share=0.8, requests_per_minute=100)
    >>> share_limit(arm, calls_per_minute=None, tokens_per_call=500)
    ShareLimit(share=0.8, reason='max_share')
    >>> share_limit(arm, calls_per_minute=300, tokens_per_call=500)
    ShareLimit(share=0.2730008291925274, reason='rpm')
    """
    limit = ShareLimit(arm.max_share, "max_share" if arm.max_share < 1 else None)
    if not calls_per_minute:
        return limit
    if arm.requests_per_minute is not None:
        limit = _less(limit, ShareLimit(planned_calls(arm.requests_per_minute) / calls_per_minute, "rpm"))
    if arm.tokens_per_minute is not None and tokens_per_call > 0:
        bearable = arm.tokens_per_minute / tokens_per_call
        limit = _less(limit, ShareLimit(planned_calls(bearable) / calls_per_minute, "tpm"))
    return limit if limit.share >= _LEAST_SHARE else ShareLimit(_LEAST_SHARE, limit.reason)


def planned_calls(limit: float) -> float:
    """Return the mean number of calls a minute that stays ``MARGIN_SD`` standard deviations below ``limit`` (>= 0).

    The root of ``limit = n + MARGIN_SD * sqrt(n)``.

    >>> round(planned_calls(100.0), 1)
    81.9
    """
    half = MARGIN_SD / 2
    root = sqrt(limit + half * half) - half
    return root * root


def share_limits(
    arms: Sequence[Arm], *, calls_per_minute: float | None, tokens_per_call: float
) -> tuple[ShareLimit, ...]:
    """Return :func:`share_limit` of each arm.

    >>> from stageroute_router.core.arm import Arm
    >>> arms = [Arm(name="a", max_share=0.4), Arm(name="b")]
    >>> [limit.share for limit in share_limits(arms, calls_per_minute=None, tokens_per_call=750.0)]
    [0.4, 1.0]
    """
    return tuple(
        share_limit(arm, calls_per_minute=calls_per_minute, tokens_per_call=tokens_per_call) for arm in arms
    )


def bearing_all_calls(
    live: Sequence[int], *, max_share: Sequence[float], kept: Collection[int]
) -> tuple[int, ...]:
    """Return a live set whose shares sum to 1 if one of its size can: wide arms in the place of narrow ones.

    Args:
        live: positions of the planned arms, the most wanted first.
        max_share: the share of every candidate.
        kept: positions that stay live whatever their share.

    >>> bearing_all_calls((0, 1), max_share=[0.3, 0.3, 0.3, 1.0], kept=())
    (0, 3)
    """
    chosen = list(live)
    spare = sorted(set(range(len(max_share))).difference(chosen), key=lambda i: -max_share[i])
    # The least wanted go first, among equally narrow ones.
    leaving = sorted((i for i in reversed(chosen) if i not in kept), key=lambda i: max_share[i])
    while spare and leaving and sum(max_share[i] for i in chosen) < 1 - 1e-9:
        out, wide = leaving.pop(0), spare.pop(0)
        if max_share[wide] <= max_share[out]:
            break
        chosen[chosen.index(out)] = wide
    return tuple(chosen)


def _less(one: ShareLimit, other: ShareLimit) -> ShareLimit:
    return other if other.share < one.share else one
