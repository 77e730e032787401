"""A store's open connections: breaking off one that hangs, and none of them in a forked child."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Engine, StaticPool, event

from stageroute_router.process.fork import ForkAware, survive_fork

# Connections a child has inherited all the same are kept for ever: closing one would speak to the database in
# the parent's name.
_inherited: list[object] = []


class Connections(ForkAware):
    """The connections of one store.

    An SQLite connection must not be carried into a forked child, in whatever state: SQLite notes in memory which
    locks the process holds on a file, and a child has the notes without the locks. So before a fork the store's
    users are let finish, and every connection is closed; both processes open new ones when they need them.

    Args:
        engines: what they are made by.
        wait_s: for how many seconds a fork waits for the store's users. PostgreSQL's connections are harmless
            as long as the child leaves them alone, so that no fork need wait for them.
    """

    def __init__(self, *engines: Engine, wait_s: float) -> None:
        self._engines = engines
        self._wait_s = wait_s
        self._open: set[Any] = set()
        self._begin()
        for engine in {engine.pool: engine for engine in engines}.values():
            event.listen(engine, "connect", self._opened)
            event.listen(engine, "close", self._closed)
        survive_fork(self)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Use the database inside the block; a fork waits for its end."""
        with self._changed:
            self._changed.wait_for(lambda: not self._forking)
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def interrupt(self) -> None:
        """Break off what is being waited for, from any thread."""
        for connection in list(self._open):
            # It may be closed by the thread that uses it in this very moment.
            with suppress(Exception):
                _break_off(connection)

    def close_idle(self) -> None:
        """Close the unused connections, so that the next ones find the database as it is then."""
        for engine in self._engines:
            if not isinstance(engine.pool, StaticPool):  # closing it would be the end of its database
                engine.dispose()

    def before_fork(self) -> None:
        """Let users finish, and close everything."""
        with self._changed:
            self._forking = True
            if self._changed.wait_for(lambda: not self._users, self._wait_s):
                self.close_idle()

    def after_fork_in_parent(self) -> None:
        """Let users in again."""
        with self._changed:
            self._forking = False
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        """Have no users, and leave any connection that could not be closed to the parent."""
        self._begin()
        for engine in self._engines:
            if not isinstance(engine.pool, StaticPool):
                _inherited.extend((engine.pool, *self._open))
                engine.dispose(close=False)
                self._open.clear()

    def _begin(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._users = 0
        self._forking = False

    def _opened(self, connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's
        self._open.add(connection)

    def _closed(self, connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's
        self._open.discard(connection)


def _break_off(connection: Any) -> None:  # noqa: ANN401 - the driver's
    """Make the thread that waits for a driver's connection get an error."""
    if hasattr(connection, "interrupt"):  # SQLite
        connection.interrupt()
        return
    with socket.socket(fileno=os.dup(connection.fileno())) as shared:
        shared.shutdown(socket.SHUT_RDWR)
