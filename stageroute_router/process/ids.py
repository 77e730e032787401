"""Ids of decisions, calls and answers, and the random numbers behind them.

The time makes it possible to refuse a reward for a decision that was folded away long ago without remembering
every id for ever. The layout behind the prefix is that of a UUID of version 7 (RFC 9562): 48 bits of milliseconds
since the epoch, then version, variant and 74 random bits.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid

from stageroute_router.process.fork import ForkAware, survive_fork

# Random numbers of the system, fetched many at a time.
#
# Reading from the system for each id gives the interpreter to other threads for a moment; on a busy server it takes a
# request milliseconds to get it back.

_BYTES = 16
_AT_ONCE = 256


class RandomIds(ForkAware):
    """Numbers of 128 random bits from the system's entropy. Any thread may use it."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        survive_fork(self)

    def next(self) -> int:
        """Return a number that is unique and cannot be guessed."""
        while True:
            try:
                return self._numbers.pop()  # in one step, whatever other threads do
            except IndexError:
                data = os.urandom(_BYTES * _AT_ONCE)
                self._numbers = [
                    int.from_bytes(data[start : start + _BYTES], "big")
                    for start in range(0, len(data), _BYTES)
                ]

    def after_fork_in_child(self) -> None:
        """Drop the prefetched numbers: the parent uses them."""
        self._numbers = []


_ids = RandomIds()


def random_128() -> int:
    """Return 128 random bits of the system's as a number.

    >>> len({random_128() for _ in range(1000)})
    1000
    """
    return _ids.next()


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


# Which texts are stored as the id of a call or an answer.
#
# Call ids may be chosen by an application or even by its clients, and response ids by a provider: they are not to
# become a way to store anything else.

LONGEST_ID = 256
"""Characters of an id that is stored as it is: the ids of LiteLLM and of the known providers have fewer than 100."""

_ID = re.compile(rf"[!-~]{{1,{LONGEST_ID}}}")


def is_id(text: str) -> bool:
    """Return whether a text looks like an id: printable ASCII without spaces, at most 256 characters."""
    return _ID.fullmatch(text) is not None


def stored_id(text: str) -> str:
    """Return the form of a call's or an answer's id that is stored: itself, or the hash of what looks like none.

    >>> stored_id("chatcmpl-1")
    'chatcmpl-1'
    >>> stored_id("a long story")
    'sha256-f9f7f98188617d4561f9e537e168e85cdd8ffecabbea184a110927780f7dc731'
    """
    if is_id(text):
        return text
    return "sha256-" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
