"""Fork handling: a child must replace the locks, threads, queues and connections of its parent.

Gunicorn with ``--preload`` makes the router, and may even use it, before it forks its workers. A copy of another
thread's lock stays locked for ever, a copy of a connection mixes two processes' bytes, and a copy of a random
generator makes every worker explore alike. Each class that has such things says here what it does about them.
"""

from __future__ import annotations

import os
import weakref


class ForkAware:
    """An object that owns locks, threads or connections. None of these methods may raise."""

    def before_fork(self) -> None:
        """Release, in the parent before the fork, what a child must not inherit. May wait for a bounded time."""

    def after_fork_in_parent(self) -> None:
        """Acquire it again, in the parent after the fork."""

    def after_fork_in_child(self) -> None:
        """Replace everything, in the child, without touching what the parent's threads may have held."""


_known: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def survive_fork(thing: ForkAware) -> None:
    """Call an object's methods around every fork of this process, for as long as the object lives."""
    _known.add(thing)


_around_this_fork: list[ForkAware] = []


def _before() -> None:
    _around_this_fork[:] = _known
    for thing in _around_this_fork:
        thing.before_fork()


def _after_in_parent() -> None:
    for thing in _around_this_fork:
        thing.after_fork_in_parent()
    _around_this_fork.clear()


def _after_in_child() -> None:
    for thing in _around_this_fork:
        thing.after_fork_in_child()
    _around_this_fork.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
