"""Ids of decisions: unique, and telling when they were made.

The time makes it possible to refuse a reward for a decision that was folded away long ago without remembering
every id for ever. The layout behind the prefix is that of a UUID of version 7 (RFC 9562): 48 bits of milliseconds
since the epoch, then version, variant and 74 random bits.
"""

from __future__ import annotations

import re
import uuid

from stageroute_router.entropy import random_128

DECISION_PREFIX = "sr-"
"""Decision ids start with this, so that an id from another host is recognised as a decision's."""

_PATTERN = re.compile(rf"{DECISION_PREFIX}([0-9a-f]{{12}})7[0-9a-f]{{19}}", re.ASCII)


def new_decision_id(now: float) -> str:
    """Return a new id of a decision made at ``now``, in seconds since the epoch.

    >>> time_of(new_decision_id(1_700_000_000.25))
    1700000000.25
    """
    # Version 4 has the variant and the random bits where version 7 has them.
    random = uuid.UUID(int=random_128(), version=4).int & ((1 << 76) - 1)
    return f"{DECISION_PREFIX}{(int(now * 1000) << 80) | (7 << 76) | random:032x}"


def new_mix_id() -> str:
    """Return a new id of a recorded mix.

    >>> len({new_mix_id() for _ in range(10)})
    10
    """
    return f"{random_128():032x}"


def time_of(key: str) -> float | None:
    """Return when the decision with this id was made, to a millisecond; None for what is not such an id.

    >>> time_of("chatcmpl-123") is None
    True
    """
    match = _PATTERN.fullmatch(key)
    return None if match is None else int(match[1], 16) / 1000
