"""Random numbers of the system, fetched many at a time.

Reading from the system for each id gives the interpreter to other threads for a moment; on a busy server it takes a
request milliseconds to get it back.
"""

from __future__ import annotations

import os

from stageroute_router.forking import ForkAware, survive_fork

_BYTES = 16
_AT_ONCE = 256


class RandomIds(ForkAware):
    """Numbers of 128 random bits from the system's entropy. Any thread may use it."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        survive_fork(self)

    def next(self) -> int:
        """Return a number that nobody has had, and nobody can guess."""
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
        """Drop the numbers fetched: the parent uses them."""
        self._numbers = []


_ids = RandomIds()


def random_128() -> int:
    """Return 128 random bits of the system's as a number.

    >>> len({random_128() for _ in range(1000)})
    1000
    """
    return _ids.next()
